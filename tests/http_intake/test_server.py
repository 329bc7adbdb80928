"""The server: what is half sent, too much, or sent at the wrong moment; its health, its description and its figures."""

import asyncio
import inspect
import json
import socket
import subprocess
import sys
import threading
from typing import Any
from unittest.mock import AsyncMock, Mock

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.config.settings import Settings
from dispatcher.errors import InvalidLead, NotConfigured, SchemaOutOfDate, StoreUnavailable
from dispatcher.http_intake.app import Bounds
from dispatcher.http_intake.bodies import lead_of
from dispatcher.http_intake.document import document, lead_schema
from dispatcher.http_intake.guard import Guard
from dispatcher.http_intake.mappings import OPTIONS
from dispatcher.http_intake.problems import KINDS
from dispatcher.http_intake.reading import BodyBounds
from dispatcher.http_intake.serve import application
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import SubmitOptions
from dispatcher.store import counters, migration
from dispatcher.web.connections import Limits
from dispatcher.web.server import Address, Certificate
from tests.http_intake.conftest import Served, serving
from tests.support.rows import ADA
from tests.support.waiting import wait_until


def sent(port: int, raw: bytes, timeout: float = 20) -> bytes:
    """What the server answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        sock.sendall(raw)
        told = b""
        try:
            while piece := sock.recv(65_536):
                told += piece
        except ConnectionResetError:
            pass
        return told


def head(key: str, *fields: str) -> bytes:
    lines = ["POST /v1/leads HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", "Content-Type: application/json"]
    return "\r\n".join([*lines, *fields, "", ""]).encode()


@pytest.fixture(scope="module")
def quick(module_database_url: str) -> Any:
    bounds = Bounds(lead=BodyBounds(2000, 0.3))
    limits = Limits(head_seconds=0.3, body_seconds=5, answer_seconds=5, per_source=5)
    with serving(module_database_url, bounds, limits) as running:
        yield running


def test_a_body_that_does_not_arrive_in_time_is_told_so(quick: Served) -> None:
    told = sent(quick.port, head(quick.key().secret, "Content-Length: 100") + b'{"a": ')

    assert b" 408 " in told.split(b"\r\n")[0]
    assert b"application/problem+json" in told


def test_a_body_in_chunks_without_end_is_stopped(quick: Served) -> None:
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    told = sent(quick.port, head(quick.key().secret, "Transfer-Encoding: chunked") + chunk * 4)

    assert b" 413 " in told.split(b"\r\n")[0]


def test_a_header_that_is_half_sent_is_ended_and_one_source_takes_its_share(quick: Served) -> None:
    assert sent(quick.port, b"POST /v1/leads HTTP/1.1\r\nHost: x\r\n") == b""
    held = [socket.create_connection(("127.0.0.1", quick.port), 20, source_address=("127.0.0.3", 0)) for _ in range(5)]
    with socket.create_connection(("127.0.0.1", quick.port), 20, source_address=("127.0.0.3", 0)) as one_more:
        try:
            ended = one_more.recv(10) == b""
        except ConnectionResetError:
            ended = True
    for sock in held:
        sock.close()
    assert ended


def test_without_a_key_no_body_is_asked_for(quick: Served) -> None:
    told = sent(quick.port, head("wrong", "Content-Length: 1000", "Expect: 100-continue", "Connection: close"))

    assert told.startswith(b"HTTP/1.1 401")
    quick.intake.access._throttle._failures.clear()


def test_a_length_that_is_said_twice_is_refused(quick: Served) -> None:
    told = sent(quick.port, head(quick.key().secret, "Content-Length: 2", "Content-Length: 50") + b"{}")

    assert b" 400 " in told.split(b"\r\n")[0]


def test_too_many_requests_at_once_are_told_to_wait(
    served: Served, key: str, lead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(served.intake._services.intake, "submit", lambda *_, **__: release.wait(20) and None)
    monkeypatch.setattr(served.guard, "_most", 1)
    waiting = threading.Thread(target=lambda: served.submit(key, lead))
    waiting.start()
    wait_until(lambda: served.guard._open == 1, 20, "the first request")
    answer = served.ask("GET", "/healthz")
    release.set()
    waiting.join(60)

    assert (answer.status_code, answer.json()["type"], answer.headers["Retry-After"]) == (503, "/docs#busy", "1")


def test_an_error_of_ours_is_a_number_and_nothing_else(
    served: Served, key: str, lead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(ADA)

    monkeypatch.setattr(served.intake._services.intake, "submit", broken)
    answer = served.submit(key, lead)

    assert answer.status_code == 500
    assert answer.json()["report"] in answer.json()["detail"]
    assert ADA not in answer.text


def test_a_database_of_another_version_is_no_bug_but_a_reason_to_come_back(
    served: Served, key: str, lead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def old(*_: Any, **__: Any) -> Any:
        raise SchemaOutOfDate("0001", "0002")

    monkeypatch.setattr(served.intake._services.intake, "submit", old)
    answer = served.submit(key, lead)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


def test_it_is_ready_while_postgres_is(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served.ask("GET", "/healthz").json() == {"ok": True}
    assert served.ask("GET", "/readyz").json() == {"ok": True}
    monkeypatch.setattr(served.intake, "_ready", (float("-inf"), None))
    monkeypatch.setattr(served.intake, "_why_not_ready", lambda: "StoreUnavailable")
    away = served.ask("GET", "/readyz")
    monkeypatch.setattr(served.intake, "_ready", (float("-inf"), None))

    assert (away.status_code, away.json()["why"], away.headers["Retry-After"]) == (503, "StoreUnavailable", "2")


def test_it_is_ready_on_the_schema_of_a_newer_version_and_not_on_an_older_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migration.revisions()
    monkeypatch.setattr(migration, "revisions", lambda: known[:-1])
    assert served.intake._why_not_ready() is None
    monkeypatch.setattr(migration, "revisions", lambda: (*known, "9999"))
    assert served.intake._why_not_ready() == "SchemaOutOfDate"


def test_every_answer_has_the_strict_headers_and_docs_need_no_key(served: Served) -> None:
    page = served.ask("GET", "/docs")
    for answer in (page, *(served.ask("GET", path) for path in ("/openapi.json", "/x", "/v1/leads/x"))):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "server" not in {name.lower() for name in answer.headers}
    assert all(f'id="{kind.name}"' in page.text for kind in KINDS)


def test_the_body_of_an_answer_does_not_wait_for_the_acknowledgement_of_its_header(served: Served) -> None:
    served.ask("GET", "/healthz")
    connections = [one.transport.get_extra_info("socket") for one in served.server.server_state.connections]  # type: ignore[union-attr]

    assert connections
    assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in connections)


def test_requests_are_counted_by_path_and_status_and_a_hooks_secret_is_in_none(served: Served) -> None:
    secret = served.key().secret
    served.ask("GET", "/healthz")
    served.ask("POST", f"/v1/hooks/crm/{secret}")
    hook = "/v1/hooks/{name}/{secret} "
    # The guard counts once the answer has left, so the client may be first.
    wait_until(lambda: any(label.startswith(hook) for _, label, _ in list(served.guard._tally)), 10)
    labels = {(name, label) for name, label, _ in served.guard._tally}

    assert (counters.REQUESTS, "/healthz 200") in labels
    assert not any(secret in label for _, label in labels)


# The description ------------------------------------------------------------------------------------------------------

FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "phone_number": st.sampled_from([ADA, "+12025550102", 7, None]),
        "campaign_id": st.sampled_from([0, 1, 42, 2**63 - 1, 2**63, "42", True, 42.5, None]),
        "variables": st.sampled_from([{}, {"a": 1}, [], None, {str(n): n for n in range(65)}]),
        "allow_dupplicate": st.sampled_from([True, False, "true", None, 1]),
        "allow_duplicate": st.sampled_from([True, "x"]),
        "secondary_contacts": st.sampled_from(
            [[], [{"phone_number": "+12025550103"}], [{}], [1], {}, None, [{"phone_number": "+12025550103", "x": 1}],
             [{"phone_number": f"+120255501{n}"} for n in range(10, 21)]]
        ),
        "idempotency_key": st.sampled_from(["a", "", "x" * 201, None, 7]),
        "priority": st.sampled_from([0, 9, 10, -1, "1", None, True]),
        "not_before": st.sampled_from([None, "2030-01-01T00:00:00Z", "2030-01-01T00:00:00+01:00", 5]),
        "expires_at": st.sampled_from([None, "2031-01-01T00:00:00Z"]),
        "id": st.just("01900000-0000-7000-8000-000000000001"),
        "other": st.just(1),
    },
)  # fmt: skip


@settings(max_examples=300)
@given(FIELDS)
def test_the_schema_says_what_validation_says(body: dict[str, Any]) -> None:
    try:
        jsonschema.Draft202012Validator(lead_schema()).validate(body)
        by_schema = True
    except jsonschema.ValidationError:
        by_schema = False
    found = lead_of(body)
    try:
        valid = not found.all_faults() and bool(Lead.parse(found.lead))
    except InvalidLead:
        valid = False

    assert by_schema == valid


def test_the_schema_has_the_fields_of_a_lead_and_of_the_options() -> None:
    fields = set(inspect.signature(Lead.__init__).parameters) | set(
        inspect.signature(SubmitOptions.__init__).parameters
    )

    assert set(lead_schema()["properties"]) == fields - {"self", "id"}
    assert set(OPTIONS) == set(inspect.signature(SubmitOptions.__init__).parameters) - {"self", "id"}


def test_every_path_and_method_is_described(served: Served) -> None:
    described = served.ask("GET", "/openapi.json").json()
    assert described == json.loads(json.dumps(document()))
    for path, methods in described["paths"].items():
        allowed = served.ask("PATCH", path.replace("{", "").replace("}", "")).headers["Allow"]
        assert {method.upper() for method in methods} == set(allowed.split(", ")) - {"HEAD"}


# Starting -------------------------------------------------------------------------------------------------------------


def test_it_does_not_listen_to_others_without_tls(tmp_path: Any) -> None:
    known = {"database_url": "postgresql://nobody@127.0.0.1:9/none", "redis_url": "redis://127.0.0.1:1/0"}
    with pytest.raises(NotConfigured, match="DISPATCHER_INTAKE_TRUSTED_PROXIES"):
        application(Settings(**known), Address("0.0.0.0", 8322))  # noqa: S104 - refused
    application(Settings(**known), Address("127.0.0.1", 8322))
    with pytest.raises(NotConfigured, match="REDIS_URL"):
        application(Settings(database_url=known["database_url"]), Address("127.0.0.1", 8322))
    application(Settings(**known), Address("0.0.0.0", 8322, Certificate(tmp_path, tmp_path)))  # noqa: S104 - not opened
    application(Settings(**known, intake_trusted_proxies="10.0.0.0/8"), Address("0.0.0.0", 8322))  # noqa: S104 - as above


def test_commands_for_keys_load_no_server() -> None:
    program = (
        "import sys, dispatcher.http_intake.keys, dispatcher.http_intake.mappings, dispatcher.http_intake.bodies\n"
        "sys.exit(len({'starlette', 'uvicorn', 'celery', 'requests'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("error", [RuntimeError("Ada"), StoreUnavailable("away")], ids=["any other", "known"])
def test_counters_that_cannot_be_added_neither_end_the_task_nor_hinder_the_shutdown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    added: list[tuple[str, str, float]] = []
    tries: list[int] = []

    class Store:
        def again(self, _: Any, __: str, tally: counters.Tally) -> None:
            tries.append(1)
            if len(tries) < 3:
                raise error
            added.extend(tally)

    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    async def live() -> None:
        told = iter([asyncio.sleep(0), asyncio.to_thread(wait_until, lambda: len(tries) > 1, 20, "two tries")])
        guard = Guard(Mock(), secure=False, services=Mock(database=Store()), close=close)
        guard._tally.request("leads", 201, 0.1)
        await guard({"type": "lifespan"}, lambda: next(told), AsyncMock())  # type: ignore[arg-type]

    monkeypatch.setattr("dispatcher.http_intake.guard.FLUSH_SECONDS", 0.001)
    asyncio.run(live())

    assert closed == [True]
    assert (counters.REQUESTS, "leads 201", 1.0) in added
    named = [record.getMessage() for record in caplog.records if "counters_not_added" in record.getMessage()]
    assert bool(named) == isinstance(error, RuntimeError)
    assert not any("Ada" in one for one in named)
