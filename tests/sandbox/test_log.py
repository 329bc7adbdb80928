"""The log is the truth: written before the answer, whole after any crash, and enough to go on from."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dispatcher.errors import NotConfigured
from dispatcher.sandbox.fault import FaultName, Rule
from dispatcher.sandbox.log import Effect, LedgerKey, Line, RequestLog, ledger, read_log
from tests.sandbox.client import NUMBER, Dial, Start, lead
from tests.support.waiting import wait_until


def entry(request: int = 1, effect: Effect = Effect.CREATED, lead_id: int | None = 1, **body: Any) -> Line:
    return Line(1.0, request, "POST", "/api/user/lead", lead(**body), 200, lead_id, effect, None)


def test_the_line_is_there_while_the_answer_is_not(start: Start, dial: Dial) -> None:
    api = start(latency_seconds=30)
    wire = dial(api.sandbox)
    wire.send()
    wait_until(lambda: api.sandbox.log)
    assert wire.is_silent()
    assert (api.sandbox.log[0].effect, api.sandbox.log[0].lead_id) == ("created", 1)


def test_a_line_says_what_came_and_what_became_of_it(start: Start) -> None:
    api = start()
    api.post(lead(variables={"ref": "r"}), token="very-secret")
    api.list(phone_number=NUMBER)
    first, second = (json.loads(line) for line in api.sandbox.log_path.read_text().splitlines())
    assert {**first, "at": 0} == {
        "at": 0,
        "request": 1,
        "method": "POST",
        "path": "/api/user/lead",
        "body": lead(variables={"ref": "r"}),
        "status": 200,
        "lead_id": 1,
        "effect": "created",
        "fault": None,
    }
    assert (second["method"], second["path"]) == ("GET", "/api/user/leads?phone_number=%2B12025550100")
    assert "very-secret" not in api.sandbox.log_path.read_text()
    assert api.sandbox.log_path.stat().st_mode & 0o777 == 0o600


def test_refused_requests_are_logged_too(start: Start) -> None:
    api = start(token="right", rate_limit="1/minute")
    api.post(token="wrong")
    api.post(token="right")
    api.post(token="right")
    assert [entry.status for entry in api.sandbox.log] == [401, 200, 429]


def test_what_is_not_json_is_logged_as_text(start: Start) -> None:
    api = start()
    api.session.post(
        api.sandbox.base_url + "/user/lead", data=b"phone=1\xff", headers={"Authorization": "Bearer t"}, timeout=5
    )
    assert api.sandbox.log[0].body == "phone=1\ufffd"


def test_a_client_that_leaves_after_its_whole_request_was_heard_all_the_same(start: Start, dial: Dial) -> None:
    """A worker that is killed right after its POST has called somebody."""
    api = start()
    for _ in range(20):
        wire = dial(api.sandbox)
        wire.send(lead(allow_dupplicate=True))
        wire.connection.close()
    wait_until(lambda: len(api.sandbox.leads) == len(api.sandbox.log) == 20)


def test_a_client_that_leaves_in_the_middle_of_its_body_is_logged_as_having_done_nothing(
    start: Start, dial: Dial
) -> None:
    api = start()
    wire = dial(api.sandbox)
    wire.connection.sendall(
        b"POST /api/user/lead HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nContent-Length: 500\r\n\r\n{"
    )
    wire.connection.close()
    wait_until(lambda: api.sandbox.log)
    assert (api.sandbox.log[0].effect, api.sandbox.log[0].status) == ("none", None)


def test_a_body_beyond_all_measure_is_refused_and_logged(start: Start) -> None:
    api = start()
    assert api.post(lead(variables={"a": "x" * 2_000_000})).status_code == 413
    assert api.sandbox.log[0].status == 413


def test_ids_and_leads_go_on_after_a_restart(start: Start, tmp_path: Path) -> None:
    first = start(state_dir=tmp_path, faults=(Rule(fault=FaultName.INTERNAL_ERROR, nth=2),))
    first.post(lead(variables={"ref": "a"}, secondary_contacts=[{"phone_number": "+12025550177"}]))
    first.post(lead("+12025550101"))
    before = first.sandbox.leads
    first.sandbox.__exit__(None, None, None)

    second = start(state_dir=tmp_path)
    assert [(kept.id, kept.phone_number, kept.variables, kept.contacts) for kept in second.sandbox.leads] == [
        (kept.id, kept.phone_number, kept.variables, kept.contacts) for kept in before
    ]
    assert second.post(lead("+12025550102")).json()["data"]["id"] == 4
    assert second.post().status_code == 409
    assert [line.request for line in second.sandbox.log] == [1, 2, 3, 4]
    second.sandbox.faults.add(Rule(fault=FaultName.MISSING_CONTROLS))
    assert [row["id"] for row in second.list().json()["data"]] == [3]


def test_a_late_creation_survives_a_restart(start: Start, tmp_path: Path) -> None:
    rule = Rule(fault=FaultName.LATE, seconds=0.05, answer=FaultName.BAD_GATEWAY)
    first = start(state_dir=tmp_path, faults=(rule,))
    first.post()
    wait_until(lambda: first.sandbox.leads)
    first.sandbox.__exit__(None, None, None)
    assert [kept.id for kept in start(state_dir=tmp_path).sandbox.leads] == [1]


def test_a_torn_last_line_is_dropped_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RequestLog(path)
    log.append(entry())
    log.close()
    with path.open("ab") as torn:
        torn.write(b'{"at":1.0,"requ')
    assert len(read_log(path)) == 1
    log = RequestLog(path)
    log.append(entry(request=2))
    log.close()
    assert [line.request for line in read_log(path)] == [1, 2]


def test_a_broken_line_in_the_middle_is_never_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(json.JSONDecodeError):
        read_log(path)


def test_a_log_that_is_missing_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none") == []


def test_two_sandboxes_do_not_share_a_log(start: Start, tmp_path: Path) -> None:
    start(state_dir=tmp_path)
    with pytest.raises(NotConfigured, match="Another sandbox"):
        start(state_dir=tmp_path)


def test_a_full_disk_is_an_error_and_no_silent_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(tmp_path / "log.jsonl")
    monkeypatch.setattr(os, "write", lambda _fd, _line: 3)
    with pytest.raises(OSError, match="part of a line"):
        log.append(entry())
    monkeypatch.undo()
    log.close()


def test_log_and_leads_can_be_read_after_the_end(start: Start) -> None:
    api = start()
    api.post()
    api.sandbox.__exit__(None, None, None)
    assert [line.lead_id for line in api.sandbox.log] == [kept.id for kept in api.sandbox.leads] == [1]


def test_the_ledger_tells_who_was_created_twice_and_who_never(start: Start) -> None:
    api = start(faults=(Rule(fault=FaultName.BAD_GATEWAY),))
    api.post(lead(variables={"ref": "twice"}, allow_dupplicate=True))
    api.post(lead(variables={"ref": "twice"}, allow_dupplicate=True))
    api.post(lead(variables={"ref": "once"}, allow_dupplicate=True))
    api.post(lead(variables={"ref": "once"}))

    found = ledger(api.sandbox.log, reference_variable="ref")

    key = {ref: LedgerKey(42, NUMBER, ref) for ref in ("twice", "once", "never")}
    assert found.created_twice() == {key["twice"]: [1, 2]}
    assert found.never_created(key.values()) == [key["never"]]
    assert (found.lines[key["once"]].posts, found.lines[key["once"]].refused) == (2, 1)


def test_without_a_reference_all_variables_tell_leads_apart_whatever_their_order() -> None:
    entries = [entry(1, variables={"a": 1, "b": 2}), entry(2, lead_id=2, variables={"b": 2, "a": 1})]
    assert list(ledger(entries).created_twice().values()) == [[1, 2]]


def test_a_late_creation_is_one_post_and_one_lead() -> None:
    entries = [entry(1, Effect.NONE, None), entry(1, Effect.LATE, 1)]
    (line,) = ledger(entries).lines.values()
    assert (line.posts, line.created) == (1, [1])


def test_the_same_number_in_two_campaigns_is_two_leads() -> None:
    assert not ledger([entry(1), entry(2, lead_id=2, campaign_id=43)]).created_twice()
