"""What an operator sees and sets of campaigns; pausing and resuming are in `gates`."""

from sqlalchemy import Connection

from dispatcher.config.rate import EXAMPLES, parse_rate_limit
from dispatcher.errors import NotAllowed
from dispatcher.operating.scope import check_scope
from dispatcher.records.campaign import CampaignRecord
from dispatcher.store import audit, campaigns
from dispatcher.store.database import Database


class Campaigns:
    """Reads the campaigns and sets their limits. `actor` is who is responsible."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[CampaignRecord]:
        """Those held back first, then by what waits."""
        with self._database.autocommit() as connection:
            return campaigns.read_all(connection)

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
            before = campaigns.limit_of(connection, account, campaign_id)
            campaigns.set_limit(connection, account, campaign_id, wanted)
            subject = f"account:{account}/campaign:{campaign_id}"
            audit.note(connection, actor, "limit", subject, {"rate_limit": wanted, "was": before})

        self._database.again(act)
