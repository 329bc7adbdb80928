"""The page of campaigns: their waiting leads and gates, and the actions on them."""

from starlette.responses import Response

from dispatcher.console.request import BadRequest, PageRequest, whole
from dispatcher.errors import NotAllowed
from dispatcher.lead.options import ACCOUNT_NAME
from dispatcher.operator import overview


def show(request: PageRequest) -> Response:
    """Return all campaigns, and the gates of whole accounts."""
    campaigns = request.services.campaigns.all()
    accounts = sorted({campaign.account for campaign in campaigns} | set(request.services.accounts))
    shut = {gate.account: gate for gate in request.services.database.read(overview.gates) if gate.campaign_id is None}
    return request.page(
        "campaigns.html", campaigns=campaigns, accounts=accounts, shut=shut, limits=request.services.settings.rate_limit
    )


def pause(request: PageRequest) -> Response:
    """Pause a campaign."""
    return _pause(request, _campaign(request))


def pause_account(request: PageRequest) -> Response:
    """Pause an account."""
    return _pause(request, None)


def resume(request: PageRequest) -> Response:
    """Resume a campaign, whatever the reason its gate was closed for."""
    return _resume(request, _campaign(request))


def resume_account(request: PageRequest) -> Response:
    """Resume an account; campaigns that were paused separately stay paused."""
    return _resume(request, None)


def limit(request: PageRequest) -> Response:
    """Set or remove the limit of a campaign."""
    campaign = _campaign(request)
    try:
        request.services.campaigns.limit(
            campaign, _account(request), request.form.get("rate_limit"), actor=request.actor
        )
    except NotAllowed as refusal:
        request.say(str(refusal), "bad")
    else:
        request.say(f"The limit of campaign {campaign} is set; it holds from the next run on.")
    return request.go("/campaigns")


def _pause(request: PageRequest, campaign: int | None) -> Response:
    reason = request.form.get("reason")[:500]
    coming = request.services.gates.pause(campaign, _account(request), reason=reason, actor=request.actor)
    on_their_way = f" {coming} on their way will still arrive." if coming else ""
    request.say(f"Paused. Nothing more is sent until somebody resumes it.{on_their_way}")
    return request.go("/campaigns")


def _resume(request: PageRequest, campaign: int | None) -> Response:
    resumed = request.services.gates.resume(campaign, _account(request), actor=request.actor)
    if resumed.still_paused:
        request.say(f"Resumed. Still paused by themselves: {', '.join(map(str, resumed.still_paused))}.", "note")
    else:
        request.say("Resumed." if resumed.opened else "Nothing was held back.", "good" if resumed.opened else "note")
    return request.go("/campaigns")


def _account(request: PageRequest) -> str:
    account = str(request.http.path_params["account"])
    if ACCOUNT_NAME.fullmatch(account) is None:
        raise BadRequest("That is no name of an account.")
    return account


def _campaign(request: PageRequest) -> int:
    return whole(str(request.http.path_params["campaign"]), "That is not the id of a campaign.", least=1)
