"""`submit_many` obeys the rules of `submit`, in any order, in chunks of any size, under races and after a crash."""

import itertools
import multiprocessing
import os
import signal
import threading
import time
import tracemalloc
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from dispatcher.errors import IdempotencyConflict, InvalidLead, StoreUnavailable
from dispatcher.intake import copying as bulk_store
from dispatcher.intake.bulk import Bulk
from dispatcher.intake.submit import Intake
from dispatcher.lead.candidate import BatchIds, read_items
from dispatcher.store.database import Database
from tests.database.queue import phone
from tests.support.doubles import Bell

BATCH = uuid.UUID("018f0000-0000-7000-8000-000000000042")


def leads(*numbers: int, campaign_id: int = 42, **more: Any) -> list[dict[str, Any]]:
    return [{"phone_number": phone(number), "campaign_id": campaign_id, **more} for number in numbers]


def submit_many(database: Database, items: Any, chunk_items: int = 100, **options: Any) -> Any:
    return Bulk(database, Bell(), chunk_items=chunk_items).submit_many(items, **{"account": "default", **options})


def rows(database: Database, what: str = "phone_number, state") -> list[Any]:
    with database.transaction() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT {what} FROM dispatcher.leads ORDER BY 1, 2"))]


def count(database: Database, table: str = "leads") -> int:
    with database.transaction() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM dispatcher.{table}")).scalar_one())


def test_every_field_is_stored_as_submit_stores_it(database: Database) -> None:
    lead = {
        "phone_number": phone(1),
        "campaign_id": 42,
        "variables": {"name": "Ada\t\\N\n", "n": 1, "list": [True, None]},
        "secondary_contacts": [{"phone_number": phone(2), "variables": {"role": "boss"}}, {"phone_number": phone(3)}],
    }
    options = {
        "priority": 7,
        "idempotency_key": "k\\1",
        "expires_at": timedelta(days=1),
        "not_before": timedelta(hours=1),
    }
    submit_many(database, [(lead, options)], account="bulk")
    Intake(database, Bell()).submit(lead, options, account="single")
    what = """account, phone_number,
        campaign_id, variables::text, allow_dupplicate, state, priority, due_at - created_at,
        expires_at - created_at, duplicate_of, idempotency_key, payload_hash, finished_at"""
    bulk, single = rows(database, what)
    assert bulk[0] == "bulk"
    assert bulk[1:] == single[1:]
    with database.transaction() as connection:
        contacts = connection.execute(
            text(
                "SELECT position, phone_number, variables::text FROM dispatcher.lead_contacts"
                " ORDER BY account, position"
            )
        ).all()
        keys = connection.execute(text("SELECT key, payload_hash, state FROM dispatcher.idempotency_keys")).all()
    assert contacts[:2] == contacts[2:]
    assert keys[0] == keys[1]


def test_bad_items_are_listed_by_index_and_stop_no_other(database: Database) -> None:
    items = [*leads(1), {"phone_number": "12"}, None, ({"phone_number": "x"}, {"priority": 99}), *leads(2)]
    result = submit_many(database, items)
    assert (result.submitted, count(database)) == (2, 2)
    assert [index for index, _ in result.rejected] == [1, 2, 3]
    assert [fault.field for fault in result.rejected[2][1]] == ["phone_number", "campaign_id", "priority"]


def test_the_index_of_a_bad_item_counts_from_the_batchs_beginning_in_a_long_chunk_too(database: Database) -> None:
    items = [*leads(*range(399)), {"phone_number": "12"}, *leads(*range(400, 450)), {"phone_number": "12"}]
    result = submit_many(database, items, chunk_items=430)
    assert (result.submitted, count(database)) == (449, 449)
    assert [index for index, _ in result.rejected] == [399, 450]


def test_the_first_of_one_person_is_delivered_and_the_others_are_its_duplicates(database: Database) -> None:
    result = submit_many(database, leads(1, 2, 1, 1), chunk_items=2)
    assert (result.submitted, result.duplicates) == (2, 2)
    found = rows(database, "id, phone_number, state, duplicate_of")  # ids ascend with the index
    first = found[0][0]
    assert [row[1:] for row in found] == [
        (phone(1), "pending", None),
        (phone(2), "pending", None),
        (phone(1), "duplicate", first),
        (phone(1), "duplicate", first),
    ]


def test_leads_that_allow_duplicates_are_all_delivered(database: Database) -> None:
    result = submit_many(database, leads(1, 1, 1, allow_dupplicate=True))
    assert (result.submitted, result.duplicates) == (3, 0)


def test_a_key_of_another_payload_is_refused_with_its_lead(database: Database) -> None:
    items = [(lead, {"idempotency_key": "same"}) for lead in leads(1, 1, 2)]
    result = submit_many(database, items)
    assert (result.submitted, result.repeated) == (1, 1)
    [(index, [fault])] = result.rejected
    assert (index, fault.field) == (2, "idempotency_key")
    assert str(rows(database, "id, state")[0][0]) in fault.fault


def test_an_id_of_another_account_is_refused(database: Database) -> None:
    items = [(lead, {"id": BATCH}) for lead in leads(1)]
    submit_many(database, items, account="first")
    result = submit_many(database, items, account="second")
    assert [fault.field for _, [fault] in result.rejected] == ["id"]
    assert count(database) == 1


def test_a_repeated_batch_changes_nothing(database: Database) -> None:
    items = leads(1, 2, 1, 3)
    submit_many(database, items, batch_id=BATCH)
    before = rows(database, "id, phone_number, state, updated_at")
    again = submit_many(database, items, batch_id=BATCH, chunk_items=3)
    assert (again.submitted, again.duplicates, again.repeated, again.rejected) == (0, 0, 4, ())
    assert rows(database, "id, phone_number, state, updated_at") == before


def test_a_repeated_batch_with_other_items_is_refused_by_index(database: Database) -> None:
    submit_many(database, leads(1, 2), batch_id=BATCH)
    result = submit_many(database, leads(1, 3, 4), batch_id=BATCH)
    assert (result.submitted, result.repeated) == (1, 1)
    assert [(index, fault.field) for index, [fault] in result.rejected] == [(1, "batch_id")]


def test_one_batch_id_in_two_accounts_is_two_batches(database: Database) -> None:
    assert submit_many(database, leads(1), batch_id=BATCH, account="one").submitted == 1
    assert submit_many(database, leads(1), batch_id=BATCH, account="two").submitted == 1


def test_a_crash_between_chunks_loses_nothing_and_doubles_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = leads(*range(10))
    insert = bulk_store.insert
    calls = iter(range(100))

    def crashing(*arguments: Any) -> None:
        insert(*arguments)
        if next(calls) == 2:
            raise RuntimeError("killed before the commit")

    monkeypatch.setattr(bulk_store, "insert", crashing)
    with pytest.raises(RuntimeError):
        submit_many(database, items, batch_id=BATCH, chunk_items=2)
    monkeypatch.undo()
    stored = count(database)
    assert stored in {4, 6, 8}
    again = submit_many(database, items, batch_id=BATCH, chunk_items=2)
    assert (again.submitted, again.repeated, count(database)) == (10 - stored, stored, 10)


def test_items_before_a_failing_iterator_are_stored(database: Database) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from leads(1, 2)
        raise LookupError("the source went away")

    with pytest.raises(LookupError):
        submit_many(database, failing(), chunk_items=1)
    assert count(database) == 2


def test_a_commit_that_was_not_acknowledged_is_repeated_and_counted_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit works, but its answer is lost."""
    real, lost = database.transaction, iter([True])

    @contextmanager
    def transaction() -> Iterator[Any]:
        with real() as connection:
            yield connection
        if next(lost, False):
            raise StoreUnavailable("The answer was lost.")

    monkeypatch.setattr(database, "transaction", transaction)
    result = submit_many(database, leads(1, 2, 1))
    assert (result.submitted, result.duplicates, result.repeated) == (2, 1, 0)
    monkeypatch.undo()
    assert count(database) == 3


def test_a_store_that_stays_away_names_the_batch_to_go_on_with(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> Any:
        raise StoreUnavailable("Postgres is away.")

    monkeypatch.setattr(database, "transaction", away)
    clock = iter(float(second) for second in range(100))
    bulk = Bulk(database, Bell(), clock=lambda: next(clock), wait=lambda _: None)
    with pytest.raises(StoreUnavailable, match=str(BATCH)):
        bulk.submit_many(leads(1), account="default", batch_id=BATCH)


def test_nothing_is_stored_that_comes_after_a_chunk_that_could_not_be(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later item must not become the live lead of a person whom an earlier one names."""
    facts, awaited = bulk_store.facts, threading.Event()

    def items() -> Iterator[dict[str, Any]]:
        yield from leads(1, 1)
        awaited.set()  # the second chunk, of the same person, is on its way
        yield from leads(2)

    def failing_first(connection: Any, account: str, candidates: Any, pseudonyms: Any) -> Any:
        if candidates[0].index == 0:
            awaited.wait(60)
            raise StoreUnavailable("Postgres is away.")
        return facts(connection, account, candidates, pseudonyms)

    monkeypatch.setattr(bulk_store, "facts", failing_first)
    ticks = iter(float(second) for second in range(100))
    bulk = Bulk(database, Bell(), clock=lambda: next(ticks), wait=lambda _: None, chunk_items=1)
    with pytest.raises(StoreUnavailable):
        bulk.submit_many(items(), account="default", batch_id=BATCH)
    assert count(database) == 0


def test_each_channel_is_rung_once_a_chunk_after_its_commit(database: Database) -> None:
    seen: list[int] = []

    bell = Bell(on_ring=lambda _: seen.append(count(database)))
    items = [*leads(1, 2, 3), *leads(1, campaign_id=7), *leads(1, campaign_id=7), *leads(2, campaign_id=7)]
    Bulk(database, bell, chunk_items=4).submit_many(items, account="a")
    assert sorted(bell.rung) == [("a", 7), ("a", 7), ("a", 42)]
    assert seen == [4, 4, 6]


def test_a_session_of_the_caller_decides_and_rings_after_its_commit(database: Database) -> None:
    bell = Bell()
    bulk = Bulk(database, bell, chunk_items=2)
    with Session(database.engine) as session:
        bulk.submit_many(leads(1, 2, 3), account="default", session=session)
        assert (count(database), bell.rung) == (0, [])
        session.rollback()
        assert (count(database), bell.rung) == (0, [])
    with Session(database.engine) as session:
        assert bulk.submit_many(leads(1, 2, 3, 1), account="default", session=session).duplicates == 1
        session.commit()
    assert count(database) == 4
    assert set(bell.rung) == {("default", 42)}


def test_in_a_session_a_race_undoes_only_the_chunk(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, others = bulk_store.facts, iter([1])

    def late_facts(*arguments: Any) -> Any:
        found = facts(*arguments)
        for number in others:
            submit_many(database, leads(number))
        return found

    with Session(database.engine) as session:
        session.execute(text("INSERT INTO dispatcher.sweeps (name) VALUES ('mine')"))
        monkeypatch.setattr(bulk_store, "facts", late_facts)
        result = submit_many(database, leads(1, 2), session=session)
        session.commit()
    assert (result.submitted, result.duplicates) == (1, 1)
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM dispatcher.sweeps WHERE name = 'mine'")).scalar() == 1


def test_two_batches_in_opposite_order_end_with_one_live_lead_for_each_person(database: Database) -> None:
    numbers = list(range(300))
    start = threading.Barrier(2)

    def run(order: list[int]) -> Any:
        start.wait(60)
        return submit_many(database, leads(*order), chunk_items=50)

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(run, [numbers, numbers[::-1]]))
    assert sum(result.submitted for result in results) == 300
    assert sum(result.duplicates for result in results) == 300
    assert not any(result.rejected for result in results)
    live = [row[0] for row in rows(database) if row[1] == "pending"]
    assert sorted(live) == sorted(map(phone, numbers))


def test_a_batch_among_single_submits_calls_nobody_twice(database: Database) -> None:
    numbers = list(range(100))
    intake = Intake(database, Bell())
    with ThreadPoolExecutor(3) as threads:
        batch = threads.submit(submit_many, database, leads(*numbers), 25)
        singles = list(threads.map(lambda lead: intake.submit(lead, {}, account="default"), leads(*numbers[::-1])))
        result = batch.result()
    created = sum(single.state == "pending" for single in singles)
    assert created + result.submitted == 100
    assert len(rows(database)) == 200


def test_one_row_that_postgres_refuses_is_rejected_alone(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE dispatcher.leads ADD CHECK (campaign_id <> 13)"))
    items = [*leads(*range(20)), *leads(20, campaign_id=13), *leads(*range(21, 30))]
    result = submit_many(database, items)
    assert (result.submitted, count(database)) == (29, 29)
    assert [index for index, _ in result.rejected] == [20]


@pytest.mark.parametrize("amount", [30_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_memory_stays_flat_over_a_long_generator(database: Database, amount: int) -> None:
    """Every item is a repetition of one key: Postgres has little to do, the batch is long all the same."""

    def generated(amount: int) -> Iterator[Any]:
        for number in range(amount):
            yield {"phone_number": phone(number % 10_000), "campaign_id": 42}, {"idempotency_key": f"k{number % 50}"}

    def peak(amount: int) -> int:
        tracemalloc.start()
        for _ in Bulk(database, Bell()).stream(generated(amount), account="default", batch_id=uuid.uuid4()):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(100)
    short = peak(12_000)  # all the chunks that are on their way at once are full by then
    assert peak(amount) < 1.3 * short


PERSONS = st.integers(0, 2)
KEYS = st.sampled_from([None, None, "a", "b"])
IDS = st.sampled_from([None, None, *(uuid.UUID(int=number) for number in (1, 2))])
ITEMS = st.lists(st.tuples(PERSONS, st.sampled_from([1, 2]), st.booleans(), KEYS, IDS), max_size=9)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(before=ITEMS, drawn=ITEMS, chunk_items=st.integers(1, 10))
def test_a_batch_ends_as_single_submits_in_its_order_would(
    database: Database, before: list[Any], drawn: list[Any], chunk_items: int
) -> None:
    bulk = _outcome(database, before, drawn, chunk_items)
    assert bulk == _outcome(database, before, drawn, None)


def _outcome(database: Database, before: list[Any], drawn: list[Any], chunk_items: int | None) -> Any:
    """What the tables hold and what was answered, with ids replaced by the place of the item that made them."""
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE dispatcher.leads, dispatcher.idempotency_keys CASCADE"))
    intake = Intake(database, Bell())
    _one_by_one(intake, before)
    if chunk_items is None:
        answers = _one_by_one(intake, drawn)
    else:
        result = submit_many(database, map(_item, drawn), chunk_items)
        answers = (result.submitted, result.duplicates, result.repeated, [index for index, _ in result.rejected])
    with database.transaction() as connection:
        stored = connection.execute(
            text("""
            SELECT lead.phone_number, lead.campaign_id, lead.allow_dupplicate, lead.state, lead.idempotency_key,
                original.phone_number, original.state, key.key, key.state, key.payload_hash = lead.payload_hash,
                CASE WHEN lead.id < '00000000-0000-0000-0000-0000000000ff' THEN lead.id END
            FROM dispatcher.leads AS lead LEFT JOIN dispatcher.leads AS original ON original.id = lead.duplicate_of
            LEFT JOIN dispatcher.idempotency_keys AS key ON key.lead_id = lead.id
        """)
        ).all()
    return sorted(map(str, stored)), answers


def _one_by_one(intake: Intake, drawn: list[Any]) -> Any:
    submitted = duplicates = repeated = 0
    refused = []
    for index, (lead, options) in enumerate(map(_item, drawn)):
        try:
            submission = intake.submit(lead, options, account="default")
        except IdempotencyConflict:
            refused.append(index)
            continue
        repeated += not submission.created
        submitted += submission.created and submission.state == "pending"
        duplicates += submission.created and submission.state == "duplicate"
    return submitted, duplicates, repeated, refused


def _item(drawn: Any) -> Any:
    person, campaign_id, allow_dupplicate, key, lead_id = drawn
    [lead] = leads(person, campaign_id=campaign_id, allow_dupplicate=allow_dupplicate)
    return lead, {"idempotency_key": key, "id": lead_id}


def test_a_batch_id_that_is_no_uuid_is_refused(database: Database) -> None:
    with pytest.raises(InvalidLead, match="batch_id"):
        submit_many(database, leads(1), batch_id="monday")


def test_processes_that_validate_change_nothing_of_the_result(database: Database) -> None:
    items = [*leads(1, 2, 1), {"phone_number": "12"}, *leads(3)]
    bulk = Bulk(database, Bell(), chunk_items=2)
    chunks = list(bulk.stream(items, account="default", batch_id=BATCH, workers=2))
    assert [(chunk.items, chunk.submitted, chunk.duplicates, len(chunk.rejected)) for chunk in chunks] == [
        (2, 2, 0, 0),
        (4, 0, 1, 1),
        (5, 1, 0, 0),
    ]


def in_another_process() -> bool:
    """Return whether a started process validates; until one is up, ours does, and slowly, to see both."""
    if multiprocessing.parent_process() is not None:
        return True
    time.sleep(0.05)
    return False


def marked(item: Any) -> Any:
    """What reads an item, and tells by its campaign who read it."""
    lead, options = item
    return {**lead, "campaign_id": 2 if in_another_process() else 1}, options


def test_a_process_takes_over_from_ours_and_every_item_is_stored_as_it_was_given(database: Database) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    given: list[Any] = []
    stopping = False

    def items() -> Iterator[Any]:
        while not stopping:
            number = len(given)
            [lead] = leads(number, variables={"text": f'a\\b\t"{number}"\n\\N'})
            given.append((lead, {"idempotency_key": f"key \\ {number}", "priority": number % 10, "expires_at": until}))
            yield given[-1]

    bulk = Bulk(database, Bell(), chunk_items=2)
    for chunk in bulk.stream(items(), account="default", batch_id=BATCH, read=marked, workers=1):
        assert (chunk.submitted, chunk.rejected) == (2, ())
        with database.autocommit() as connection:
            stopping = bool(connection.scalar(text("SELECT count(*) FROM dispatcher.leads WHERE campaign_id = 2")))
    stored = _stored(database)
    assert {row.campaign_id for row in stored} == {1, 2}
    assert [row.campaign_id for row in stored] == sorted(row.campaign_id for row in stored)
    assert [(row.phone_number, row.variables, row.idempotency_key, row.priority, row.expires_at) for row in stored] == [
        (lead["phone_number"], lead["variables"], options["idempotency_key"], options["priority"], until)
        for lead, options in given
    ]


def _stored(database: Database) -> Sequence[Any]:
    """Return the leads in the order of their ids, which is that of the batch."""
    with database.autocommit() as connection:
        return connection.execute(text("SELECT * FROM dispatcher.leads ORDER BY id")).all()


def interrupted(item: Any) -> Any:
    """What reads an item while somebody presses Ctrl-C, which a terminal sends to every process."""
    if in_another_process():
        os.kill(os.getpid(), signal.SIGINT)
        return {}  # refused, by which the test sees that a process went on after it
    return item


@pytest.mark.parametrize(("series", "spans"), [(1, 1), (20, 20), (21, 0)])
def test_every_id_of_a_chunk_is_asked_for_in_few_words(series: int, spans: int) -> None:
    def by_campaign(index: int, campaign_id: int) -> uuid.UUID:
        return BatchIds(campaign_id << 80)(index)

    items = [lead for number in range(42) for lead in leads(number, campaign_id=1 + number % series)]
    candidates, _ = read_items(items, 0, by_campaign)
    singles, found = bulk_store._ids_to_ask(candidates)

    asked = {candidate.id for candidate in candidates if any(first <= candidate.id <= last for first, last in found)}
    assert asked | set(singles) == {candidate.id for candidate in candidates}
    assert (len(found), bool(singles)) == (spans, not spans)


def killed(item: Any) -> Any:
    if in_another_process():
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_process_that_validates_and_is_killed_ends_the_batch_with_the_way_to_go_on(database: Database) -> None:
    items = (lead for number in itertools.count() for lead in leads(number))
    chunks = Bulk(database, Bell(), chunk_items=2).stream(
        items, account="default", batch_id=BATCH, read=killed, workers=1
    )
    with pytest.raises(StoreUnavailable, match=f"was killed.*batch_id={BATCH}"):
        list(chunks)


def test_processes_that_validate_leave_ctrl_c_to_who_started_them(database: Database) -> None:
    items = (lead for number in itertools.count() for lead in leads(number))
    chunks = Bulk(database, Bell(), chunk_items=2).stream(
        items, account="default", batch_id=BATCH, read=interrupted, workers=2
    )
    with closing(chunks):
        assert any(chunk.rejected for chunk in chunks)
