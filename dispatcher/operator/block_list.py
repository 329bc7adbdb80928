"""The rows of the list of persons who must not be called: what a block is, and the statements that store and find it.

A block keeps the number, and its pseudonym beside it where a key is set; or the pseudonym alone, so that the database
does not say who asked. Of two blocks of one number with the same scope the one that lasts longer stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, text

from dispatcher.errors import FieldError, NotAllowed, NotConfigured
from dispatcher.lead.options import ACCOUNT_NAME, checked_time
from dispatcher.operator.record import FOREIGN_TEXT, PHONE, Record
from dispatcher.store.blocks import KEY_FITS, hash_of
from dispatcher.store.pseudonym import Pseudonyms, digest_sql
from dispatcher.store.statement import Start

MOST_WORDS: Final = 200

_SCOPE: Final = "account IS NOT DISTINCT FROM CAST(:account AS text)"

# One text, which the driver binds ten times as fast as an array of so many.
_GIVEN: Final = "unnest(string_to_array(CAST(:numbers AS text), ','))"

_UNTIL: Final = "coalesce(CAST(:until_at AS timestamptz), now() + CAST(:until_in AS interval))"

# Only a block that lasts longer than the one that stands takes its place, with its reason.
_LONGER: Final = """DO UPDATE SET reason = excluded.reason, source = excluded.source, who = excluded.who,
    created_at = excluded.created_at, until = excluded.until
WHERE coalesce(excluded.until, 'infinity') > coalesce(block.until, 'infinity')"""

_ADD = text(f"""
WITH given AS (
    SELECT person.number, {digest_sql("person.number")} AS digest
    FROM {_GIVEN} AS person (number)
), stored AS (
INSERT INTO dispatcher.blocks AS block (number, digest, account, reason, source, who, until)
SELECT given.number, given.digest, CAST(:account AS text), :reason, :source, :who, {_UNTIL}
FROM given
-- One that is known by hash alone stays so: its number is not written down again.
WHERE NOT EXISTS (
    SELECT FROM dispatcher.blocks AS hashed
    WHERE hashed.number IS NULL AND hashed.digest = given.digest AND hashed.{_SCOPE}
)
ON CONFLICT (number, COALESCE(account, '')) WHERE number IS NOT NULL {_LONGER}
RETURNING block.id
)
SELECT count(*) AS numbers, min(id) AS id FROM stored
""")

_LENGTHEN_HASHED = text(f"""
WITH given AS (
    SELECT {digest_sql("person.number")} AS digest FROM {_GIVEN} AS person (number)
), stored AS (
UPDATE dispatcher.blocks AS block
SET reason = :reason, source = :source, who = :who, created_at = now(), until = {_UNTIL}
FROM given
WHERE block.number IS NULL AND block.digest = given.digest AND block.{_SCOPE}
  AND coalesce({_UNTIL}, 'infinity') > coalesce(block.until, 'infinity')
RETURNING block.id
)
SELECT count(*) AS numbers, min(id) AS id FROM stored
""")

_FORGET_NUMBERS = text(f"""
WITH taken AS (
    DELETE FROM dispatcher.blocks AS block
    WHERE number = ANY (string_to_array(CAST(:numbers AS text), ',')) AND {_SCOPE}
    RETURNING *
)
INSERT INTO dispatcher.blocks AS block (digest, account, reason, source, who, created_at, until)
SELECT {digest_sql("taken.number")}, account, reason, source, who, created_at, until FROM taken
ON CONFLICT (digest, COALESCE(account, '')) WHERE number IS NULL {_LONGER}
""")

_SCOPES = text("SELECT account FROM dispatcher.blocks WHERE number = :number ORDER BY account NULLS FIRST")

_ADD_HASHED = text(f"""
WITH stored AS (
INSERT INTO dispatcher.blocks AS block (digest, account, reason, source, who, until)
SELECT {digest_sql("person.number")}, CAST(:account AS text), :reason, :source, :who, {_UNTIL}
FROM {_GIVEN} AS person (number)
ON CONFLICT (digest, COALESCE(account, '')) WHERE number IS NULL {_LONGER}
RETURNING block.id
)
SELECT count(*) AS numbers, min(id) AS id FROM stored
""")

COPY_FROM: Final = 100
"""Numbers of one call from which on they are stored by COPY."""

_COPY: Final = "COPY dispatcher.blocks (number, digest, account, reason, source, who, until) FROM STDIN"
_NULL: Final = r"\N"
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_HEX: Final = r"\\x"

_UNTIL_IS = text(f"SELECT CAST({_UNTIL} AS text)")

_ANY_HASHED = text("SELECT EXISTS (SELECT FROM dispatcher.blocks WHERE number IS NULL)")

_KNOWN = text(f"""
SELECT person.number FROM {_GIVEN} AS person (number)
WHERE EXISTS (SELECT FROM dispatcher.blocks AS block WHERE block.number = person.number AND block.{_SCOPE})
""")

_BEFORE_CLAIMS = text("SELECT pg_advisory_xact_lock(hashtextextended('dispatcher.blocks', 0))")

_KEEP_KEY = text("""
INSERT INTO dispatcher.privacy_key (id) VALUES (:key_id) ON CONFLICT (one) DO NOTHING
""")

_KEY = text("SELECT id FROM dispatcher.privacy_key")

_KEY_FITS = text(f"SELECT {KEY_FITS}")

_COLUMNS: Final = (
    "block.id, block.number, block.account, block.reason, block.source, block.who, block.created_at, block.until"
)

_OF_NUMBER: Final = f"""(
    block.number = :number OR block.number IS NULL AND block.digest = {hash_of("CAST(:number AS text)")}
)"""

_FIND = text(f"""
SELECT {_COLUMNS} FROM dispatcher.blocks AS block
WHERE {_OF_NUMBER} AND (block.until IS NULL OR block.until > now())
ORDER BY block.account NULLS FIRST, block.id
""")

_REMOVE = text(f"""
DELETE FROM dispatcher.blocks AS block WHERE {_OF_NUMBER} AND {_SCOPE} RETURNING {_COLUMNS}
""")

_REMOVE_BY_ID = text(f"DELETE FROM dispatcher.blocks AS block WHERE id = :id RETURNING {_COLUMNS}")

_LIST = text(f"""
SELECT {_COLUMNS} FROM dispatcher.blocks AS block
WHERE (CAST(:account AS text) IS NULL OR block.account IS NULL OR block.account = :account)
  AND (CAST(:source AS text) IS NULL OR block.source = :source)
  AND (CAST(:before AS bigint) IS NULL OR block.id < :before)
ORDER BY block.id DESC
LIMIT :most
""")

_COUNT = text("""
SELECT count(*) FILTER (WHERE until IS NULL OR until > now()) AS in_force,
    count(*) FILTER (WHERE until <= now()) AS ended,
    count(*) FILTER (WHERE number IS NULL) AS hash_only
FROM dispatcher.blocks
""")

_REPLAYABLE = text("""
SELECT count(*) FROM dispatcher.failed_leads
WHERE phone_number = :number AND failure_class = 'blocked' AND resolved_at IS NULL
""")


@dataclass(frozen=True, slots=True)
class Block(Record):
    """One row of the list. `number` None: only its pseudonym is kept; `account` None: all; `until` None: for good."""

    id: int
    number: str | None = field(repr=False, metadata=PHONE)
    account: str | None
    reason: str | None = field(repr=False, metadata=FOREIGN_TEXT)
    source: str | None = field(metadata=FOREIGN_TEXT)
    who: str
    created_at: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class BlockTerms:
    """What all blocks of one call have in common.

    account     only this account; None: all
    until       an aware time, or a duration by the database's clock; None: for good
    hash_only   keep the pseudonym and not the number
    """

    actor: str
    reason: str | None = None
    source: str | None = None
    account: str | None = None
    until: Start = None
    hash_only: bool = False

    def checked(self) -> "BlockTerms":
        """Return them with their texts stripped; raise `NotAllowed` with the fault of one."""
        check_account(self.account)
        reason, source = (self.reason or "").strip(), (self.source or "").strip()
        for name, value in (("reason", reason), ("source", source)):
            if len(value) > MOST_WORDS or not value.isprintable():
                raise NotAllowed(
                    f"The {name} is longer than {MOST_WORDS} characters, or not one line of text; shorten it."
                )
        until = checked_time("until", self.until)
        if isinstance(until, FieldError):
            raise NotAllowed(f"{until}.")
        if isinstance(until, datetime) and until <= datetime.now(UTC):
            raise NotAllowed("The time until which the block holds has passed; choose a later one, or none for good.")
        return replace(self, reason=reason or None, source=source or None)

    def values(self) -> dict[str, Any]:
        """Return what the statements bind."""
        return {
            "account": self.account,
            "reason": self.reason,
            "source": self.source,
            "who": self.actor,
            "until_at": self.until if isinstance(self.until, datetime) else None,
            "until_in": self.until if isinstance(self.until, timedelta) else None,
        }


def check_account(account: str | None) -> None:
    """Raise `NotAllowed` for what is no name of an account; None is all accounts."""
    if account is not None and ACCOUNT_NAME.fullmatch(account) is None:
        raise NotAllowed("The account is not a name of an account; use 1 to 40 of a-z, 0-9 and _.")


def scope_of(block: Block) -> str:
    """Return for whom a block holds, in words."""
    return "all accounts" if block.account is None else f"the account {block.account}"


def key_fits(connection: Connection, pseudonyms: Pseudonyms) -> bool:
    """Return whether this process can check every block, also those whose number is not kept."""
    return bool(connection.execute(_KEY_FITS, {"key_id": pseudonyms.key_id}).scalar())


def find(connection: Connection, number: str, pseudonyms: Pseudonyms) -> tuple[Block, ...]:
    """Return the blocks in force of a number in E.164, of all scopes. Raises `NotConfigured` where no one can tell."""
    found = _blocks(connection.execute(_FIND, {"number": number, **pseudonyms.pads()}).mappings())
    if not found and not key_fits(connection, pseudonyms):
        raise NotConfigured(OTHER_KEY)
    return found


OTHER_KEY: Final = (
    "Some persons are blocked by hash alone, under another DISPATCHER_PRIVACY_KEY than this process has, so that it "
    "cannot tell who they are; set the key that they were blocked with."
)


def _blocks(rows: Iterable[Mapping[Any, Any]]) -> tuple[Block, ...]:
    return tuple(map(Block.of, rows))


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """How many blocks are new or last longer now, and the id of the first."""

    numbers: int = 0
    id: int | None = None


def store(
    connection: Connection,
    numbers: Sequence[str],
    terms: BlockTerms,
    pseudonyms: Pseudonyms,
    digests: Mapping[str, bytes] | None = None,
) -> BlocksStored:
    """Store blocks of different numbers.

    digests   the pseudonyms of all of them under this key, by number; None: they are computed here
    """
    values = {**terms.values(), "numbers": ",".join(sorted(numbers))}
    fits = pseudonyms.key_id is not None and keep_key(connection, pseudonyms)
    if terms.hash_only:
        if not fits:
            raise NotConfigured(OTHER_KEY)
        hashed = {**values, **pseudonyms.pads()}
        forgotten = {name: hashed[name] for name in ("numbers", "account", "inner_pad", "outer_pad")}
        connection.execute(_FORGET_NUMBERS, forgotten)
        return BlocksStored(**connection.execute(_ADD_HASHED, hashed).mappings().one())
    known = pseudonyms if fits else Pseudonyms(None)
    if len(numbers) >= COPY_FROM and not connection.execute(_ANY_HASHED).scalar():
        if _copied(connection, sorted(numbers), terms, known, digests):
            return BlocksStored(len(numbers))
        taken = set(connection.execute(_KNOWN, {"numbers": values["numbers"], "account": terms.account}).scalars())
        new = sorted(number for number in numbers if number not in taken)
        if taken and (not new or _copied(connection, new, terms, known, digests)):
            again = BlocksStored(
                **connection.execute(_ADD, values | known.pads() | {"numbers": ",".join(taken)}).mappings().one()
            )
            return BlocksStored(len(new) + again.numbers, again.id)
    values |= known.pads()
    longer = BlocksStored(**connection.execute(_LENGTHEN_HASHED, values).mappings().one()) if fits else BlocksStored()
    added = BlocksStored(**connection.execute(_ADD, values).mappings().one())
    return BlocksStored(longer.numbers + added.numbers, added.id or longer.id)


def _copied(
    connection: Connection,
    numbers: Sequence[str],
    terms: BlockTerms,
    pseudonyms: Pseudonyms,
    digests: Mapping[str, bytes] | None,
) -> bool:
    """Store new blocks by COPY, hashed here; return False, with nothing stored, if one of them is there already.

    Measured for lists of a million: the INSERT that compares each row with the list takes twice as long.
    """
    values = terms.values()
    until = connection.execute(_UNTIL_IS, {name: values[name] for name in ("until_at", "until_in")}).scalar()
    same = "\t".join(map(_copy_text, (terms.account, terms.reason, terms.source, terms.actor, until)))
    if pseudonyms.key_id is None:
        rows = [f"{number}\t{_NULL}\t{same}\n" for number in numbers]
    else:
        digest_of = pseudonyms.digest if digests is None else digests.__getitem__
        rows = [f"{number}\t{_HEX}{digest_of(number).hex()}\t{same}\n" for number in numbers]
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    try:
        with connection.begin_nested(), driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.write("".join(rows))
    except psycopg.errors.UniqueViolation:
        return False
    return True


def _copy_text(value: str | None) -> str:
    return _NULL if value is None else value.translate(_ESCAPES)


def forget_number(connection: Connection, number: str, pseudonyms: Pseudonyms) -> int:
    """Keep the pseudonym alone in the blocks of an erased person; return how many keep the number for want of the key.

    The blocks hold as before: who asked not to be called did not ask to be called again.
    """
    scopes = list(connection.execute(_SCOPES, {"number": number}).scalars())
    if scopes and not (pseudonyms.key_id is not None and keep_key(connection, pseudonyms)):
        return len(scopes)
    for account in scopes:
        connection.execute(_FORGET_NUMBERS, {"numbers": number, "account": account, **pseudonyms.pads()})
    return 0


def keep_key(connection: Connection, pseudonyms: Pseudonyms) -> bool:
    """Store the id of the key at its first use; return whether the stored one is this one."""
    connection.execute(_KEEP_KEY, {"key_id": pseudonyms.key_id})
    return connection.execute(_KEY).scalar() == pseudonyms.key_id


def stored_key(connection: Connection) -> str | None:
    """Return the id of the key that persons are stored under; None before its first use."""
    found: str | None = connection.execute(_KEY).scalar()
    return found


def hold_claims(connection: Connection) -> None:
    """Wait for the claims that have asked the list already; later ones wait for this transaction, and see its rows."""
    connection.execute(_BEFORE_CLAIMS)


def remove(connection: Connection, number: str, account: str | None, pseudonyms: Pseudonyms) -> tuple[Block, ...]:
    """Remove the block of a number that has this scope, and return it."""
    values = {"number": number, "account": account, **pseudonyms.pads()}
    return _blocks(connection.execute(_REMOVE, values).mappings())


def remove_by_id(connection: Connection, id: int) -> Block | None:
    """Remove one block and return it; None if it is gone."""
    row = connection.execute(_REMOVE_BY_ID, {"id": id}).mappings().first()
    return None if row is None else Block.of(row)


def listed(
    connection: Connection, *, account: str | None, source: str | None, before: int | None, most: int
) -> list[Block]:
    """Return the list, the latest first, also blocks that have ended."""
    values = {"account": account, "source": source, "before": before, "most": most}
    return list(_blocks(connection.execute(_LIST, values).mappings()))


def count(connection: Connection) -> Mapping[str, int]:
    """Return how many blocks are in force, how many have ended, and of how many only the hash is kept."""
    return dict(connection.execute(_COUNT).mappings().one())


def replayable(connection: Connection, number: str) -> int:
    """Return how many failed leads of a number wait that a block has stopped."""
    return int(connection.execute(_REPLAYABLE, {"number": number}).scalar() or 0)
