"""Campaigns: what waits in them, what holds them back, and an operator's hand on both."""

from starlette.responses import Response

from dispatcher.console.visit import BadRequest, Visit
from dispatcher.errors import NotAllowed
from dispatcher.lead.options import ACCOUNT_NAME
from dispatcher.operator import overview


def show(visit: Visit) -> Response:
    """All campaigns, and the gates of whole accounts."""
    campaigns = visit.services.campaigns.all()
    accounts = sorted({campaign.account for campaign in campaigns} | set(visit.services.settings.accounts))
    shut = {gate.account: gate for gate in visit.services.database.read(overview.gates) if gate.campaign_id is None}
    return visit.page(
        "campaigns.html", campaigns=campaigns, accounts=accounts, shut=shut, limits=visit.services.settings.rate_limit
    )


def pause(visit: Visit) -> Response:
    """Claim nothing more of a campaign."""
    return _pause(visit, _campaign(visit))


def pause_account(visit: Visit) -> Response:
    """Claim nothing more of an account."""
    return _pause(visit, None)


def resume(visit: Visit) -> Response:
    """Let a campaign flow again, whatever held it back."""
    return _resume(visit, _campaign(visit))


def resume_account(visit: Visit) -> Response:
    """Let an account flow again; campaigns paused by themselves stay so."""
    return _resume(visit, None)


def limit(visit: Visit) -> Response:
    """Give a campaign a limit of its own, or none."""
    campaign = _campaign(visit)
    try:
        visit.services.campaigns.limit(campaign, _account(visit), visit.form.get("rate_limit"), actor=visit.actor)
    except NotAllowed as refusal:
        visit.say(str(refusal), "bad")
    else:
        visit.say(f"The limit of campaign {campaign} is set; it holds from the next run on.")
    return visit.go("/campaigns")


def _pause(visit: Visit, campaign: int | None) -> Response:
    reason = visit.form.get("reason")[:500]
    coming = visit.services.gates.pause(campaign, _account(visit), reason=reason, actor=visit.actor)
    on_their_way = f" {coming} on their way will still arrive." if coming else ""
    visit.say(f"Paused. Nothing more is sent until somebody resumes it.{on_their_way}")
    return visit.go("/campaigns")


def _resume(visit: Visit, campaign: int | None) -> Response:
    resumed = visit.services.gates.resume(campaign, _account(visit), actor=visit.actor)
    if resumed.still_paused:
        visit.say(f"Resumed. Still paused by themselves: {', '.join(map(str, resumed.still_paused))}.", "note")
    else:
        visit.say("Resumed." if resumed.opened else "Nothing was held back.", "good" if resumed.opened else "note")
    return visit.go("/campaigns")


def _account(visit: Visit) -> str:
    account = str(visit.request.path_params["account"])
    if ACCOUNT_NAME.fullmatch(account) is None:
        raise BadRequest("That is no name of an account.")
    return account


def _campaign(visit: Visit) -> int:
    text = str(visit.request.path_params["campaign"])
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) < 2**63:
        raise BadRequest("That is no id of a campaign.")
    return int(text)
