"""Failed leads as rows of a table that a person edits, and what becomes of each row when it comes back.

A row names its lead and a version, which is a hash of the lead as it was exported: of its payload, of its open failure
and of the time of that. A row that says what is stored does nothing. Any other corrects its lead and replays it, by the
rules of `corrections` and `replay`: neither calls a person who may have been called.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from dispatcher.errors import InvalidLead, LeadNotFound, NotAllowed
from dispatcher.lead.phone import canonical_phone
from dispatcher.lead.variables import read_json
from dispatcher.operator import lead_facts
from dispatcher.operator.corrections import change
from dispatcher.operator.failure_filter import FailureFilter, where_of
from dispatcher.operator.lead_facts import refusing_rivals
from dispatcher.operator.replay import ReplayTerms, replay_one
from dispatcher.operator.resolve import why_not_failed
from dispatcher.spreadsheet import safe_cell
from dispatcher.store import encryption
from dispatcher.store.blocks import NO_KEY, Screening
from dispatcher.store.database import Database
from dispatcher.store.encryption import OF_CONTACT, Content, KeyRing, contact_owner
from dispatcher.store.reading import ReadConnection

LEAD: Final = "dispatcher_lead"
VERSION: Final = "dispatcher_version"
MARKS: Final = frozenset({LEAD, VERSION})
"""The columns by which a table is known as an export of failed leads."""

MOST: Final = 100_000
MOST_SHOWN: Final = 20
MOST_REFUSED: Final = 10_000
"""Rows of each kind that `RowCounts` keeps."""

_FIXED: Final = ("account", "allow_dupplicate", "priority", "idempotency_key")
_TOLD: Final = ("failure_class", "failure")
_OWN: Final = (LEAD, VERSION, "phone_number", "campaign_id", *_FIXED, *_TOLD)
_CONTACT: Final = re.compile(r"contact\d+_.*", re.DOTALL)
_GUARD: Final = re.compile(r"^'(?=\s*[=+\-@\t\r\n;|%＝＋－＠])")

_LEADS: Final = """
SELECT lead.id, lead.account, lead.campaign_id, lead.phone_number, lead.variables, lead.allow_dupplicate, lead.priority,
    lead.idempotency_key, lead.payload_hash, failure.id AS failure_id, failure.failed_at, failure.failure_class,
    failure.message,
    coalesce((SELECT jsonb_agg(jsonb_build_object('phone_number', contact.phone_number, 'variables', contact.variables,
                                                  'position', contact.position)
                               ORDER BY contact.position)
              FROM dispatcher.lead_contacts AS contact WHERE contact.lead_id = lead.id), '[]'::jsonb) AS contacts
FROM dispatcher.leads AS lead
"""
_FAILED: Final = _LEADS + (
    "JOIN dispatcher.failed_leads AS failure ON failure.lead_id = lead.id WHERE {where}"
    " ORDER BY failure.failed_at, failure.id LIMIT :most"
)
_ONE: Final = text(
    _LEADS + "LEFT JOIN dispatcher.failed_leads AS failure ON failure.lead_id = lead.id AND failure.resolved_at IS NULL"
    " WHERE lead.id = :id ORDER BY failure.id DESC LIMIT 1"
)


def table(connection: ReadConnection, wanted: FailureFilter) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the open failures that match, the longest failed first.

    Raises `NotAllowed` for more than 100 000 of them.
    """
    where, values = where_of(connection, wanted)
    found = connection.execute(text(_FAILED.format(where=where)), {**values, "most": MOST + 1}).mappings().all()
    if len(found) > MOST:
        raise NotAllowed(f"More than {MOST:,} failed leads match; narrow the filters.")
    ring = encryption.of(connection)
    rows = [_cells(_decrypted(ring, row)) for row in found]
    others = {name for row in rows for name in row} - set(_OWN)
    contacts_last = sorted(others, key=lambda name: (_CONTACT.match(name) is not None, name))
    header = [*_OWN[:4], *_FIXED, *contacts_last, *_TOLD]
    return header, [[row.get(name, "") for name in header] for row in rows]


def _decrypted(ring: KeyRing, row: Mapping[Any, Any]) -> dict[str, Any]:
    contacts = [ring.row(one, contact_owner(row["id"], one["position"]), **OF_CONTACT) for one in row["contacts"]]
    return ring.row(row, row["id"], variables=Content.VARIABLES) | {"contacts": contacts}


def _cells(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return what a lead says, by the column that says it."""
    cells = {
        LEAD: str(row["id"]),
        VERSION: _version(row),
        "account": row["account"],
        "campaign_id": str(row["campaign_id"]),
        "phone_number": row["phone_number"],
        "allow_dupplicate": str(row["allow_dupplicate"]).lower(),
        "priority": str(row["priority"]),
        "idempotency_key": row["idempotency_key"] or "",
        "failure_class": row["failure_class"] or "",
        "failure": row["message"] or "",
    }
    for number, contact in enumerate(row["contacts"], 1):
        cells[f"contact{number}_phone"] = contact["phone_number"]
        cells |= {f"contact{number}_{name}": _text(value) for name, value in contact["variables"].items()}
    return cells | {_column(name): _text(value) for name, value in row["variables"].items()}


def _column(name: str) -> str:
    """Return the column of a variable: its name, unless that means something else."""
    return f"variables.{name}" if name in _OWN or _CONTACT.match(name) or name.startswith("variables.") else name


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _version(row: Mapping[Any, Any]) -> str:
    failed_at = row["failed_at"].isoformat() if row["failed_at"] else ""
    said = f"{row['id']} {row['failure_id']} {failed_at} {row['payload_hash']}"
    return sha256(said.encode()).hexdigest()[:16]


class Done(StrEnum):
    """What became of a row."""

    CORRECTED = "corrected"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class EditedRow:
    """One row and what became of it. The repr names no person.

    changed   the columns that were other than what is stored
    reason    why it was refused
    """

    line: int
    lead_id: str
    done: Done
    changed: tuple[str, ...] = ()
    reason: str = field(default="", repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "line": self.line,
            "lead_id": self.lead_id,
            "done": self.done.value,
            "changed": list(self.changed),
            "reason": self.reason or None,
        }


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows were taken back, and what became of them.

    shown      the first rows that were corrected
    refusals   the rows that were refused, as far as they are kept
    """

    corrected: int = 0
    unchanged: int = 0
    refused: int = 0
    shown: tuple[EditedRow, ...] = ()
    refusals: tuple[EditedRow, ...] = ()

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return self.corrected + self.unchanged + self.refused


class Counting:
    """Counts what becomes of rows, one after the other."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Done, 0)
        self._shown: list[EditedRow] = []
        self._refusals: list[EditedRow] = []

    def add(self, row: EditedRow) -> None:
        """Count a row."""
        self._counts[row.done] += 1
        if row.done is Done.CORRECTED and len(self._shown) < MOST_SHOWN:
            self._shown.append(row)
        if row.done is Done.REFUSED and len(self._refusals) < MOST_REFUSED:
            self._refusals.append(row)

    def so_far(self) -> RowCounts:
        """Return the counts so far."""
        counts = {done.value: count for done, count in self._counts.items()}
        return RowCounts(**counts, shown=tuple(self._shown), refusals=tuple(self._refusals))


class _Rehearsed(Exception):
    """Ends the transaction of a row that is only planned."""


class EditedRows:
    """Takes rows back. `actor` is who is responsible, e.g. `ada@ops-1`; `rehearsing`: what is done is rolled back."""

    def __init__(
        self, database: Database, actor: str, screening: Screening = NO_KEY, *, rehearsing: bool = False
    ) -> None:
        self._database = database
        self._actor = actor
        self._screening = screening
        self._rehearsing = rehearsing

    def take(self, header: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]) -> Iterator[EditedRow]:
        """Correct and replay each lead whose row says something else than what is stored, each in its transaction.

        Yields what became of each row: no refusal is raised. Raises `StoreUnavailable`; what was yielded is done then,
        and the same rows again find it unchanged.
        """
        for line, cells in rows:
            given = dict(zip(header, (*cells, *[""] * (len(header) - len(cells))), strict=False))
            named = given.get(LEAD, "").strip()
            try:
                lead_id = UUID(named)
            except ValueError:
                yield EditedRow(line, "", Done.REFUSED, reason=f"The column {LEAD} names no lead; export it again.")
                continue
            changed: list[str] = []
            try:
                with suppress(_Rehearsed), refusing_rivals(self._database, lead_id):
                    self._database.again(self._act, lead_id, given, changed)
            except LeadNotFound:
                reason = "This database has no such lead: the file is of another one, or the lead was removed since."
                yield EditedRow(line, str(lead_id), Done.REFUSED, reason=reason)
            except (InvalidLead, NotAllowed) as error:
                yield EditedRow(line, str(lead_id), Done.REFUSED, tuple(changed), str(error))
            else:
                yield EditedRow(line, str(lead_id), Done.CORRECTED if changed else Done.UNCHANGED, tuple(changed))

    def _act(self, connection: Connection, lead_id: UUID, given: Mapping[str, str], changed: list[str]) -> None:
        facts = lead_facts.read_one(connection, lead_id, lock=True)
        row = connection.execute(_ONE, {"id": lead_id}).mappings().one()
        stored = _decrypted(encryption.of(connection), row)
        cells = _cells(stored)
        names = [name for name in {**cells, **given} if name not in MARKS and name not in _TOLD]
        changed[:] = [name for name in names if name in given and not _same(name, given[name], cells.get(name, ""))]
        if not changed:
            return
        if given.get(VERSION, "").strip() != cells[VERSION]:
            if stored["failure_id"] is None:
                raise NotAllowed(f"It is not corrected: {why_not_failed(facts)}")
            raise NotAllowed(
                "It is not the row of this lead as it is now: it was changed or failed anew; export it again."
            )
        fixed = [name for name in changed if name in _FIXED or _CONTACT.match(name)]
        if fixed:
            raise NotAllowed(
                f"{', '.join(fixed)}: a correction cannot change that; dismiss the lead (`dispatcher resolve`) and "
                "submit it anew."
            )
        change(connection, facts, _changes(changed, given, stored), actor=self._actor, note=None)
        replay_one(connection, lead_id, ReplayTerms(self._actor, screening=self._screening))
        if self._rehearsing:
            raise _Rehearsed


def _same(name: str, given: str, stored: str) -> bool:
    one, other = _plain(given), _plain(safe_cell(stored))
    if name == "phone_number" or re.fullmatch(r"contact\d+_phone", name):
        # A spreadsheet drops the + of a number, and a person may write it with blanks.
        return one == other or (one.isdecimal() and f"+{one}" == other) or canonical_phone(one, name) == other
    return one == other or (other in {"true", "false"} and one.lower() == other)


def _plain(cell: str) -> str:
    return _GUARD.sub("", cell.strip().replace("\r\n", "\n")).strip()


def _changes(changed: Sequence[str], given: Mapping[str, str], stored: Mapping[Any, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    variables = dict(stored["variables"])
    for column in changed:
        cell = _plain(given[column])
        if column == "phone_number":
            changes[column] = cell
        elif column == "campaign_id":
            changes[column] = int(cell) if cell.isascii() and cell.isdecimal() and len(cell) < 20 else cell
        else:
            name = column.removeprefix("variables.")
            before = variables.pop(name, "")
            if cell:
                variables[name] = cell if isinstance(before, str) else _json(cell)
    if variables != dict(stored["variables"]):
        changes["variables"] = variables
    return changes


def _json(cell: str) -> object:
    try:
        return read_json(cell)
    except ValueError:
        return cell
