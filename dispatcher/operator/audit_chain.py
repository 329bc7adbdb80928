"""Verify that nobody rewrote the audit log: each entry has the hash of itself and of the one before.

The database chains an entry when its transaction commits (revision 0008); here the hashes are computed anew. Of the
personal part (actor, subject, detail) the chain has a salted digest: an erasure takes the number out and the salt away,
so that the chain stays whole and the digest tells nothing. Who may rewrite everything can compute a new chain too, so
keep its head elsewhere, and give it to `verify` later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from dispatcher.operator.record import Record

_CHAIN: Final = text("""
SELECT chain.position, chain.audit_id, chain.salt, chain.digest, chain.hash, line.id,
    CAST(extract(epoch FROM line.at) * 1000000 AS bigint) AS micros, line.actor, line.action, line.subject,
    CAST(line.detail AS text) AS detail, line.db_user, line.detail ->> 'hash' AS named
FROM dispatcher.audit_chain AS chain LEFT JOIN dispatcher.audit_log AS line ON line.id = chain.audit_id
WHERE chain.position > :after ORDER BY chain.position LIMIT :most
""")
_UNCHAINED: Final = text("""
SELECT min(line.id) FROM dispatcher.audit_log AS line
WHERE NOT EXISTS (SELECT FROM dispatcher.audit_chain AS chain WHERE chain.audit_id = line.id)
""")
_SLICE: Final = 2000
_BEGINNING: Final = sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Verification(Record):
    """What became of a verification.

    entries     the entries that were read
    erased      those of them whose personal part was erased since
    pruned_to   the position up to which old entries were deleted; None: none were
    head        the position and the hash of the last entry, `17:9f86…`; empty: there is none
    broken_at   the id of the first entry that is not as it was written; None: there is none
    fault       what is wrong with it
    """

    entries: int
    erased: int
    pruned_to: int | None
    head: str
    broken_at: int | None = None
    fault: str | None = None

    @property
    def whole(self) -> bool:
        """Return whether nothing is wrong."""
        return self.fault is None


def verify(connection: Connection, *, head: str | None = None) -> Verification:
    """Read the whole chain, oldest entry first, until something is wrong with it.

    connection   of one transaction
    head         what an earlier verification called the head: it must still be in the chain, or have been pruned
    """
    unchained = connection.execute(_UNCHAINED).scalar()
    entries = erased = 0
    anchor: tuple[int, str] | None = None  # where the chain begins since old entries were deleted
    named = False
    before, position, reached = _BEGINNING, 0, ""
    known = head is None

    def found(broken_at: int | None = None, fault: str | None = None) -> Verification:
        pruned_to = None if anchor is None else anchor[0]
        return Verification(entries, erased, pruned_to, reached, broken_at, fault)

    for link in _links(connection):
        if link.id is None and position == 0:
            anchor = (link.position, link.hash.hex())
        else:
            fault = _fault(link, before, position)
            if fault is not None:
                return found(link.audit_id, fault)
            entries += 1
            erased += link.salt is None
            named = named or (link.action == "audit_prune" and anchor is not None and link.named == anchor[1])
        before, position = link.hash, link.position
        reached = f"{position}:{before.hex()}"
        known = known or reached == head or (anchor is not None and _position(head) < anchor[0])
    if anchor is not None and not named:
        return found(None, "its beginning is missing, and no entry tells of a pruning that ended there")
    if unchained is not None:
        return found(unchained, "it was written past the triggers that chain it")
    if not known:
        return found(None, "the head that was given is not in it: its end is missing, or all of it was written anew")
    return found()


def _links(connection: Connection) -> Iterator[Row[Any]]:
    after = 0
    while rows := connection.execute(_CHAIN, {"after": after, "most": _SLICE}).all():
        yield from rows
        after = rows[-1].position


def _fault(link: Row[Any], before: bytes, position: int) -> str | None:
    if link.position != position + 1:
        return "an entry before it is missing"
    if link.id is None:
        return "it was deleted"
    parts = (str(link.id), str(link.micros), link.action, link.db_user or "")
    if sha256(before + b"".join(map(_hash, parts)) + link.digest).digest() != link.hash:
        return "it is not as it was written, or does not follow the one before"
    if link.salt is not None and _digest(link.salt, link.actor, link.subject, link.detail) != link.digest:
        return "its actor, subject or detail is not as it was written"
    return None


def _digest(salt: UUID, *texts: str) -> bytes:
    return sha256(salt.bytes + b"".join(map(_hash, texts))).digest()


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _position(head: str | None) -> int:
    number = (head or "").partition(":")[0]
    return int(number) if number.isdecimal() else 0
