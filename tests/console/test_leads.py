"""The list of leads in every state, its filters, and that every count leads to as many rows as it shows."""

import re
import uuid
from html import unescape

import pytest

from dispatcher.console.auth import Role
from dispatcher.decisions.states import State
from dispatcher.operator import failures, leads
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.operator.overview import Count
from tests.console.conftest import Browser, Seat
from tests.support.rows import ADA, BOB, Rows

IMPORTED = "fa54fd8e-644c-88e5-aff3-e20000000{:03d}"


def listed(browser: Browser, path: str) -> list[str]:
    """The ids of all rows of a list, over all its pages."""
    found: list[str] = []
    while True:
        page = browser.get(path).text
        body = page.split("<tbody>")[1].split("</tbody>")[0] if "<tbody>" in page else ""
        found += re.findall(r'<tr data-row>.*?href="/leads/([0-9a-f-]{36})', body, re.DOTALL)
        following = re.search(r'<a rel="next" href="([^"]+)"', page)
        if following is None:
            return found
        path = unescape(following[1])


def fill(rows: Rows) -> dict[str, uuid.UUID]:
    """A lead in every state, several of some."""
    made = {
        "pending": rows.lead("pending", phone="+447700900101", idempotency_key="crm-1", campaign_id=7),
        "later": rows.lead("pending", phone="+447700900102", campaign_id=7),
        "sending": rows.lead("sending", phone="+447700900103", attempt_id=uuid.uuid4()),
        "unknown": rows.unknown(phone="+447700900104"),
        "accepted": rows.lead("accepted", phone="+447700900105", voicery_lead_id=991, attempts=2),
        "old": rows.lead("accepted", phone="+447700900106"),
        "duplicate": rows.lead("duplicate", phone="+447700900107"),
        "failed": rows.failed(phone="+447700900108", last_error="No such phone.", variables='{"plan": "pro"}'),
        "cancelled": rows.lead("cancelled", phone="+447700900109", batch_id=uuid.UUID(int=5)),
    }
    rows.run("UPDATE dispatcher.leads SET due_at = now() + interval '1 h' WHERE id = :id", id=made["later"])
    rows.run(
        "UPDATE dispatcher.leads SET finished_at = now() - interval '3 d', created_at = now() - interval '4 d'"
        " WHERE id = :id",
        id=made["old"],
    )
    return made


FILTERS = {
    "state=accepted": {"accepted", "old"},
    "state=pending": {"pending", "later"},
    "state=cancelled,duplicate": {"cancelled", "duplicate"},
    "due=yes": {"pending"},
    "due=no": {"later"},
    "campaign=7": {"pending", "later"},
    "campaign=7&state=failed": set(),
    "phone=0900105": {"accepted"},
    "reference=crm-1": set(),
    "voicery_id=991": {"accepted"},
    "batch=00000000-0000-0000-0000-000000000005": {"cancelled"},
    "variable=plan%3Dpro": {"failed"},
    "text=no+such": {"failed"},
    "attempts=2": {"accepted", "failed"},
    "since=2d&state=accepted": {"accepted"},
    "before=2d": {"old"},
    "ended_since=today&state=accepted": {"accepted"},
    "ended_before=yesterday": {"old"},
    "account=other": set(),
}


def test_every_filter_finds_its_leads_and_no_others(operator: Browser, rows: Rows) -> None:
    made = fill(rows)
    names = {str(lead): name for name, lead in made.items()}
    assert set(map(names.get, listed(operator, "/leads"))) == set(made)
    found = {query: set(map(names.get, listed(operator, f"/leads?{query}"))) for query in FILTERS}
    rows.run(
        "INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state)"
        " VALUES ('default', 'crm-1', :id, 'h', 'pending')",
        id=made["pending"],
    )
    assert listed(operator, "/leads?reference=crm-1") == [str(made["pending"])]
    assert found == FILTERS
    for name, lead in made.items():
        assert listed(operator, f"/leads?id={str(lead)[-12:]}") == [str(lead)], name
        assert str(lead) in listed(operator, f"/leads?id=%E2%80%A6{str(lead)[20:30].upper()}"), name


def test_every_count_leads_to_as_many_rows_as_it_shows(operator: Browser, rows: Rows) -> None:
    fill(rows)
    for n in range(53):
        rows.lead("pending", phone=f"+4477009102{n:02d}", campaign_id=8)
    for n in range(3):
        rows.failed(phone=f"+4477009103{n:02d}", campaign_id=40 + n % 2, fingerprint=f"f{n % 2}")
    checked = 0
    for path in ("/", "/failed", "/campaigns"):
        page = operator.get(path).text
        for address, shown in counts(page):
            assert len(listed(operator, rows_of(address))) == shown, f"{address} from {path}"
            checked += 1
    assert checked > 15


def counts(page: str) -> list[tuple[str, int]]:
    """The links that are a count, or a tile with one, and their numbers."""
    links = re.findall(r'<a class="(?:count|tile[^"]*)" href="(/(?:leads|failed)[^"]*)">(.*?)</a>', page, re.DOTALL)
    figures = [(address, re.search(r"^[\d\u202f]+|<b>([\d\u202f]+)</b>", text)) for address, text in links]
    return [
        (unescape(address), int((found[1] or found[0]).replace("\u202f", ""))) for address, found in figures if found
    ]


def rows_of(address: str) -> str:
    """The list behind a link: the causes have their rows one page further."""
    return (
        address.replace("/failed?", "/failed/rows?") if "?" in address else address.replace("/failed", "/failed/rows")
    )


def test_ids_of_one_import_are_told_apart_and_found_by_any_part(operator: Browser, rows: Rows) -> None:
    for n in range(3):
        rows.lead("pending", id=uuid.UUID(IMPORTED.format(n)), phone=f"+4477009001{n:02d}")
    page = operator.get("/leads").text
    shown = re.findall(r'title="[0-9a-f-]{36}">([^<]+)</a>', page)
    assert len(shown) == len(set(shown)) == 3, "each is shown by what distinguishes it"
    for part in ("e20000000001", "…e20000000001", "fa54fd8e-644c-88e5-aff3-e20000000001", "E20000000001"):
        answer = operator.get(f"/search?q={part}")
        assert answer.headers.get("location") == f"/leads/{IMPORTED.format(1)}", part
    assert len(listed(operator, "/search?q=644c-88e5")) == 3
    assert len(listed(operator, "/leads?id=fa54")) == 3


def test_a_person_is_found_by_the_end_of_the_number_in_any_state(operator: Browser, rows: Rows) -> None:
    for n, state in enumerate(("accepted", "duplicate", "cancelled")):
        lead = rows.lead(state, phone=f"+44770090010{n}")
        assert operator.get(f"/search?q=0010{n}").headers.get("location") == f"/leads/{lead}", state
    operator.get("/search?q=7700900101")
    assert ("look_for_person", {"number": "+•••101"}) in [(line[1], line[3]) for line in rows.audited()]


def test_masked_eyes_find_no_more_than_they_see(viewer: Browser, rows: Rows) -> None:
    rows.lead("accepted", phone=ADA, last_error=f"Refused {BOB}.")
    assert len(listed(viewer, "/leads?phone=0101")) == 1
    for query in ("phone=50101", "variable=a%3Db", "reference=%2B12025550101"):
        assert viewer.get(f"/leads?{query}").status_code == 400, query
    assert listed(viewer, "/leads?text=2025550102") == []
    assert len(listed(viewer, "/leads?text=refused")) == 1
    assert ADA not in viewer.get("/leads").text
    assert listed(viewer, "/search?q=25550101") == []


@pytest.mark.parametrize("query", ["state=gone", "id=zz", "due=perhaps", "after=x", "since=never", "voicery_id=x"])
def test_a_filter_that_makes_no_sense_is_said_so(viewer: Browser, query: str) -> None:
    answer = viewer.get(f"/leads?{query}")
    assert answer.status_code == 400
    assert '<nav aria-label="Screens">' in answer.text


def test_a_page_reads_no_more_than_its_bound_and_says_so(
    seat: Seat, operator: Browser, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [rows.lead("accepted", phone=f"+4477009003{n:02d}") for n in range(9)]
    monkeypatch.setattr(leads, "MOST_READ", 4)
    page = operator.get("/leads?phone=00300").text
    assert "Read further back" in page
    assert "Nothing matches so far" in page
    assert listed(operator, "/leads?phone=00300") == [str(made[0])], "the links lead through all leads"
    assert listed(operator, "/leads?state=accepted") == [str(one) for one in sorted(made, reverse=True)]
    database = seat.console.services.database
    assert not database.read(leads.count_matching, LeadFilter(phone_number="00300")).exact
    assert database.read(leads.count_matching, LeadFilter(states=(State.PENDING,))).exact
    assert seat.browser(Role.VIEWER).get("/leads?ended_since=today&state=accepted").text.count("Narrow the time") == 1


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("variable=plan%3Dpro", FailureFilter(variable=("plan", "pro"))),
        ("text=rare", FailureFilter(text="rare")),
        ("replayed_before=yes", FailureFilter(replayed_before=True)),
    ],
)
def test_a_page_of_failures_reads_no_more_than_its_bound_and_its_links_lead_through_all(
    seat: Seat, operator: Browser, rows: Rows, monkeypatch: pytest.MonkeyPatch, path: str, wanted: FailureFilter
) -> None:
    oldest = rows.failed(message="A rare one.", variables='{"plan": "pro"}')
    rows.run("UPDATE dispatcher.failed_leads SET resolved_at = now(), resolution = 'replayed'")
    rows._failure(oldest, "A rare one.", "f1")
    made = [rows.failed(phone=f"+4477009003{n:02d}") for n in range(8)]
    database = seat.console.services.database
    assert database.read(failures.count_matching, wanted) == Count(1)

    monkeypatch.setattr(failures, "MOST_READ", 4)
    page = operator.get(f"/failed/rows?{path}").text
    assert "Nothing matches so far" in page
    assert "so 4 failures were read" in page
    assert listed(operator, f"/failed/rows?{path}") == [str(oldest)], "the links lead through all failures"
    assert database.read(failures.count_matching, wanted) == Count(0, exact=False)
    assert database.read(failures.leads_matching, wanted) == [oldest], "what acts on all that match leaves out none"
    assert listed(operator, "/failed/rows") == [*map(str, reversed(made)), str(oldest)]
    assert "Read further back" not in operator.get("/failed/rows?campaign=42").text
