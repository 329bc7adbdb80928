"""What operators do, from the click to the row: single actions, bulk work, corrections, exports."""

import csv
import io
import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from dispatcher.console.auth import Role
from dispatcher.decisions.absence import Decision, Step
from dispatcher.errors import NotAllowed
from dispatcher.operator import operation_work
from dispatcher.operator.operation_work import OperationKind
from dispatcher.store.database import Database
from tests.console.conftest import Browser, Seat, hidden
from tests.support.rows import ADA, BOB, Rows

XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def work(seat: Seat) -> None:
    """What the workers' sweep does with bulk work, until nothing is left."""
    while seat.console.services.operations.step():
        pass


def failure(rows: Rows, lead: uuid.UUID) -> int:
    return rows.failure_of(lead).id


# One lead -------------------------------------------------------------------------------------------------------------


def test_a_replay_happens_once_however_often_it_is_clicked(operator: Browser, rows: Rows) -> None:
    lead = rows.failed()
    form = {"failure": failure(rows, lead), "return": "/failed/rows?campaign=42"}
    answers = [operator.post(f"/leads/{lead}/replay", form) for _ in range(2)]
    assert [answer.headers["location"] for answer in answers] == ["/failed/rows?campaign=42"] * 2
    assert rows.of(lead).state == "pending"
    assert [action for _, action, _, _ in rows.audited()] == ["replay"]
    assert "Replayed" in operator.get("/failed/rows").text


def test_a_stale_page_does_not_replay_a_later_failure(operator: Browser, rows: Rows) -> None:
    lead = rows.failed()
    seen = failure(rows, lead)
    operator.post(f"/leads/{lead}/replay", {"failure": seen})
    rows.fail(lead)
    operator.post(f"/leads/{lead}/replay", {"failure": seen})
    assert rows.of(lead).state == "failed"
    assert "meanwhile" in operator.get(f"/leads/{lead}").text


def test_a_replay_may_wait_for_its_time(operator: Browser, rows: Rows) -> None:
    lead = rows.failed()
    form = {"failure": failure(rows, lead), "at": "tomorrow 09:00"}
    operator.post(f"/leads/{lead}/replay", form)
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert rows.of(lead).due_at == datetime.combine(tomorrow, time(9), UTC)
    assert "waits until then" in operator.get(f"/leads/{lead}").text
    other = rows.failed(phone=BOB)
    answer = operator.post(f"/leads/{other}/replay", {"at": "soon"})
    assert (answer.status_code, rows.of(other).state) == (400, "failed")
    assert "it is not a time" in answer.text


def test_what_may_have_been_called_is_refused_with_the_reason(operator: Browser, admin: Browser, rows: Rows) -> None:
    lead = rows.failed_unknown()
    operator.post(f"/leads/{lead}/replay")
    assert rows.of(lead).state == "failed"
    assert "may have been called" in operator.get(f"/leads/{lead}").text
    assert operator.post(f"/leads/{lead}/replay-even-if-called", {"sure": "yes"}).status_code == 403
    assert admin.post(f"/leads/{lead}/replay-even-if-called").status_code == 400
    assert rows.of(lead).state == "failed"
    admin.post(f"/leads/{lead}/replay-even-if-called", {"sure": "yes"})
    assert rows.of(lead).state == "pending"
    (actor, action, _, detail) = rows.audited()[-1]
    assert (actor, action, detail["even_if_called"]) == ("ada@console", "replay", True)


def test_a_resolution_needs_a_note(operator: Browser, rows: Rows) -> None:
    lead = rows.failed()
    operator.post(f"/leads/{lead}/resolve", {"as": "dismissed", "note": " "})
    assert rows.failure_of(lead).resolved_at is None
    operator.post(f"/leads/{lead}/resolve", {"as": "dismissed", "note": "wrong list"})
    assert rows.failure_of(lead).resolved_by == "olga@console"


def test_a_correction_keeps_what_was_and_sends_what_is(operator: Browser, rows: Rows) -> None:
    lead = rows.failed(phone=ADA)
    form = {
        "phone_number": "+1 (202) 555-0102",
        "campaign_id": "42",
        "variables": "",
        "note": "typo",
        "failure": failure(rows, lead),
    }
    assert operator.post(f"/leads/{lead}/correct", form).headers["location"] == f"/leads/{lead}"
    row = rows.of(lead)
    assert (row.state, row.phone_number, row.variables) == ("pending", BOB, {"customer_name": "Ada Lovelace"})
    assert len(row.payload_hash) == 64
    old = rows.one("SELECT * FROM dispatcher.lead_revisions")
    assert (old.revision, old.phone_number, old.replaced_by, old.note) == (1, ADA, "olga@console", "typo")
    assert [action for _, action, _, _ in rows.audited()] == ["correct", "replay"]
    assert "Earlier versions" in operator.get(f"/leads/{lead}").text
    assert operator.post(f"/leads/{lead}/correct", form).status_code == 400, "a second click corrects nothing"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"phone_number": "12345"}, "phone_number"),
        ({"campaign_id": "x"}, "campaign_id"),
        ({"variables": "[1]"}, "variables"),
        ({"variables": "{"}, "variables"),
        ({"campaign_id": "42"}, "Nothing was changed"),
        ({"phone_number": BOB}, "already stands for this person"),
    ],
)
def test_a_bad_correction_changes_nothing(operator: Browser, rows: Rows, fields: dict[str, str], said: str) -> None:
    lead = rows.failed(phone=ADA)
    rows.lead("pending", phone=BOB)
    answer = operator.post(f"/leads/{lead}/correct", fields)
    assert answer.status_code == 400
    assert said in answer.text
    assert (rows.of(lead).state, rows.of(lead).phone_number) == ("failed", ADA)
    assert rows.one("SELECT count(*) AS n FROM dispatcher.lead_revisions").n == 0
    assert rows.audited() == []


def test_a_correction_does_not_get_around_the_doubt(operator: Browser, rows: Rows) -> None:
    lead = rows.failed_unknown()
    answer = operator.post(f"/leads/{lead}/correct", {"variables": '{"customer_name": "Ada"}'})
    assert "may have been called" in answer.text
    assert rows.of(lead).state == "failed"


# Many leads -----------------------------------------------------------------------------------------------------------


def preview(browser: Browser, verb: str, **more: Any) -> str:
    fields = [("verb", verb), ("filters", more.get("filters", "")), ("scope", more.get("scope", "all"))]
    fields += [("lead", lead) for lead in more.get("leads", [])]
    return browser.post("/failed/preview", fields).text


def confirm(browser: Browser, page: str, **more: Any) -> str:
    fields = [(name, hidden(page, name)) for name in ("verb", "filters", "scope", "action", "total")]
    fields += [("lead", lead) for lead in re.findall(r'name="lead" value="([^"]+)"', page)]
    answer = browser.post("/operations", [*fields, *more.items()])
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def counts(page: str) -> tuple[int, int, int]:
    return tuple(int(found) for found in re.findall(r"<b>(\d+)</b>", page)[:3])  # type: ignore[return-value]


def test_a_bulk_replay_does_what_its_preview_said(seat: Seat, operator: Browser, rows: Rows) -> None:
    safe = [rows.failed(phone=f"+4477009000{n:02d}") for n in range(3)]
    doubtful = rows.failed_unknown(phone="+447700900010")
    rows.failed(phone=BOB)
    rows.lead("accepted", phone=BOB)
    twins = [rows.failed(phone=ADA) for _ in range(2)]
    page = preview(operator, "replay")
    assert counts(page) == (4, 1, 2)
    location = confirm(operator, page)
    assert confirm(operator, page) == location, "a second click is the same operation"
    assert rows.one("SELECT count(*) AS n FROM dispatcher.operations").n == 1
    assert all(rows.of(lead).state == "failed" for lead in safe), "the request itself acts on nothing"
    work(seat)
    operation = rows.one("SELECT * FROM dispatcher.operations")
    assert (operation.state, operation.total, operation.done, operation.refused) == ("finished", 7, 4, 3)
    assert all(rows.of(lead).state == "pending" for lead in safe)
    assert rows.of(doubtful).state == "failed"
    assert sorted(rows.of(lead).state for lead in twins) == ["failed", "pending"]
    shown = operator.get(location).text
    assert "may have been called" in shown
    assert "already stands for this person" in shown
    assert {actor for actor, *_ in rows.audited()} == {"olga@console"}


def test_an_operation_survives_whoever_works_on_it(
    seat: Seat, make_seat: Callable[..., Seat], operator: Browser, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = [rows.failed(phone=f"+44770090{n:04d}") for n in range(60)]
    page = preview(operator, "replay")
    confirm(operator, page)

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(operation_work, "record", dies)  # the leads of the batch have been replayed, without a commit
    with pytest.raises(KeyboardInterrupt):
        seat.console.services.operations.step()
    monkeypatch.undo()
    assert rows.one("SELECT count(*) AS n FROM dispatcher.leads WHERE state = 'pending'").n == 0, (
        "half a batch is no batch"
    )
    work(make_seat())
    operation = rows.one("SELECT * FROM dispatcher.operations")
    assert (operation.state, operation.done, operation.refused) == ("finished", 60, 0)
    assert rows.one("SELECT count(*) AS n FROM dispatcher.audit_log WHERE action = 'replay'").n == len(leads)


def test_an_operation_can_be_stopped_and_paced(seat: Seat, operator: Browser, rows: Rows) -> None:
    for n in range(5):
        rows.failed(phone=f"+44770090{n:04d}")
    location = confirm(operator, preview(operator, "replay"), per_minute="60")
    assert seat.console.services.operations.step()
    assert not seat.console.services.operations.step(), "one a second"
    operator.post(f"{location}/stop")
    rows.run("UPDATE dispatcher.operations SET next_at = now()")
    assert not seat.console.services.operations.step()
    operation = rows.one("SELECT * FROM dispatcher.operations")
    assert (operation.state, operation.done, operation.stopped_by) == ("stopped", 1, "olga@console")


def test_an_operation_begins_when_it_is_told_to(seat: Seat, operator: Browser, rows: Rows) -> None:
    lead = rows.failed()
    location = confirm(operator, preview(operator, "replay"), at="2h")
    assert not seat.console.services.operations.step()
    assert rows.of(lead).state == "failed", "until then it can be stopped"
    assert "<dt>Begins</dt>" in operator.get(location).text
    rows.run("UPDATE dispatcher.operations SET next_at = now()")
    work(seat)
    assert rows.of(lead).state == "pending"


def test_a_replay_is_spread_evenly_over_a_time(seat: Seat, operator: Browser, rows: Rows) -> None:
    for n in range(4):
        rows.failed(phone=f"+44770090{n:04d}")
    location = confirm(operator, preview(operator, "replay"), spread="1h")
    assert seat.console.services.operations.step()
    operation = rows.one("SELECT done, next_at - now() AS wait FROM dispatcher.operations")
    assert operation.done == 1
    assert timedelta(minutes=14) < operation.wait <= timedelta(minutes=15)
    assert "spread over 60 min" in operator.get(location).text


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"spread": "1h", "per_minute": "5"}, "Choose one pace"),
        ({"spread": "tomorrow 09:00"}, "not a length of time"),
        ({"at": "whenever"}, "not a time"),
        ({"per_minute": "0"}, "whole number"),
    ],
)
def test_terms_that_make_no_sense_are_said_so_and_kept(
    operator: Browser, rows: Rows, terms: dict[str, str], said: str
) -> None:
    rows.failed()
    page = preview(operator, "replay")
    fields = [(name, hidden(page, name)) for name in ("verb", "filters", "scope", "action", "total")]
    answer = operator.post("/operations", [*fields, *terms.items()])
    assert answer.status_code == 400
    assert said in answer.text
    for name, value in terms.items():
        assert re.search(rf'<input name="{name}"[^>]* value="{value}"', answer.text)
    assert rows.one("SELECT count(*) AS n FROM dispatcher.operations").n == 0


def test_leads_are_moved_to_another_campaign_where_duplicates_are_looked_for_again(
    seat: Seat, operator: Browser, rows: Rows
) -> None:
    moved, there = rows.failed(phone=ADA), rows.failed(phone="+447700900001", campaign_id=43)
    taken = rows.failed(phone=BOB)
    rows.lead("pending", phone=BOB, campaign_id=43)
    page = preview(operator, "replay")
    assert counts(page) == (3, 0, 0)
    assert counts(preview(operator, "replay", filters="campaign=42")) == (2, 0, 0)
    fields = [(name, hidden(page, name)) for name in ("verb", "filters", "scope", "action", "total")]
    unseen = operator.post("/operations", [*fields, ("campaign_id", "43")])
    assert unseen.status_code == 400, "its figures were not shown"
    assert counts(unseen.text) == (2, 0, 1)
    confirm(operator, unseen.text, campaign_id="43", previewed_campaign=hidden(unseen.text, "previewed_campaign"))
    work(seat)
    assert (rows.of(moved).state, rows.of(moved).campaign_id) == ("pending", 43)
    assert rows.of(there).state == "pending"
    assert (rows.of(taken).state, rows.of(taken).campaign_id) == ("failed", 42)
    old = rows.one("SELECT * FROM dispatcher.lead_revisions")
    assert (old.lead_id, old.campaign_id, old.replaced_by) == (moved, 42, "olga@console")
    operation = rows.one("SELECT done, refused FROM dispatcher.operations")
    assert (operation.done, operation.refused) == (2, 1)


def test_who_may_have_been_called_is_not_moved_to_be_called_again(seat: Seat, operator: Browser, rows: Rows) -> None:
    lead = rows.failed_unknown()
    seat.console.services.operations.start(uuid.uuid4(), OperationKind.REPLAY, [lead], actor="ada", campaign_id=43)
    work(seat)
    assert (rows.of(lead).state, rows.of(lead).campaign_id) == ("failed", 42)
    assert rows.one("SELECT count(*) AS n FROM dispatcher.lead_revisions").n == 0


def test_only_a_replay_moves_leads_and_a_look_up_has_no_pace(seat: Seat, rows: Rows) -> None:
    start = seat.console.services.operations.start
    with pytest.raises(NotAllowed, match="another campaign"):
        start(uuid.uuid4(), OperationKind.DISMISS, [rows.failed()], actor="ada", note="n", campaign_id=43)
    with pytest.raises(NotAllowed, match="no pace"):
        start(uuid.uuid4(), OperationKind.LOOK_UP, [rows.failed()], actor="ada", spread=timedelta(hours=1))


def test_what_fails_after_the_preview_is_not_meant(seat: Seat, operator: Browser, rows: Rows) -> None:
    rows.failed(phone=ADA)
    page = preview(operator, "replay")
    later = rows.failed(phone=BOB)
    confirm(operator, page)
    work(seat)
    assert rows.of(later).state == "failed"


def test_many_leads_ask_for_their_number(operator: Browser, rows: Rows) -> None:
    for n in range(101):
        rows.failed(phone=f"+44770090{n:04d}")
    page = preview(operator, "dismiss")
    fields = [(name, hidden(page, name)) for name in ("verb", "filters", "scope", "action", "total")]
    assert operator.post("/operations", [*fields, ("note", "n"), ("typed", "100")]).status_code == 400
    assert operator.post("/operations", [*fields, ("typed", "101")]).status_code == 400
    assert operator.post("/operations", [*fields, ("note", "n"), ("typed", "101")]).status_code == 303


def test_only_an_admin_takes_the_risk_in_bulk(operator: Browser, rows: Rows) -> None:
    rows.failed_unknown()
    page = preview(operator, "replay")
    assert "even_if_called" not in page
    fields = [(name, hidden(page, name)) for name in ("verb", "filters", "scope", "action", "total")]
    assert operator.post("/operations", [*fields, ("even_if_called", "yes")]).status_code == 409


def test_look_ups_are_done_by_the_look_up_task(seat: Seat, operator: Browser, rows: Rows) -> None:
    doubtful, known = rows.failed_unknown(phone=ADA), rows.failed(phone=BOB)
    page = preview(operator, "look_up", scope="selected", leads=[doubtful, known])
    assert counts(page) == (1, 0, 1)
    confirm(operator, page)
    assert not seat.console.services.operations.step(), "the sweep asks nobody over HTTP"
    assert seat.console.services.operations.lookup_accounts() == ["default"]
    found = SimpleNamespace(decision=Decision(Step.ACCEPT, "It was found."))
    seat.console.services.operations.look_up("default", lambda ids: [found for one in ids if one == doubtful])
    operation = rows.one("SELECT * FROM dispatcher.operations")
    assert (operation.state, operation.done, operation.refused) == ("finished", 1, 1)


def test_filters_survive_every_action(operator: Browser, rows: Rows) -> None:
    lead = rows.failed(message="Voicery refused it & more")
    query = "campaign=42&text=it+%26+more"
    page = operator.get(f"/failed/rows?{query}").text
    assert hidden(page, "filters") == query
    assert (
        operator.post("/failed/preview", {"verb": "replay", "filters": query}).headers["location"]
        == f"/failed/rows?{query}"
    )
    shown = preview(operator, "replay", filters=query, scope="selected", leads=[lead])
    assert f'href="/failed/rows?{query.replace("&", "&amp;")}"' in shown


def test_a_filter_by_variable_finds_its_leads_and_is_not_written_down(
    seat: Seat, operator: Browser, rows: Rows
) -> None:
    wanted = rows.failed(phone=ADA, variables=json.dumps({"plan": "pro & more"}))
    other = rows.failed(phone=BOB, variables=json.dumps({"plan": "free"}))
    query = "variable=plan%3Dpro+%26+more"
    page = operator.get(f"/failed/rows?{query}").text
    assert (str(wanted) in page, str(other) in page) == (True, False)
    confirm(operator, preview(operator, "replay", filters=query))
    work(seat)
    assert [rows.of(lead).state for lead in (wanted, other)] == ["pending", "failed"]
    assert "plan=•••" in str(rows.audited())
    assert "pro & more" not in str(rows.audited())


def test_pages_follow_each_other_without_gaps(operator: Browser, rows: Rows) -> None:
    expected = {str(rows.failed(phone=f"+44770090{n:04d}")) for n in range(120)}
    rows.run("UPDATE dispatcher.failed_leads SET failed_at = now() - make_interval(mins => CAST(id / 3 AS integer))")
    seen: list[str] = []
    path: str | None = "/failed/rows"
    while path:
        page = operator.get(path).text
        seen += re.findall(r'name="lead" value="([^"]+)"', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == 120
    assert set(seen) == expected


@pytest.mark.parametrize(
    "query",
    [
        "campaign=x",
        "campaign=-1",
        "http_status=7",
        "class=nothing",
        "batch=x",
        "since=whenever",
        "phone=1",
        "variable=plan",
        "replayed_before=perhaps",
        "submitted_since=soon",
        "attempts=1e9",
        "text=%00",
        "after=x",
        "after=2026-01-01~1",
        "campaign=99999999999999999999",
    ],
)
def test_a_filter_that_makes_no_sense_is_said_so(viewer: Browser, query: str) -> None:
    assert viewer.get(f"/failed/rows?{query}").status_code == 400


def test_hostile_filters_find_nothing_and_break_nothing(viewer: Browser, rows: Rows) -> None:
    rows.failed()
    for text in ("' OR 1=1 --", "%", "_", "\\", "'; DROP TABLE dispatcher.leads; --"):
        for name in ("text", "cause", "account", "reference"):
            page = viewer.get("/failed/rows", params={name: text})
            assert page.status_code == 200
            assert "Nothing matches" in page.text
        assert viewer.get("/search", params={"q": text}).status_code == 200


# What is shown --------------------------------------------------------------------------------------------------------


def test_nothing_that_somebody_wrote_becomes_markup(seat: Seat, admin: Browser, rows: Rows) -> None:
    attempt = uuid.uuid4()
    lead = rows.failed(
        message=XSS,
        fingerprint=XSS,
        attempt_id=attempt,
        idempotency_key=XSS,
        last_error=XSS,
        variables=json.dumps({XSS: XSS}),
    )
    rows.attempt(lead, attempt, outcome="rejected", evidence={XSS: XSS, "lookups": [{"at": XSS, "verdict": XSS}]})
    rows.run("UPDATE dispatcher.lead_attempts SET error = :x, response = :x, worker = :x", x=XSS)
    rows.run(
        "INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence) VALUES (:x, :id, :x, CAST(:e AS jsonb))",
        x=XSS,
        id=lead,
        e=json.dumps({XSS: XSS}),
    )
    rows.run(
        "INSERT INTO dispatcher.audit_log (actor, action, subject, detail) VALUES (:x, :x, :s, CAST(:e AS jsonb))",
        x=XSS,
        s=str(lead),
        e=json.dumps({XSS: XSS}),
    )
    rows.run("INSERT INTO dispatcher.workers (name) VALUES (:x)", x=XSS)
    rows.run(
        "INSERT INTO dispatcher.blocks (number, account, reason, source, who)"
        " SELECT phone_number, :x, :x, :x, :x FROM dispatcher.leads LIMIT 1",
        x=XSS,
    )
    rows.run(
        "INSERT INTO dispatcher.gates (account, campaign_id, state, reason, by, note)"
        " VALUES ('default', 42, 'closed', 'paused', :x, :x)",
        x=XSS,
    )
    rows.run("INSERT INTO dispatcher.channels (account, campaign_id, rate_limit) VALUES ('default', 42, :x)", x=XSS)
    rows.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor)"
        " VALUES (gen_random_uuid(), :x, 'default', :x)",
        x=XSS,
    )
    rows.run(
        "INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)"
        " SELECT id, 1, :x, :x, :x FROM dispatcher.imports",
        x=XSS,
    )
    number = rows.one("SELECT id FROM dispatcher.imports").id
    location = confirm(admin, preview(admin, "dismiss"), note=XSS)
    work(seat)
    admin.post("/reveal")
    paths = [
        "/",
        "/failed?resolved=yes",
        "/failed/rows?resolved=yes",
        f"/leads/{lead}",
        f"/leads/{lead}/correct",
        "/campaigns",
        "/blocked",
        "/operations",
        location,
        "/imports",
        f"/imports/{number}",
        "/incidents",
        "/workers",
        "/audit",
    ]
    for path in [
        *paths,
        *(
            f"{path.split('?')[0]}?{name}={XSS}"
            for path in ("/failed/rows", "/audit", "/search")
            for name in ("text", "actor", "q", "cause")
        ),
    ]:
        page = admin.get(path)
        assert page.status_code == 200, path
        assert "<script>alert" not in page.text, path
        assert "<img src=x" not in page.text, path
        assert page.text.count("<script") == 1, path
        assert " onerror=" not in re.sub(r"&[#a-z0-9]+;[^<]*", "", page.text), path
        assert "style=" not in page.text.replace(XSS, ""), "the policy forbids inline styles"


def test_numbers_are_masked_until_revealed_and_again_later(
    seat: Seat, operator: Browser, viewer: Browser, rows: Rows
) -> None:
    lead = rows.failed(phone=ADA)
    paths = ["/failed", "/failed/rows", f"/leads/{lead}", f"/leads/{lead}/correct", "/audit", "/"]
    for path in paths:
        assert ADA[2:] not in operator.get(path).text, path
        assert "Lovelace" not in operator.get(path).text, path
    assert viewer.post("/reveal").status_code == 403
    operator.post("/reveal", {"return": "/failed/rows?phone=0101"})
    assert ADA in operator.get(f"/leads/{lead}").text
    assert ADA not in viewer.get(f"/leads/{lead}").text
    (actor, action, _, detail) = rows.audited()[-1]
    assert (actor, action, detail["page"]) == ("olga@console", "reveal", "/failed/rows")
    seat.clock.now += 601
    assert ADA not in operator.get(f"/leads/{lead}").text


def test_exports_are_masked_audited_and_no_formulas(operator: Browser, viewer: Browser, rows: Rows) -> None:
    lead = rows.failed(phone=ADA, message='=HYPERLINK("https://evil.example")')
    assert viewer.post("/failed/export", {"format": "csv"}).status_code == 403
    (row,) = csv.DictReader(io.StringIO(operator.post("/failed/export", {"format": "csv"}).text))
    assert row["message"].startswith("'=")
    assert row["phone_number"] == "'+•••0101"
    assert row["lead_id"] == str(lead)
    operator.post("/reveal")
    (item,) = operator.post("/failed/export", {"format": "json"}).json()["items"]
    assert item["phone_number"] == ADA
    (row,) = csv.DictReader(io.StringIO(operator.post("/failed/export", {"format": "csv"}).text))
    assert row["phone_number"] == f"'{ADA}"
    assert [detail["whole_numbers"] for _, action, _, detail in rows.audited() if action == "export"] == [
        False,
        True,
        True,
    ]


def test_campaigns_are_paused_resumed_and_limited(seat: Seat, operator: Browser, admin: Browser, rows: Rows) -> None:
    rows.lead("pending")
    operator.post("/campaigns/default/42/pause", {"reason": "wrong greeting"})
    gate = rows.one("SELECT * FROM dispatcher.gates WHERE campaign_id = 42")
    assert (gate.state, gate.reason, gate.by, gate.note) == ("closed", "paused", "olga@console", "wrong greeting")
    assert "wrong greeting" in operator.get("/").text
    operator.post("/campaigns/default/42/resume")
    assert rows.one("SELECT state FROM dispatcher.gates WHERE campaign_id = 42").state == "open"
    assert operator.post("/campaigns/default/42/limit", {"rate_limit": "30/minute"}).status_code == 403
    admin.post("/campaigns/default/42/limit", {"rate_limit": "30/fortnight"})
    assert "not a rate limit" in admin.get("/campaigns").text
    admin.post("/campaigns/default/42/limit", {"rate_limit": "30/minute"})
    assert rows.one("SELECT rate_limit FROM dispatcher.channels").rate_limit == "30/minute"
    admin.post("/accounts/default/pause", {"reason": "holiday"})
    assert rows.one("SELECT state FROM dispatcher.gates WHERE campaign_id IS NULL").state == "closed"
    assert admin.post("/campaigns/EVIL/42/pause").status_code == 400


def test_rejected_rows_of_the_inbox_are_validated_again_or_discarded(operator: Browser, rows: Rows) -> None:
    ids = [uuid.uuid4() for _ in range(3)]
    for one in ids:
        rows.run(
            "INSERT INTO dispatcher.inbox (id, account, lead, bytes, caller, state, ended_at, reasons, idempotency_key)"
            " VALUES (:id, 'default', CAST(:lead AS jsonb), 1, 'shop', 'rejected', now(), CAST(:why AS jsonb), 'k')",
            id=one,
            lead=json.dumps({"phone_number": "+1 202 555 0101", "campaign_id": "x", "variables": {"n": "Ada"}}),
            why=json.dumps([{"field": "campaign_id", "fault": "is of type str", "remedy": "pass an integer"}]),
        )
    page = operator.get("/inbox").text
    assert "campaign_id: is of type str; pass an integer" in page
    assert "0101" in page
    assert "555 0101" not in page
    assert "Ada" not in page
    assert "3 leads" in operator.get("/").text

    operator.post("/inbox", {"action": "retry", "row": ids[0]})
    operator.post("/inbox", {"action": "discard", "row": ids[1]})
    for fields in ({"action": "mend", "row": ids[2]}, {"action": "retry", "row": "x"}):
        assert operator.post("/inbox", fields).status_code == 400
    assert operator.post("/inbox", {"action": "retry", "row": ids[0]}).status_code == 409, "it waits"
    operator.post("/inbox", {"action": "discard"})

    left = {row.id: row.state for row in rows.rows("SELECT id, state FROM dispatcher.inbox")}
    assert left == {ids[0]: "waiting", ids[2]: "rejected"}
    assert [(actor, action) for actor, action, *_ in rows.audited()] == [
        ("olga@console", "inbox_retry"),
        ("olga@console", "inbox_discard"),
    ]


def test_incidents_are_marked_as_seen_by_somebody(operator: Browser, rows: Rows) -> None:
    rows.run("INSERT INTO dispatcher.incidents (kind, message) VALUES ('called_twice', 'Twice.')")
    number = rows.one("SELECT id FROM dispatcher.incidents").id
    operator.post("/incidents/seen", {"incident": number})
    assert rows.one("SELECT seen_by FROM dispatcher.incidents").seen_by == "olga@console"


def test_a_lead_is_found_by_each_of_its_names(operator: Browser, rows: Rows) -> None:
    lead = rows.lead("accepted", voicery_lead_id=987654, idempotency_key="crm-17")
    rows.run(
        "INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state)"
        " VALUES ('default', 'crm-17', :id, 'h', 'pending')",
        id=lead,
    )
    rows.run("INSERT INTO dispatcher.channels (account, campaign_id) VALUES ('default', 42)")
    for name in (str(lead), "crm-17", "987654", ADA, "+1 (202) 555-0101"):
        assert operator.get("/search", params={"q": name}).headers.get("location") == f"/leads/{lead}", name
    assert "Nothing has that name" in operator.get("/search", params={"q": "+1 202 555 0199"}).text


def test_empty_screens_are_kind(admin: Browser) -> None:
    for path, words in (
        ("/failed", "No lead has failed"),
        ("/failed/rows", "No lead has failed"),
        ("/campaigns", "No campaign"),
        ("/imports", "No file"),
        ("/operations", "No bulk work"),
        ("/incidents", "Nothing has happened"),
        ("/inbox", "Nothing waits"),
        ("/workers", "No worker"),
    ):
        assert words in admin.get(path).text


def test_postgres_away_is_a_page_and_no_trace(
    seat: Seat, admin: Browser, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    from dispatcher.errors import StoreUnavailable

    def away(*_: object) -> None:
        raise StoreUnavailable("Postgres cannot be reached.")

    monkeypatch.setattr(type(seat.console.services), "overview", away)
    answer = admin.get("/")
    assert answer.status_code == 503
    assert "Postgres is away" in answer.text
    assert seat.browser(Role.ADMIN).get("/login").status_code == 303
