"""No page contradicts itself: each number, word and button agrees with what the others say of the same thing."""

import re
import uuid

import pytest

from dispatcher.console.recent import FIGURES_SECONDS
from dispatcher.operator.record import in_words
from tests.console.conftest import Browser, Seat
from tests.support.rows import ADA, BOB, Rows

PROVEN = {"proof": True, "lookups": [{"at": None, "verdict": "absent", "control": True}]}


def proven(rows: Rows, *, minutes_ago: int) -> uuid.UUID:
    """A lead that failed because its outcome was unknown, and whose absence was proven so long ago."""
    lead = rows.failed_unknown(phone=BOB, evidence=PROVEN)
    rows.run(
        "UPDATE dispatcher.lead_attempts SET evidence = jsonb_set(evidence, '{lookups,0,at}',"
        " to_jsonb(now() - make_interval(mins => :ago))) WHERE lead_id = :id",
        ago=minutes_ago,
        id=lead,
    )
    return lead


def test_who_was_proven_absent_has_not_maybe_been_called(operator: Browser, rows: Rows) -> None:
    page = operator.get(f"/leads/{proven(rows, minutes_ago=1)}").text
    assert "may have been called" not in page.replace("Replay although the person may have been called", "").lower()
    assert "absence is proven" in page
    assert "nobody was called" in page
    listed = operator.get("/failed/rows").text
    assert "absence is proven" in listed
    assert "May have been called</span>" not in listed.split("<tbody>")[1]


def test_a_proof_that_grew_old_leaves_the_doubt(operator: Browser, rows: Rows) -> None:
    page = operator.get(f"/leads/{proven(rows, minutes_ago=60)}").text
    assert "absence is proven" not in page
    assert "May have been called" in page


@pytest.mark.parametrize(("state", "offered"), [("running", True), ("finished", False), ("stopped", False)])
def test_what_is_over_cannot_be_stopped(operator: Browser, rows: Rows, *, state: str, offered: bool) -> None:
    rows.run(
        "INSERT INTO dispatcher.operations (id, kind, actor, total, done, state, finished_at)"
        " VALUES (gen_random_uuid(), 'replay', 'ada', 2, 1, :state, CASE WHEN :over THEN now() END)",
        state=state,
        over=not offered,
    )
    operation = rows.one("SELECT id FROM dispatcher.operations").id
    page = operator.get(f"/operations/{operation}").text
    assert ("Stop it" in page) is offered
    live = page[page.index("data-live>") :]
    assert ("Stop it" in live) is offered, "the live refresh takes the button away with the last lead"


def test_what_is_held_back_does_not_drain(seat: Seat, operator: Browser, rows: Rows) -> None:
    for n in range(3):
        rows.lead("pending", phone=f"+4477009001{n:02d}", campaign_id=7)
    rows.run(
        "INSERT INTO dispatcher.gates (account, campaign_id, state, reason) VALUES ('default', 7, 'closed', 'paused')"
    )
    page = tile(operator, "Time to drain")
    assert "all of it is held back" in page
    assert "<b>–</b>" in page
    rows.lead("pending", phone=ADA, campaign_id=8)
    seat.clock.now += FIGURES_SECONDS
    page = tile(operator, "Time to drain")
    assert "without what is held back" in page
    waiting = tile(operator, "Waiting")
    assert "<b>4</b>" in waiting
    assert "4 due, 3 of them held back" in waiting


def test_a_dead_worker_does_not_count_as_one_that_works(operator: Browser, rows: Rows) -> None:
    rows.run("INSERT INTO dispatcher.workers (name, seen_at) VALUES ('a:1', now()), ('b:2', now() - interval '40 s')")
    shown = tile(operator, "Workers alive")
    assert "<b>1</b>" in shown
    assert "1 silent" in shown
    page = operator.get("/workers").text
    assert page.count(">alive<") == page.count(">silent<") == 1


def test_a_cause_shows_a_status_only_if_all_its_leads_had_it(operator: Browser, rows: Rows) -> None:
    for n, status in enumerate((504, None)):
        lead = rows.failed(phone=f"+4477009002{n:02d}", campaign_id=40 + n, message="No answer.")
        rows.run("UPDATE dispatcher.failed_leads SET http_status = :status WHERE lead_id = :id", status=status, id=lead)
    assert "HTTP" not in operator.get("/failed").text.split("<tbody>")[1]
    assert "HTTP 504" in operator.get("/failed?campaign=40").text
    rows.run("UPDATE dispatcher.failed_leads SET http_status = 500 + campaign_id % 2")
    assert "HTTP 50" not in operator.get("/failed").text.split("<tbody>")[1]


def test_the_audit_log_speaks_no_python(operator: Browser, rows: Rows) -> None:
    rows.run(
        "INSERT INTO dispatcher.audit_log (actor, action, subject, detail) VALUES ('ada', 'operation', 'x',"
        """ '{"filters": {"resolved": false, "text": null}, "leads": ["a", "b"], "even_if_called": true}')"""
    )
    shown = operator.get("/audit").text
    assert "even if called: yes" in shown
    assert "leads: a, b" in shown
    assert "filters: resolved: no" in shown
    assert not re.search(r"True|False|None|\{|\[", shown.split("<tbody>")[1].split("</tbody>")[0])
    assert in_words({"a": None, "b": [1, True], "c": ""}) == "b: 1, yes"


def test_ids_and_times_are_not_mangled_as_if_they_were_numbers(operator: Browser, rows: Rows) -> None:
    lead = "fa54fd8e-644c-88e5-aff3-e20000000257"
    text = f"Lead {lead} already stands for +12025550101 since 2026-11-28 09:15:02 UTC."
    rows.failed(message=text)
    for path in ("/failed", "/failed/rows"):
        assert text.replace("+12025550101", "+•••0101") in operator.get(path).text, path
    rows.run(
        "INSERT INTO dispatcher.audit_log (actor, action, subject, detail)"
        " VALUES ('ada', 'resolve', 'x', '{\"voicery_lead_id\": 12345678901}')"
    )
    assert "voicery lead id: 12345678901" in operator.get("/audit").text


@pytest.mark.parametrize("path", ["/nothing", "/leads/not-an-id", f"/leads/{uuid.UUID(int=1)}", "/operations/x"])
def test_what_is_not_there_is_said_in_the_frame(viewer: Browser, path: str) -> None:
    answer = viewer.get(path)
    assert answer.status_code == 404
    assert '<nav aria-label="Screens">' in answer.text


def test_errors_are_pages_in_the_frame(seat: Seat, viewer: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    reloaded = viewer.get("/failed/preview")
    assert (reloaded.status_code, reloaded.headers["allow"]) == (405, "POST")
    assert '<nav aria-label="Screens">' in reloaded.text
    forged = viewer.post("/theme", {"theme": "dark"}, token="forged")
    assert forged.status_code == 403
    assert '<nav aria-label="Screens">' in forged.text
    monkeypatch.setattr(type(seat.console.services), "overview", lambda *_: 1 / 0)
    failed = viewer.get("/")
    assert failed.status_code == 500
    assert '<nav aria-label="Screens">' in failed.text
    assert "division" not in failed.text
    stranger = seat.browser().get("/nothing")
    assert stranger.status_code == 404
    assert "<h1>There is no such page</h1>" in stranger.text
    assert "<nav" not in stranger.text


def tile(browser: Browser, name: str) -> str:
    """The tile of the overview with this name."""
    page: str = browser.get("/").text
    begin = page.index(f"<span>{name}</span>")
    return page[
        begin : page.index("</div>" if page.find("</div>", begin) < page.find("</a>", begin) else "</a>", begin)
    ]
