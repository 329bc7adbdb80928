"""The timeline of Postgres: the history of commits that this server continues, and what of another one it may lack.

Postgres begins a timeline where a standby is promoted or a backup is recovered. The row of the sweep notes the one that
claims are made on (`dispatcher.this_timeline()`), and each round until when its commits are there. On any other
timeline nothing is claimed (`dispatcher.gates_let_through`) until it is known what may be missing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from dispatcher.errors import StoreUnavailable
from dispatcher.store import audit
from dispatcher.store.reading import ReadConnection

MARGIN: Final = timedelta(seconds=10)
"""A lost claim was committed after the last sweep that is known. Earlier costs evidence: what was accepted before."""

COVERED_WITHIN: Final = timedelta(minutes=5)
"""A standby that had every commit takes over within this; what is older may as well be a backup that was restored."""

COVERED_FOR_NEW: Final = timedelta(minutes=1)
"""The same for a process that has seen no sweep: it cannot know of one that noted that the standby was switched off."""

OLDER: Final = "older"
"""Follows a noted timeline of which a sweep has seen more than this server has: a copy of its files was started."""

WAITS: Final = """
current_setting('synchronous_standby_names') <> '' AND current_setting('synchronous_commit') IN ('on', 'remote_apply')
"""
"""Whether a commit of this session waits until a standby has it on its disk."""

_READ: Final = text("""
SELECT timeline AS noted, dispatcher.this_timeline() AS here, timeline_at AS at,
    coalesce(synchronous, false) AS covered, now() AS now
FROM dispatcher.sweeps WHERE name = 'sweep'
""")

_ADOPT: Final = text(f"""
UPDATE dispatcher.sweeps SET timeline = dispatcher.this_timeline(), timeline_at = now(), synchronous = {WAITS}
WHERE name = 'sweep'
""")

_SWEPT_AT: Final = text("""
SELECT timeline_at FROM dispatcher.sweeps WHERE name = 'sweep' AND timeline = dispatcher.this_timeline()
""")

_UNCOVERED: Final = text(f"""
SELECT EXISTS (
    SELECT FROM dispatcher.sweeps
    WHERE name = 'sweep' AND synchronous AND timeline = dispatcher.this_timeline() AND NOT ({WAITS})
)
""")

_NOTE_FIRST: Final = text(f"{_ADOPT.text} AND timeline IS NULL")


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is noted, and where we are.

    noted    the timeline that claims are made on; None: none is noted yet
    here     that of this server; None: it does not tell
    at       the last sweep of `noted` that this server has; None: none
    covered  whether commits waited for a standby then
    now      by the clock of the database
    """

    noted: str | None
    here: str | None
    at: datetime | None
    covered: bool
    now: datetime

    @property
    def changed(self) -> bool:
        """Whether nothing is claimed, because this is another timeline."""
        return None not in {self.noted, self.here} and self.noted != self.here

    @property
    def continues(self) -> bool:
        """Whether it is the noted one, or began in it: a promotion, a recovery of a backup, or an older copy.

        False: another server or database. It may be a copy that is not meant to call anybody.
        """
        if self.noted is None or self.here is None:
            return False
        before, after = self.noted.split("/"), self.here.split("/")
        return before[:2] == after[:2] and (before[3:] == [OLDER] or int(before[2]) < int(after[2]))

    @property
    def since(self) -> datetime | None:
        """The moment from which on commits may be missing."""
        return None if self.at is None else self.at - MARGIN

    def has_all(self, confirmed_at: datetime | None) -> bool:
        """Return whether every commit of the noted timeline that was confirmed is here.

        confirmed_at  the last sweep that who asks did, or saw; None: none
        """
        if not self.covered or self.at is None or (self.noted or "").endswith(OLDER):
            return False
        if confirmed_at is not None and confirmed_at >= self.at:
            return confirmed_at == self.at
        return self.now - self.at <= (COVERED_FOR_NEW if confirmed_at is None else COVERED_WITHIN)

    @property
    def sentence(self) -> str:
        """What a person is told while nothing is claimed."""
        if self.continues:
            return (
                "Postgres has begun another timeline, and may lack commits: a worker's sweep holds what may have been "
                "sent since, and nothing is claimed before; start a worker, or see its log for `timeline`."
            )
        return (
            "Postgres is another server or database than the one that leads were sent from: nothing is claimed. Where "
            "it may lack commits, run `dispatcher recover --since` with the moment of its copy; where it lacks none, "
            "`dispatcher recover --nothing-lost`; where it is a copy, leave it as it is."
        )


def read(connection: ReadConnection) -> Timeline:
    """Return the noted timeline and that of this server."""
    return Timeline(**connection.execute(_READ).mappings().one())


def swept_at(connection: ReadConnection) -> datetime | None:
    """Return the last sweep of this timeline; None where another one is noted."""
    moment: datetime | None = connection.execute(_SWEPT_AT).scalar()
    return moment


def refuse_uncovered(connection: ReadConnection) -> None:
    """Raise `StoreUnavailable` where commits have stopped to wait for a standby and no sweep has noted it yet.

    A commit that waited is then released as if the standby had it, without a warning.
    """
    if connection.execute(_UNCOVERED).scalar():
        raise StoreUnavailable(
            "Commits wait for no standby any more: what was claimed may not be on it, and is claimed again once a sweep"
            " has noted that; see synchronous_standby_names."
        )


def note_first(connection: Connection) -> None:
    """Note the timeline of this server where none is noted yet: before the first claim, not after the first sweep."""
    connection.execute(_NOTE_FIRST)


def adopt(connection: Connection) -> None:
    """Note the timeline of this server: claims are made on it from the commit on."""
    connection.execute(_ADOPT)


def adopt_whole(connection: Connection, actor: str) -> None:
    """Do the same for a server that has every commit of the noted one, and write into the audit log who says so."""
    seen = read(connection)
    adopt(connection)
    audit.note(connection, actor, "timeline", "postgres", {"from": seen.noted, "to": seen.here, "lost": False})
