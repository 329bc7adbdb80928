"""The log of received requests, written before each answer is sent, so that tests can rely on it.

One JSON object a line. A creation that comes late writes a second line with the same `request` number.
The file holds phone numbers as they were sent (mode 0600) and never a header, so never a token.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from dispatcher.errors import NotConfigured


class Effect(StrEnum):
    """The effect of a request on the book of leads."""

    CREATED = "created"
    FOUND = "found"  # the existing lead was handed back
    REFUSED = "refused"  # a duplicate
    NONE = "none"
    LATE = "late"  # created after the answer was lost


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log. `status` is None where no status line was sent."""

    at: float  # unix seconds
    request: int  # number of the request, over restarts too
    method: str
    path: str  # with the query string
    body: Any  # parsed JSON, or the text as received
    status: int | None
    lead_id: int | None
    effect: Effect
    fault: str | None

    @property
    def created_id(self) -> int | None:
        """The id of the lead that this request created, if any."""
        return self.lead_id if self.effect in (Effect.CREATED, Effect.LATE) else None


class RequestLog:
    """Appends entries, each with one `write`; one sandbox a file (`NotConfigured` if another one has it)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise NotConfigured(f"Another sandbox writes {path}; give this one a log of its own.") from None
        self._drop_torn_line()

    def append(self, entry: Line) -> None:
        """Write the entry as one line. `OSError` if the disk did not take all of it."""
        line = _encode(entry)
        if os.write(self._fd, line) != len(line):
            raise OSError(f"The log {self.path} took only a part of a line; is the disk full?")

    def close(self) -> None:
        """Release the log for another sandbox."""
        os.close(self._fd)

    def _drop_torn_line(self) -> None:
        # A crash inside `write` leaves at most a half line, of a request that was never answered.
        text = self.path.read_bytes()
        if text and not text.endswith(b"\n"):
            os.ftruncate(self._fd, text.rfind(b"\n") + 1)


def read_log(path: str | os.PathLike[str]) -> list[Line]:
    """Every whole line of the log, oldest first; a missing file is an empty log. Safe while the sandbox writes."""
    return list(_entries(Path(path)))


def _entries(path: Path) -> Iterator[Line]:
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                found = orjson.loads(line)
                yield Line(**{**found, "effect": Effect(found["effect"])})


def _encode(entry: Line) -> bytes:
    return orjson.dumps(entry) + b"\n"


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """Identifies one lead: by its reference variable, else by all its variables."""

    campaign_id: int
    phone_number: str
    reference: str


@dataclass(slots=True)
class LedgerLine:
    """The requests for one lead and the ids that they created."""

    posts: int = 0  # received requests
    created: list[int] = field(default_factory=list)  # the ids of leads that these requests created
    found: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """The lines of all leads, by key."""

    lines: dict[LedgerKey, LedgerLine]

    def created_twice(self) -> dict[LedgerKey, list[int]]:
        """Return the leads created more than once, with the ids."""
        return {key: line.created for key, line in self.lines.items() if len(line.created) > 1}

    def never_created(self, expected: Iterable[LedgerKey]) -> list[LedgerKey]:
        """Return the expected leads that were never created."""
        return [key for key in expected if key not in self.lines or not self.lines[key].created]


def ledger_key(body: object, reference_variable: str | None = None) -> LedgerKey | None:
    """Return the key of a creation's JSON body; None without a campaign or number."""
    if not isinstance(body, dict):
        return None
    campaign_id, phone_number = body.get("campaign_id"), body.get("phone_number")
    if not isinstance(phone_number, str) or not isinstance(campaign_id, (int, str)):
        return None
    try:
        campaign_id = int(campaign_id)
    except ValueError:
        return None
    variables = body.get("variables") or {}
    if reference_variable is not None and isinstance(variables, dict) and reference_variable in variables:
        reference = str(variables[reference_variable])
    else:
        reference = json.dumps(variables, sort_keys=True, separators=(",", ":"))
    return LedgerKey(campaign_id, phone_number, reference)


def ledger(entries: Iterable[Line], reference_variable: str | None = None) -> Ledger:
    """Return the requests and created ids for each lead."""
    lines: dict[LedgerKey, LedgerLine] = {}
    counted: set[int] = set()
    for entry in entries:
        key = ledger_key(entry.body, reference_variable) if entry.method == "POST" else None
        if key is None:
            continue
        line = lines.setdefault(key, LedgerLine())
        if entry.request not in counted:
            counted.add(entry.request)
            line.posts += 1
        match entry.effect:
            case Effect.CREATED | Effect.LATE:
                if entry.lead_id is not None:
                    line.created.append(entry.lead_id)
            case Effect.FOUND:
                line.found += 1
            case Effect.REFUSED:
                line.refused += 1
            case Effect.NONE:
                pass
    return Ledger(lines)
