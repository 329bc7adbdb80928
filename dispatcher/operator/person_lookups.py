"""The audit of look-ups of a person: who looked for somebody by the number."""

from typing import Final

from sqlalchemy import Connection

from dispatcher.lead.masking import mask_phone
from dispatcher.store import audit

_DIGITS_OF_A_PERSON: Final = 7


def names_a_person(number: str) -> bool:
    """Return whether so many digits mean one person; the last four, which every list shows, do not."""
    return sum(character.isdigit() for character in number) >= _DIGITS_OF_A_PERSON


def note(connection: Connection, actor: str, number: str) -> None:
    """Record that `actor` looked for this number. The audit log gets it masked."""
    audit.note(connection, actor, "look_for_person", "numbers", {"number": mask_phone(number)})
