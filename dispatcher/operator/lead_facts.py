"""What an action on leads depends on, in one statement: for one lead or a set, locked or not, here or in a campaign."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.states import FailureClass, State
from dispatcher.errors import DispatcherError, LeadNotFound, NotAllowed
from dispatcher.lead.options import Channel
from dispatcher.operator.failure_filter import FailureFilter, where_of
from dispatcher.operator.record import Record
from dispatcher.store.blocks import NO_KEY, OF_LEAD, Screening
from dispatcher.store.database import Database
from dispatcher.store.erased import REPEATS, erased_of_person
from dispatcher.store.proof import IN_DOUBT_SINCE
from dispatcher.store.schema import LIVE_STRICT
from dispatcher.store.statement import START, Start, start_values
from dispatcher.store.trouble import StatementRefused

STANDS: Final = (
    "Lead {rival} already stands for this person in this campaign; dismiss this one, or cancel that one first."
)

OPEN_FAILURE: Final = """(
    SELECT max(failure.id) FROM dispatcher.failed_leads AS failure
    WHERE failure.lead_id = lead.id AND failure.resolved_at IS NULL
)"""
"""A scalar subquery that belongs to a row `lead` of `dispatcher.leads`: the id of its open failure."""

_NAMED: Final = (
    "SELECT given.lead_id, given.position FROM unnest(CAST(:leads AS uuid[])) WITH ORDINALITY"
    " AS given (lead_id, position)"
)

_MATCHING: Final = (
    "SELECT failure.lead_id, row_number() OVER (ORDER BY failure.failed_at, failure.id) AS position"
    " FROM dispatcher.failed_leads AS failure WHERE {where}"
)

_CAMPAIGN: Final = "coalesce(CAST(:to_campaign AS bigint), lead.campaign_id)"

_FACTS: Final = f"""
WITH target AS MATERIALIZED ({{target}})
SELECT lead.id, lead.account, {_CAMPAIGN} AS campaign_id, {_CAMPAIGN} <> lead.campaign_id AS moves,
    lead.phone_number, lead.state, lead.failure_class, lead.attempt_id, lead.allow_dupplicate,
    lead.resolved_at IS NOT NULL AS dismissed, lead.duplicate_of, lead.expires_at, now() AS read_at,
    {START} AS starts_at, {OPEN_FAILURE} AS failure_id, {IN_DOUBT_SINCE} AS in_doubt_since,
    CASE WHEN NOT lead.allow_dupplicate THEN (
        SELECT id FROM dispatcher.leads
        WHERE account = lead.account AND campaign_id = {_CAMPAIGN} AND phone_number = lead.phone_number
          AND id <> lead.id AND {LIVE_STRICT}
        LIMIT 1
    ) END AS rival, {OF_LEAD} AS blocked,
    CASE WHEN NOT lead.allow_dupplicate THEN (
        SELECT gone.lead_id FROM {erased_of_person("lead.account", _CAMPAIGN, "lead.phone_number")} AS gone
        WHERE gone.lead_id <> lead.id
    ) END AS erased
FROM target JOIN dispatcher.leads AS lead ON lead.id = target.lead_id
"""


@dataclass(frozen=True, slots=True)
class LeadFacts(Record):
    """One lead, as an action on it sees it.

    campaign_id      its campaign, or the one that it would be moved to
    moves            whether that is another one than its own
    dismissed        whether an operator has dismissed its failure
    starts_at        when a replay would make it due, by the database's clock
    failure_id       its open failure
    in_doubt_since   when its latest POST that may have worked was made; None if none may have
    rival            another live lead of its person in this campaign, against which it may not become live
    blocked          a clause that says who must not be called, the person or a contact, and why; None if all may be
    erased           an erased lead of its person in this campaign, whose duplicate it would be
    """

    id: UUID
    account: str
    campaign_id: int
    moves: bool
    phone_number: str = field(repr=False)
    state: State
    failure_class: FailureClass | None
    attempt_id: UUID | None
    allow_dupplicate: bool
    dismissed: bool
    duplicate_of: UUID | None
    expires_at: datetime | None
    read_at: datetime
    starts_at: datetime
    failure_id: int | None
    in_doubt_since: datetime | None
    rival: UUID | None
    blocked: str | None = None
    erased: UUID | None = None

    @property
    def stands(self) -> str | None:
        """What stands for its person in this campaign instead of it, and what to do; None if nothing does."""
        if self.rival is not None:
            return STANDS.format(rival=self.rival)
        return None if self.erased is None else REPEATS

    @property
    def channel(self) -> Channel:
        """Its account and campaign."""
        return Channel(self.account, self.campaign_id)

    @property
    def person(self) -> tuple[str, int, str]:
        """What at most one live lead may have, unless duplicates are allowed."""
        return self.account, self.campaign_id, self.phone_number


def read(
    connection: Connection,
    leads: Sequence[UUID] | FailureFilter,
    *,
    lock: bool = False,
    to_campaign: int | None = None,
    not_before: Start = None,
    screening: Screening = NO_KEY,
) -> list[LeadFacts]:
    """Return the facts of these leads in their order, or of those whose open failures match, the longest failed first.

    lock         hold the leads until the transaction ends. The lead itself is then as the lock found it, and what
                 comes from other tables as the statement began: a write repeats it in its condition (`replay`)
    to_campaign  as if they were moved to this campaign
    not_before   when a replay would make them due
    screening    how it is checked who must not be called

    Leads that do not exist are left out.
    """
    if isinstance(leads, FailureFilter):
        where, values = where_of(connection, leads)
        target = _MATCHING.format(where=where)
    else:
        target, values = _NAMED, {"leads": list(leads)}
    # Locked in the order of their ids, as everywhere: two transactions never wait for each other.
    order = "ORDER BY lead.id FOR NO KEY UPDATE OF lead" if lock else "ORDER BY target.position"
    given: dict[str, Any] = {**values, **start_values(not_before), "to_campaign": to_campaign, **screening.values()}
    rows = connection.execute(text(_FACTS.format(target=target) + order), given).mappings()
    found = [LeadFacts.of(row) for row in rows]
    if not lock or isinstance(leads, FailureFilter):
        return found
    by_id = {one.id: one for one in found}
    return [by_id[lead_id] for lead_id in dict.fromkeys(leads) if lead_id in by_id]


def read_one(connection: Connection, lead_id: UUID, *, lock: bool = False, screening: Screening = NO_KEY) -> LeadFacts:
    """Return the facts of one lead; with `lock` it is held until the transaction ends. Raises `LeadNotFound`."""
    for facts in read(connection, [lead_id], lock=lock, screening=screening):
        return facts
    raise LeadNotFound(lead_id)


def rival_of(connection: Connection, lead_id: UUID, error: StatementRefused) -> DispatcherError:
    """Return the refusal for what the unique index of live leads, or another constraint, refused."""
    if error.constraint != "leads_one_live":
        return DispatcherError(f"Postgres refused: {error}. This is a bug; nothing was changed.")
    for facts in read(connection, [lead_id]):
        if facts.rival is not None:
            return NotAllowed(STANDS.format(rival=facts.rival))
    return NotAllowed("Another live lead stands for this person; dismiss this one, or try again.")


@contextmanager
def refusing_rivals(database: Database, lead_id: UUID) -> Iterator[None]:
    """Raise `NotAllowed`, naming the other lead, if the unique index of live leads refuses the transaction inside."""
    try:
        yield
    except StatementRefused as error:
        raise database.read(rival_of, lead_id, error) from None
