"""Corrections of failed leads: the version that is replaced is kept."""

from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from dispatcher.leads.lead import Lead

_PAYLOAD = text("""
SELECT lead.phone_number, lead.campaign_id, lead.variables, lead.allow_dupplicate,
    coalesce((SELECT jsonb_agg(jsonb_build_object('phone_number', contact.phone_number, 'variables', contact.variables)
                               ORDER BY contact.position)
              FROM dispatcher.lead_contacts AS contact WHERE contact.lead_id = lead.id), '[]'::jsonb)
        AS secondary_contacts
FROM dispatcher.leads AS lead WHERE lead.id = :lead_id
""")

_KEEP = text("""
INSERT INTO dispatcher.lead_revisions (lead_id, revision, campaign_id, phone_number, variables, payload_hash,
    replaced_by, note)
SELECT lead.id, 1 + (SELECT count(*) FROM dispatcher.lead_revisions WHERE lead_id = lead.id),
    lead.campaign_id, lead.phone_number, lead.variables, lead.payload_hash, :actor, :note
FROM dispatcher.leads AS lead WHERE lead.id = :lead_id AND lead.state = 'failed'
""")

_CORRECT = text("""
UPDATE dispatcher.leads
SET phone_number = :phone_number, campaign_id = :campaign_id, variables = CAST(:variables AS jsonb),
    payload_hash = :payload_hash, updated_at = now()
WHERE id = :lead_id AND state = 'failed'
RETURNING id
""")


def payload(connection: Connection, lead_id: UUID) -> dict[str, Any]:
    """The lead as its producer would submit it now."""
    return dict(connection.execute(_PAYLOAD, {"lead_id": lead_id}).mappings().one())


def correct(connection: Connection, lead_id: UUID, lead: Lead, *, actor: str, note: str | None) -> bool:
    """Keep what the failed lead was, and make it what it should be; False: it has not failed.

    Raises `StatementRefused` of `leads_one_live`.
    """
    connection.execute(_KEEP, {"lead_id": lead_id, "actor": actor, "note": note})
    corrected = connection.execute(
        _CORRECT,
        {
            "lead_id": lead_id,
            "phone_number": lead.phone_number,
            "campaign_id": lead.campaign_id,
            "variables": orjson.dumps(dict(lead.variables)).decode(),
            "payload_hash": lead.payload_hash(),
        },
    )
    return corrected.first() is not None
