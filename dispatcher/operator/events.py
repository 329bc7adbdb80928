"""Events, as `dispatcher tail` shows them: attempts, leads that end, incidents, and what operators do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Final
from uuid import UUID

from sqlalchemy import text

from dispatcher.operator import retention
from dispatcher.operator.activity import LONGEST_EXCHANGE
from dispatcher.operator.record import FOREIGN_TEXT, PHONE, Record
from dispatcher.store.reading import ReadConnection, Reading
from dispatcher.store.statement import first_id


@dataclass(frozen=True, slots=True)
class Event(Record):
    """One event of the queue: an attempt, the end of a lead, an incident, or an operator's action.

    key    equal for the same event read twice
    what   a state, an outcome or an action
    lead_id, account, campaign_id, phone_number   None if it is not about a lead
    """

    JSON: ClassVar = ("at", "what", "lead_id", "account", "campaign_id", "phone_number", "detail")

    key: str
    at: datetime
    what: str
    detail: str | None = field(metadata=FOREIGN_TEXT)
    lead_id: UUID | None
    account: str | None
    campaign_id: int | None
    phone_number: str | None = field(repr=False, metadata=PHONE)


_SINCE: Final = text("""
(SELECT 'begun:' || id AS key, started_at AS at, 'sending' AS what, 'attempt ' || number AS detail, lead_id, account,
    campaign_id, phone_number
 FROM dispatcher.lead_attempts WHERE id >= :begun_from AND started_at >= :since ORDER BY started_at DESC LIMIT :most)
UNION ALL
(SELECT 'ended:' || id || ':' || outcome, ended_at, outcome,
    concat_ws(' ', 'HTTP ' || http_status, CASE WHEN outcome <> 'accepted' THEN error END), lead_id, account,
    campaign_id, phone_number
 FROM dispatcher.lead_attempts
 WHERE id >= :begun_from AND ended_at >= :since AND outcome IS NOT NULL ORDER BY ended_at DESC LIMIT :most)
UNION ALL
(SELECT 'lead:' || lead.id || ':' || lead.finished_at, lead.finished_at, 'lead ' || lead.state,
    coalesce(lead.failure_class, 'Voicery id ' || lead.voicery_lead_id), lead.id, lead.account, lead.campaign_id,
    lead.phone_number
 FROM dispatcher.leads AS lead WHERE lead.finished_at >= :since ORDER BY lead.finished_at DESC LIMIT :most)
UNION ALL
(SELECT 'incident:' || id, at, 'incident', message, lead_id, NULL, NULL, NULL
 FROM dispatcher.incidents WHERE at >= :since ORDER BY id DESC LIMIT 100)
UNION ALL
(SELECT 'audit:' || id, at, action, concat_ws(' ', 'by', actor, subject), NULL, NULL, NULL, NULL
 FROM (SELECT * FROM dispatcher.audit_log ORDER BY id DESC LIMIT 1000) AS latest WHERE at >= :since)
ORDER BY at, key
""")

_LATE: Final = timedelta(seconds=10)
"""How far each reading goes back: rows carry the start time of their transaction, and are visible after its end."""

_MOST: Final = 2000


def since(connection: ReadConnection, moment: datetime, *, most: int) -> list[Event]:
    """Return the events since a moment, the earliest first; of each kind the latest `most`."""
    values = {"since": moment, "begun_from": first_id(moment - LONGEST_EXCHANGE), "most": most}
    return list(map(Event.of, connection.execute(_SINCE, values).mappings()))


def follow(reading: Reading, back: timedelta, *, wait: Callable[[], bool], most: int = _MOST) -> Iterator[Event]:
    """Yield the events of the last `back`, then new ones, each once, until `wait` returns False.

    Ordered by time within one reading. Of more than `most` events of a kind in one reading, the latest are yielded, so
    that it never falls behind.
    """
    start = reading.read(retention.database_now) - back
    yielded: dict[str, datetime] = {}
    going = True
    while going:
        found = reading.read(since, start, most=most)
        for event in found:
            if event.key not in yielded:
                yielded[event.key] = event.at
                yield event
        if found:
            start = max(start, found[-1].at - _LATE)
            yielded = {key: at for key, at in yielded.items() if at >= start}
        going = wait()
