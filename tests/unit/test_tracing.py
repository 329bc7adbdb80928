"""A lead's trace id is its id, so that the trace crosses from the producer to the worker by itself."""

import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dispatcher.logs import tracing

LEAD = UUID("01890b1c-1234-7567-8901-123456789012")
ATTEMPT = UUID("01890b1c-1234-7567-8901-123456789013")


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def test_submit_and_post_meet_in_the_lead_s_trace(exported: InMemorySpanExporter) -> None:
    with tracing.submitting("default", 42) as tell:
        tell(LEAD, "pending")
    with tracing.attempting(LEAD, ATTEMPT, "default", 42) as tell_outcome:
        tell_outcome("accepted", 200)

    submit, attempt = exported.get_finished_spans()
    assert attempt.context is not None
    assert attempt.context.trace_id == LEAD.int
    (link,) = submit.links
    assert link.context.trace_id == LEAD.int
    assert attempt.parent == link.context
    assert (submit.name, submit.kind) == ("dispatcher.submit", trace.SpanKind.PRODUCER)
    assert dict(attempt.attributes or {}) == {
        "dispatcher.lead_id": str(LEAD),
        "dispatcher.attempt_id": str(ATTEMPT),
        "dispatcher.account": "default",
        "dispatcher.campaign_id": 42,
        "dispatcher.outcome": "accepted",
        "http.response.status_code": 200,
    }


def test_the_producer_s_own_trace_goes_on_in_submit(exported: InMemorySpanExporter) -> None:
    with (
        trace.get_tracer("crm").start_as_current_span("request") as request,
        tracing.submitting("a", 1) as tell,
    ):
        tell(LEAD, "pending")
    assert exported.get_finished_spans()[0].context.trace_id == request.get_span_context().trace_id


def test_an_error_is_no_text_in_a_span(exported: InMemorySpanExporter) -> None:
    def fail() -> None:
        raise ValueError("+12025550101")

    with pytest.raises(ValueError, match="555"), tracing.attempting(LEAD, ATTEMPT, "default", 42):
        fail()
    (span,) = exported.get_finished_spans()
    assert "5550101" not in span.to_json()  # a trace id may have three fives in a row


def test_a_provider_that_the_environment_names_is_used() -> None:
    code = """
import os, sys
os.environ["OTEL_PYTHON_TRACER_PROVIDER"] = "sdk_tracer_provider"
from uuid import uuid4
from dispatcher.logs import tracing
assert "opentelemetry" not in sys.modules
with tracing.submitting("default", 42) as tell:
    from opentelemetry import trace
    assert trace.get_current_span().is_recording()
    tell(uuid4(), "pending")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("named", ["", "sdk_tracer_provider"])
def test_without_opentelemetry_it_is_nothing(named: str) -> None:
    code = f"""
import os, sys
os.environ["OTEL_PYTHON_TRACER_PROVIDER"] = "{named}"
sys.modules["opentelemetry"] = None
from uuid import uuid4
from dispatcher.logs import tracing
with tracing.submitting("default", 42) as tell: tell(uuid4(), "pending")
with tracing.attempting(uuid4(), uuid4(), "default", 42) as tell: tell("accepted", 200)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
