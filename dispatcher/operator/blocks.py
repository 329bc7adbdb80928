"""Add to the list of persons who must not be called, remove from it, ask it. The rule is in `store/blocks.py`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sqlalchemy import Connection

from dispatcher.errors import FieldError, InvalidLead, NotAllowed, NotConfigured
from dispatcher.lead.masking import mask_numbers
from dispatcher.lead.phone import canonical_phone
from dispatcher.operator import block_list
from dispatcher.operator.block_list import Block, BlockTerms, scope_of
from dispatcher.store import audit
from dispatcher.store.database import Database
from dispatcher.store.pseudonym import Pseudonyms

CHUNK: Final = 20_000
"""Numbers that are stored in one transaction; a list of a million never holds claims up for longer than one."""
MOST_LISTED: Final = 1000


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


def canonical(phone: object) -> str:
    """Return the number in E.164. Raises `InvalidLead` with its fault."""
    number = canonical_phone(phone, "phone_number")
    if isinstance(number, FieldError):
        raise InvalidLead([number])
    return number


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What some lines of a list say: different `numbers`, of `read` lines that are numbers, and their pseudonyms."""

    numbers: list[str]
    digests: dict[str, bytes] | None
    read: int
    rejected: tuple[tuple[int, FieldError], ...]


def _chunks(phones: Iterable[tuple[int, object]], pseudonyms: Pseudonyms) -> Iterator[_Chunk]:
    remaining = iter(phones)
    digest_of = pseudonyms.digest_of
    while some := list(islice(remaining, CHUNK)):
        numbers: dict[str, None] = {}
        rejected: list[tuple[int, FieldError]] = []
        for position, phone in some:
            number = canonical_phone(phone, "phone_number")
            if isinstance(number, FieldError):
                rejected.append((position, number))
            else:
                numbers[number] = None
        digests = None if pseudonyms.key_id is None else {one: digest_of(one.encode()) for one in numbers}
        yield _Chunk(list(numbers), digests, len(some) - len(rejected), tuple(rejected))


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
        told = {} if file_name is None else {"file": file_name}
        # Where the number is not kept, Postgres computes the pseudonym.
        chunks = _chunks(phones, Pseudonyms(None) if terms.hash_only else self._pseudonyms)
        # The next numbers are read and hashed while Postgres stores these.
        with ThreadPoolExecutor(1, thread_name_prefix="dispatcher-numbers") as pool:
            ahead = pool.submit(next, chunks, None)
            while (chunk := ahead.result()) is not None:
                ahead = pool.submit(next, chunks, None)
                numbers = chunk.numbers
                added = self._database.again(self._add, numbers, terms, told, chunk.digests) if numbers else 0
                yield Blocked(added, chunk.read - added, chunk.rejected)

    def remove(self, phone: object, *, actor: str, account: str | None = None) -> Unblocked:
        """Remove the block of a number that holds for all accounts, or for this one only.

        Leads that it has stopped can be replayed from then on; nothing is sent by itself. Raises `InvalidLead`;
        `NotAllowed` if there is no such block, naming those of other scopes; `NotConfigured` where no one can tell.
        """
        number = canonical(phone)
        block_list.check_account(account)
        return self._database.again(self._remove, number, account, actor)

    def remove_by_id(self, id: int, *, actor: str) -> Block:
        """Remove one block of the list, also one whose number is not kept. Raises `NotAllowed` if it is gone."""

        def act(connection: Connection) -> Block:
            removed = block_list.remove_by_id(connection, id)
            if removed is None:
                raise NotAllowed("This block has been removed meanwhile; look at the list again.")
            _note_removed(connection, actor, removed)
            return removed

        return self._database.again(act)

    def find(self, phone: object) -> tuple[Block, ...]:
        """Return the blocks in force of a number, of all scopes. Raises `InvalidLead`, `NotConfigured`."""
        return self._database.read(block_list.find, canonical(phone), self._pseudonyms)

    def is_blocked(self, phone: object, account: str) -> bool:
        """Return whether leads of this account to the number are held back. Raises as `find`, and `NotAllowed`."""
        block_list.check_account(account)
        return any(block.account in (None, account) for block in self.find(phone))

    def all(
        self, *, account: str | None = None, source: str | None = None, before: int | None = None, most: int = 100
    ) -> list[Block]:
        """Return the list, the latest first, also blocks that have ended.

        account   those that hold for this account
        before    those with a smaller id: the next page
        """
        most = min(most, MOST_LISTED)
        return self._database.read(block_list.listed, account=account, source=source, before=before, most=most)

    def count(self) -> Mapping[str, int]:
        """Return how many blocks are in force, how many have ended, and of how many only the hash is kept."""
        return self._database.read(block_list.count)

    def _ready(self, terms: BlockTerms) -> BlockTerms:
        if terms.hash_only:
            self._pseudonyms.require("A block by hash alone")
        return terms.checked()

    def _add(
        self,
        connection: Connection,
        numbers: Sequence[str],
        terms: BlockTerms,
        told: Mapping[str, object],
        digests: Mapping[str, bytes] | None = None,
    ) -> int:
        stored = block_list.store(connection, numbers, terms, self._pseudonyms, digests)
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
            block_list.hold_claims(connection)
        return stored.numbers

    def _remove(self, connection: Connection, number: str, account: str | None, actor: str) -> Unblocked:
        removed = block_list.remove(connection, number, account, self._pseudonyms)
        fits = block_list.key_fits(connection, self._pseudonyms)
        if not removed and not fits:
            raise NotConfigured(block_list.OTHER_KEY)
        left = block_list.find(connection, number, self._pseudonyms) if fits else ()
        if not removed:
            raise NotAllowed(_not_blocked(left, account))
        for block in removed:
            _note_removed(connection, actor, block)
        return Unblocked(removed, left, block_list.replayable(connection, number))


def _note_removed(connection: Connection, actor: str, block: Block) -> None:
    detail = {"account": block.account, "blocked_by": block.who, "blocked_at": block.created_at.isoformat()}
    audit.note(connection, actor, "unblock", f"block:{block.id}", detail)


def _not_blocked(others: Sequence[Block], account: str | None) -> str:
    whom = "all accounts" if account is None else f"the account {account}"
    if not others:
        return f"This number is not blocked for {whom}, nor otherwise; nothing was changed."
    scopes = ", ".join(map(scope_of, others))
    way_out = " --account NAME" if others[0].account is not None else " without --account"
    return f"This number is not blocked for {whom}, but for {scopes}; unblock it{way_out}."
