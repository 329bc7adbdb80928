"""The list of persons who must not be called: add, remove, ask, list. The rule of who is blocked is `store/blocks.py`.

A block keeps the number, and its pseudonym beside it where a key is set; or the pseudonym alone, so that the database
does not say who asked. Of two blocks of one number with the same scope the one that lasts longer stays.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, text

from dispatcher.errors import FieldError, InvalidLead, NotAllowed, NotConfigured
from dispatcher.lead.options import ACCOUNT_NAME, checked_time
from dispatcher.lead.phone import canonical_phone, mask_numbers
from dispatcher.operator.record import FOREIGN_TEXT, PHONE, Record
from dispatcher.store import audit
from dispatcher.store.blocks import KEY_FITS, hash_of
from dispatcher.store.database import Database
from dispatcher.store.pseudonym import Pseudonyms, digest_sql
from dispatcher.store.statement import Start

CHUNK: Final = 20_000
"""Numbers that are stored in one transaction; a list of a million never holds claims up for longer than one."""
MOST_LISTED: Final = 1000
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

# Waits for the claims that have looked already; those that look from now on wait for this commit, and see it.
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
class Blocked:
    """What a call of `add` did.

    added      numbers that were stored, or whose block now lasts longer
    known      numbers that were blocked already, as long or longer
    rejected   (position, fault) of what is no phone number
    """

    added: int = 0
    known: int = 0
    rejected: tuple[tuple[int, FieldError], ...] = ()

    def __add__(self, other: "Blocked") -> "Blocked":
        return Blocked(self.added + other.added, self.known + other.known, self.rejected + other.rejected)


@dataclass(frozen=True, slots=True)
class Unblocked:
    """What `remove` did: the blocks it removed, those of other scopes that remain, and leads that can be replayed."""

    removed: tuple[Block, ...]
    left: tuple[Block, ...]
    replayable: int


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
        _check_account(self.account)
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


def _check_account(account: str | None) -> None:
    if account is not None and ACCOUNT_NAME.fullmatch(account) is None:
        raise NotAllowed("The account is not a name of an account; use 1 to 40 of a-z, 0-9 and _.")


def canonical(phone: object) -> str:
    """Return the number in E.164. Raises `InvalidLead` with its fault."""
    number = canonical_phone(phone, "phone_number")
    if isinstance(number, FieldError):
        raise InvalidLead([number])
    return number


# The statements -------------------------------------------------------------------------------------------------------


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
class _Stored:
    """How many blocks are new or last longer now, and the id of the first."""

    numbers: int = 0
    id: int | None = None


def _store(connection: Connection, numbers: Sequence[str], terms: BlockTerms, pseudonyms: Pseudonyms) -> _Stored:
    """Store blocks of different numbers."""
    values = {**terms.values(), "numbers": ",".join(sorted(numbers))}
    fits = pseudonyms.key_id is not None and keep_key(connection, pseudonyms)
    if terms.hash_only:
        if not fits:
            raise NotConfigured(OTHER_KEY)
        hashed = {**values, **pseudonyms.pads()}
        forgotten = {name: hashed[name] for name in ("numbers", "account", "inner_pad", "outer_pad")}
        connection.execute(_FORGET_NUMBERS, forgotten)
        return _Stored(**connection.execute(_ADD_HASHED, hashed).mappings().one())
    values |= pseudonyms.pads() if fits else Pseudonyms(None).pads()
    longer = _Stored(**connection.execute(_LENGTHEN_HASHED, values).mappings().one()) if fits else _Stored()
    added = _Stored(**connection.execute(_ADD, values).mappings().one())
    return _Stored(longer.numbers + added.numbers, added.id or longer.id)


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


# The act --------------------------------------------------------------------------------------------------------------


class Blocks:
    """Adds to the list, removes from it and reads it. `actor` is written to the audit log, e.g. `ada@ops-1`."""

    def __init__(self, database: Database, pseudonyms: Pseudonyms) -> None:
        self._database = database
        self._pseudonyms = pseudonyms

    def add(self, phone: object, terms: BlockTerms) -> bool:
        """Block one number; return False if it was blocked already, as long or longer.

        No lead of it is claimed after this has returned; one that was claimed before is still sent. Raises
        `InvalidLead` for what is no number, `NotAllowed` for other faults, and `NotConfigured` where only the hash is
        to be kept and the key is missing or another one.
        """
        terms, number = self._ready(terms), canonical(phone)
        return self._database.again(self._add, [number], terms, {}) > 0

    def add_all(
        self, phones: Iterable[tuple[int, object]], terms: BlockTerms, *, file_name: str | None = None
    ) -> Iterator[Blocked]:
        """Block many numbers, `CHUNK` in a transaction; yield what was done by each, once it is committed.

        phones   each with its position, e.g. its line

        What is no number is rejected with its position, and the others are stored: nobody is called because of a fault
        in another line. The same list again changes nothing.
        """
        terms = self._ready(terms)
        remaining = iter(phones)
        while some := list(islice(remaining, CHUNK)):
            numbers: dict[str, None] = {}
            rejected: list[tuple[int, FieldError]] = []
            read = 0
            for position, phone in some:
                number = canonical_phone(phone, "phone_number")
                if isinstance(number, FieldError):
                    rejected.append((position, number))
                else:
                    numbers[number] = None
                    read += 1
            told = {} if file_name is None else {"file": file_name}
            added = self._database.again(self._add, list(numbers), terms, told) if numbers else 0
            yield Blocked(added, read - added, tuple(rejected))

    def remove(self, phone: object, *, actor: str, account: str | None = None) -> Unblocked:
        """Remove the block of a number that holds for all accounts, or for this one only.

        Leads that it has stopped can be replayed from then on; nothing is sent by itself. Raises `InvalidLead`;
        `NotAllowed` if there is no such block, naming those of other scopes; `NotConfigured` where no one can tell.
        """
        number = canonical(phone)
        _check_account(account)
        return self._database.again(self._remove, number, account, actor)

    def remove_by_id(self, id: int, *, actor: str) -> Block:
        """Remove one block of the list, also one whose number is not kept. Raises `NotAllowed` if it is gone."""

        def act(connection: Connection) -> Block:
            row = connection.execute(_REMOVE_BY_ID, {"id": id}).mappings().first()
            if row is None:
                raise NotAllowed("This block has been removed meanwhile; look at the list again.")
            removed = Block.of(row)
            _note_removed(connection, actor, removed)
            return removed

        return self._database.again(act)

    def find(self, phone: object) -> tuple[Block, ...]:
        """Return the blocks in force of a number, of all scopes. Raises `InvalidLead`, `NotConfigured`."""
        return self._database.read(find, canonical(phone), self._pseudonyms)

    def is_blocked(self, phone: object, account: str) -> bool:
        """Return whether leads of this account to the number are held back. Raises as `find`, and `NotAllowed`."""
        _check_account(account)
        return any(block.account in (None, account) for block in self.find(phone))

    def all(
        self, *, account: str | None = None, source: str | None = None, before: int | None = None, most: int = 100
    ) -> list[Block]:
        """Return the list, the latest first, also blocks that have ended.

        account   those that hold for this account
        before    those with a smaller id: the next page
        """
        values = {"account": account, "source": source, "before": before, "most": min(most, MOST_LISTED)}
        return self._database.read(lambda connection: list(_blocks(connection.execute(_LIST, values).mappings())))

    def count(self) -> Mapping[str, int]:
        """Return how many blocks are in force, how many have ended, and of how many only the hash is kept."""
        return self._database.read(lambda connection: dict(connection.execute(_COUNT).mappings().one()))

    def _ready(self, terms: BlockTerms) -> BlockTerms:
        if terms.hash_only:
            self._pseudonyms.require("A block by hash alone")
        return terms.checked()

    def _add(
        self, connection: Connection, numbers: Sequence[str], terms: BlockTerms, told: Mapping[str, object]
    ) -> int:
        stored = _store(connection, numbers, terms, self._pseudonyms)
        if stored.numbers:
            subject = f"block:{stored.id}" if len(numbers) == 1 else "blocks"
            detail = {
                "numbers": stored.numbers,
                "account": terms.account,
                "reason": terms.reason and mask_numbers(terms.reason),
                "source": terms.source and mask_numbers(terms.source),
                "until": None if terms.until is None else str(terms.until),
                "hash_only": terms.hash_only,
                **told,
            }
            audit.note(connection, terms.actor, "block", subject, detail)
            connection.execute(_BEFORE_CLAIMS)
        return stored.numbers

    def _remove(self, connection: Connection, number: str, account: str | None, actor: str) -> Unblocked:
        values = {"number": number, "account": account, **self._pseudonyms.pads()}
        removed = _blocks(connection.execute(_REMOVE, values).mappings())
        if not removed and not key_fits(connection, self._pseudonyms):
            raise NotConfigured(OTHER_KEY)
        left = find(connection, number, self._pseudonyms) if key_fits(connection, self._pseudonyms) else ()
        if not removed:
            raise NotAllowed(_not_blocked(left, account))
        for block in removed:
            _note_removed(connection, actor, block)
        replayable = int(connection.execute(_REPLAYABLE, {"number": number}).scalar() or 0)
        return Unblocked(removed, left, replayable)


def _note_removed(connection: Connection, actor: str, block: Block) -> None:
    detail = {"account": block.account, "blocked_by": block.who, "blocked_at": block.created_at.isoformat()}
    audit.note(connection, actor, "unblock", f"block:{block.id}", detail)


def scope_of(block: Block) -> str:
    """Return for whom a block holds, in words."""
    return "all accounts" if block.account is None else f"the account {block.account}"


def _not_blocked(others: Sequence[Block], account: str | None) -> str:
    whom = "all accounts" if account is None else f"the account {account}"
    if not others:
        return f"This number is not blocked for {whom}, nor otherwise; nothing was changed."
    scopes = ", ".join(map(scope_of, others))
    way_out = " --account NAME" if others[0].account is not None else " without --account"
    return f"This number is not blocked for {whom}, but for {scopes}; unblock it{way_out}."
