"""The page of the persons who must not be called: the list, and the actions on it."""

from starlette.responses import Response

from dispatcher.console.request import NO_PAGE, BadRequest, PageRequest, start_of, whole
from dispatcher.errors import InvalidLead, NotAllowed, NotConfigured
from dispatcher.operator.block_list import BlockTerms
from dispatcher.store.confinement import OutOfReach

ON_A_PAGE = 100


def show(request: PageRequest) -> Response:
    """Return a page of the list, the latest first."""
    before = request.query.get("before")
    found = request.services.blocks.all(
        before=None if before is None else whole(before, NO_PAGE, least=1), most=ON_A_PAGE + 1
    )
    return request.page(
        "blocked.html",
        blocks=found[:ON_A_PAGE],
        older=found[ON_A_PAGE - 1].id if len(found) > ON_A_PAGE else None,
        count=request.services.blocks.count(),
        keyed=request.services.pseudonyms.key_id is not None,
    )


def add(request: PageRequest) -> Response:
    """Block a number."""
    return _add(request, request.form.get("phone_number"), "/blocked")


def add_person(request: PageRequest) -> Response:
    """Block the number of a lead."""
    lead_id = request.id()
    lead = request.services.reads.get(lead_id)
    return _add(request, lead.phone_number, f"/leads/{lead_id}", of_lead=lead.account)


def remove(request: PageRequest) -> Response:
    """Remove a block. Leads that it stopped can be replayed then."""
    try:
        request.services.blocks.remove_by_id(_block(request), actor=request.actor)
    except NotAllowed as refusal:
        request.say(str(refusal), "bad")
    else:
        request.say("Unblocked. Nothing is sent by itself: its failed leads can be replayed now.")
    return request.go("/blocked")


def _add(request: PageRequest, number: str, back: str, *, of_lead: str | None = None) -> Response:
    until = request.form.get("until")
    try:
        terms = BlockTerms(
            request.actor,
            request.form.get("reason") or None,
            request.form.get("source") or "console",
            _account(request, of_lead),
            start_of(until) if until else None,
            request.form.get("hash_only") == "yes",
        )
        added = request.services.blocks.add(number, terms)
    except OutOfReach:
        raise
    except InvalidLead as fault:
        request.say("; ".join(map(str, fault.errors)), "bad")
    except (NotAllowed, NotConfigured, BadRequest) as refusal:
        request.say(str(refusal), "bad")
    else:
        request.say(
            "Blocked: no lead to this number is claimed any more."
            if added
            else "This number was blocked already, as long or longer.",
            "good" if added else "note",
        )
    return request.go(back)


def _account(request: PageRequest, of_lead: str | None) -> str | None:
    """Return the account that the block is for; None for all of them, which a confined user may not choose."""
    given, own = request.form.get("account"), request.person.accounts
    if own is None:
        return given or None
    chosen = given or of_lead or (min(own) if len(own) == 1 else "")
    if not chosen:
        raise BadRequest(f"Choose the account that the block is for: {', '.join(sorted(own))}.")
    if chosen not in own:
        raise OutOfReach
    return chosen


def _block(request: PageRequest) -> int:
    return whole(str(request.http.path_params["number"]), "That is not a block of the list; go back and reload.")
