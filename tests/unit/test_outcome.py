"""The table of outcomes, row by row: what an exchange turned out to be."""

import re
from dataclasses import dataclass, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import IN_DOUBT, Kind, Outcome, Reason, Rules, Scope, Sent, Signal, classify
from dispatcher.decisions.reply import BodyFault, Reply, WireFault

DUPLICATE = Settings.model_fields["duplicate_rule"].default
RULES = Rules(duplicate=DUPLICATE)
SENT = Sent(campaign_id=42, phone_number="+12025550101", contacts=("+12025550102", "+12025550103"))
YES = {"id": 1001, "campaign_id": 42, "phone_number": "+12025550101", "status": "created"}

CHANNEL_OUTAGE = Signal(Reason.OUTAGE, Scope.CHANNEL)
ACCOUNT_OUTAGE = Signal(Reason.OUTAGE, Scope.ACCOUNT)


def answer(status: int, body: object = None, **more: Any) -> Reply:
    return Reply(status=status, body=body, written=True, **more)


def wire(fault: WireFault, *, written: bool) -> Reply:
    return Reply(fault=fault, written=written, detail="SomeError")


def classified(reply: Reply, sent: Sent = SENT, rules: Rules = RULES) -> Outcome:
    return classify(reply, sent, rules)


@dataclass(frozen=True)
class Row:
    """One line of the table: what came back, and what follows."""

    reply: Reply
    kind: Kind
    counts: bool
    signal: Signal | None


TABLE = {
    # The wire, before the first byte: a proven no.
    "no such host": Row(wire(WireFault.DNS, written=False), Kind.NOT_SENT, True, ACCOUNT_OUTAGE),
    "refused": Row(wire(WireFault.REFUSED, written=False), Kind.NOT_SENT, True, ACCOUNT_OUTAGE),
    "connect timeout": Row(wire(WireFault.CONNECT_TIMEOUT, written=False), Kind.NOT_SENT, True, ACCOUNT_OUTAGE),
    "tls": Row(wire(WireFault.TLS, written=False), Kind.NOT_SENT, True, ACCOUNT_OUTAGE),
    "other, unwritten": Row(wire(WireFault.CONNECTION, written=False), Kind.NOT_SENT, True, ACCOUNT_OUTAGE),
    "reset, unwritten": Row(wire(WireFault.RESET, written=False), Kind.NOT_SENT, True, ACCOUNT_OUTAGE),
    "deadline, unwritten": Row(wire(WireFault.DEADLINE, written=False), Kind.NOT_SENT, True, ACCOUNT_OUTAGE),
    "lease": Row(wire(WireFault.LEASE, written=False), Kind.GIVEN_BACK, False, None),
    "bug": Row(wire(WireFault.BUG, written=False), Kind.BUG, True, CHANNEL_OUTAGE),
    # The wire, after: the person may have been called.
    "read timeout": Row(wire(WireFault.READ_TIMEOUT, written=True), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    "reset": Row(wire(WireFault.RESET, written=True), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    "closed": Row(wire(WireFault.CLOSED, written=True), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    "deadline": Row(wire(WireFault.DEADLINE, written=True), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    "no http": Row(wire(WireFault.PROTOCOL, written=True), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    "bug, written": Row(wire(WireFault.BUG, written=True), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    "lease, written": Row(wire(WireFault.LEASE, written=True), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    # 2xx.
    **{
        f"{status} with an id": Row(answer(status, {"data": YES}), Kind.ACCEPTED, True, None)
        for status in (200, 201, 202, 299)
    },
    "200 truncated": Row(answer(200, body_fault=BodyFault.TRUNCATED), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE),
    "200 truncated but parsed": Row(
        answer(200, {"data": YES}, body_fault=BodyFault.TRUNCATED), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE
    ),
    "200 oversize": Row(answer(200, body_fault=BodyFault.OVERSIZE), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE),
    "200 no json": Row(answer(200, body_fault=BodyFault.NOT_JSON), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE),
    "200 our bug": Row(answer(200, body_fault=BodyFault.BUG), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE),
    "204": Row(answer(204), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE),
    "200 without id": Row(answer(200, {"data": {}}), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE),
    "200 an error": Row(answer(200, {"error": "no"}), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE),
    "200 another campaign": Row(
        answer(200, {"data": YES | {"campaign_id": 43}}), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE
    ),
    "200 another campaign as text": Row(
        answer(200, {"data": YES | {"campaign_id": "43"}}), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE
    ),
    "200 another number": Row(
        answer(200, {"data": YES | {"phone_number": "+12025550199"}}), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE
    ),
    "200 another number as an integer": Row(
        answer(200, {"data": YES | {"phone_number": 12025550199}}), Kind.CREATED_ID_UNKNOWN, True, CHANNEL_OUTAGE
    ),
    # What gates answer for.
    "429": Row(answer(429), Kind.THROTTLED, False, Signal(Reason.THROTTLED, Scope.ACCOUNT)),
    "401": Row(answer(401), Kind.UNAUTHORIZED, False, Signal(Reason.UNAUTHORIZED, Scope.ACCOUNT)),
    "402": Row(answer(402), Kind.NO_BALANCE, False, Signal(Reason.NO_BALANCE, Scope.ACCOUNT)),
    "422 no balance": Row(
        answer(422, {"error": "Insufficient balance.", "error_code": "INSUFFICIENT_BALANCE"}),
        Kind.NO_BALANCE,
        False,
        Signal(Reason.NO_BALANCE, Scope.ACCOUNT),
    ),
    "403": Row(answer(403), Kind.FORBIDDEN, False, Signal(Reason.FORBIDDEN, Scope.CHANNEL)),
    **{
        str(status): Row(answer(status), Kind.MISCONFIGURED, False, Signal(Reason.MISCONFIGURED, Scope.CHANNEL))
        for status in (404, 405, 410, 301, 307, 308)
    },
    **{
        f"{status}, not the lead's fault": Row(
            answer(status), Kind.MISCONFIGURED, False, Signal(Reason.MISCONFIGURED, Scope.ACCOUNT)
        )
        for status in (406, 407, 411, 414, 415, 417, 421, 426, 431)
    },
    **{
        f"{status}, of the channel": Row(
            answer(status), Kind.MISCONFIGURED, False, Signal(Reason.MISCONFIGURED, Scope.CHANNEL)
        )
        for status in (412, 416, 418, 419, 423, 424, 428)
    },
    **{
        str(status): Row(answer(status), Kind.THROTTLED, False, Signal(Reason.THROTTLED, Scope.ACCOUNT))
        for status in (420, 430)
    },
    **{
        f"{status}, come back later": Row(
            answer(status, headers={"retry-after": "5"}),
            Kind.THROTTLED,
            False,
            Signal(Reason.THROTTLED, Scope.ACCOUNT),
        )
        for status in (403, 413)
    },
    **{
        str(status): Row(answer(status), Kind.UNAUTHORIZED, False, Signal(Reason.UNAUTHORIZED, Scope.ACCOUNT))
        for status in (440, 498)
    },
    "511": Row(answer(511), Kind.UNKNOWN, True, Signal(Reason.MISCONFIGURED, Scope.ACCOUNT)),
    "418 about a field": Row(
        answer(418, {"errors": {"phone_number": ["No."]}}), Kind.REJECTED, True, Signal(Reason.REJECTING, Scope.CHANNEL)
    ),
    # Refusals.
    "409": Row(answer(409), Kind.DUPLICATE, True, None),
    "422 duplicate, message": Row(answer(422, {"message": "Lead already exists."}), Kind.DUPLICATE, True, None),
    "400 duplicate, error": Row(answer(400, {"error": "Dupplicate lead"}), Kind.DUPLICATE, True, None),
    "422 duplicate, field": Row(
        answer(422, {"errors": {"phone_number": ["Has already been added."]}}), Kind.DUPLICATE, True, None
    ),
    "422 duplicate, field as text": Row(
        answer(422, {"errors": {"phone_number": "already in this campaign"}}), Kind.DUPLICATE, True, None
    ),
    "422 a duplicate of another field": Row(
        answer(422, {"message": "Invalid.", "errors": {"variables": ["a duplicate name"]}}),
        Kind.REJECTED,
        True,
        Signal(Reason.REJECTING, Scope.CHANNEL),
    ),
    **{
        f"{status} rejected": Row(answer(status), Kind.REJECTED, True, Signal(Reason.REJECTING, Scope.CHANNEL))
        for status in (400, 413, 422, 451)
    },
    # In doubt.
    **{
        f"{status} in doubt": Row(answer(status), Kind.UNKNOWN, True, CHANNEL_OUTAGE)
        for status in (
            100,
            199,
            300,
            302,
            303,
            304,
            399,
            408,
            425,
            460,
            499,
            500,
            501,
            502,
            503,
            504,
            520,
            599,
            600,
            999,
        )
    },
    "409 in a body of 500": Row(answer(500, {"message": "already exists"}), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    "neither status nor fault": Row(Reply(), Kind.UNKNOWN, True, CHANNEL_OUTAGE),
    "a status, and a fault that says unwritten": Row(
        Reply(status=200, fault=WireFault.CLOSED), Kind.UNKNOWN, True, CHANNEL_OUTAGE
    ),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
def test_the_table(row: Row) -> None:
    outcome = classified(row.reply)

    assert (outcome.kind, outcome.counts, outcome.signal) == (row.kind, row.counts, row.signal)
    assert outcome.http_status == row.reply.status
    assert outcome.message.endswith((".", "…", "!", "?"))
    assert (outcome.voicery_lead_id is not None) == (outcome.kind is Kind.ACCEPTED)


def test_a_status_that_was_proven_safe_is_simply_sent_again() -> None:
    rules = Rules(duplicate=DUPLICATE, safe_statuses=frozenset({503}))

    assert classified(answer(503), rules=rules).kind is Kind.NOT_SENT
    assert classified(answer(503), rules=rules).signal == CHANNEL_OUTAGE
    assert classified(answer(502), rules=rules).kind is Kind.UNKNOWN
    assert classified(wire(WireFault.READ_TIMEOUT, written=True), rules=rules).kind is Kind.UNKNOWN


def test_an_acceptance_carries_what_voicery_said() -> None:
    outcome = classified(answer(200, {"data": YES}, text="{…}"), Sent(42, "+12025550101"))

    assert (outcome.voicery_lead_id, outcome.voicery_status) == (1001, "created")
    assert (outcome.contacts, outcome.evidence, outcome.response) == ((), {}, "")


# Safety ---------------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
lead_values = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values,
        "campaign_id": json_values,
        "phone_number": json_values,
        "status": json_values,
        "secondary_contacts": json_values
        | st.lists(st.fixed_dictionaries({"id": json_values, "phone_number": json_values}), max_size=3),
    },
)
bodies = (
    json_values
    | lead_values.map(lambda data: {"data": data})
    | st.fixed_dictionaries(
        {},
        optional={"message": json_values, "error": json_values, "errors": json_values, "error_code": json_values},
    )
    | st.dictionaries(st.sampled_from(["phone_number", "x"]), json_values).map(lambda errors: {"errors": errors})
)
replies = st.builds(
    Reply,
    status=st.none() | st.integers(0, 999),
    body=bodies,
    text=st.text(max_size=50),
    body_fault=st.none() | st.sampled_from(BodyFault),
    fault=st.none() | st.sampled_from(WireFault),
    detail=st.text(max_size=30),
    written=st.booleans(),
)

PROVEN_NO = frozenset({301, 307, 308}) | (frozenset(range(400, 500)) - {408, 425, 460, 499})


@given(replies)
def test_classification_is_total(reply: Reply) -> None:
    outcome = classified(reply)

    assert outcome.message
    assert len(outcome.message) < 500
    assert "\n" not in outcome.message
    assert outcome.fingerprint or outcome.kind is Kind.ACCEPTED


@given(replies.filter(lambda reply: reply.written or reply.status is not None))
def test_what_was_written_is_in_doubt_unless_the_answer_is_a_proven_no_or_a_yes_with_an_id(reply: Reply) -> None:
    outcome = classified(reply)

    if reply.fault is not None or reply.status not in PROVEN_NO:
        assert outcome.kind in IN_DOUBT | {Kind.ACCEPTED}
    if outcome.kind is Kind.ACCEPTED:
        assert reply.fault is None
        assert reply.body_fault is None
        assert reply.status is not None
        assert 200 <= reply.status <= 299
        assert outcome.voicery_lead_id is not None
        assert 1 <= outcome.voicery_lead_id < 2**63


@given(replies)
def test_a_yes_is_never_taken_for_a_no(reply: Reply) -> None:
    if reply.fault is None and reply.status is not None and 200 <= reply.status <= 299:
        page = reply.text.lstrip().lower().startswith(("<html", "<!doctype html"))
        assert classified(reply).kind in {Kind.ACCEPTED, Kind.UNKNOWN if page else Kind.CREATED_ID_UNKNOWN}


# Words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    ["+12025550101", "12025550101", "+1 202 555 0101", "(202) 555-0101", "1-202-555-0101", "202.555.0101",
     "+44 7700 900123", "202–555–0101", "202 555 0101", "202/555/0101", "001 202 5550101"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["message", "error", "field"])
def test_a_message_never_repeats_a_number(spelling: str, place: str) -> None:
    said = f"The number {spelling} cannot be called."
    body = {"errors": {"phone_number": [said]}} if place == "field" else {place: said}

    for status in (400, 401, 403, 404, 409, 422, 429):
        message = classified(answer(status, body)).message
        assert not re.search(r"\d{3}\D?\d{2}", message.replace(f"HTTP {status}", ""))
        assert "cannot be called" in message or (place == "field" and status in {401, 403, 404, 409, 429})


@pytest.mark.parametrize(
    "token",
    ["Bearer abc", "bearer 12|h7Gd82hsPqLs", "12|h7Gd82hsPqLsK29dkLs0ZpQw7Yt", "h7Gd82hsPqLsK29dkLs0ZpQw7Yt8831",
     "a1b2c3d4e5f6.12345678901234567890.h7Gd82hs"],
)  # fmt: skip
def test_a_message_never_repeats_a_token(token: str) -> None:
    secret = token.rsplit(maxsplit=1)[-1]

    assert secret not in classified(answer(401, {"message": f"Your token {token} is wrong."})).message
    assert secret not in classified(answer(422, {"error": f'Token "{token}": wrong'})).message


def test_a_message_is_one_short_printable_line() -> None:
    message = classified(answer(422, {"message": "a\x1b[31m\r\nb\x00c \u202ed " + "long " * 1000})).message

    assert message.isprintable()
    assert len(message) < 400


LARAVEL = {"message": "The selected campaign id is invalid."}
OF_THE_CAMPAIGN = {
    "Laravel": LARAVEL | {"errors": {"campaign_id": ["The selected campaign id is invalid."]}},
    "FastAPI": {"detail": [{"loc": ["body", "campaign_id"], "msg": "Unknown campaign"}]},
    "pointer": {"errors": [{"detail": "is closed", "pointer": "#/campaign_id"}]},
    "nested": {"errors": {"campaign.id": ["does not exist"]}},
}
OF_ITS_LEAD = {
    "another field too": LARAVEL | {"errors": {"campaign_id": ["is invalid"], "phone_number": ["is invalid"]}},
    "a number in the words": {"errors": {"campaign_id": ["The phone number is not allowed in this campaign."]}},
    "one that it has": {"errors": {"campaign_id": ["has already been taken"]}},
    "no field": LARAVEL,
}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("body", OF_THE_CAMPAIGN.values(), ids=OF_THE_CAMPAIGN)
def test_a_refusal_of_the_campaign_alone_holds_its_leads_back_and_fails_none(status: int, body: object) -> None:
    outcome = classified(answer(status, body))
    assert (outcome.kind, outcome.counts) == (Kind.MISCONFIGURED, False)
    assert outcome.signal == Signal(Reason.MISCONFIGURED, Scope.CHANNEL)
    assert outcome.message.startswith(f"Voicery does not take this campaign (HTTP {status}): ")


@pytest.mark.parametrize("body", OF_ITS_LEAD.values(), ids=OF_ITS_LEAD)
def test_a_refusal_that_speaks_of_the_lead_fails_the_lead(body: object) -> None:
    assert classified(answer(422, body)).kind is Kind.REJECTED


def test_a_refused_field_is_named_with_its_reason() -> None:
    assert (
        classified(answer(422, {"message": "Invalid.", "errors": {"phone_number": ["Not a number"]}})).message
        == "Voicery refused the phone number: Not a number."
    )
    assert (
        classified(answer(422, {"errors": {"campaign_id": ["It has this number already."]}})).message
        == "Voicery refused the campaign: It has this number already."
    )
    assert (
        classified(answer(422, {"errors": {"variables.email": "Wrong!"}})).message
        == "Voicery refused variables.email: Wrong!"
    )
    assert classified(answer(422, {"errors": {"a": [], "b": [3], "c": ["Yes"]}})).message == "Voicery refused c: Yes."
    assert classified(answer(422)).message == "Voicery refused the lead (HTTP 422): no reason given."


# Fingerprints ---------------------------------------------------------------------------------------------------------


def fingerprint(status: int, body: object = None) -> str:
    return classified(answer(status, body)).fingerprint


def test_equal_causes_have_equal_fingerprints() -> None:
    for one, other in [
        ("The number +12025550101 is bad", "The number +442079460000 is bad"),
        ("Row 9 is bad", "Row 1234 is bad"),
        ("The value 'Ada' is bad", "The value 'Grace H.' is bad"),
        ('The value "Ada" is bad', 'The value "Grace" is bad'),
        ("ada@example.com is bad", "grace@example.org is bad"),
        ("The campaign is closed", "the CAMPAIGN is closed"),
    ]:
        assert fingerprint(422, {"message": one}) == fingerprint(422, {"message": other})


def test_different_causes_have_different_fingerprints() -> None:
    different = [
        fingerprint(422),
        fingerprint(400),
        fingerprint(422, {"message": "The campaign is closed"}),
        fingerprint(422, {"errors": {"campaign_id": ["is closed"]}}),
        fingerprint(422, {"errors": {"phone_number": ["is closed"]}}),
        fingerprint(422, {"errors": {"phone_number": ["is bad"]}}),
        fingerprint(409),
        fingerprint(500),
        fingerprint(200),
        *(classified(wire(fault, written=False)).fingerprint for fault in WireFault),
        *(classified(wire(fault, written=True)).fingerprint for fault in WireFault),
    ]

    assert len(set(different)) == len(different)


def test_an_outcome_is_a_value() -> None:
    assert classified(answer(422)) == classified(answer(422))
    assert {one.name for one in fields(Outcome)} >= {"kind", "message", "fingerprint", "evidence"}
