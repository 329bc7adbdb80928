# The dispatcher as a small image: a worker by default, or any command of it.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY dispatcher dispatcher
COPY migrations migrations
COPY examples examples
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
RUN python -m venv /app
RUN /app/bin/pip install --no-cache-dir --constraint constraints.txt /wheels/*.whl

# Voicery's stand-in needs one library more.
FROM build AS build-sandbox
RUN /app/bin/pip install --no-cache-dir --constraint constraints.txt "$(echo /wheels/*.whl)[sandbox]"

FROM python:3.13-slim AS base
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin dispatcher
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001

FROM base AS sandbox
COPY --from=build-sandbox /app /app
USER root
RUN install --directory --owner=10001 /data
USER 10001
VOLUME /data
EXPOSE 8080
CMD ["python", "-m", "dispatcher.sandbox", "--host", "0.0.0.0", "--port", "8080", "--state-dir", "/data"]

FROM base AS runtime
COPY --from=build /app /app
CMD ["celery", "-A", "dispatcher", "worker", "--loglevel", "INFO"]
