"""The JSON of every record that a command prints: names, order and masking. `record_shapes.json` is the contract.

A new field is added to the file by hand; a field that is in it never changes its name or place.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from dispatcher.decisions.gate import GateState
from dispatcher.decisions.outcome import Kind, Reason
from dispatcher.decisions.states import FailureClass, Resolution, State
from dispatcher.operator.campaigns import CampaignRecord
from dispatcher.operator.events import Event
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.failures import FailedLead, FailureGroup
from dispatcher.operator.health import Health, Heartbeat
from dispatcher.operator.lead_record import AttemptRecord, ContactRecord, LeadRecord
from dispatcher.operator.leads import LeadInList
from dispatcher.operator.operation_work import Operation, OperationKind, OperationState
from dispatcher.operator.overview import ChannelWaiting, Count, GateRecord, Overview, RateUse, WorkerSeen
from dispatcher.operator.preview import Preview

GOLDEN: Final = Path(__file__).with_name("record_shapes.json")
AT: Final = datetime(2026, 11, 23, 14, 10, 0, 250_000, tzinfo=UTC)
ADA: Final = "+12025550101"
BOB: Final = "+12025550102"
SAID: Final = f"said: {ADA} is bad"


def an_id(number: int) -> uuid.UUID:
    return uuid.UUID(int=number)


CONTACT: Final = ContactRecord(0, BOB, {"customer_name": "Bob"}, 1002, "created")
ATTEMPT: Final = AttemptRecord(
    id=an_id(1),
    number=2,
    started_at=AT,
    ended_at=AT + timedelta(seconds=20),
    outcome=Kind.UNKNOWN,
    http_status=502,
    error="Voicery did not answer.",
    response=SAID,
    evidence={"proof": True, "lookups": [{"at": AT.isoformat(), "verdict": "absent", "control": True}]},
    worker="host:1",
)
FAILED: Final = FailedLead(
    id=7,
    lead_id=an_id(2),
    account="default",
    campaign_id=42,
    phone_number=ADA,
    failure_class=FailureClass.REJECTED,
    http_status=422,
    fingerprint="f1",
    message="Voicery refused the phone number.",
    response=SAID,
    attempts=3,
    failed_at=AT,
    resolved_at=AT,
    resolution=Resolution.REPLAYED,
    resolved_by="ada@ops-1",
    note="typo",
)
LEAD: Final = LeadRecord(
    id=an_id(2),
    account="default",
    campaign_id=42,
    phone_number=ADA,
    variables={"customer_name": "Ada", "seats": 5},
    allow_dupplicate=False,
    state=State.FAILED,
    failure_class=FailureClass.REJECTED,
    priority=4,
    due_at=AT,
    expires_at=AT,
    attempts=3,
    resends=1,
    lease_until=None,
    attempt_id=an_id(1),
    voicery_lead_id=1001,
    voicery_status="created",
    duplicate_of=an_id(3),
    idempotency_key="order-1",
    batch_id=an_id(4),
    last_error="An error.",
    created_at=AT,
    updated_at=AT,
    finished_at=AT,
    resolved_at=None,
    read_at=AT,
    waits_behind=an_id(5),
    contacts=(CONTACT,),
    history=(ATTEMPT,),
    failures=(FAILED,),
)
LISTED: Final = LeadInList(
    id=an_id(2),
    state=State.PENDING,
    failure_class=None,
    account="default",
    campaign_id=42,
    phone_number=ADA,
    priority=0,
    attempts=0,
    voicery_lead_id=None,
    voicery_status=None,
    idempotency_key="order-1",
    batch_id=an_id(4),
    created_at=AT,
    due_at=AT,
    finished_at=None,
    last_error=None,
)
GATE: Final = GateRecord("default", 42, GateState.CLOSED, Reason.PAUSED, AT, None, "ada@ops-1", "wrong greeting")
OVERVIEW: Final = Overview(
    at=AT,
    counts={State.PENDING: Count(3), State.ACCEPTED: Count(1000, exact=False)},
    due=2,
    oldest_due_at=AT - timedelta(seconds=90),
    next_due_at=AT + timedelta(seconds=90),
    accepted_today=10,
    failures={FailureClass.REJECTED: 2},
    incidents=1,
    channels=(ChannelWaiting("default", 42, 3, 2),),
    gates=(GATE,),
    workers=(WorkerSeen("host:1", AT, 12),),
    swept_at=AT,
    sweeper="host:1",
    rate=(RateUse("default", 100, 60.0, 7),),
)

RECORDS: Final[Mapping[str, Any]] = {
    "contact": CONTACT,
    "attempt": ATTEMPT,
    "failed lead": FAILED,
    "failed lead, open": FailedLead(
        id=8,
        lead_id=an_id(2),
        account="default",
        campaign_id=42,
        phone_number=ADA,
        failure_class=FailureClass.BUG,
        http_status=None,
        fingerprint="f2",
        message="A bug.",
        response=None,
        attempts=1,
        failed_at=AT,
    ),
    "lead": LEAD,
    "listed lead": LISTED,
    "event": Event("ended:1:unknown", AT, "unknown", "HTTP 502", an_id(2), "default", 42, ADA),
    "event without a lead": Event("audit:1", AT, "pause", "by ada", None, None, None, None),
    "operation": Operation(
        id=an_id(6),
        kind=OperationKind.REPLAY,
        state=OperationState.QUEUED,
        actor="ada@ops-1",
        total=10,
        done=3,
        refused=1,
        created_at=AT,
        next_at=AT + timedelta(hours=2),
        per_minute=60,
        started_at=AT,
        finished_at=None,
        stopped_by="bob@ops-1",
        filters={"campaign_id": 42},
        options={"note": None, "even_if_called": False},
    ),
    "failure group": FailureGroup("f1", FailureClass.REJECTED, 422, "Refused.", 12, (7, 42), AT, AT),
    "filter": FailureFilter(
        account="default",
        failure_class=FailureClass.REJECTED,
        http_status=422,
        phone_number="550101",
        batch_id=an_id(4),
        variable=("plan", "pro"),
        replayed_before=True,
        failed_since=AT,
    ),
    "gate": GATE,
    "campaign": CampaignRecord("default", 42, 3, 2, 1, AT, "30/minute", GATE),
    "campaign, open": CampaignRecord("default", 43),
    "overview": OVERVIEW,
    "overview without Redis": Overview(at=AT, counts={}, rate=None),
    "preview": Preview(total=10, safe=4, needs_look_up=2, gone=1, rivals=1, twins=1, not_in_doubt=1),
    "health": Health(
        Heartbeat(due_age=70.5, served_age=90.25, sending=0, sweep_age=1.0, worker_age=None), ("A fault.",)
    ),
    "health without a store": Health(None, ("Postgres is away.",)),
}
MASKING: Final = {"contact", "attempt", "failed lead", "lead", "listed lead", "event", "event without a lead"}


def shape(name: str, *, reveal: bool) -> str:
    """As the command line writes it."""
    record = RECORDS[name]
    plain = record.as_dict(reveal=True) if reveal else record.as_dict()
    return orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_written_as_it_always_was(name: str) -> None:
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]

    assert shape(name, reveal=False) == json.dumps(expected["masked"], indent=2, ensure_ascii=False)
    if name in MASKING:
        assert shape(name, reveal=True) == json.dumps(expected["revealed"], indent=2, ensure_ascii=False)


def test_no_masked_record_names_the_person() -> None:
    for name in RECORDS:
        for person in (ADA[2:], BOB[2:], "Ada", "Bob", "plan=pro"):
            assert person not in shape(name, reveal=False), name
