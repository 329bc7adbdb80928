"""OpenTelemetry traces from `submit` to the POST, if the extra `otel` is installed and the application exports them.

The trace id of a lead *is* its id: both have 128 bits. So the trace crosses from the producer to the worker without a
column, a header or anything personal, and the id of a lead leads to its trace. The producer's own trace, which has an
id of its own, gets a link to it. Without OpenTelemetry nothing happens.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, SpanKind

_SPAN_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF
_PROVIDER_VARIABLE: Final = "OTEL_PYTHON_TRACER_PROVIDER"
"""Names a provider that OpenTelemetry loads by itself at its first use."""


def _exported() -> Any:  # noqa: ANN401 - the module `opentelemetry.trace`
    """Return OpenTelemetry's trace API if spans are exported, else None.

    A process that has not loaded OpenTelemetry has set no provider, so it is not loaded here either: a producer starts
    sooner. The API without a provider makes spans that nothing receives, at 20 µs each.
    """
    if "opentelemetry.trace" not in sys.modules and not os.environ.get(_PROVIDER_VARIABLE):
        return None
    try:
        from opentelemetry import trace
    except ImportError:  # the extra is not installed
        return None
    return None if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider) else trace


def traced() -> bool:
    """Return whether spans are exported."""
    return _exported() is not None


_UNTRACED: Final = nullcontext[Callable[[UUID, str], None]](lambda _lead_id, _state: None)


def submitting(account: str, campaign_id: int) -> AbstractContextManager[Callable[[UUID, str], None]]:
    """Trace a submit in the caller's trace; call what the context yields with the stored lead's id and state."""
    trace = _exported()
    return _UNTRACED if trace is None else _submitting(trace, account, campaign_id)


@contextmanager
def _submitting(
    trace: Any,  # noqa: ANN401 - the module
    account: str,
    campaign_id: int,
) -> Iterator[Callable[[UUID, str], None]]:
    attributes: dict[str, str | int] = {"dispatcher.account": account, "dispatcher.campaign_id": campaign_id}
    with _spanning("dispatcher.submit", trace.SpanKind.PRODUCER, attributes) as span:

        def tell(lead_id: UUID, state: str) -> None:
            span.set_attributes({"dispatcher.lead_id": str(lead_id), "dispatcher.state": state})
            span.add_link(context_of(lead_id))

        yield tell


@contextmanager
def attempting(
    lead_id: UUID, attempt_id: UUID, account: str, campaign_id: int
) -> Iterator[Callable[[str, int | None], None]]:
    """Trace one exchange in the lead's trace; call what this yields with the outcome and the HTTP status."""
    trace = _exported()
    if trace is None:
        yield lambda _outcome, _http_status: None
        return
    attributes: dict[str, str | int] = {
        "dispatcher.lead_id": str(lead_id),
        "dispatcher.attempt_id": str(attempt_id),
        "dispatcher.account": account,
        "dispatcher.campaign_id": campaign_id,
    }
    parent = trace.set_span_in_context(trace.NonRecordingSpan(context_of(lead_id)))
    with _spanning("dispatcher.attempt", trace.SpanKind.CLIENT, attributes, parent) as span:

        def tell(outcome: str, http_status: int | None) -> None:
            span.set_attribute("dispatcher.outcome", outcome)
            if http_status is not None:
                span.set_attribute("http.response.status_code", http_status)

        yield tell


@contextmanager
def _spanning(
    name: str, kind: "SpanKind", attributes: "dict[str, str | int]", parent: "Context | None" = None
) -> "Iterator[Span]":
    """Make a span the current one. It records the type of an error, never its text, which may name a person."""
    from opentelemetry import trace

    tracer = trace.get_tracer("dispatcher")
    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes={**attributes},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise


def context_of(lead_id: UUID) -> "SpanContext":
    """Return the remote parent that all spans of a lead have in common."""
    from opentelemetry import trace

    return trace.SpanContext(
        trace_id=lead_id.int,
        span_id=lead_id.int & _SPAN_BITS or 1,  # zero means none
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
