"""Who sees numbers masked finds out no more by filters, searches and notes than by looking."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.console.auth import Role
from dispatcher.operator import failures, lead_search
from dispatcher.operator.failure_filter import MaskedFilter
from dispatcher.operator.record import mask_inside, mask_reference
from tests.console.conftest import Browser, Seat
from tests.support.doubles import Line
from tests.support.rows import Rows

NUMBER = "+447700900123"
SECRET = "447700900"
SPOKEN = "+44 7700 900123"


def found(browser: Browser, lead: object, **filters: str) -> bool:
    """Whether the list shows the lead with these filters; a refusal shows nothing."""
    query = "&".join(f"{name}={quote_plus(value)}" for name, value in filters.items())
    answer = browser.get(f"/failed/rows?{query}")
    assert answer.status_code in {200, 400}
    return str(lead) in answer.text


def spelled_out(browser: Browser, lead: object, name: str, known: str, *, before: str = "") -> str:
    """What can be found out with one filter, digit by digit, beginning with what is shown."""
    digits = known
    for _ in range(12):
        tried = [one + digits if name == "phone" else digits + one for one in "0123456789"]
        right = [one for one in tried if found(browser, lead, **{name: before + one})]
        if len(right) != 1:
            return digits
        digits = right[0]
    return digits


def test_the_filter_by_ending_tells_a_viewer_no_further_digit(seat: Seat, rows: Rows) -> None:
    lead = rows.failed(phone=NUMBER)
    assert spelled_out(seat.browser(Role.VIEWER), lead, "phone", "0123") == "0123"
    assert SECRET in spelled_out(seat.browser(Role.OPERATOR), lead, "phone", "0123"), "the attack itself works"


@pytest.mark.parametrize(("phone", "shown"), [("+447700900123", 4), ("+1202555010", 3), ("+29812345", 2)])
def test_of_a_short_number_fewer_digits_match(rows: Rows, phone: str, shown: int) -> None:
    rows.failed(phone=phone)
    for length in range(1, 6):
        wanted = MaskedFilter(phone_number=phone[-length:])
        matches = rows.database.read(failures.matching, wanted)
        assert bool(matches) is (length <= shown), length


def test_the_filter_by_text_tells_a_viewer_no_digit_of_a_message(seat: Seat, rows: Rows) -> None:
    lead = rows.failed(phone="+447700900999", message=f"Voicery refused {SPOKEN} for good.")
    viewer, operator = seat.browser(Role.VIEWER), seat.browser(Role.OPERATOR)
    assert spelled_out(viewer, lead, "text", "+", before="refused ") == "+"
    assert len(spelled_out(operator, lead, "text", "+", before="refused ")) > 2, "the attack itself works"
    assert found(viewer, lead, text="refused")
    assert found(viewer, lead, text="for good")


@pytest.mark.parametrize(
    "filters",
    [{"phone": NUMBER}, {"phone": "+0123"}, {"phone": "00123"}, {"variable": "plan=pro"}, {"reference": NUMBER}],
)
def test_a_viewer_is_told_which_filter_takes_a_role(seat: Seat, filters: dict[str, str]) -> None:
    (name, value), *_ = filters.items()
    for page in ("/failed", "/failed/rows"):
        assert seat.browser(Role.VIEWER).get(f"{page}?{name}={quote_plus(value)}").status_code == 400
        assert seat.browser(Role.OPERATOR).get(f"{page}?{name}={quote_plus(value)}").status_code == 200


def test_a_viewer_finds_nobody_by_a_number_and_everybody_by_an_id(seat: Seat, rows: Rows) -> None:
    lead = rows.failed(phone=NUMBER, idempotency_key=NUMBER, voicery_lead_id=1234567)
    rows.run("INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state)"
             " VALUES ('default', :key, :lead, 'hash', 'pending')", key=NUMBER, lead=lead)  # fmt: skip
    rows.run("INSERT INTO dispatcher.channels (account, campaign_id) VALUES ('default', 42)")
    viewer, operator = seat.browser(Role.VIEWER), seat.browser(Role.OPERATOR)
    for text in (NUMBER, SPOKEN, NUMBER[1:]):
        answer = viewer.get(f"/search?q={quote_plus(text)}")
        assert answer.status_code == 200
        assert str(lead) not in answer.text
    assert viewer.get(f"/search?q={lead}").headers["location"] == f"/leads/{lead}"
    assert viewer.get("/search?q=1234567").headers["location"] == f"/leads/{lead}"
    assert str(lead) in operator.get(f"/search?q={quote_plus(NUMBER)}").text
    assert rows.database.read(lead_search.search, NUMBER, masked=True) == []


def personal(rows: Rows) -> tuple[str, str]:
    """A lead and an operation whose every free text has the number, spoken or plain."""
    lead = rows.failed(
        phone=NUMBER, message=f"Voicery knows {SPOKEN}.", idempotency_key=f"crm {NUMBER}",
        variables=json.dumps({"customer_name": NUMBER}),
    )  # fmt: skip
    text = f"he said call {SPOKEN} or 0044 7700 900123"
    rows.run(
        "UPDATE dispatcher.failed_leads SET response = :text, note = :text, resolution = 'dismissed',"
        " resolved_by = 'ada', resolved_at = now()", text=text,
    )  # fmt: skip
    rows.run("UPDATE dispatcher.leads SET last_error = :text, resolved_at = now()", text=text)
    rows.run(
        "INSERT INTO dispatcher.lead_revisions (lead_id, revision, campaign_id, phone_number, variables, payload_hash,"
        " replaced_by, note) VALUES (:lead, 1, 42, :number, '{}', 'hash', 'ada', :text)",
        lead=lead, number=NUMBER, text=text,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.gates (account, campaign_id, state, reason, note, closed_at)"
        " VALUES ('default', 42, 'closed', 'paused', :text, now())", text=text,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence) VALUES ('possible_match', :lead, :text,"
        " jsonb_build_object('a', jsonb_build_array(CAST(:text AS text)), 'number', CAST(447700900123 AS bigint)))",
        lead=lead, text=text,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor, rejected)"
        " VALUES (gen_random_uuid(), :text, 'default', 'ada', 1)", text=text,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)"
        " SELECT id, 2, :text, :text, :text FROM dispatcher.imports", text=text,
    )  # fmt: skip
    operation = rows.one("SELECT gen_random_uuid() AS id").id
    rows.run(
        "INSERT INTO dispatcher.operations (id, kind, actor, total, refused, options, filters) VALUES (:id, 'replay',"
        " 'ada', 1, 1, jsonb_build_object('note', CAST(:text AS text)), jsonb_build_object('text', CAST(:text AS text),"
        " 'campaign_id', CAST(447700900123 AS bigint)))", id=operation, text=text,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.operation_leads (operation_id, position, lead_id, outcome, reason)"
        " VALUES (:id, 1, :lead, 'refused', :text)", id=operation, lead=lead, text=text,
    )  # fmt: skip
    for subject in (str(lead), "failed_leads"):
        rows.run(
            "INSERT INTO dispatcher.audit_log (actor, action, subject, detail) VALUES ('ada', 'cancel', :subject,"
            " jsonb_build_object('note', CAST(:text AS text), 'filters', jsonb_build_object('campaign_id',"
            " CAST(447700900123 AS bigint))))", subject=subject, text=text,
        )  # fmt: skip
    return str(lead), str(operation)


def digits_of(text: str) -> str:
    return "".join(one for one in text if one.isdigit() or one.isalpha())


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMIN])
def test_no_page_shows_a_number_in_any_free_text_unless_it_is_revealed(seat: Seat, rows: Rows, role: Role) -> None:
    lead, operation = personal(rows)
    number = rows.one("SELECT id FROM dispatcher.imports").id
    browser = seat.browser(role)
    pages = [
        "/", "/failed?resolved=yes", "/failed/rows?resolved=yes", f"/leads/{lead}", "/campaigns", "/imports",
        f"/imports/{number}", "/operations", f"/operations/{operation}", "/incidents", "/audit", f"/search?q={lead}",
    ]  # fmt: skip
    for path in pages:
        assert SECRET not in digits_of(browser.get(path).text), path
    if role is Role.ADMIN:
        for kind in ("csv", "json"):
            answer = browser.post("/failed/export", {"format": kind, "filters": "resolved=yes"})
            assert answer.status_code == 200
            assert SECRET not in digits_of(answer.text)
        assert SECRET not in digits_of(browser.post(f"/imports/{number}/export").text)
        assert browser.session is not None
        seat.console.sessions.reveal(browser.session)
        assert SECRET in digits_of(browser.get(f"/leads/{lead}").text), "the test sees no number at all"


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Line:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Line()


def test_no_command_prints_a_number_in_any_free_text_unless_asked(run: Line, rows: Rows) -> None:
    lead, operation = personal(rows)
    number = str(rows.one("SELECT id FROM dispatcher.imports").id)
    commands = [
        ("failed", "--resolved"), ("failed", "--resolved", "--group"), ("list",), ("show", lead), ("explain", lead),
        ("campaigns",), ("status",), ("incidents",), ("audit",), ("imports",), ("imports", number), ("operations",),
        ("operations", operation), ("tail", "--no-follow", "--since", "1h"),
    ]  # fmt: skip
    for command in commands:
        for flags in ((), ("--json",), ("--csv",)):
            assert SECRET not in digits_of(run(*command, *flags).output), (command, flags)
    assert SECRET in digits_of(run.ok("show", lead, "--json", "--reveal")), "the test sees no number at all"


def test_a_look_up_of_a_person_is_audited_and_one_by_four_digits_is_none(
    seat: Seat, rows: Rows, run: Line, database_url: str
) -> None:
    assert normal_database_url(database_url)
    rows.failed(phone=NUMBER)
    operator = seat.browser(Role.OPERATOR)
    operator.get(f"/search?q={quote_plus(NUMBER)}")
    operator.get(f"/failed/rows?phone={quote_plus(SPOKEN)}")
    run.ok("list", "--phone", NUMBER)
    run.ok("failed", "--phone", SPOKEN)
    noted = [(actor, action, subject, detail) for actor, action, subject, detail in rows.audited()]
    assert [one[1:] for one in noted] == [("look_for_person", "numbers", {"number": "+•••0123"})] * 4
    assert [one[0] for one in noted[:2]] == ["olga@console"] * 2
    operator.get("/failed/rows?phone=0123")
    operator.get("/search?q=nothing")
    run.ok("list", "--phone", "0123")
    assert len(rows.audited()) == 4


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [SPOKEN, {"b": f"x {NUMBER}"}]}, {"a": ["+•••0123", {"b": "x +•••0123"}]}),
        ({"campaign_id": 447700900123}, {"campaign_id": "+•••0123"}),
        ({"voicery_lead_id": 447700900123, "why": {"voicery_lead_ids": [447700900123]}}, None),
        ({"voicery_lead_id": NUMBER}, {"voicery_lead_id": "+•••0123"}),
        ({"id": 1234567, "ok": True, "at": "2026-11-23T07:21:31+00:00"}, None),
        ({"lead": "00000000-0000-4000-8000-000000000000"}, None),
    ],
)
def test_numbers_are_masked_at_any_depth_and_ids_and_times_stay(value: dict[str, Any], shown: Any) -> None:
    assert mask_inside(value) == (value if shown is None else shown)


@pytest.mark.parametrize(
    ("key", "shown"),
    [("order-7", "order-7"), (NUMBER, "+•••0123"), ("00000000-0000-4000-8000-000000000000", None)],
)
def test_a_key_is_shown_unless_it_may_be_a_number(key: str, shown: str | None) -> None:
    assert mask_reference(key) == (key if shown is None else shown)
