"""What an operator acts on: an account, or one campaign of it."""

from dispatcher.errors import NotAllowed
from dispatcher.leads.lead import MAX_CAMPAIGN_ID
from dispatcher.leads.options import ACCOUNT_NAME


def check_scope(account: str, campaign_id: int | None) -> None:
    """Raise `NotAllowed` for a name no account can have, or an id no campaign can have."""
    if ACCOUNT_NAME.fullmatch(account) is None:
        raise NotAllowed("The account is not a name of an account; use 1 to 40 of a-z, 0-9 and _.")
    if campaign_id is not None and not 1 <= campaign_id <= MAX_CAMPAIGN_ID:
        raise NotAllowed("The campaign's id is not between 1 and 2**63-1; pass it as Voicery shows it, e.g. 42.")
