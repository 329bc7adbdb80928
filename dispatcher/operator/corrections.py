"""Correct a failed lead: its version is kept as a revision, and the new version is validated like a new lead."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from dispatcher.errors import NotAllowed
from dispatcher.lead.lead import Lead
from dispatcher.operator import lead_facts
from dispatcher.operator.lead_facts import LeadFacts
from dispatcher.operator.record import FOREIGN_TEXT, PHONE, VARIABLES, Record
from dispatcher.operator.replay import DEALT_WITH, FORGETS, ReplayTerms, replay_one
from dispatcher.store import audit, encryption
from dispatcher.store.blocks import NO_KEY, Screening
from dispatcher.store.database import Database
from dispatcher.store.encryption import OF_CONTACT, Content, contact_owner
from dispatcher.store.proof import IN_DOUBT_SINCE

_PAYLOAD = text("""
SELECT lead.phone_number, lead.campaign_id, lead.variables, lead.allow_dupplicate,
    coalesce((SELECT jsonb_agg(jsonb_build_object('phone_number', contact.phone_number, 'variables', contact.variables,
                                                  'position', contact.position)
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

_CORRECT = text(f"""
UPDATE dispatcher.leads AS lead
SET phone_number = :phone_number, campaign_id = :campaign_id, variables = CAST(:variables AS jsonb),
    payload_hash = :payload_hash, updated_at = now()
WHERE id = :lead_id AND state = 'failed' AND {IN_DOUBT_SINCE} IS NULL
RETURNING id
""")

_REVISIONS = text("""
SELECT revision, campaign_id, phone_number, variables, replaced_at, replaced_by, note FROM dispatcher.lead_revisions
WHERE lead_id = :lead_id ORDER BY revision
""")


@dataclass(frozen=True, slots=True)
class Revision(Record):
    """The version of a lead before a correction."""

    revision: int
    campaign_id: int
    phone_number: str = field(repr=False, metadata=PHONE)
    variables: Mapping[str, Any] = field(repr=False, metadata=VARIABLES)
    replaced_at: datetime
    replaced_by: str
    note: str | None = field(default=None, metadata=FOREIGN_TEXT)


def revisions(connection: Connection, lead_id: UUID) -> tuple[Revision, ...]:
    """Return the earlier versions of a lead, the earliest first."""
    ring = encryption.of(connection)
    rows = connection.execute(_REVISIONS, {"lead_id": lead_id}).mappings()
    return tuple(Revision.of(ring.row(row, lead_id, variables=Content.VARIABLES)) for row in rows)


def change(
    connection: Connection, lead: LeadFacts, changes: Mapping[str, Any], *, actor: str, note: str | None
) -> bool:
    """Keep the version that the locked failed lead has, and change it. Return False if nothing would change.

    A lead that is in doubt cannot be changed: with another number it would no longer stand for the person whom its
    POST may have called, and a second lead to that person would be accepted.

    Raises `InvalidLead`; `NotAllowed` for a lead that has not failed, or is in doubt; `StatementRefused` of
    `leads_one_live`.
    """
    ring = encryption.of(connection)
    row = connection.execute(_PAYLOAD, {"lead_id": lead.id}).mappings().one()
    before = ring.row(row, lead.id, variables=Content.VARIABLES)
    contacts = [
        ring.row(one, contact_owner(lead.id, one.pop("position")), **OF_CONTACT) for one in row["secondary_contacts"]
    ]
    before["secondary_contacts"] = contacts
    changed = sorted(name for name, value in changes.items() if before[name] != value)
    new = Lead.parse({**before, **changes})
    if not changed:
        return False
    if lead.in_doubt_since is not None:
        raise NotAllowed(FORGETS.format(since=lead.in_doubt_since, lead_id=lead.id))
    connection.execute(_KEEP, {"lead_id": lead.id, "actor": actor, "note": note})
    values = {
        "lead_id": lead.id,
        "phone_number": new.phone_number,
        "campaign_id": new.campaign_id,
        "variables": ring.encrypted_json(orjson.dumps(dict(new.variables)).decode(), lead.id, Content.VARIABLES),
        "payload_hash": new.payload_hash(),
    }
    if connection.execute(_CORRECT, values).first() is None:
        raise NotAllowed("Only a failed lead can be corrected; `dispatcher explain` says what this one does.")
    audit.note(connection, actor, "correct", str(lead.id), {"changed": changed, "note": note})
    return True


class Corrections:
    """Corrects failed leads and replays them. `actor` is written to the audit log."""

    def __init__(self, database: Database, screening: Screening = NO_KEY) -> None:
        self._database = database
        self._screening = screening

    def correct(
        self,
        lead_id: UUID,
        changes: Mapping[str, Any],
        *,
        actor: str,
        note: str | None = None,
        failure_id: int | None = None,
        replay: bool = True,
    ) -> None:
        """Change `phone_number`, `campaign_id` or `variables` of a failed lead, and by default replay it.

        failure_id   only if this is still its open failure

        Nothing is changed if it raises: `InvalidLead` with every fault; `LeadNotFound`; `NotAllowed` with the reason:
        nothing would change, the lead has not failed, an earlier POST may have worked, or another live lead stands for
        the new person.
        """

        def act(connection: Connection) -> None:
            facts = lead_facts.read_one(connection, lead_id, lock=True)
            if failure_id not in (None, facts.failure_id):
                raise NotAllowed(DEALT_WITH)
            if not change(connection, facts, changes, actor=actor, note=note):
                raise NotAllowed("Nothing was changed; replay the lead as it is, or correct it first.")
            if replay:
                replay_one(connection, lead_id, ReplayTerms(actor, note=note, screening=self._screening))

        with lead_facts.refusing_rivals(self._database, lead_id):
            self._database.again(act)
