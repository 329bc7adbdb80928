"""Correcting a failed lead and sending it again, in one transaction (the edit-and-replay of the failed screen).

The old version is kept, the new one is validated as a new lead is, duplicates are checked again, and the rules of
replay hold: nobody whom an earlier POST may have reached is called again by accident.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from dispatcher.errors import NotAllowed
from dispatcher.lead.lead import Lead
from dispatcher.operator import decided
from dispatcher.operator.replay import Failures
from dispatcher.store import audit
from dispatcher.store.database import Database

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


class Corrections:
    """Corrects and replays. `actor` is who is responsible."""

    def __init__(self, database: Database, failures: Failures) -> None:
        self._database = database
        self._failures = failures

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

        Raises `InvalidLead` with every fault; `LeadNotFound`, or `NotAllowed` with the reason: nothing would change,
        the lead has not failed (or not by `failure_id`), an earlier POST of it may have worked, or another live lead
        stands for the new person. Whoever refuses, nothing is changed.
        """

        def act(connection: Connection) -> None:
            self._failures.check_same(connection, lead_id, failure_id)
            with self._failures.apart(connection, lead_id):
                if not _change(connection, lead_id, changes, actor, note):
                    raise NotAllowed("Nothing was changed; replay the lead as it is, or correct it first.")
                if replay:
                    self._failures.replay_within(connection, lead_id, actor=actor, note=note)

        self._database.again(act)

    def move_within(
        self,
        connection: Connection,
        lead_id: UUID,
        campaign_id: int,
        *,
        actor: str,
        even_if_called: bool = False,
        note: str | None = None,
    ) -> None:
        """Replay a failed lead in another campaign, in the caller's transaction, undone alone where it is refused.

        A lead that is there already is replayed as it is. Nobody is rung: the sweep does it.
        """
        with self._failures.apart(connection, lead_id):
            self._failures.check_same(connection, lead_id, None)
            _change(connection, lead_id, {"campaign_id": campaign_id}, actor, note)
            self._failures.replay_within(connection, lead_id, actor=actor, even_if_called=even_if_called, note=note)


def _change(connection: Connection, lead_id: UUID, changes: Mapping[str, Any], actor: str, note: str | None) -> bool:
    """Keep what the locked lead was, and change it. False: nothing would change."""
    before = payload(connection, lead_id)
    changed = sorted(name for name, value in changes.items() if before[name] != value)
    lead = Lead.parse({**before, **changes})
    if not changed:
        return False
    _refuse_in_doubt(connection, lead_id)
    if not correct(connection, lead_id, lead, actor=actor, note=note):
        raise NotAllowed("Only a failed lead can be corrected; `dispatcher explain` says what this one does.")
    audit.note(connection, actor, "correct", str(lead_id), {"changed": changed, "note": note})
    return True


def _refuse_in_doubt(connection: Connection, lead_id: UUID) -> None:
    """A lead stands for the person of its POST that may have worked; as another lead it would leave that one free."""
    lead = decided.lock(connection, lead_id)
    since = None if lead is None else decided.in_doubt_since(connection, lead)
    if since is not None:
        raise NotAllowed(
            f"The POST of {since:%Y-%m-%d %H:%M:%S} UTC may have worked, and a change would forget for whom. Run "
            f"`dispatcher lookup {lead_id}` and correct it within 10 minutes of a proof that it did not; or dismiss it "
            "(`dispatcher resolve`) and submit the corrected lead as a new one, if a second call is acceptable."
        )
