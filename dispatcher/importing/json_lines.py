"""JSON Lines: one object a line, with the keys of `Lead` and of the options of `submit`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.number import phone_of_cell
from dispatcher.importing.row import Row
from dispatcher.leads.json_text import read_json

_OPTIONS: Final = frozenset({"id", "idempotency_key", "priority", "not_before", "expires_at"})
_TIMES: Final = frozenset({"not_before", "expires_at"})


def json_rows(lines: Iterable[str]) -> Iterator[Row]:
    """The lines that are not empty."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text:
            yield Row(number, text)


@dataclass(frozen=True, slots=True)
class JsonLeads:
    """How a line becomes a lead. Picklable: other processes may read lines."""

    campaign_id: int | None
    country: str | None

    def __call__(self, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
        """The line as (lead, options) for `submit_many`. Raises `InvalidLead`."""
        try:
            given = read_json(row.text)
        except ValueError:
            raise InvalidLead([FieldError("line", "is not JSON", "write one object a line")]) from None
        if not isinstance(given, dict):
            raise InvalidLead([FieldError("line", "is not a JSON object", "write one object a line")])
        faults: list[FieldError] = []
        lead = {name: value for name, value in given.items() if name not in _OPTIONS}
        options = {
            name: _moment(value) if name in _TIMES else value for name, value in given.items() if name in _OPTIONS
        }
        if self.campaign_id is not None:
            lead.setdefault("campaign_id", self.campaign_id)
        self._normalise(lead, "phone_number", faults)
        contacts = lead.get("secondary_contacts")
        for position, contact in enumerate(contacts if isinstance(contacts, list) else ()):
            if isinstance(contact, dict):
                self._normalise(contact, f"secondary_contacts[{position}].phone_number", faults)
        if faults:
            raise InvalidLead(faults)
        return lead, options

    def _normalise(self, holder: dict[str, Any], field: str, faults: list[FieldError]) -> None:
        value = holder.get("phone_number")
        if isinstance(value, str):
            phone = phone_of_cell(value, field, self.country)
            if isinstance(phone, FieldError):
                faults.append(phone)
            else:
                holder["phone_number"] = phone


def _moment(value: object) -> object:
    """JSON has no times: ISO 8601 text is read as one; anything else stays, and the options name the fault."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return value
    return value
