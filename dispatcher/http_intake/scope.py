"""A lead that was read from a body, validated, and in the scope of the key that submits it."""

from typing import Final

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.http_intake.keys import ApiKey
from dispatcher.http_intake.mappings import Mapped
from dispatcher.http_intake.problems import NOT_YOURS, Problem, faults_of
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import SubmitOptions

OUTSIDE: Final = FieldError(
    "campaign_id", "is not one that this key may use", "use a key that was made for this campaign"
)


def valid(found: Mapped, key: ApiKey) -> tuple[Lead, SubmitOptions]:
    """Return the lead and its options. Raises `InvalidLead` with every fault, `Problem` for a campaign out of scope."""
    try:
        lead, options = Lead.parse(found.lead), SubmitOptions.parse(found.options)
    except InvalidLead:
        lead, options = None, None
    if lead is None or options is None or found.faults:
        raise InvalidLead([*found.all_faults(), *_campaign_fault(found.lead, key)])
    if not key.may_use(lead.campaign_id):
        errors = faults_of([OUTSIDE], found.lead)
        raise Problem(NOT_YOURS, f"The campaign {OUTSIDE.fault}; {OUTSIDE.remedy}.", {"errors": errors})
    return lead, options


def _campaign_fault(lead: object, key: ApiKey) -> list[FieldError]:
    campaign_id = lead.get("campaign_id") if isinstance(lead, dict) else None
    if type(campaign_id) is int and campaign_id > 0 and not key.may_use(campaign_id):
        return [OUTSIDE]
    return []
