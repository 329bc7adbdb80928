"""What `copying` does, for a caller's transaction whose driver has no `COPY` for us: psycopg2, asyncpg, async psycopg.

Rows go as one JSON text, which every driver can bind.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, TextClause, text

from dispatcher.store.blocks import blocked_of
from dispatcher.store.erased import erased_of
from dispatcher.store.pseudonym import Pseudonyms
from dispatcher.store.schema import LIVE_STRICT

_NOW: Final = text("SELECT extract(epoch FROM now())")

_LIVE: Final = text(f"""
SELECT given.campaign_id, given.phone_number, live.id
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS given (campaign_id bigint, phone_number text)
CROSS JOIN LATERAL (
    SELECT id FROM dispatcher.leads
    WHERE account = :account AND campaign_id = given.campaign_id AND phone_number = given.phone_number AND {LIVE_STRICT}
    LIMIT 1
) AS live
""")

_ERASED: Final = text(
    erased_of("jsonb_to_recordset(CAST(:rows AS jsonb)) AS given (campaign_id bigint, phone_number text)")
)

_BLOCKED: Final = text(blocked_of("jsonb_array_elements_text(CAST(:numbers AS jsonb))"))

_KEYS: Final = text("""
SELECT given.key, held.lead_id, held.payload_hash
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS given (key text, erased text)
CROSS JOIN LATERAL (
    SELECT lead_id, payload_hash FROM dispatcher.idempotency_keys
    WHERE account = :account AND key IN (given.key, given.erased)
    ORDER BY key = given.key DESC LIMIT 1
) AS held
""")

_IDS: Final = text("""
SELECT held.id, CASE WHEN held.account = :account THEN held.payload_hash END
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS given (id uuid)
CROSS JOIN LATERAL (SELECT id, account, payload_hash FROM dispatcher.leads WHERE id = given.id LIMIT 1) AS held
""")


def now(connection: Connection) -> Decimal:
    """Return the seconds since 1970 on the database's clock, when the transaction began."""
    return Decimal(connection.execute(_NOW).scalar_one())


def live(
    connection: Connection, account: str, persons: Iterable[tuple[int, str]], pseudonyms: Pseudonyms
) -> list[tuple[int, str, UUID]]:
    """Return campaign, number and lead of the persons for whom a lead stands, or stood until it was erased."""
    rows = [{"campaign_id": campaign_id, "phone_number": number} for campaign_id, number in persons]
    erased = _asked(connection, _ERASED, account, rows, pseudonyms.pads())
    found = (*erased, *_asked(connection, _LIVE, account, rows))
    return [(row[0], row[1], _uuid(row[2])) for row in found]


def blocked(
    connection: Connection, account: str, numbers: Sequence[str], pseudonyms: Pseudonyms
) -> list[tuple[str, str, str]]:
    """Return those of the numbers that must not be called, with what their lead says, and one that has them beside."""
    values = {"numbers": orjson.dumps(numbers).decode(), "account": account, **pseudonyms.pads()}
    return [(row[0], row[1], row[2]) for row in connection.execute(_BLOCKED, values)]


def keys(
    connection: Connection, account: str, given: Iterable[tuple[str, str | None]]
) -> list[tuple[str, UUID, str | None]]:
    """Return those of the idempotency keys that are taken, each with its lead and the hash of its payload.

    Each is given with its keyed hash, which stands for it if it named a person who was erased.
    """
    rows = [{"key": key, "erased": erased} for key, erased in given]
    return [(row[0], _uuid(row[1]), row[2]) for row in _asked(connection, _KEYS, account, rows)]


def ids(connection: Connection, account: str, given: Iterable[UUID]) -> list[tuple[UUID, str | None]]:
    """Return those of the ids that are taken, each with the hash of its lead's payload."""
    rows = [{"id": one} for one in given]
    return [(_uuid(row[0]), row[1]) for row in _asked(connection, _IDS, account, rows)]


def insert(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows; the columns `variables` hold JSON text."""
    named = [
        {
            name: orjson.Fragment(value) if name == "variables" else value
            for name, value in zip(columns, row, strict=True)
        }
        for row in rows
    ]
    listed = ", ".join(columns)
    statement = f"""
    INSERT INTO dispatcher.{table} ({listed})
    SELECT {listed} FROM jsonb_populate_recordset(CAST(NULL AS dispatcher.{table}), CAST(:rows AS jsonb))
    """
    connection.execute(text(statement), {"rows": orjson.dumps(named).decode()})


def _asked(
    connection: Connection,
    statement: TextClause,
    account: str,
    rows: list[dict[str, Any]],
    pads: Mapping[str, bytes | None] = MappingProxyType({}),
) -> Sequence[Any]:
    if not rows:
        return []
    return connection.execute(statement, {"rows": orjson.dumps(rows).decode(), "account": account, **pads}).all()


def _uuid(value: UUID | str) -> UUID:
    return value if type(value) is UUID else UUID(str(value))  # psycopg2 returns text, asyncpg a class of its own
