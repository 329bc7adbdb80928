"""Many leads at once, filters under a name, the outcome of look-ups, and what the overview and the causes draw."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from dispatcher.console.auth import Role
from dispatcher.console.chart import NARROW, RANGES, chart
from dispatcher.decisions.absence import Decision, Step
from dispatcher.operator import leads
from dispatcher.operator.activity import Activity, Slot
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.operator.operation_work import OperationKind
from tests.console.conftest import Browser, Seat, hidden
from tests.support.rows import ADA, BOB, Rows


def confirm(operator: Browser, fields: dict[str, object]) -> str:
    """Preview a cancellation and confirm it; return the address of the operation."""
    page = operator.post("/leads/bulk/preview", {"verb": "cancel", **fields}).text
    names = ("verb", "filters", "scope", "action", "total")
    kept = [(name, hidden(page, name)) for name in names]
    kept += [("lead", one) for one in re.findall(r'name="lead" value="([^"]+)"', page)]
    kept += [("typed", hidden(page, "total")), ("note", "wrong list")]
    answer = operator.post("/operations", kept)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def test_all_pending_leads_that_match_are_cancelled_and_no_others(seat: Seat, operator: Browser, rows: Rows) -> None:
    meant = [rows.lead("pending", phone=f"+4477009001{n:02d}", campaign_id=7) for n in range(3)]
    other = rows.lead("pending", phone=ADA, campaign_id=8)
    accepted = rows.lead("accepted", phone=BOB, campaign_id=7)
    page = operator.post("/leads/bulk/preview", {"verb": "cancel", "scope": "all", "filters": "campaign=7"}).text
    assert "Cancel 3 leads?" in page
    where = confirm(operator, {"scope": "all", "filters": "campaign=7"})
    later = rows.lead("pending", phone="+447700900199", campaign_id=7)
    while seat.console.services.operations.step():
        pass
    assert {rows.of(one).state for one in meant} == {"cancelled"}
    assert [rows.of(one).state for one in (other, accepted, later)] == ["pending", "accepted", "pending"]
    assert "3 done, 0 refused, 0 left" in operator.get(where).text
    assert [line[3] for line in rows.audited() if line[1] == "cancel"] == [{"note": "wrong list"}] * 3


def test_only_pending_leads_are_counted_and_named_whatever_else_the_filters_match(seat: Seat, rows: Rows) -> None:
    pending = rows.lead("pending", phone=ADA, campaign_id=7)
    for number, state in enumerate(("accepted", "cancelled")):
        rows.lead(state, phone=f"+4477009001{number:02d}", campaign_id=7)
    wanted, services = LeadFilter(campaign_id=7), seat.console.services
    counted = services.database.read(leads.count_pending, wanted)
    operation_id = uuid4()
    asked = services.operations.start(operation_id, OperationKind.CANCEL, wanted, actor="ada")

    named = rows.rows("SELECT lead_id FROM dispatcher.operation_leads WHERE operation_id = :id", id=operation_id)
    assert (counted, asked.total, named) == (1, 1, [(pending,)])


def test_what_was_claimed_meanwhile_is_refused_and_in_doubt_is_not_forgotten(
    seat: Seat, operator: Browser, rows: Rows
) -> None:
    claimed = rows.lead("pending", phone=ADA)
    doubtful = rows.lead("pending", phone=BOB, resends=1)
    rows.attempt(doubtful, uuid4(), outcome="unknown", minutes_ago=30)
    where = confirm(operator, {"lead": claimed} | {"scope": "selected"})
    rows.run(
        "UPDATE dispatcher.leads SET state = 'sending', lease_until = now() + interval '1 min', attempt_id = id"
        " WHERE id = :id",
        id=claimed,
    )
    confirm(operator, {"lead": doubtful, "scope": "selected"})
    while seat.console.services.operations.step():
        pass
    assert rows.of(claimed).state == "sending"
    assert "can no longer be held back" in operator.get(where).text
    assert (rows.of(doubtful).state, rows.of(doubtful).failure_class) == ("failed", "outcome_unknown")


def test_only_operators_cancel_and_only_what_can_be(viewer: Browser, operator: Browser, rows: Rows) -> None:
    rows.lead("pending", phone=ADA)
    rows.lead("accepted", phone=BOB)
    assert "Cancel…" in operator.get("/leads").text
    assert operator.get("/leads").text.count('name="lead"') == 1
    assert "Cancel…" not in operator.get("/leads?state=accepted").text
    assert "Cancel…" not in viewer.get("/leads").text
    assert viewer.post("/leads/bulk/preview", {"verb": "cancel", "scope": "all"}).status_code == 403
    answer = operator.post("/leads/bulk/preview", {"verb": "cancel", "scope": "selected"})
    assert answer.headers["location"] == "/leads"


@dataclass(frozen=True)
class Told:
    """A finding as the look-up task has it."""

    decision: Decision


def test_a_look_up_operation_tells_what_it_found_out(seat: Seat, operator: Browser, rows: Rows) -> None:
    leads = [rows.failed_unknown(phone=f"+4477009001{n:02d}") for n in range(4)]
    findings = {
        leads[0]: [Told(Decision(Step.ACCEPT, "It was found at Voicery."))],
        leads[1]: [Told(Decision(Step.STAY, "Not there.", proof=True))],
        leads[2]: [Told(Decision(Step.STAY, "Not proven."))],
        leads[3]: [],
    }
    operations = seat.console.services.operations
    operation = operations.start(uuid4(), OperationKind.LOOK_UP, leads, actor="ada")

    def look_up(ids: Sequence[UUID]) -> list[Told]:
        return findings[ids[0]]

    while operations.look_up("default", look_up):
        rows.run("UPDATE dispatcher.operations SET next_at = now() WHERE finished_at IS NULL")
    page = operator.get(f"/operations/{operation.id}").text
    tiles = dict(re.findall(r"<span>(Found|Absent|Held)</span><b>(\d+)</b>", page))
    assert tiles == {"Found": "1", "Absent": "1", "Held": "1"}
    assert "3 done, 1 refused, 0 left" in page
    for lead, word in zip(leads, ("found", "absent", "held"), strict=False):
        assert re.search(rf'href="/leads/{lead}".*?<span class="tag \w+">{word}</span>', page, re.DOTALL)


def test_filters_are_saved_under_a_name_by_each_user(
    seat: Seat, operator: Browser, viewer: Browser, rows: Rows
) -> None:
    rows.failed(campaign_id=42)
    given = {"page": "failed", "filters": "campaign=42&http_status=422", "name": " 422s  of 42 "}
    assert operator.post("/filters", given).headers["location"] == "/failed/rows?campaign=42&http_status=422"
    page = operator.get("/failed/rows").text
    assert '<a href="/failed/rows?campaign=42&amp;http_status=422">422s of 42</a>' in page
    assert "422s of 42" not in operator.get("/leads").text
    assert "422s of 42" not in viewer.get("/failed/rows").text
    operator.post("/filters", given | {"filters": "campaign=43"})
    assert "campaign=43&" not in operator.get("/failed/rows").text
    assert operator.get("/failed/rows").text.count(">422s of 42</a>") == 1, "a name is given once"
    number = rows.one("SELECT id FROM dispatcher.saved_filters").id
    viewer.post(f"/filters/{number}/remove")
    assert len(rows.rows("SELECT 1 FROM dispatcher.saved_filters")) == 1, "nobody removes another's"
    operator.post(f"/filters/{number}/remove", {"return": "/failed/rows"})
    assert rows.rows("SELECT 1 FROM dispatcher.saved_filters") == []


@pytest.mark.parametrize(
    ("filters", "name", "why"),
    [
        ("phone=0101", "a", "names no person"),
        ("variable=name%3DAda", "a", "names no person"),
        ("reference=%2B12025550101", "a", "names no person"),
        ("campaign=42", "+12025550101", "may be a person"),
        ("campaign=42", " ", "needs a name"),
        ("", "a", "filter first"),
    ],
)
def test_a_saved_filter_names_nobody(operator: Browser, rows: Rows, filters: str, name: str, why: str) -> None:
    operator.post("/filters", {"page": "leads", "filters": filters, "name": name})
    assert why in operator.get("/leads").text
    assert rows.rows("SELECT 1 FROM dispatcher.saved_filters") == []


def test_each_cause_shows_its_last_day(operator: Browser, rows: Rows) -> None:
    for n, hours in enumerate((0, 0, 5, 30)):
        lead = rows.failed(phone=f"+4477009001{n:02d}")
        rows.run(
            "UPDATE dispatcher.failed_leads SET failed_at = now() - make_interval(hours => :ago) WHERE lead_id = :id",
            ago=hours,
            id=lead,
        )
    page = operator.get("/failed").text
    assert "the latest last: 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2" in page
    assert "3 in the last 24 hours, 2 in the last" in page


@pytest.mark.parametrize("hours", RANGES)
def test_the_chart_has_ranges_and_is_drawn_for_narrow_screens(operator: Browser, hours: int) -> None:
    page = operator.get(f"/?hours={hours}").text
    assert f'href="/?hours={hours}" aria-current="true"' in page
    assert page.count('<svg class="broad"') == page.count('<svg class="narrow"') == 1
    span = RANGES[hours]
    start = datetime(2026, 11, 28, 0, 0, tzinfo=UTC)
    slots = [
        Slot(start + timedelta(seconds=n * span.slot_seconds), accepted=n)
        for n in range(hours * 3600 // span.slot_seconds)
    ]
    narrow = chart(Activity(tuple(slots), span.slot_seconds, start), width=NARROW, label_minutes=span.narrow_minutes)
    assert max(bar.x + bar.width for bar in narrow.bars) <= NARROW
    assert 2 <= len(narrow.hours) <= 6, "labels do not run into each other"


def test_a_range_that_the_chart_has_not_is_said_so(operator: Browser) -> None:
    for hours in ("0", "7", "x", "999999999999999999999"):
        assert operator.get(f"/?hours={hours}").status_code == 400


def test_the_button_of_the_theme_offers_the_other_one(seat: Seat) -> None:
    browser = seat.browser(Role.VIEWER)
    shown = {}
    for theme in ("auto", "dark", "light"):
        browser.post("/theme", {"theme": theme})
        shown[theme] = re.findall(r'<button class="small( if-\w+)?" name="theme" value="(\w+)"', browser.get("/").text)
    assert shown == {
        "auto": [(" if-light", "dark"), (" if-dark", "light")],
        "dark": [("", "light"), ("", "auto")],
        "light": [("", "dark"), ("", "auto")],
    }
