"""The request of a lead as a command, for whoever wants to see what Voicery says to it. Never with the token."""

import json
import shlex

from dispatcher.config.base_url import endpoint
from dispatcher.leads.lead import request_body
from dispatcher.leads.masking import mask_phone
from dispatcher.records.record import MASKED, LeadRecord

PATH = "user/lead"


def curl(record: LeadRecord, base_url: str, *, reveal: bool) -> str:
    """`curl` with the token taken from the shell's environment; numbers and variables masked unless revealed."""

    def shown(number: str) -> str:
        return number if reveal else mask_phone(number)

    def values(variables: dict[str, object]) -> dict[str, object]:
        return variables if reveal else dict.fromkeys(variables, MASKED)

    body = request_body(
        phone_number=shown(record.phone_number),
        campaign_id=record.campaign_id,
        variables=values(dict(record.variables)),  # type: ignore[arg-type]  # JSON, as it was stored
        allow_dupplicate=record.allow_dupplicate,
        secondary_contacts=[
            (shown(one.phone_number), values(dict(one.variables)))  # type: ignore[misc]  # as above
            for one in record.contacts
        ],
    )
    return " \\\n  ".join(
        [
            f"curl --request POST {shlex.quote(endpoint(base_url, PATH))}",
            '--header "Authorization: Bearer $VOICERY_API_TOKEN"',
            "--header 'Content-Type: application/json'",
            f"--data {shlex.quote(json.dumps(body, ensure_ascii=False))}",
        ]
    )
