"""Many leads at once: one read of what the tables hold about them, then `COPY`.

This speaks to psycopg itself: SQLAlchemy has no `COPY`. Statements are not prepared: a plan is cheap beside thousands
of rows, and one made for an empty table would be kept while the batch fills it. Lists go as one text each, which
the driver binds ten times as fast as arrays, and rows in binary, which it writes four times as fast as in text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dispatcher.intake import any_driver
from dispatcher.lead.candidate import BatchIds, Candidate, Facts, Held, NewLead
from dispatcher.store.blocks import FINGERPRINT, NO_KEY, Screening, blocked_of
from dispatcher.store.encryption import NO_KEYS, Content, KeyRing, stored_contact
from dispatcher.store.erased import erased_of
from dispatcher.store.pseudonym import Pseudonyms
from dispatcher.store.schema import LIVE_STRICT

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_PERSONS: Final = (
    "unnest(CAST(string_to_array(%(campaigns)s, ',') AS bigint[]), string_to_array(%(phones)s, ','))"
    " AS given (campaign_id, phone_number)"
)

# LATERAL with LIMIT: one index probe per row, whatever the planner estimates.
_LIVE: Final = f"""
SELECT given.campaign_id, given.phone_number, live.id
FROM {_PERSONS}
CROSS JOIN LATERAL (
    SELECT id FROM dispatcher.leads
    WHERE account = %(account)s AND campaign_id = given.campaign_id AND phone_number = given.phone_number
      AND {LIVE_STRICT}
    LIMIT 1
) AS live
"""

_BETWEEN_KEYS: Final = "\x1f"  # which no key contains: all its characters can be printed

_KEYS: Final = """
SELECT given.key, held.lead_id, held.payload_hash
-- or its keyed hash, if it named who was erased; where there is none, the empty text, which is no key
FROM unnest(string_to_array(%(keys)s, %(between)s), string_to_array(%(erased)s, %(between)s)) AS given (key, erased)
CROSS JOIN LATERAL (
    SELECT lead_id, payload_hash FROM dispatcher.idempotency_keys
    WHERE account = %(account)s AND key IN (given.key, given.erased)
    ORDER BY key = given.key DESC LIMIT 1
) AS held
"""

_IDS: Final = """
SELECT held.id, CASE WHEN held.account = %s THEN held.payload_hash END
FROM unnest(%s::uuid[]) AS given (id)
CROSS JOIN LATERAL (SELECT id, account, payload_hash FROM dispatcher.leads WHERE id = given.id LIMIT 1) AS held
"""

# Derived ids of one series are consecutive: one walk along the index. Joined to many spans at once, the planner walks
# through the whole of a growing table instead.
_SPAN: Final = """
SELECT id, CASE WHEN account = %s THEN payload_hash END FROM dispatcher.leads WHERE id BETWEEN %s AND %s
"""
_SPANS: Final = 20  # from more, each id is asked for by itself

_NUMBERS: Final = "unnest(string_to_array(CAST(:numbers AS text), ','))"
_BLOCKED: Final = re.sub(r":(\w+)", r"%(\1)s", blocked_of(_NUMBERS).replace("%", "%%"))
_ERASED: Final = re.sub(r":(\w+)", r"%(\1)s", erased_of(_PERSONS))


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: Mapping[str, str]  # with their types; a jsonb is given as `_jsonb_mark` and its text

    def store(self, connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        if not _copies(connection):
            any_driver.insert(connection, self.name, tuple(self.columns), rows)
            return
        statement = f"COPY dispatcher.{self.name} ({', '.join(self.columns)}) FROM STDIN (FORMAT binary)"
        with _driver(connection, statement) as driver, psycopg.Cursor(driver) as cursor, cursor.copy(statement) as copy:
            copy.set_types([_BINARY.get(type_, type_) for type_ in self.columns.values()])
            for row in rows:
                copy.write_row(row)


_BINARY: Final = {"jsonb": "text"}  # a jsonb in binary is the text after the mark of its form

_LEADS: Final = _Table(
    "leads",
    {
        "id": "uuid",
        "account": "text",
        "campaign_id": "bigint",
        "phone_number": "text",
        "variables": "jsonb",
        "allow_dupplicate": "boolean",
        "state": "text",
        "failure_class": "text",
        "last_error": "text",
        "priority": "smallint",
        "due_at": "timestamptz",
        "expires_at": "timestamptz",
        "duplicate_of": "uuid",
        "idempotency_key": "text",
        "payload_hash": "text",
        "batch_id": "uuid",
        "finished_at": "timestamptz",
    },
)
_FAILED: Final = _Table(
    "failed_leads",
    {
        "lead_id": "uuid",
        "account": "text",
        "campaign_id": "bigint",
        "phone_number": "text",
        "failure_class": "text",
        "fingerprint": "text",
        "message": "text",
        "attempts": "integer",
    },
)
_HELD_KEYS: Final = _Table(
    "idempotency_keys",
    {
        "account": "text",
        "key": "text",
        "lead_id": "uuid",
        "payload_hash": "text",
        "state": "text",
        "duplicate_of": "uuid",
    },
)
_CONTACTS: Final = _Table(
    "lead_contacts",
    {"lead_id": "uuid", "position": "smallint", "account": "text", "phone_number": "text", "variables": "jsonb"},
)


def facts(
    connection: Connection, account: str, candidates: Sequence[Candidate], screening: Screening = NO_KEY
) -> Facts:
    """Return what the tables hold about these items: live leads and blocks of their persons, keys, ids, and the time.

    screening   how it is checked who must not be called, and under whose key persons are recognised
    """
    pseudonyms = screening.pseudonyms
    strict = sorted({candidate.person for candidate in candidates if not candidate.allow_dupplicate})
    named = [key for candidate in candidates if (key := candidate.options.idempotency_key) is not None]
    keys = [(key, pseudonyms.stand_in(key)) for key in named]
    seconds, blocked, live, held_keys, held_ids = (_read if _copies(connection) else _read_by_any_driver)(
        connection, account, candidates, strict, keys, pseudonyms
    )
    return Facts(
        _EPOCH + timedelta(microseconds=int(seconds * 1_000_000)),
        {(campaign_id, phone_number): lead_id for campaign_id, phone_number, lead_id in live},
        {key: Held(lead_id, payload_hash) for key, lead_id, payload_hash in held_keys},
        {lead_id: Held(lead_id, payload_hash) for lead_id, payload_hash in held_ids},
        pseudonyms.is_of,
        {number: (of_person, of_contact) for number, of_person, of_contact in blocked},
        screening.drops_contacts,
    )


def _numbers(candidates: Sequence[Candidate]) -> list[str]:
    """Return the numbers of all persons and contacts, each once."""
    numbers = {candidate.person[1] for candidate in candidates}
    numbers.update([number for candidate in candidates if candidate.contacts for number, _ in candidate.contacts])
    return sorted(numbers)


def _read(
    connection: Connection,
    account: str,
    candidates: Sequence[Candidate],
    persons: Sequence[tuple[int, str]],
    keys: Sequence[tuple[str, str | None]],
    pseudonyms: Pseudonyms,
) -> tuple[Any, ...]:
    given_ids, spans = _ids_to_ask(candidates)
    given = {
        "account": account,
        "campaigns": ",".join([str(person[0]) for person in persons]),
        "phones": ",".join([person[1] for person in persons]),
        "numbers": ",".join(_numbers(candidates)),
        "keys": _BETWEEN_KEYS.join([key for key, _ in keys]),
        "erased": _BETWEEN_KEYS.join([erased or "" for _, erased in keys]),
        "between": _BETWEEN_KEYS,
        **pseudonyms.pads(),
    }
    [(seconds,)], blocked, live, erased, held_keys, *held_ids = _answers(
        connection,
        ("SELECT extract(epoch FROM now())",),  # a caller's session may write timestamps as the driver cannot read them
        (_BLOCKED, given),
        (_LIVE, given),
        (_ERASED, given),
        (_KEYS, given),
        (_IDS, account, given_ids),
        *((_SPAN, account, first, last) for first, last in spans),
    )
    return seconds, blocked, [*erased, *live], held_keys, chain.from_iterable(held_ids)


def _read_by_any_driver(
    connection: Connection,
    account: str,
    candidates: Sequence[Candidate],
    persons: Sequence[tuple[int, str]],
    keys: Sequence[tuple[str, str | None]],
    pseudonyms: Pseudonyms,
) -> tuple[Any, ...]:
    return (
        any_driver.now(connection),
        any_driver.blocked(connection, account, _numbers(candidates), pseudonyms),
        any_driver.live(connection, account, persons, pseudonyms),
        any_driver.keys(connection, account, keys),
        any_driver.ids(connection, account, (candidate.id for candidate in candidates)),
    )


def _ids_to_ask(candidates: Sequence[Candidate]) -> tuple[list[UUID], list[tuple[UUID, UUID]]]:
    """Return the ids to query one by one, and the first and last id of each series of the others."""
    firsts: dict[int, UUID] = {}
    lasts: dict[int, UUID] = {}
    for candidate in candidates:
        if candidate.derived_id:
            series = BatchIds.series(candidate.id)
            firsts.setdefault(series, candidate.id)
            lasts[series] = candidate.id
    if len(firsts) > _SPANS:
        return [candidate.id for candidate in candidates], []
    given = [candidate.id for candidate in candidates if not candidate.derived_id]
    return given, [(first, lasts[series]) for series, first in firsts.items()]


def insert(
    connection: Connection,
    account: str,
    batch_id: object,
    now: datetime,
    new_leads: Sequence[NewLead],
    screening: Screening = NO_KEY,
    ring: KeyRing = NO_KEYS,
) -> None:
    """Store new leads with their contacts and keys, in the order campaign, phone number, so that two never deadlock.

    A unique violation means a concurrent submit of a person, key or id: roll back, read `facts`, decide again.
    """
    ordered = sorted(new_leads, key=attrgetter("candidate.person"))
    mark = _jsonb_mark(connection)
    _LEADS.store(connection, _lead_rows(account, batch_id, now, ordered, ring, mark))
    blocked = [new_lead for new_lead in ordered if new_lead.blocked is not None]
    if blocked:
        _FAILED.store(connection, _failed_rows(account, blocked))
    contacts = [new_lead.candidate for new_lead in ordered if new_lead.candidate.contacts]
    if contacts:
        _CONTACTS.store(connection, _contact_rows(account, contacts, ring, mark))
    keyed = [new_lead for new_lead in ordered if new_lead.candidate.options.idempotency_key is not None]
    if keyed:
        rows = _key_rows(account, keyed, screening.pseudonyms)
        _HELD_KEYS.store(connection, sorted(rows, key=itemgetter(1)))


def _lead_rows(
    account: str, batch_id: object, now: datetime, new_leads: Iterable[NewLead], ring: KeyRing, mark: str
) -> Iterator[tuple[Any, ...]]:
    for new_lead in new_leads:
        candidate, duplicate_of = new_lead.candidate, new_lead.duplicate_of
        yield (
            candidate.id,
            account,
            *candidate.person,
            mark + ring.encrypted_json(candidate.variables, candidate.id, Content.VARIABLES),
            candidate.allow_dupplicate,
            new_lead.state,
            None if new_lead.blocked is None else "blocked",
            new_lead.blocked,
            candidate.options.priority,
            new_lead.due_at,
            new_lead.expires_at,
            duplicate_of,
            candidate.options.idempotency_key,
            candidate.payload_hash,
            batch_id,
            None if new_lead.pending else now,
        )


def _failed_rows(account: str, new_leads: Iterable[NewLead]) -> Iterator[tuple[Any, ...]]:
    for new_lead in new_leads:
        yield new_lead.candidate.id, account, *new_lead.candidate.person, "blocked", FINGERPRINT, new_lead.blocked, 0


def _contact_rows(account: str, candidates: Iterable[Candidate], ring: KeyRing, mark: str) -> Iterator[tuple[Any, ...]]:
    for candidate in candidates:
        for position, contact in enumerate(candidate.contacts):
            number, variables = stored_contact(ring, candidate.id, position, *contact)
            yield candidate.id, position, account, number, mark + variables


def _key_rows(account: str, new_leads: Iterable[NewLead], pseudonyms: Pseudonyms) -> Iterator[tuple[Any, ...]]:
    for new_lead in new_leads:
        candidate = new_lead.candidate
        key = candidate.options.idempotency_key
        sealed = pseudonyms.sealed(candidate.payload_hash)
        yield account, key, candidate.id, sealed, new_lead.state, new_lead.duplicate_of


def _jsonb_mark(connection: Connection) -> str:
    """Return what stands before the text of a jsonb in binary, the version of its form; nothing before other texts."""
    return "\x01" if _copies(connection) else ""


def _copies(connection: Connection) -> bool:
    return isinstance(connection.connection.driver_connection, psycopg.Connection)


@contextmanager
def _driver(connection: Connection, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """Return the driver's connection of SQLAlchemy's transaction; its errors are translated as SQLAlchemy's.

    `statements` are what is sent on it.
    """
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    try:
        yield driver
    except psycopg.Error as error:
        raise DBAPIError(
            " ".join(statements), None, error, hide_parameters=True, connection_invalidated=driver.closed
        ) from None


def _answers(connection: Connection, *questions: tuple[Any, ...]) -> list[list[tuple[Any, ...]]]:
    """Return the rows of each statement with its parameters, in one round trip."""
    with _driver(connection, *(question[0] for question in questions)) as driver:
        with driver.pipeline():
            cursors = [
                psycopg.Cursor(driver, row_factory=tuple_row).execute(
                    statement, named if isinstance(named, dict) else parameters, prepare=False
                )
                for statement, *parameters in questions
                for named in (parameters[0] if parameters else None,)
            ]
        return [cursor.fetchall() for cursor in cursors]
