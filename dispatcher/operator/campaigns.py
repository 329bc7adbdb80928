"""The campaigns: their waiting leads, closed gates and rate limits. For pausing see `pause`."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, RowMapping, text

from dispatcher.config.account import EXAMPLES, parse_rate_limit
from dispatcher.errors import NotAllowed
from dispatcher.operator.overview import GateRecord
from dispatcher.operator.pause import check_scope
from dispatcher.operator.record import Record
from dispatcher.store import audit
from dispatcher.store.database import Database


@dataclass(frozen=True, slots=True)
class CampaignRecord(Record):
    """One campaign. `gate` is its own, None while open; `rate_limit` applies in addition to the account's."""

    account: str
    campaign_id: int
    waiting: int = 0
    due: int = 0
    failed: int = 0
    served_at: datetime | None = None
    rate_limit: str | None = None
    gate: GateRecord | None = None


_ALL = text("""
WITH waiting AS (
    SELECT account, campaign_id, count(*) AS waiting, count(*) FILTER (WHERE due_at <= now()) AS due
    FROM dispatcher.leads WHERE state = 'pending' GROUP BY account, campaign_id
), failing AS (
    -- In the order of the one index that has the campaign, so that no row is fetched.
    SELECT account, campaign_id, count(*) AS failed
    FROM (
        SELECT account, campaign_id FROM dispatcher.failed_leads WHERE resolved_at IS NULL ORDER BY failed_at OFFSET 0
    ) AS open
    GROUP BY account, campaign_id
), gate AS (
    SELECT * FROM dispatcher.gates WHERE campaign_id IS NOT NULL AND state <> 'open'
), known AS (
    SELECT account, campaign_id FROM dispatcher.channels
    UNION SELECT account, campaign_id FROM waiting
    UNION SELECT account, campaign_id FROM failing
    UNION SELECT account, campaign_id FROM gate
)
SELECT known.account, known.campaign_id, coalesce(waiting.waiting, 0) AS waiting, coalesce(waiting.due, 0) AS due,
    coalesce(failing.failed, 0) AS failed, channel.served_at, channel.rate_limit,
    gate.state, gate.reason, gate.closed_at, gate.until, gate.by, gate.note
FROM known
LEFT JOIN waiting USING (account, campaign_id)
LEFT JOIN failing USING (account, campaign_id)
LEFT JOIN dispatcher.channels AS channel USING (account, campaign_id)
LEFT JOIN gate USING (account, campaign_id)
ORDER BY gate.state IS NULL, coalesce(waiting.waiting, 0) DESC, known.account, known.campaign_id
""")

_QUEUED = text("""
WITH held AS (
    SELECT campaign_id FROM dispatcher.gates WHERE account = :account AND state <> 'open' AND reason = 'paused'
), waiting AS (
    SELECT campaign_id, count(*) AS leads FROM dispatcher.leads
    WHERE state = 'pending' AND account = :account AND due_at <= now() GROUP BY campaign_id
), limited AS (
    SELECT campaign_id, rate_limit FROM dispatcher.channels WHERE account = :account AND rate_limit IS NOT NULL
), known AS (
    SELECT campaign_id FROM held UNION SELECT campaign_id FROM waiting UNION SELECT campaign_id FROM limited
)
SELECT known.campaign_id, coalesce(waiting.leads, 0) AS waiting, limited.rate_limit,
    EXISTS (SELECT FROM held WHERE held.campaign_id IS NOT DISTINCT FROM known.campaign_id) AS paused
FROM known LEFT JOIN waiting USING (campaign_id) LEFT JOIN limited USING (campaign_id)
""")

_LIMIT = text("""
INSERT INTO dispatcher.channels (account, campaign_id, rate_limit) VALUES (:account, :campaign_id, :rate_limit)
ON CONFLICT (account, campaign_id) DO UPDATE SET rate_limit = excluded.rate_limit
""")

_LIMIT_OF = text("SELECT rate_limit FROM dispatcher.channels WHERE account = :account AND campaign_id = :campaign_id")


@dataclass(frozen=True, slots=True)
class Queued(Record):
    """The due leads of a campaign, its gate and its limit. `campaign_id` None stands for the account's own gate."""

    campaign_id: int | None
    waiting: int
    rate_limit: str | None
    paused: bool


def queued(connection: Connection, account: str) -> list[Queued]:
    """Return the campaigns of an account that have due leads or a limit of their own, or are paused by an operator."""
    return list(map(Queued.of, connection.execute(_QUEUED, {"account": account}).mappings()))


def read_all(connection: Connection) -> list[CampaignRecord]:
    """Return all campaigns: those held back first, then by the number of waiting leads."""
    return list(map(_campaign, connection.execute(_ALL).mappings()))


def limit_of(connection: Connection, account: str, campaign_id: int) -> str | None:
    """Return the campaign's own limit; None if it has none."""
    limit = connection.execute(_LIMIT_OF, {"account": account, "campaign_id": campaign_id}).scalar()
    return None if limit is None else str(limit)


def set_limit(connection: Connection, account: str, campaign_id: int, rate_limit: str | None) -> None:
    """Set the campaign's own limit; None removes it."""
    connection.execute(_LIMIT, {"account": account, "campaign_id": campaign_id, "rate_limit": rate_limit})


def _campaign(row: RowMapping) -> CampaignRecord:
    return replace(CampaignRecord.of(row), gate=None if row["state"] is None else GateRecord.of(row))


class Campaigns:
    """Reads the campaigns and sets their limits. `actor` is written to the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[CampaignRecord]:
        """Return all campaigns: those held back first, then by the number of waiting leads."""
        return self._database.read(read_all)

    def limit(self, campaign_id: int, account: str, rate_limit: str | None, *, actor: str) -> None:
        """Set a campaign's own limit in addition to the account's, e.g. `30/minute`; None removes it.

        Delivery runs that begin from now on keep it. Raises `NotAllowed` for an invalid limit, account or campaign.
        """
        check_scope(account, campaign_id)
        wanted = (rate_limit or "").strip() or None
        if wanted is not None:
            try:
                windows = parse_rate_limit(wanted)
            except ValueError as fault:
                raise NotAllowed(f"The limit {fault}; {EXAMPLES}.") from None
            wanted = wanted if windows else None

        def act(connection: Connection) -> None:
            before = limit_of(connection, account, campaign_id)
            set_limit(connection, account, campaign_id, wanted)
            subject = f"account:{account}/campaign:{campaign_id}"
            audit.note(connection, actor, "limit", subject, {"rate_limit": wanted, "was": before})

        self._database.again(act)
