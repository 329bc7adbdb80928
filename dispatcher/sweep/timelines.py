"""What a sweep does when Postgres goes on by another timeline: hold what may have been sent, and let claims go on."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from dispatcher.errors import NotAllowed
from dispatcher.logs import events
from dispatcher.store import audit, timeline
from dispatcher.store.audit import IncidentKind
from dispatcher.store.database import Database
from dispatcher.store.timeline import Timeline

ACTOR: Final = "sweep"

_TOLD: Final = text("""
SELECT EXISTS (
    SELECT FROM dispatcher.incidents
    WHERE kind = 'timeline' AND evidence ->> 'from' = :noted AND evidence ->> 'to' = :here AND seen_at IS NULL
)
""")


class Watch:
    """Settles a change of the timeline. One a sweep.

    recover   `Recovery.recover`: holds every lead that may have been sent after a moment, and notes the new timeline
    """

    def __init__(self, database: Database, recover: Callable[..., object]) -> None:
        self._database = database
        self._recover = recover

    def settle(self, confirmed_at: datetime | None) -> bool:
        """Return whether claims can be made on this timeline, after holding what another may have sent.

        confirmed_at   the last sweep that this process did, or saw another one do, by Postgres' clock; None: none

        False: this is another server or database, or rows are locked; it is asked again in the next round.
        """
        seen = self._database.read(timeline.read)
        if not seen.changed:
            return True
        if seen.continues and seen.has_all(confirmed_at):
            self._database.again(timeline.adopt_whole, ACTOR)
            events.warning("timeline.changed", before=seen.noted, now=seen.here, consequence="nothing was lost")
            return True
        told = self._database.again(_tell, seen)
        if told:
            events.error("timeline.changed", before=seen.noted, now=seen.here, consequence="nothing is claimed")
        if not seen.continues or seen.since is None:
            return False
        try:
            self._recover(seen.since, None, actor=ACTOR, pause=False)
        except NotAllowed as refusal:
            events.warning("timeline.not_settled", why=str(refusal))
            return False
        events.warning("timeline.settled", since=seen.since.isoformat())
        return True


def _tell(connection: Connection, seen: Timeline) -> bool:
    """Open an incident, unless one that says so has not been seen yet; return whether it did."""
    if connection.execute(_TOLD, {"noted": seen.noted, "here": seen.here}).scalar():
        return False
    since = None if seen.since is None else seen.since.isoformat()
    if seen.continues:
        message = (
            "Postgres goes on by another timeline: a standby was promoted, or a backup recovered. What was committed "
            f"after {since} may be missing, for as long as the former one went on. Leads that may have been sent since "
            f"are held and looked up; `dispatcher recover --since {since}` says how they stand. Leads that were "
            "submitted since may be gone: submit them again."
        )
    else:
        message = seen.sentence
    evidence = {"from": seen.noted, "to": seen.here, "since": since, "found_at": seen.now.isoformat()}
    audit.open_incident(connection, IncidentKind.TIMELINE, None, message, evidence)
    return True
