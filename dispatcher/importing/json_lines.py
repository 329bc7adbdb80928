"""JSON Lines: one object a line, with the keys of `Lead` and of the options of `submit`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.columns import CONTACT, FIELDS, ImportOptions
from dispatcher.importing.row import Row, all_of, broken_bytes, moment_of_cell, whole_of_cell, without_broken_bytes
from dispatcher.importing.source import UnreadableFile
from dispatcher.lead.masking import safe_name
from dispatcher.lead.phone import Country, canonical_phone
from dispatcher.lead.variables import NameTwice, read_json

_OPTIONS: Final = frozenset({"id", "idempotency_key", "priority", "not_before", "expires_at"})
_TIMES: Final = frozenset({"not_before", "expires_at"})
_FIELDS: Final = _OPTIONS | {"phone_number", "campaign_id", "variables", "allow_dupplicate", "secondary_contacts"}
_TWICE: Final = "leave one out, or map the other to another name with --map"


def json_rows(lines: Iterable[str], encoding: str) -> Iterator[Row]:
    """Return the lines that are not empty."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text:
            yield Row(number, without_broken_bytes(text), fault=broken_bytes(text, "line", encoding))


@dataclass(frozen=True, slots=True)
class JsonLeads:
    """How a line becomes a lead. Picklable: other processes may read lines.

    names   what a key of the line means, where `--map` says it: a field, an option, or the name of a variable
    """

    campaign_id: int | None
    country: Country | None
    names: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __call__(self, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the line as (lead, options) for `submit_many`. Raises `InvalidLead`."""
        if row.fault is not None:
            raise InvalidLead([row.fault])
        try:
            given = read_json(row.text)
        except NameTwice as twice:
            raise InvalidLead([FieldError("line", twice.fault, twice.remedy)]) from None
        except ValueError:
            raise InvalidLead([FieldError("line", "is not JSON", "write one object a line")]) from None
        if not isinstance(given, dict):
            raise InvalidLead([FieldError("line", "is not a JSON object", "write one object a line")])
        faults: list[FieldError] = []
        if self.names:
            given = self._mapped(given, faults)
        lead = {name: value for name, value in given.items() if name not in _OPTIONS}
        options = {
            name: _moment(value, name, faults) if name in _TIMES else value
            for name, value in given.items()
            if name in _OPTIONS
        }
        if self.campaign_id is not None:
            lead.setdefault("campaign_id", self.campaign_id)
        if isinstance(lead.get("campaign_id"), str):
            lead["campaign_id"] = whole_of_cell(lead["campaign_id"].strip())
        self._normalise(lead, "phone_number", faults)
        contacts = lead.get("secondary_contacts")
        for position, contact in enumerate(contacts if isinstance(contacts, list) else ()):
            if isinstance(contact, dict):
                self._normalise(contact, f"secondary_contacts[{position}].phone_number", faults)
        if faults:
            raise InvalidLead(all_of(faults, lead, options))
        return lead, options

    def numbers(self, row: Row) -> list[str]:
        """Return the numbers of a line as they are written: its lead's, then those of its contacts."""
        given = cast("dict[str, Any]", read_json(row.text))
        if self.names:
            given = self._mapped(given, [])
        return [one["phone_number"] for one in (given, *given.get("secondary_contacts", ()))]

    def _mapped(self, given: Mapping[str, Any], faults: list[FieldError]) -> dict[str, Any]:
        mapped = {name: value for name, value in given.items() if name not in self.names}
        own = mapped.get("variables", {})
        variables = dict(own) if isinstance(own, dict) else {}
        for position, (name, meaning) in enumerate(self.names.items()):
            if name in given:
                is_field = meaning in _FIELDS
                holder = mapped if is_field else variables
                if meaning in holder:
                    field = meaning if is_field else f"variables.{safe_name(meaning, position)}"
                    faults.append(FieldError(field, "is given twice", _TWICE))
                holder[meaning] = given[name]
        if variables and isinstance(own, dict):
            mapped["variables"] = variables
        return mapped

    def _normalise(self, holder: dict[str, Any], field: str, faults: list[FieldError]) -> None:
        value = holder.get("phone_number")
        if isinstance(value, str):
            phone = canonical_phone(value, field, self.country)
            if isinstance(phone, FieldError):
                faults.append(phone)
            else:
                holder["phone_number"] = phone


def json_leads(options: ImportOptions) -> JsonLeads:
    """Say how a line becomes a lead. Raises `UnreadableFile` for a mapping that only a table can have."""
    for meaning in options.columns.values():
        if CONTACT.fullmatch(meaning):
            raise UnreadableFile(
                f"--map cannot make {safe_name(meaning, 0)} of a key of JSON Lines; write contacts as a list under "
                "secondary_contacts."
            )
    names = {name: FIELDS.get(meaning.casefold(), meaning) for name, meaning in options.columns.items()}
    return JsonLeads(options.campaign_id, options.country, names)


def _moment(value: object, name: str, faults: list[FieldError]) -> object:
    """Return the time that a text means: JSON has none. Other values stay, and the options name the fault."""
    if not isinstance(value, str):
        return value
    moment = moment_of_cell(value, name)
    if isinstance(moment, FieldError):
        faults.append(moment)
        return None
    return moment
