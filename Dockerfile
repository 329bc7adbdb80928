# The dispatcher as a small image: a worker by default, or any command of it (`dispatcher console`, `metrics`, `migrate`, …).
# A tag moves. For builds that must not, name the digest that you have checked:
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:… --build-arg REVISION="$(git rev-parse HEAD)" .
ARG PYTHON_IMAGE=python:3.13-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY locks locks
COPY dispatcher dispatcher
COPY migrations migrations
COPY examples examples
RUN python -m venv /build
RUN /build/bin/pip install --no-cache-dir --require-hashes --requirement locks/build.txt
RUN /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .
RUN python -m venv /app
RUN /app/bin/pip install --no-cache-dir --require-hashes --requirement locks/image.txt
RUN /app/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

# Voicery's stand-in needs one library more.
FROM build AS build-sandbox
RUN /app/bin/pip install --no-cache-dir --require-hashes --requirement locks/sandbox.txt

FROM ${PYTHON_IMAGE} AS base
ARG REVISION=unknown
LABEL org.opencontainers.image.title="voicery-dispatcher" \
      org.opencontainers.image.description="A durable, queue-backed lead dispatcher for Voicery" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"
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
