"""What an operator sees and sets of campaigns; pausing and resuming are in `gates`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from dispatcher.config.account import EXAMPLES, parse_rate_limit
from dispatcher.errors import NotAllowed
from dispatcher.operator.overview import GateRecord, gate_of
from dispatcher.operator.pause import check_scope
from dispatcher.store import audit
from dispatcher.store.database import Database


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """`gate` is its own, None while open; `rate_limit` its own limit beside the account's, e.g. `30/minute`."""

    account: str
    campaign_id: int
    waiting: int = 0
    due: int = 0
    failed: int = 0
    served_at: datetime | None = None
    rate_limit: str | None = None
    gate: GateRecord | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "account": self.account,
            "campaign_id": self.campaign_id,
            "waiting": self.waiting,
            "due": self.due,
            "failed": self.failed,
            "served_at": None if self.served_at is None else self.served_at.isoformat(),
            "rate_limit": self.rate_limit,
            "gate": None if self.gate is None else self.gate.as_dict(),
        }


_ALL = text("""
WITH waiting AS (
    SELECT account, campaign_id, count(*) AS waiting, count(*) FILTER (WHERE due_at <= now()) AS due
    FROM dispatcher.leads WHERE state = 'pending' GROUP BY account, campaign_id
), failing AS (
    SELECT account, campaign_id, count(*) AS failed
    FROM dispatcher.failed_leads WHERE resolved_at IS NULL GROUP BY account, campaign_id
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
class Queued:
    """What waits in a campaign and is due, and what slows it. `campaign_id` None stands for the account's own gate."""

    campaign_id: int | None
    waiting: int
    rate_limit: str | None
    paused: bool


def queued(connection: Connection, account: str) -> list[Queued]:
    """The campaigns of an account that have due leads, a limit of their own, or are paused by an operator."""
    rows = connection.execute(_QUEUED, {"account": account})
    return [Queued(row.campaign_id, row.waiting, row.rate_limit, row.paused) for row in rows]


def read_all(connection: Connection) -> list[CampaignRecord]:
    """Those held back first, then by what waits."""
    return [_campaign(row) for row in connection.execute(_ALL)]


def limit_of(connection: Connection, account: str, campaign_id: int) -> str | None:
    """The campaign's own limit; None if it has none."""
    limit = connection.execute(_LIMIT_OF, {"account": account, "campaign_id": campaign_id}).scalar()
    return None if limit is None else str(limit)


def set_limit(connection: Connection, account: str, campaign_id: int, rate_limit: str | None) -> None:
    """Give the campaign a limit of its own, or take it away."""
    connection.execute(_LIMIT, {"account": account, "campaign_id": campaign_id, "rate_limit": rate_limit})


def _campaign(row: Row[Any]) -> CampaignRecord:
    return CampaignRecord(
        account=row.account,
        campaign_id=row.campaign_id,
        waiting=row.waiting,
        due=row.due,
        failed=row.failed,
        served_at=row.served_at,
        rate_limit=row.rate_limit,
        gate=None if row.state is None else gate_of(row),
    )


class Campaigns:
    """Reads the campaigns and sets their limits. `actor` is who is responsible."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[CampaignRecord]:
        """Those held back first, then by what waits."""
        with self._database.autocommit() as connection:
            return read_all(connection)

    def limit(self, campaign_id: int, account: str, rate_limit: str | None, *, actor: str) -> None:
        """Give a campaign a limit of its own beside the account's, e.g. `30/minute`; None takes it away.

        Delivery runs that begin from now on keep it. Raises `NotAllowed` for what is no limit, account or campaign.
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
