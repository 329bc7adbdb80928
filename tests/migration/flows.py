"""What producers, workers, sweeps and operators do, on a database that `filled.sql` filled before it was upgraded.

Each flow raises if something is refused, lost or wrong. The leads are those of `filled.sql`: lead 7 has the number that
ends in 07.
"""

import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import text

from dispatcher.alerts import alerts
from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.reply import CreatedContact
from dispatcher.decisions.states import FailureClass, State
from dispatcher.errors import IdempotencyConflict, NotAllowed
from dispatcher.http_intake import answers, keys, mappings
from dispatcher.http_intake.keys import Keys, KeyTerms
from dispatcher.http_intake.mappings import Mappings, WebhookMapping
from dispatcher.importing import imports
from dispatcher.intake.inbox_taking import Taking
from dispatcher.lookup import doubts
from dispatcher.metrics.exporter import scrape
from dispatcher.operator import activity, audit_log, corrections, incidents, lead_search
from dispatcher.operator import overview as overviews
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.health import probe
from dispatcher.operator.operation_work import OperationKind
from dispatcher.sweep.sweep import Sweep
from dispatcher.wiring import Services
from tests.database.queue import Queue, accepted, rejected, result, unknown
from tests.support.doubles import Bell, Rate

ACTOR: Final = "ada@ops-1"
NEW: Final = "+12025550180"


def lead_id(number: int) -> uuid.UUID:
    """The lead of `filled.sql` with this number."""
    return uuid.UUID(f"01900000-0000-7000-8000-0000000000{number:02}")


def attempt_id(number: int) -> uuid.UUID:
    """Its latest attempt."""
    return uuid.UUID(f"01900000-0000-7000-9000-0000000000{number:02}")


class World:
    """The upgraded database as its users see it; Redis is away, which no write may mind."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.database = services.database
        self.queue = Queue(services.database)
        self.dispatcher = Dispatcher(services.settings)

    def state(self, number: int) -> str:
        """The state of a lead."""
        return str(self.queue.lead(lead_id(number)).state)


@contextmanager
def world_of(url: str) -> Iterator[World]:
    """Open the database, and close it afterwards."""
    settings = Settings(database_url=url, redis_url="redis://127.0.0.1:1/0", rate_limit=())
    with closing(Services(settings)) as services:
        world = World(services)
        with closing(world.dispatcher):
            yield world


def submit(world: World) -> None:
    lead = {"phone_number": NEW, "campaign_id": 42, "variables": {"customer_name": "Eve"}}
    first = world.dispatcher.submit(lead, idempotency_key="order-80")
    again = world.dispatcher.submit(lead, idempotency_key="order-80")
    assert (first.created, again.created, again.id) == (True, False, first.id)
    for number, standing in ((1, True), (9, True), (14, True), (17, False), (19, False)):
        person = {"phone_number": f"+120255501{number:02}", "campaign_id": 42}
        assert world.dispatcher.submit(person).state == ("duplicate" if standing else "pending"), number
    with pytest.raises(IdempotencyConflict):
        world.dispatcher.submit({"phone_number": NEW, "campaign_id": 42}, idempotency_key="order-1")


def submit_many(world: World) -> None:
    people = [{"phone_number": f"+120255501{number}", "campaign_id": 42} for number in (80, 81, 82)]
    stored = world.dispatcher.submit_many([*people, {"phone_number": "+12025550109", "campaign_id": 42}])
    assert (stored.submitted, stored.duplicates) == (3, 1)


_BY_SQL: Final = text("""
SELECT dispatcher.submit_lead(jsonb_build_object('phone_number', CAST(:number AS text), 'campaign_id', 42), key => :key)
""")
_STATES: Final = text("SELECT state FROM dispatcher.submissions WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY id")


def submit_by_sql(world: World) -> None:
    given = {"order-90": NEW, "order-1": NEW, "order-91": "+12025550109", "order-92": "12"}
    with world.dispatcher.database.transaction() as connection:
        ids = [connection.execute(_BY_SQL, {"number": n, "key": key}).scalar_one() for key, n in given.items()]
    services = world.services
    Taking(world.database, Bell(), lambda: services.screening).step()
    with world.dispatcher.database.transaction() as connection:
        states = list(connection.execute(_STATES, {"ids": ids}).scalars())
    assert states == ["pending", "rejected", "duplicate", "rejected"]


def claim_and_record(world: World) -> None:
    answers: list[Callable[[Any], Any]] = [
        lambda one: accepted(one, next(ids), contacts=(CreatedContact(0, 100_000 + next(ids), "created"),)),
        rejected,
        unknown,
        lambda one: result(one, State.FAILED, Kind.BUG, failure_class=FailureClass.BUG, fingerprint="b"),
        lambda one: result(one, State.PENDING, Kind.NOT_SENT, due_in=30.0),
    ]
    ids = itertools.count(5001)
    for number in range(83, 88):
        world.dispatcher.submit({"phone_number": f"+120255501{number}", "campaign_id": 42})
    opened = {one.lead_id: one for one in world.queue.claim(10).opened}
    assert {lead_id(1), lead_id(3)} <= set(opened)
    assert lead_id(2) not in opened
    assert opened[lead_id(1)].contacts == (("+12025550151", '{"customer_name": "Bob"}'),)
    assert opened[lead_id(3)].variables == '{"n": 1.50}'
    rows = [answers[index % len(answers)](one) for index, one in enumerate(opened.values())]
    world.queue.record(*rows)
    for row in rows:
        assert world.queue.lead(row.claimed.lead_id).state == row.move.state


def record_what_was_claimed_before(world: World) -> None:
    sent = world.queue.lead(lead_id(5))
    known = {name: getattr(sent, name) for name in ("attempt_id", "account", "campaign_id", "phone_number")}
    claimed = type("Claimed", (), {"lead_id": sent.id, **known})()
    world.queue.record(accepted(claimed, 5005))
    lead, attempt = world.queue.lead(lead_id(5)), world.queue.attempt(attempt_id(5))
    assert (lead.state, lead.voicery_lead_id, attempt.outcome) == ("accepted", 5005, "accepted")
    assert attempt.started_at <= attempt.ended_at <= attempt.finished_at


def read_doubts(world: World) -> None:
    with world.database.autocommit() as connection:
        assert {lead_id(7), lead_id(8)} <= set(doubts.unknown_ids(connection, None, most=10))


def replay(world: World) -> None:
    for number in (12, 13, 15, 16, 17):
        world.dispatcher.replay(lead_id(number), actor=ACTOR)
        assert world.state(number) == "pending", number
    with pytest.raises(NotAllowed):
        world.dispatcher.replay(lead_id(14), actor=ACTOR)
    world.dispatcher.replay(lead_id(14), actor=ACTOR, even_if_called=True, note="The customer asked for it.")
    assert world.state(14) == "pending"


def resolve(world: World) -> None:
    world.dispatcher.resolve(lead_id(14), "accepted", note="It is in the list.", actor=ACTOR)
    world.dispatcher.resolve(lead_id(8), "accepted", note="It is in the list.", actor=ACTOR)
    world.dispatcher.resolve(lead_id(7), "dismissed", note="Nobody knows.", actor=ACTOR)
    world.dispatcher.resolve(lead_id(12), "dismissed", note="A wrong number.", actor=ACTOR)
    assert [world.state(number) for number in (14, 8, 7, 12)] == ["accepted", "accepted", "failed", "failed"]


def cancel_and_correct(world: World) -> None:
    world.dispatcher.cancel(lead_id(2), actor=ACTOR)
    world.dispatcher.corrections.correct(lead_id(12), {"phone_number": NEW}, actor=ACTOR)
    assert (world.state(2), world.state(12)) == ("cancelled", "pending")
    assert len(world.database.read(corrections.revisions, lead_id(12))) == 1


def sweep(world: World) -> None:
    world.queue.run("UPDATE dispatcher.sweeps SET holder = NULL, held_until = NULL")
    sweeper = Sweep(
        world.database,
        Bell(),
        lambda _: Rate(),
        world.dispatcher.operations,
        None,
        name="one",
        worker="host-1:99",
        settle_seconds=120,
        interval_seconds=1,
    )
    assert sweeper.once()
    assert (world.state(6), world.state(5), world.state(4)) == ("unknown", "sending", "failed")
    assert world.queue.lead(lead_id(4)).failure_class == "expired"


def work(world: World) -> None:
    started = world.dispatcher.operations.start(
        uuid.uuid4(), OperationKind.DISMISS, FailureFilter(failure_class=FailureClass.BUG), actor=ACTOR, note="known"
    )
    assert started.total == 1
    while world.dispatcher.operations.step():
        pass
    assert world.state(13) == "pending"
    assert len(world.dispatcher.operations.latest()) == 5


def pause_and_resume(world: World) -> None:
    world.dispatcher.pause(campaign_id=42, reason="a test", actor=ACTOR)
    assert world.queue.claim(10).opened == ()
    assert [gate.reason for gate in world.dispatcher.resume(campaign_id=42, actor=ACTOR).opened] == ["paused"]
    assert world.dispatcher.resume(campaign_id=46, actor=ACTOR).opened
    assert world.queue.claim(10).opened
    world.queue.gate("probing", "outage", 42)
    assert world.queue.claim(1).probing
    assert world.queue.claim(1, probing=True).met >= 0


def alert(world: World) -> None:
    ((last,),) = world.queue.rows("SELECT coalesce(max(id), 0) FROM dispatcher.alerts")
    (doubtful, *_) = world.queue.claim(1).opened
    held = {"failure_class": FailureClass.OUTCOME_UNKNOWN, "fingerprint": "held"}
    world.queue.record(result(doubtful, State.FAILED, Kind.UNKNOWN, **held))
    world.queue.gate("closed", "outage", 42)
    rows = world.queue.rows("SELECT kind FROM dispatcher.alerts WHERE id > :last", last=last)
    assert {row.kind for row in rows} >= {"outcome_unknown", "gate_closed"}, "an alert is missing"
    with world.database.transaction() as connection:
        due = alerts.take(connection, most=50, hold_seconds=60, quiet_seconds=0)
    assert {one.kind.value for one in due} == {"incident", "outcome_unknown", "gate_closed"}
    for one in due:
        with world.database.transaction() as connection:
            alerts.sent(connection, one)


def prune(world: World) -> None:
    world.queue.run("UPDATE dispatcher.leads SET voicery_lead_id = 5 WHERE id = :id", id=lead_id(10))
    assert sum(world.dispatcher.pruner.prune(timedelta(days=365), failed=False, actor=ACTOR)) == 1
    assert world.queue.rows("SELECT FROM dispatcher.lead_attempts WHERE lead_id = :id", id=lead_id(10)) == []
    assert sum(world.dispatcher.pruner.prune(timedelta(0), failed=True, actor=ACTOR)) >= 5


def erase(world: World) -> None:
    erased = world.dispatcher.erasure.erase("+12025550109", actor=ACTOR, without_proof=True)
    assert set(erased.leads) == {lead_id(9), lead_id(11)}
    assert world.queue.rows("SELECT FROM dispatcher.leads WHERE phone_number = '+12025550109'") == []


def keys_and_mappings(world: World) -> None:
    """An operator makes them, and the queue's part reads them and notes the use of a key."""
    made = Keys(world.dispatcher.database).create(KeyTerms("shop", "default", (42,)), actor=ACTOR)
    mapping = WebhookMapping("default", "crm", {"phone_number": "phone"}, {"campaign_id": 42})
    assert Mappings(world.dispatcher.database).put(mapping, actor=ACTOR)
    with world.queue.database.transaction() as connection:
        found = keys.find(connection, made.key.prefix)
        keys.note_use(connection, made.key.id)
        read = mappings.find(connection, "default", "crm")
        shown = answers.read(connection, lead_id(10))
    assert found is not None
    assert found.is_key(keys.digest_of(made.secret))
    assert read is not None
    assert read.fields == {"phone_number": "phone"}
    assert shown is not None
    assert Keys(world.dispatcher.database).rotate("shop", actor=ACTOR)[1].last_used_at is not None
    Mappings(world.dispatcher.database).remove("default", "crm", actor=ACTOR)


def read(world: World) -> None:
    overview = world.dispatcher.overview()
    assert overview.as_dict()
    assert {gate.reason for gate in overview.gates} >= {"paused", "outage", "rejecting", "unauthorized"}
    for number in [*range(1, 22)]:
        record = world.dispatcher.get(lead_id(number))
        assert record.as_dict(reveal=True)["id"] == str(lead_id(number))
        assert world.dispatcher.explain(lead_id(number))
        assert "Took -" not in world.dispatcher.explain(lead_id(number))
    assert {one.failure_class for one in world.dispatcher.failed()} == set(FailureClass) - {FailureClass.BLOCKED}
    assert len(world.dispatcher.failed(resolved=True)) == 5
    assert world.dispatcher.failed_groups()
    read = world.database.read
    assert len(read(incidents.latest)) == 4
    assert len(read(audit_log.entries)) >= 2
    assert [one.file_name for one in read(imports.latest)] == ["broken.csv", "leads.csv"]
    assert read(overviews.gates)
    assert read(lead_search.search, "+12025550109")
    assert read(activity.read).accepted_per_minute >= 0
    assert world.dispatcher.campaigns.all()
    assert read(activity.throughput, seconds=10**9)


def scrape_and_probe(world: World) -> None:
    assert b"dispatcher_leads" in scrape(world.services).text()
    assert probe(world.database).heartbeat is not None


FLOWS: Final = (
    submit,
    submit_many,
    submit_by_sql,
    claim_and_record,
    record_what_was_claimed_before,
    read_doubts,
    replay,
    resolve,
    cancel_and_correct,
    sweep,
    work,
    pause_and_resume,
    alert,
    prune,
    erase,
    keys_and_mappings,
    read,
    scrape_and_probe,
)
"""Each on a copy of its own: they get into each other's way."""
