"""Erasing a person (GDPR, article 17): nothing here names the number afterwards.

What stays are the ids of the leads in the audit log, which name nobody, and the idempotency keys: a producer that
repeats a submit under such a key is refused. A submit without a key is a new lead, and would call the person: no copy
of the number, hashed or not, is kept to prevent that. A hash of a phone number can be undone by trying them all, and
whoever must not be called belongs on a list of the producer's, who has the right to keep one. Logs hold no numbers;
backups keep what they hold until they expire. Voicery's copy is deleted at Voicery.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.errors import FieldError, InvalidLead, NotAllowed
from dispatcher.leads.phone import canonical_phone
from dispatcher.store import audit, erasure
from dispatcher.store.database import Database
from dispatcher.store.erasure import Known

_ON_ITS_WAY: Final = frozenset({"sending", "unknown"})


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased: the person's own leads, rows touched by table, and what is left to delete at Voicery."""

    leads: tuple[UUID, ...] = ()
    beside: tuple[UUID, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    voicery_ids: tuple[tuple[str, int], ...] = ()


class Erasure:
    """Erases. `actor` is who is responsible."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def erase(self, phone: str, *, actor: str) -> Erased:
        """Erase the person of this number, in one transaction.

        Raises `InvalidLead` for what is no number, and `NotAllowed` while a lead with it is on its way or in doubt:
        what Voicery makes of that would never be known, nor deleted there.
        """
        number = canonical_phone(phone, "phone_number")
        if isinstance(number, FieldError):
            raise InvalidLead([number])

        def act(connection: Connection) -> Erased:
            person = erasure.find(connection, number)
            for lead in (*person.leads, *person.beside):
                _refuse_on_its_way(lead)
            leads, beside = tuple(one.id for one in person.leads), tuple(one.id for one in person.beside)
            rows = erasure.erase(connection, number, leads, beside)
            detail = {"leads": [str(one) for one in leads], "beside": [str(one) for one in beside], "rows": rows}
            audit.note(connection, actor, "erase", "person", detail)
            return Erased(leads, beside, rows, person.voicery_ids)

        return self._database.again(act)


def _refuse_on_its_way(lead: Known) -> None:
    if lead.state in _ON_ITS_WAY:
        raise NotAllowed(
            f"Lead {lead.id} of this person is {lead.state}, and what Voicery makes of it is not known yet; "
            "erase again when it has ended (`dispatcher explain` says when), or resolve it first."
        )
