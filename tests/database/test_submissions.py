"""One lead becomes durable, or is recognised as one we already have."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from dispatcher.errors import IdempotencyConflict, SchemaOutOfDate, StoreUnavailable
from dispatcher.intake.submit import Intake
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import Channel, Submission, SubmitOptions
from dispatcher.store.database import Database
from tests.database.queue import Queue, phone
from tests.support.doubles import Bell


@pytest.fixture
def visible() -> list[int]:
    """How many leads others could see at each ring."""
    return []


@pytest.fixture
def bell(database: Database, visible: list[int]) -> Bell:
    def look(_: Channel) -> None:
        with database.autocommit() as connection:
            visible.append(connection.execute(text("SELECT count(*) FROM dispatcher.leads")).scalar_one())

    return Bell(on_ring=look)


@pytest.fixture
def intake(database: Database, bell: Bell) -> Intake:
    return Intake(database, bell)


Submit = Callable[..., Submission]


@pytest.fixture
def submit(intake: Intake) -> Submit:
    def submit(number: int = 0, *, account: str = "default", session: Any = None, **more: Any) -> Submission:
        options = SubmitOptions(**{name: more.pop(name) for name in list(more) if name in SubmitOptions.__slots__})
        lead = Lead(**{"phone_number": phone(number), "campaign_id": 42, **more})
        return intake.submit(lead, options, account=account, session=session)

    return submit


def together(action: Callable[[], Any], times: int = 16) -> list[Any]:
    """The answers of as many threads that start at once."""
    barrier = threading.Barrier(times)

    def run() -> Any:
        barrier.wait(60)
        return action()

    with ThreadPoolExecutor(times) as pool:
        return [future.result(60) for future in [pool.submit(run) for _ in range(times)]]


# Alone ----------------------------------------------------------------------------------------------------------------


def test_a_lead_is_durable_and_then_announced(submit: Submit, queue: Queue, bell: Bell, visible: list[int]) -> None:
    said = submit(variables={"customer_name": "Ada"}, priority=3)

    lead = queue.lead(said.id)
    assert (said.state, said.created, said.duplicate_of) == ("pending", True, None)
    assert (lead.state, lead.priority, lead.attempts, lead.variables) == ("pending", 3, 0, {"customer_name": "Ada"})
    assert (bell.rung, visible) == ([("default", 42)], [1])


def test_contacts_are_stored_in_the_order_submitted(submit: Submit, queue: Queue) -> None:
    said = submit(secondary_contacts=[{"phone_number": phone(2), "variables": {"a": 1}}, {"phone_number": phone(1)}])

    rows = queue.rows("SELECT * FROM dispatcher.lead_contacts ORDER BY position")
    assert [(row.lead_id, row.position, row.phone_number, row.variables) for row in rows] == [
        (said.id, 0, phone(2), {"a": 1}),
        (said.id, 1, phone(1), {}),
    ]


def test_times_count_from_the_databases_now(submit: Submit, queue: Queue) -> None:
    said = submit(not_before=timedelta(hours=1), expires_at=timedelta(hours=2))

    (row,) = queue.rows(
        "SELECT due_at - created_at AS wait, expires_at - created_at AS life FROM dispatcher.leads WHERE id = :id",
        id=said.id,
    )
    assert (row.wait, row.life) == (timedelta(hours=1), timedelta(hours=2))


# Duplicates -----------------------------------------------------------------------------------------------------------

LIVE = ["pending", "sending", "unknown", "accepted"]


def in_state(queue: Queue, state: str, **more: Any) -> uuid.UUID:
    if state == "sending":
        more["lease_until"] = "2100-01-01"
    if state in {"sending", "unknown"}:
        more["attempt_id"] = uuid.uuid4()
    return queue.put(state=state, **more)


@pytest.mark.parametrize("state", LIVE)
def test_a_live_lead_of_the_number_makes_the_next_a_duplicate(
    submit: Submit, queue: Queue, bell: Bell, state: str
) -> None:
    first = in_state(queue, state)

    said = submit()

    assert (said.state, said.duplicate_of, said.created) == ("duplicate", first, True)
    assert queue.lead(said.id).finished_at is not None
    assert bell.rung == []


def test_a_lead_whose_outcome_stayed_unknown_stands_for_its_person_until_a_person_resolves_it(
    submit: Submit, queue: Queue
) -> None:
    first = in_state(queue, "failed", failure_class="outcome_unknown")
    assert submit().duplicate_of == first

    queue.run("UPDATE dispatcher.leads SET resolved_at = now() WHERE id = :id", id=first)
    assert submit().state == "pending"


@pytest.mark.parametrize("failure_class", ["rejected", "exhausted", "expired", "bug"])
def test_a_lead_that_failed_otherwise_stands_for_nobody(submit: Submit, queue: Queue, failure_class: str) -> None:
    in_state(queue, "failed", failure_class=failure_class)

    assert submit().state == "pending"


def test_a_cancelled_lead_stands_for_nobody(submit: Submit, queue: Queue) -> None:
    in_state(queue, "cancelled")

    assert submit().state == "pending"


def test_leads_that_may_be_duplicates_are_nobodys_business_here(submit: Submit) -> None:
    assert [submit(allow_dupplicate=True).state for _ in range(3)] == ["pending"] * 3
    assert submit(allow_dupplicate=False).state == "pending"


@pytest.mark.parametrize("other", [{"number": 1}, {"campaign_id": 43}, {"account": "other"}])
def test_another_number_campaign_or_account_is_no_duplicate(submit: Submit, other: dict[str, Any]) -> None:
    submit()

    assert submit(**other).state == "pending"


def test_sixteen_at_once_of_one_number_are_one_lead(submit: Submit, queue: Queue) -> None:
    said = together(submit)

    assert queue.states() == {"pending": 1, "duplicate": 15}
    (first,) = (one.id for one in said if one.state == "pending")
    assert {one.duplicate_of for one in said} == {None, first}


# Keys and ids ---------------------------------------------------------------------------------------------------------


def test_the_same_key_again_is_the_first_submission(submit: Submit, queue: Queue, bell: Bell) -> None:
    first = submit(idempotency_key="crm-17")
    again = submit(idempotency_key="crm-17")

    assert again == Submission(first.id, "pending", False, None)
    assert queue.states() == {"pending": 1}
    assert len(bell.rung) == 1


def test_the_key_of_a_duplicate_that_took_its_originals_place_says_so(submit: Submit, queue: Queue) -> None:
    original = submit(variables={"offer": "first"})
    twin = submit(variables={"offer": "second"}, idempotency_key="order-7")
    assert (twin.state, twin.duplicate_of) == ("duplicate", original.id)

    queue.run("UPDATE dispatcher.leads SET state = 'cancelled', finished_at = now() WHERE id = :id", id=original.id)

    again = submit(variables={"offer": "second"}, idempotency_key="order-7")
    assert (again.id, again.state, again.duplicate_of, again.created) == (twin.id, "pending", None, False)


def test_a_key_outlives_its_lead(submit: Submit, queue: Queue) -> None:
    first = submit(idempotency_key="crm-17")
    queue.run("DELETE FROM dispatcher.leads")

    assert submit(idempotency_key="crm-17") == Submission(first.id, "pending", False, None)
    assert queue.states() == {}


def test_the_same_key_with_another_payload_is_a_conflict(submit: Submit, queue: Queue) -> None:
    first = submit(idempotency_key="crm-17")

    with pytest.raises(IdempotencyConflict) as conflict:
        submit(idempotency_key="crm-17", variables={"a": 1})
    assert conflict.value.lead_id == first.id
    assert queue.states() == {"pending": 1}


def test_options_are_no_part_of_the_payload(submit: Submit) -> None:
    first = submit(idempotency_key="crm-17", priority=1)

    assert submit(idempotency_key="crm-17", priority=9).id == first.id


def test_a_key_belongs_to_its_account(submit: Submit) -> None:
    assert submit(idempotency_key="crm-17").created
    assert submit(idempotency_key="crm-17", account="other").created


def test_sixteen_at_once_with_one_key_get_sixteen_equal_answers(submit: Submit, queue: Queue) -> None:
    said = together(lambda: submit(idempotency_key="crm-17"))

    assert Counter(one.created for one in said) == {True: 1, False: 15}
    assert len({(one.id, one.state, one.duplicate_of) for one in said}) == 1
    assert queue.states() == {"pending": 1}


def test_sixteen_at_once_with_one_key_that_may_be_duplicates_are_one_lead_too(submit: Submit, queue: Queue) -> None:
    said = together(lambda: submit(idempotency_key="crm-17", allow_dupplicate=True))

    assert Counter(one.created for one in said) == {True: 1, False: 15}
    assert queue.states() == {"pending": 1}


def test_the_same_id_again_is_the_first_submission(submit: Submit, queue: Queue) -> None:
    lead_id = uuid.uuid4()

    assert submit(id=lead_id) == Submission(lead_id, "pending", True)
    assert submit(id=lead_id) == Submission(lead_id, "pending", False)
    assert queue.states() == {"pending": 1}


def test_the_same_id_again_gets_the_first_answer_though_voicery_refused_the_lead_as_a_duplicate(
    submit: Submit, queue: Queue
) -> None:
    said = submit()
    queue.claim()
    queue.run("UPDATE dispatcher.leads SET state = 'duplicate', lease_until = NULL")

    assert submit(id=said.id) == Submission(said.id, "pending", False, None)


def test_the_same_id_with_another_payload_is_a_conflict(submit: Submit) -> None:
    said = submit()

    with pytest.raises(IdempotencyConflict):
        submit(id=said.id, variables={"a": 1})


def test_an_id_of_another_account_is_a_conflict(submit: Submit) -> None:
    said = submit()

    with pytest.raises(IdempotencyConflict):
        submit(id=said.id, account="other")


def test_sixteen_at_once_with_one_id_are_one_lead(submit: Submit, queue: Queue) -> None:
    lead_id = uuid.uuid4()
    said = together(lambda: submit(id=lead_id))

    assert {(one.id, one.state) for one in said} == {(lead_id, "pending")}
    assert queue.states() == {"pending": 1}


# In the caller's transaction ------------------------------------------------------------------------------------------


def test_a_lead_commits_with_the_callers_session_and_is_announced_then(
    submit: Submit, database: Database, queue: Queue, bell: Bell, visible: list[int]
) -> None:
    with Session(database.engine) as session:
        session.execute(text("CREATE TABLE public.orders (id int)"))
        submit(session=session)
        assert queue.states() == {}
        assert bell.rung == []
        session.commit()

    assert queue.states() == {"pending": 1}
    assert (bell.rung, visible) == ([("default", 42)], [1])


def test_a_lead_of_a_savepoint_is_announced_after_the_commit_only(
    submit: Submit, database: Database, bell: Bell, visible: list[int]
) -> None:
    with Session(database.engine) as session:
        with session.begin_nested():
            submit(session=session)
        assert bell.rung == []
        session.commit()

    assert (bell.rung, visible) == ([("default", 42)], [1])


def test_a_lead_rolls_back_with_the_callers_session_and_is_never_announced(
    submit: Submit, database: Database, queue: Queue, bell: Bell
) -> None:
    with Session(database.engine) as session:
        submit(session=session, idempotency_key="crm-17")
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()

    assert queue.states() == {}
    assert bell.rung == []
    assert submit(idempotency_key="crm-17").created


def test_a_thousand_leads_of_one_transaction_ring_each_channel_once(
    submit: Submit, database: Database, bell: Bell
) -> None:
    with Session(database.engine) as session:
        for number in range(20):
            submit(number, session=session, campaign_id=42 + number % 2)
        session.commit()
        submit(50, session=session)
        session.commit()

    assert Counter(bell.rung) == {("default", 42): 2, ("default", 43): 1}


def test_a_lead_commits_with_the_callers_connection(
    submit: Submit, database: Database, queue: Queue, bell: Bell
) -> None:
    with database.engine.connect() as connection:
        submit(session=connection)
        assert queue.states() == {}
        connection.commit()

    assert queue.states() == {"pending": 1}
    assert bell.rung == []  # the sweep rings


def test_a_refused_submit_leaves_the_callers_transaction_usable(
    submit: Submit, database: Database, queue: Queue
) -> None:
    submit(idempotency_key="crm-17")
    with Session(database.engine) as session:
        submit(1, session=session)
        with pytest.raises(IdempotencyConflict):
            submit(2, session=session, idempotency_key="crm-17")
        session.commit()

    assert queue.states() == {"pending": 2}


def test_two_of_one_number_in_one_transaction_are_a_lead_and_its_duplicate(
    submit: Submit, database: Database, queue: Queue
) -> None:
    with Session(database.engine) as session:
        first, second = submit(session=session), submit(session=session)
        session.commit()

    assert (first.state, second.state, second.duplicate_of) == ("pending", "duplicate", first.id)


# A store that fails ---------------------------------------------------------------------------------------------------


class Flaky(Database):
    """Commits, or does not, and then says that nobody knows."""

    def __init__(self, database: Database, failures: int, *, commits: bool) -> None:
        self._real = database
        self._left = failures
        self._commits = commits

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        if self._left and not self._commits:
            self._left -= 1
            raise StoreUnavailable("away")
        with self._real.autocommit() as connection:
            yield connection
        if self._left:
            self._left -= 1
            raise StoreUnavailable("away")


def flaky_submit(intake: Intake, **options: Any) -> Submission:
    return intake.submit(Lead(phone_number=phone(0), campaign_id=42), SubmitOptions(**options), account="default")


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("options", [{}, {"idempotency_key": "crm-17"}])
def test_a_submit_whose_commit_was_not_acknowledged_is_repeated_as_the_same_lead(
    database: Database, queue: Queue, bell: Bell, commits: bool, options: dict[str, Any]
) -> None:
    intake = Intake(Flaky(database, 2, commits=commits), bell, wait=lambda _: None)

    said = flaky_submit(intake, **options)

    assert (said.state, said.created) == ("pending", True)
    assert queue.states() == {"pending": 1}
    assert bell.rung == [("default", 42)]


def test_a_store_that_stays_away_names_the_lead_whose_repetition_is_safe(
    database: Database, queue: Queue, bell: Bell
) -> None:
    clock = iter(range(100))
    intake = Intake(Flaky(database, 50, commits=True), bell, clock=lambda: float(next(clock)), wait=lambda _: None)

    with pytest.raises(StoreUnavailable) as unavailable:
        flaky_submit(intake)

    lead_id = unavailable.value.lead_id
    assert lead_id is not None
    assert str(lead_id) in str(unavailable.value)
    assert flaky_submit(Intake(database, bell), id=lead_id) == Submission(lead_id, "pending", False)
    assert queue.states() == {"pending": 1}
    assert phone(0) not in str(unavailable.value)


def test_a_store_without_our_tables_says_so_at_once_and_leaves_no_doubt(empty_database_url: str, bell: Bell) -> None:
    with closing(Database(empty_database_url)) as database, pytest.raises(SchemaOutOfDate, match="dispatcher migrate"):
        flaky_submit(Intake(database, bell, wait=lambda _: pytest.fail("waiting does not help")))
    assert bell.rung == []
