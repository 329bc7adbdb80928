"""The inbox: what is submitted by SQL becomes a lead as by `submit`, once, in order, and nothing holds it up."""

import json
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import text

from dispatcher.config.urls import normal_database_url
from dispatcher.errors import IdempotencyConflict, InvalidLead, StoreUnavailable
from dispatcher.intake import copying, inbox_taking
from dispatcher.intake.inbox_taking import InboxThread, Taking
from dispatcher.intake.submit import Intake
from dispatcher.operator.block_list import BlockTerms
from dispatcher.operator.blocks import Blocks
from dispatcher.store import inbox
from dispatcher.store.blocks import NO_KEY, Screening
from dispatcher.store.database import Database
from dispatcher.store.pseudonym import Pseudonyms
from dispatcher.store.trouble import TryAgain
from tests.database.queue import Queue, phone
from tests.support.databases import Databases
from tests.support.doubles import Bell, Clock
from tests.support.waiting import wait_until

CALL = "SELECT dispatcher.submit_lead(%s, key => %s, account => %s, priority => %s)"


def lead(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"phone_number": phone(number), "campaign_id": 42, **more}


class Sql:
    """A program that knows only SQL."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)

    def submit(self, given: object, key: str | None = None, account: str = "default", priority: int = 0) -> uuid.UUID:
        row = self.connection.execute(CALL, (Jsonb(given), key, account, priority)).fetchone()
        assert row is not None
        found: uuid.UUID = row[0]
        return found

    def state(self, id: uuid.UUID) -> tuple[Any, ...]:
        """State, lead and reasons, as the view tells them."""
        rows = self.connection.execute(
            "SELECT state, lead_id, reasons FROM dispatcher.submissions WHERE id = %s", (id,)
        ).fetchall()
        assert len(rows) == 1
        return tuple(rows[0])

    def refusal(self, statement: str, *values: Any) -> str:
        """The one sentence of Postgres' error."""
        with pytest.raises(psycopg.Error) as refused:
            self.connection.execute(statement, values)  # type: ignore[call-overload]
        assert refused.value.sqlstate == "22023"
        return str(refused.value.diag.message_primary)


@pytest.fixture
def sql(database_url: str) -> Iterator[Sql]:
    made = Sql(database_url)
    yield made
    made.connection.close()


@pytest.fixture(scope="module")
def shared(databases: Databases, template_database: str) -> Iterator[tuple[Sql, Database]]:
    """A database for what changes nothing that another test could meet."""
    with databases.one(template_database) as url, closing(Database(normal_database_url(url))) as database:
        made = Sql(url)
        yield made, database
        made.connection.close()


@pytest.fixture
def taking(database: Database, bell: Bell) -> Taking:
    return Taking(database, bell, lambda: NO_KEY)


def reasons(sql: Sql, given_id: uuid.UUID) -> list[str]:
    state, _, told = sql.state(given_id)
    assert state == "rejected", state
    return [f"{one['field']}: {one['fault']}; {one['remedy']}" for one in told]


# A lead like any other ----------------------------------------------------------------------------------------------


def test_a_lead_that_waits_is_stored_under_the_id_that_was_returned(
    sql: Sql, taking: Taking, queue: Queue, bell: Bell
) -> None:
    given_id = sql.submit(lead(variables={"name": "Ada", "n": 1.5}))
    assert sql.state(given_id) == ("waiting", None, None)
    assert (given_id.version, given_id.variant) == (7, uuid.RFC_4122)

    assert taking.waits()
    assert taking.step().stored == [given_id]

    assert sql.state(given_id) == ("pending", given_id, None)
    assert [(one.account, one.campaign_id) for one in bell.rung] == [("default", 42)]
    assert not taking.waits()
    assert queue.rows("SELECT id FROM dispatcher.inbox") == []


def test_the_row_is_the_one_that_submit_stores(sql: Sql, taking: Taking, database: Database, queue: Queue) -> None:
    given = lead(
        variables={"name": "Ada\t\\N\n", "big": 2**60, "list": [True, None, 1.0]},
        secondary_contacts=[{"phone_number": phone(2), "variables": {"role": "boss"}}, {"phone_number": phone(3)}],
    )
    sql.submit(given, "k\\1", account="sql", priority=7)
    taking.step()
    Intake(database, bell := Bell()).submit(given, {"idempotency_key": "k\\1", "priority": 7}, account="submit")
    assert bell.rung

    what = """account, phone_number, campaign_id, variables::text, allow_dupplicate, state, priority,
        due_at = created_at, expires_at, duplicate_of, idempotency_key, payload_hash, finished_at, batch_id"""
    one, other = queue.rows(f"SELECT {what} FROM dispatcher.leads ORDER BY account")
    assert one[0] == "sql"
    assert one[1:] == other[1:]
    contacts = queue.rows(
        "SELECT position, phone_number, variables::text FROM dispatcher.lead_contacts ORDER BY account, position"
    )
    assert contacts[:2] == contacts[2:]
    keys = queue.rows("SELECT key, payload_hash, state FROM dispatcher.idempotency_keys")
    assert keys[0] == keys[1]


def test_times_are_those_that_were_given(sql: Sql, taking: Taking, queue: Queue) -> None:
    (given_id,) = (
        sql.connection.execute(
            "SELECT dispatcher.submit_lead(%s, not_before => now() + interval '1 hour',"
            " expires_at => now() + interval '2 hours')",
            (Jsonb(lead()),),
        ).fetchone()
        or ()
    )
    taking.step()

    row = queue.lead(given_id)
    assert timedelta(minutes=59) < row.due_at - row.created_at < timedelta(minutes=61)
    assert timedelta(minutes=119) < row.expires_at - row.created_at < timedelta(minutes=121)


BAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a number": ({"phone_number": "12"}, {}),
    "a campaign": ({"campaign_id": "42"}, {}),
    "an unknown field": ({"campaign": 42}, {}),
    "a flag": ({"allow_dupplicate": "no"}, {}),
    "variables": ({"variables": [1]}, {}),
    "a long integer": ({"variables": {"n": 2**64}}, {}),
    "large variables": ({"variables": {"text": "x" * 17_000}}, {}),
    "contacts": ({"secondary_contacts": [{"phone_number": "1"}, 7]}, {}),
    "a priority": ({}, {"priority": 12}),
    "an empty key": ({}, {"key": " "}),
    "several": ({"phone_number": "12", "variables": 1}, {"priority": -1}),
}


@pytest.mark.parametrize(("fields", "options"), BAD.values(), ids=BAD.keys())
def test_what_submit_refuses_is_rejected_with_the_very_reasons(
    shared: tuple[Sql, Database], fields: dict[str, Any], options: dict[str, Any]
) -> None:
    sql, database = shared
    taking = Taking(database, Bell(), lambda: NO_KEY)
    named = {("idempotency_key" if name == "key" else name): value for name, value in options.items()}
    with pytest.raises(InvalidLead) as refused:
        Intake(database, Bell()).submit({**lead(), **fields}, named, account="default")
    given_id = sql.submit({**lead(), **fields}, **options)
    assert taking.step().stored == []

    assert reasons(sql, given_id) == [str(fault) for fault in refused.value.errors]


def test_duplicates_keys_and_conflicts_are_those_of_submit(
    sql: Sql, taking: Taking, database: Database, queue: Queue
) -> None:
    intake = Intake(database, Bell())
    first = intake.submit(lead(1), {"idempotency_key": "order-1"}, account="default")
    again, changed, own_key = sql.submit(lead(1), "order-1"), sql.submit(lead(2), "order-1"), sql.submit(lead(1), "k")
    twice = [sql.submit(lead(3), "order-3") for _ in range(2)]
    other = sql.submit(lead(4), "order-3")
    taking.step()

    assert sql.state(again) == ("pending", first.id, None)
    with pytest.raises(IdempotencyConflict, match="submit a changed lead under a key of its own"):
        intake.submit(lead(2), {"idempotency_key": "order-1"}, account="default")
    (told,) = reasons(sql, changed)
    assert told == (
        f"idempotency_key: belongs to lead {first.id}, which was submitted with another payload; "
        "submit a changed lead under a key of its own"
    )
    assert sql.state(own_key)[:2] == ("duplicate", own_key)
    assert [sql.state(one)[:2] for one in twice] == [("pending", twice[0])] * 2
    assert f"belongs to lead {twice[0]}" in reasons(sql, other)[0]
    assert queue.states() == {"pending": 2, "duplicate": 1}
    assert intake.submit(lead(3), {"idempotency_key": "order-3"}, account="default").id == twice[0]
    emptied = queue.rows("SELECT lead, idempotency_key FROM dispatcher.inbox WHERE state = 'repeated'")
    assert [tuple(row) for row in emptied] == [(None, None)] * 2


def test_who_must_not_be_called_is_not(sql: Sql, taking: Taking, database: Database, queue: Queue) -> None:
    Blocks(database, Pseudonyms(None)).add(phone(1), BlockTerms("ada@ops-1", "asked by phone"))
    own = sql.submit(lead(1))
    contact = sql.submit(lead(2, secondary_contacts=[{"phone_number": phone(1)}]))
    taking.step()

    assert [queue.lead(given_id).failure_class for given_id in (own, contact)] == ["blocked"] * 2
    dropping = Taking(database, Bell(), lambda: Screening(drops_contacts=True))
    third = sql.submit(lead(3, secondary_contacts=[{"phone_number": phone(1)}]))
    dropping.step()
    assert sql.state(third)[0] == "pending"


# What is certainly wrong --------------------------------------------------------------------------------------------

SUBMIT = "SELECT dispatcher.submit_lead(%s::jsonb)"
NUMBER, CAMPAIGN = "phone_number: is missing; write it in E.164", "campaign_id: is missing; pass the campaign's id"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "lead: is null, not a JSON object; pass jsonb with phone_number and campaign_id"),
        ("null", "lead: is null, not a JSON object"),
        ("[]", "lead: is an array, not a JSON object"),
        ('"x"', "lead: is a string, not a JSON object"),
        ("{}", f"{NUMBER} form, e.g. +14155550100 · {CAMPAIGN} as Voicery shows it, e.g. 42"),
        ('{"phone_number": null, "campaign_id": 1}', NUMBER),
        ('{"phone_number": "+12025550101", "campaign": 42}', CAMPAIGN),
        (json.dumps(lead(variables={"x": "y" * 262_144})), "lead: is larger than 256 KiB as JSON"),
    ],
)
def test_what_is_certainly_wrong_is_one_error_at_once(
    shared: tuple[Sql, Database], given: str | None, told: str
) -> None:
    sentence = shared[0].refusal(SUBMIT, given)

    assert sentence.startswith(f"The lead was refused, nothing was stored: {told}")
    assert "555" not in sentence.replace("+14155550100", "")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("account => 'A b'", "account: is not a name of an account; use 1 to 40 of a-z, 0-9 and _"),
        ("account => NULL", "account: is not a name of an account"),
        ("key => repeat('k', 201)", "idempotency_key: is longer than 200 characters"),
        ("not_before => 'infinity'", "not_before: is not in a year from 2000 to 9998"),
        ("expires_at => '-infinity'", "expires_at: is not in a year from 2000 to 9998"),
        ("expires_at => '0044-03-15 12:00+00 BC'", "expires_at: is not in a year"),
        ("not_before => '9999-01-01 00:00+00'", "not_before: is not in a year"),
    ],
)
def test_an_option_that_no_worker_could_read_is_refused_at_once(
    shared: tuple[Sql, Database], option: str, told: str
) -> None:
    assert told in shared[0].refusal(f"SELECT dispatcher.submit_lead(%s, {option})", Jsonb(lead()))


# Callers ------------------------------------------------------------------------------------------------------------

ROWS = """
CREATE TABLE public.orders (id int, phone text, wants boolean DEFAULT true);
CREATE FUNCTION public.call_them() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dispatcher.submit_lead(
        jsonb_build_object('phone_number', NEW.phone, 'campaign_id', 42), key => 'order-' || NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER call_them AFTER INSERT ON public.orders FOR EACH ROW WHEN (NEW.wants)
    EXECUTE FUNCTION public.call_them();
"""
STATEMENTS = """
CREATE TABLE public.orders (id int, phone text, wants boolean DEFAULT true);
CREATE FUNCTION public.call_them() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dispatcher.submit_lead(
        jsonb_build_object('phone_number', phone, 'campaign_id', 42), key => 'order-' || id)
    FROM added WHERE wants ORDER BY id;
    RETURN NULL;
END $$;
CREATE TRIGGER call_them AFTER INSERT ON public.orders REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION public.call_them();
"""
DEFERRED = ROWS.replace("CREATE TRIGGER", "CREATE CONSTRAINT TRIGGER").replace(
    "FOR EACH ROW", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
)


@pytest.mark.parametrize("trigger", [ROWS, STATEMENTS, DEFERRED], ids=["each row", "each statement", "deferred"])
def test_a_trigger_submits_exactly_what_its_transaction_commits(
    sql: Sql, taking: Taking, queue: Queue, trigger: str
) -> None:
    sql.connection.execute(trigger)  # type: ignore[call-overload]
    insert = (
        "INSERT INTO public.orders SELECT n, '+12025550' || (100 + n), n <> 3"
        " FROM generate_series(%s::int, %s::int) AS n"
    )
    for end, first in (("ROLLBACK", 1), ("COMMIT", 2)):
        sql.connection.execute("BEGIN")
        sql.connection.execute(insert, (first, first + 2))
        with psycopg.connect(sql.connection.info.dsn, password=sql.connection.info.password) as another:
            assert another.execute("SELECT count(*) FROM dispatcher.inbox").fetchone() == (0,)
        sql.connection.execute(end)
    sql.connection.execute("BEGIN; SAVEPOINT one")
    sql.connection.execute(insert, (7, 7))
    sql.connection.execute("ROLLBACK TO one; COMMIT")

    assert len(taking.step().stored) == 2
    keys = queue.rows("SELECT idempotency_key FROM dispatcher.leads ORDER BY 1")
    assert [row.idempotency_key for row in keys] == ["order-2", "order-4"]


ODD = {
    "search_path": "SET search_path = evil, pg_temp",
    "row_security": "SET row_security = off",
    "isolation": "SET default_transaction_isolation = 'serializable'",
    "times": "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kathmandu'; SET intervalstyle = 'sql_standard'",
    "strings": "SET bytea_output = 'escape'; SET extra_float_digits = -15; SET transform_null_equals = on",
    "encoding": "SET client_encoding = 'LATIN1'",
}
EVIL = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.gen_random_uuid() RETURNS uuid LANGUAGE sql AS $$ SELECT NULL::uuid $$;
CREATE FUNCTION evil.jsonb_typeof(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'object' $$;
CREATE TABLE evil.inbox (id int);
CREATE DOMAIN evil.jsonb AS text;
"""


@pytest.mark.parametrize("setting", ODD.values(), ids=ODD.keys())
def test_an_odd_session_submits_as_any_other(sql: Sql, taking: Taking, queue: Queue, setting: str) -> None:
    sql.connection.execute(EVIL)
    sql.connection.execute(setting)  # type: ignore[call-overload]
    (given_id,) = (
        sql.connection.execute(
            "SELECT dispatcher.submit_lead(pg_catalog.jsonb_build_object('phone_number', %s::pg_catalog.text,"
            " 'campaign_id', 42, 'variables', pg_catalog.jsonb_build_object('name', 'Zoë'::pg_catalog.text)),"
            " not_before => pg_catalog.now())",
            (phone(1),),
        ).fetchone()
        or ()
    )

    assert taking.step().stored == [given_id]
    assert queue.lead(given_id).variables == {"name": "Zoë"}


# Order and amounts --------------------------------------------------------------------------------------------------


def test_leads_go_in_the_order_of_the_calls_whatever_the_size_of_a_step(
    sql: Sql, taking: Taking, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Due when their step took them; those of one step go by their ids, which ascend."""
    monkeypatch.setattr(inbox, "MOST_ROWS", 40)
    sql.connection.execute(
        "SELECT dispatcher.submit_lead(jsonb_build_object('phone_number', '+1' || (2025550100 + n), 'campaign_id', 42))"
        " FROM generate_series(99, 0, -1) AS n"
    )
    while taking.waits():
        taking.step()

    rows = queue.rows("SELECT phone_number FROM dispatcher.leads ORDER BY priority, due_at, id")
    assert [row.phone_number for row in rows] == [f"+1{2025550100 + n}" for n in range(99, -1, -1)]


def test_of_two_calls_with_one_key_the_first_wins(sql: Sql, taking: Taking) -> None:
    rows = sql.connection.execute(
        "SELECT n, dispatcher.submit_lead(jsonb_build_object('phone_number', '+1' || (2025550100 + n), 'campaign_id',"
        " 42), key => 'k-' || n / 2) FROM generate_series(0, 39) AS n"
    ).fetchall()
    taking.step()

    assert [sql.state(one)[0] for _, one in rows] == ["pending", "rejected"] * 20


def test_a_step_takes_no_more_bytes_than_it_may_and_always_a_row(database: Database, sql: Sql) -> None:
    for number in range(3):
        sql.submit(lead(number, variables={"text": "x" * 1000}))
    with database.transaction() as connection:
        sizes = []
        for most in (1, 1000, 1200, 10_000):
            with connection.begin_nested() as savepoint:
                sizes.append(len(inbox.count_first(connection, most_rows=10, most_bytes=most)))
                savepoint.rollback()

    assert sizes == [1, 1, 2, 3]


def test_the_accounts_of_one_step_are_kept_apart(sql: Sql, taking: Taking, queue: Queue, bell: Bell) -> None:
    ids = [sql.submit(lead(1), "k", account) for account in ("b", "a", "b")]
    taking.step()

    assert [sql.state(given_id)[:2] for given_id in ids] == [
        ("pending", ids[0]),
        ("pending", ids[1]),
        ("pending", ids[0]),
    ]
    assert [channel.account for channel in bell.rung] == ["a", "b"]


# What goes wrong ----------------------------------------------------------------------------------------------------


def with_another(sql: Sql, then: Callable[[], object]) -> None:
    """Run `then` beside a transaction that has submitted the person of `lead(1)` and does not end."""
    with psycopg.connect(sql.connection.info.dsn, password=sql.connection.info.password) as other:
        from dispatcher.intake.joining import Joined  # late: as a producer's own transaction

        joined = Joined.of(other)
        from dispatcher.intake.submit import submit, valid_entry

        entry = valid_entry(lead(1), {}, "default")
        submit(joined.connection, entry, entry.lead.payload_hash())
        then()
        other.rollback()


def test_a_person_whom_an_open_transaction_holds_delays_nobody_else(sql: Sql, taking: Taking, queue: Queue) -> None:
    ids = [sql.submit(lead(number)) for number in (2, 1, 3)]

    def step() -> None:
        taken = taking.step()
        assert (sorted(taken.stored), taken.postponed) == (sorted([ids[0], ids[2]]), [ids[1]])
        assert not taking.waits()

    with_another(sql, step)
    assert sql.state(ids[1])[0] == "waiting"
    queue.run("UPDATE dispatcher.inbox SET postponed_until = now()")
    assert taking.waits()
    assert taking.step().stored == [ids[1]]


@pytest.mark.parametrize("where", ["read", "stored"])
def test_a_row_that_meets_a_bug_is_rejected_and_the_others_go_on(
    sql: Sql, taking: Taking, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    ids = [sql.submit(lead(number, variables={"n": number})) for number in range(5)]
    if where == "read":
        read = inbox_taking._item

        def item(ring: Any, row: inbox.Waiting) -> Any:
            if row.id == ids[2]:
                raise KeyError("secret +12025550102")
            return read(ring, row)

        monkeypatch.setattr(inbox_taking, "_item", item)
        assert len(taking.step().stored) == 4
    else:
        insert = copying.insert

        def broken(connection: Any, account: str, batch: Any, now: Any, new: Any, *more: Any) -> None:
            if any(one.candidate.id == ids[2] for one in new):
                raise KeyError("secret +12025550102")
            insert(connection, account, batch, now, new, *more)

        monkeypatch.setattr(copying, "insert", broken)
        with pytest.raises(KeyError):
            taking.step()
        for _ in range(5):
            taking.step()

    assert [sql.state(given_id)[0] for given_id in ids] == ["pending", "pending", "rejected", "pending", "pending"]
    (told,) = reasons(sql, ids[2])
    assert "KeyError" in told
    assert "secret" not in told


def test_rows_that_kill_or_hang_their_process_stop_no_other(database_url: str, sql: Sql, queue: Queue) -> None:
    """Each takes its process with it three times, at last alone; then it is rejected and says so."""
    wanted = {2: "kill", 4: "hang"}
    ids = [sql.submit(lead(number, variables={"do": wanted.get(number, "nothing")})) for number in range(6)]

    command = [sys.executable, "-m", "tests.database.mortal_takers", normal_database_url(database_url)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    assert Counter(ended.stdout.split()) == {"-9": 3, "1": 2, "0": 1}, "the first of them had both rows in its hands"
    assert "Timeout (0:00:02)" in ended.stderr, "it tells where it hung"
    assert [sql.state(one)[0] for one in ids] == ["pending", "pending", "rejected", "pending", "rejected", "pending"]
    for number in wanted:
        (told,) = reasons(sql, ids[number])
        assert "killed, crashed or did not finish" in told
        assert "`dispatcher inbox retry`" in told
    assert [row.tries for row in queue.rows("SELECT tries FROM dispatcher.inbox")] == [0, 0], "a retry begins anew"


def test_what_comes_later_does_not_wait_for_rows_whose_process_ended(
    sql: Sql, taking: Taking, database: Database, bell: Bell
) -> None:
    old = [sql.submit(lead(number)) for number in range(2)]
    with database.autocommit() as connection:
        assert sorted(inbox.count_first(connection)) == sorted(old)
    new = sql.submit(lead(2))

    assert taking.step().stored == [new, *old]
    assert not taking.waits()


def test_a_try_counts_only_where_its_process_ended(
    sql: Sql, taking: Taking, database: Database, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a Postgres that goes away nor a lock brings a row nearer to its rejection."""
    given_id = sql.submit(lead(1))
    refusals = iter([StoreUnavailable("Postgres is away."), TryAgain("A lock.")] * 4)

    def away(*_: object) -> None:
        raise next(refusals)

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "stored", away)
        for expected in (StoreUnavailable, TryAgain) * 4:
            with pytest.raises(expected):
                taking.step()
            assert [row.tries for row in queue.rows("SELECT tries FROM dispatcher.inbox")] == [0]
        patch.setattr(inbox, "uncount", away)
        refusals = iter([StoreUnavailable("Postgres is away.")] * 2)
        with pytest.raises(StoreUnavailable):
            taking.step()
        assert [row.tries for row in queue.rows("SELECT tries FROM dispatcher.inbox")] == [1]

    assert taking.step().stored == [given_id], "taken back at the next step"


def test_a_row_that_postgres_refuses_is_rejected_and_the_others_go_on(sql: Sql, taking: Taking, queue: Queue) -> None:
    queue.run("ALTER TABLE dispatcher.leads ADD CONSTRAINT no_seven CHECK (variables <> '{\"n\": 7}')")
    ids = [sql.submit(lead(number, variables={"n": number})) for number in (6, 7, 8)]
    taking.step()

    assert [sql.state(given_id)[0] for given_id in ids] == ["pending", "rejected", "pending"]
    assert "no_seven" in reasons(sql, ids[1])[0]


@pytest.mark.parametrize("text", ["1" * 5000, "-" + "9" * 5000 + ".5", "[" * 900 + "]" * 900])
def test_json_that_python_cannot_read_and_that_was_stored_before_the_function_refused_it_is_rejected(
    sql: Sql, taking: Taking, text: str
) -> None:
    sql.connection.execute("ALTER TABLE dispatcher.inbox DISABLE TRIGGER inbox_check_submission")
    given = f'{{"phone_number": "{phone(1)}", "campaign_id": 42, "variables": {{"n": {text}}}}}'
    (given_id,) = sql.connection.execute("SELECT dispatcher.submit_lead(%s::jsonb)", (given,)).fetchone() or ()
    other = sql.submit(lead(2))
    taking.step()

    assert reasons(sql, given_id)
    assert sql.state(other)[0] == "pending"


def test_two_takers_store_each_lead_once(sql: Sql, database: Database, queue: Queue) -> None:
    sql.connection.execute(
        "SELECT dispatcher.submit_lead(jsonb_build_object('phone_number', '+1' || (2025550100 + n % 50),"
        " 'campaign_id', 42), key => 'k-' || n % 60) FROM generate_series(0, 99) AS n"
    )

    def take() -> None:
        one = Taking(database, Bell(), lambda: NO_KEY)
        while one.waits():
            one.step()

    takers = [threading.Thread(target=take) for _ in range(3)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()

    assert queue.states() == {"pending": 50, "duplicate": 10}
    ends = queue.rows("SELECT state, count(*) AS n FROM dispatcher.inbox GROUP BY state ORDER BY state")
    assert [tuple(row) for row in ends] == [("rejected", 40)]


def test_one_takes_at_a_time_and_a_row_that_somebody_holds_is_left_for_later(
    sql: Sql, taking: Taking, database: Database
) -> None:
    ids = [sql.submit(lead(number)) for number in range(3)]
    with database.transaction() as connection:
        assert inbox.alone(connection)
        assert taking.step().rows == 0, "else the order of the calls would be lost"
    with database.transaction() as connection:
        connection.execute(text("SELECT FROM dispatcher.inbox WHERE id = :id FOR UPDATE"), {"id": ids[1]})
        assert sorted(taking.step().stored) == sorted([ids[0], ids[2]])
    assert taking.step().stored == [ids[1]]


# The thread ---------------------------------------------------------------------------------------------------------


def test_the_thread_asks_often_while_rows_come_and_less_often_later_and_ends_when_it_is_told(
    sql: Sql, taking: Taking, queue: Queue
) -> None:
    thread = InboxThread(taking, poll_seconds=0.01, linger_seconds=30)
    sql.submit(lead(1))
    assert thread.start()
    wait_until(lambda: queue.states() == {"pending": 1})
    sql.submit(lead(2))
    wait_until(lambda: queue.states() == {"pending": 2})
    assert not thread.start()
    sql.submit(lead(3))
    thread.finish()
    assert queue.states() == {"pending": 3}

    class Late(Taking):
        """A row comes, and then the end is asked for, after it was asked whether one waits."""

        def waits(self) -> bool:
            found = super().waits()
            if not late._finishing.is_set():
                sql.submit(lead(4))
                late._finishing.set()
            return found

    late = InboxThread(Late(taking._database, Bell(), lambda: NO_KEY))
    late.start()
    wait_until(lambda: late._thread is not None and not late._thread.is_alive())
    assert queue.states() == {"pending": 4}

    waits: list[float] = []

    class Told(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            clock.now += 2.0
            return super().wait(0.001)

    clock = Clock()
    quiet = InboxThread(taking, poll_seconds=1, quiet_poll_seconds=9, linger_seconds=10, clock=clock)
    quiet._finishing = Told()
    quiet.start()
    wait_until(lambda: len(waits) > 6)
    quiet.stop()
    quiet.finish()
    assert waits[:7] == [1, 1, 1, 1, 1, 9, 9]


def test_a_postgres_that_is_away_ends_the_thread_and_loses_nothing(
    sql: Sql, taking: Taking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("Postgres is away.")

    given_id = sql.submit(lead(1))
    with monkeypatch.context() as patch:
        patch.setattr(copying, "insert", away)
        thread = InboxThread(taking)
        for _ in range(2):
            thread.start()
            thread.finish()
    assert [record.message for record in caplog.records].count("inbox.not_taken") == 1
    assert sql.state(given_id)[0] == "waiting"
    thread.start()
    thread.finish()
    assert sql.state(given_id)[0] == "pending"
