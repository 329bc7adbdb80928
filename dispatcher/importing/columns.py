"""What the columns of a table mean, told from its header once; then each row becomes a lead with its options.

A lead's own fields are recognised by name, contacts by `contact1_phone`, `contact1_<variable>`, …; every other column
is a variable. An empty cell is a variable left out: a table cannot tell it from a missing one.
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.rejects import all_of
from dispatcher.importing.source import Row, UnreadableFile, moment_of_cell, whole_of_cell
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.lead.phone import Country, canonical_phone, mask_numbers, safe_name

FIELDS: Final = {
    "phone_number": "phone_number",
    "phone": "phone_number",
    "campaign_id": "campaign_id",
    "campaign": "campaign_id",
    "allow_dupplicate": "allow_dupplicate",
    "allow_duplicate": "allow_dupplicate",
    "priority": "priority",
    "idempotency_key": "idempotency_key",
    "not_before": "not_before",
    "expires_at": "expires_at",
}
"""In small letters → the field of a lead, or the option of `submit`."""

CONTACT: Final = re.compile(r"contact([1-9]\d?)_(.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ImportTerms:
    """Frozen, and the same for the plan and the import.

    account      whose leads these are
    campaign_id  of rows that name none; None: every row must
    country      completes numbers that are written without a country code; None: such numbers are refused
    columns      what a column means, by its header: `{"Mobile": "phone_number", "First name": "customer_name"}`
    again        import rows once more that an earlier import of this file took in
    actor        who imports, for the record
    workers      processes that read and validate, beside this one; 0: none
    """

    account: str = DEFAULT_ACCOUNT
    campaign_id: int | None = None
    country: Country | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    actor: str = ""
    workers: int = 0


_SOUNDS_LIKE_PHONE: Final = re.compile(r"phone|mobil|\btel|cell|handy|msisdn|gsm|num(ber|mer|ero)", re.IGNORECASE)
_TIMES: Final = ("not_before", "expires_at")
_YES: Final = frozenset({"true", "t", "yes", "y", "1"})
_NO: Final = frozenset({"false", "f", "no", "n", "0"})


@dataclass(frozen=True, slots=True)
class _Contact:
    """The columns of one secondary contact; `number` counts from 1, as in the header."""

    number: int
    phone: int | None
    variables: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column means. Positions are 0-based. Picklable: other processes may read rows."""

    fields: Mapping[str, int]
    variables: tuple[tuple[str, int], ...]
    contacts: tuple[_Contact, ...]
    nameless: frozenset[int]
    width: int
    campaign_id: int | None
    country: Country | None

    def __call__(self, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
        """The row as (lead, options) for `submit_many`. Raises `InvalidLead` for what only a table can have wrong."""
        if row.fault is not None:
            raise InvalidLead([row.fault])
        cells = row.cells + ("",) * (self.width - len(row.cells))
        faults = self._nameless(cells)
        given = {name: cells[position] for name, position in self.fields.items() if cells[position]}
        lead = self._lead(given, cells, faults)
        options = _options(given, faults)
        if faults:
            raise InvalidLead(all_of(faults, lead, options))
        return lead, options

    def _lead(self, given: Mapping[str, str], cells: tuple[str, ...], faults: list[FieldError]) -> dict[str, Any]:
        lead: dict[str, Any] = {"variables": _filled(self.variables, cells)}
        if "phone_number" in given:
            lead["phone_number"] = self._phone(given["phone_number"], "phone_number", faults)
        if "campaign_id" in given:
            lead["campaign_id"] = whole_of_cell(given["campaign_id"])
        elif self.campaign_id is not None:
            lead["campaign_id"] = self.campaign_id
        if "allow_dupplicate" in given:
            lead["allow_dupplicate"] = _flag(given["allow_dupplicate"], faults)
        contacts = [
            contact for columns in self.contacts if (contact := self._contact(columns, cells, faults)) is not None
        ]
        if contacts:
            lead["secondary_contacts"] = contacts
        return lead

    def _nameless(self, cells: tuple[str, ...]) -> list[FieldError]:
        remedy = "name the column in the header, or quote the cell that contains the delimiter"
        return [
            FieldError(f"column {position + 1}", "has a value but no name", remedy)
            for position, cell in enumerate(cells)
            if cell and (position >= self.width or position in self.nameless)
        ]

    def _phone(self, cell: str, field: str, faults: list[FieldError]) -> str:
        phone = canonical_phone(cell, field, self.country)
        if isinstance(phone, FieldError):
            faults.append(phone)
            return ""
        return phone

    def _contact(self, columns: _Contact, cells: tuple[str, ...], faults: list[FieldError]) -> dict[str, Any] | None:
        variables = _filled(columns.variables, cells)
        cell = "" if columns.phone is None else cells[columns.phone]
        field = f"contact{columns.number}_phone"
        if cell:
            phone = self._phone(cell, field, faults)
            return {"phone_number": phone, "variables": variables} if phone else None
        if variables:
            faults.append(FieldError(field, "is missing", "fill it, or empty the contact's other cells"))
        return None


def columns_of(header: tuple[str, ...], terms: ImportTerms) -> Columns:
    """Say what each column means. Raises `UnreadableFile` where the header cannot work."""
    meanings = _mapped(header, terms.columns)
    by_name = {name.casefold(): position for position, name in enumerate(header)}
    taken = {FIELDS.get(meaning.casefold(), meaning) for meaning in meanings.values()}
    for name, field_name in FIELDS.items():
        position = by_name.get(name)
        if position is not None and position not in meanings and field_name not in taken:
            meanings[position] = field_name
            taken.add(field_name)
    _refuse_missing(header, taken, terms)
    _refuse_doubles(header)
    fields: dict[str, int] = {}
    variables: dict[str, int] = {}
    contacts: dict[int, dict[str, int]] = {}
    for position, name in enumerate(header):
        meaning = meanings.get(position, name)
        own = FIELDS.get(meaning.casefold()) if position in meanings else None
        found = CONTACT.fullmatch(meaning)
        if own is not None:
            _once(fields, own, position, header)
        elif found is not None:
            _once(contacts.setdefault(int(found[1]), {}), found[2], position, header)
        elif meaning:
            _once(variables, meaning, position, header)
    return Columns(
        fields=fields,
        variables=tuple(variables.items()),
        contacts=tuple(_contact_columns(number, contacts[number]) for number in sorted(contacts)),
        nameless=frozenset(position for position, name in enumerate(header) if not name),
        width=len(header),
        campaign_id=terms.campaign_id,
        country=terms.country,
    )


def _mapped(header: tuple[str, ...], wanted: Mapping[str, str]) -> dict[int, str]:
    meanings: dict[int, str] = {}
    for name, meaning in wanted.items():
        if name not in header:
            raise UnreadableFile(f"There is no column “{safe_name(name, 0)}”; {_shown(header)}.")
        meanings[header.index(name)] = meaning
    return meanings


def _once(columns: dict[str, int], name: str, position: int, header: tuple[str, ...]) -> None:
    if columns.setdefault(name, position) != position:
        both = f"“{safe_name(header[columns[name]], columns[name])}” and “{safe_name(header[position], position)}”"
        meaning = safe_name(name, columns[name])
        raise UnreadableFile(f"The columns {both} both mean {meaning}; map one of them to another name with --map.")


def _contact_columns(number: int, columns: dict[str, int]) -> _Contact:
    phones = [name for name in columns if name.casefold() in {"phone", "phone_number"}]
    if len(phones) > 1:
        raise UnreadableFile(f"The header names contact{number}_phone and contact{number}_phone_number; keep one.")
    return _Contact(
        number,
        columns[phones[0]] if phones else None,
        tuple((name, position) for name, position in columns.items() if name not in phones),
    )


def _refuse_missing(header: tuple[str, ...], fields: AbstractSet[str], terms: ImportTerms) -> None:
    if "phone_number" not in fields and any(mask_numbers(name) != name for name in header):
        raise UnreadableFile(
            "The file has no header: a number stands in its first line. "
            "Put a line of names above it, e.g. phone_number,campaign_id,name."
        )
    if "phone_number" not in fields:
        likely = next((name for name in header if _SOUNDS_LIKE_PHONE.search(name)), "COLUMN")
        raise UnreadableFile(
            f"There is no column phone_number; say which one it is, e.g. --map 'phone={safe_name(likely, 0)}'. "
            f"{_shown(header)}."
        )
    if "campaign_id" not in fields and terms.campaign_id is None:
        raise UnreadableFile(f"There is no column campaign_id; name the campaign with --campaign. {_shown(header)}.")


def _refuse_doubles(header: tuple[str, ...]) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(header):
        first = seen.setdefault(name.casefold(), position)
        if name and first != position:
            raise UnreadableFile(
                f"The header names “{safe_name(name, first)}” twice, in columns {first + 1} and {position + 1}; "
                "rename or remove one of them."
            )


def _shown(header: tuple[str, ...]) -> str:
    # A file without a header has a person's data where the names should be.
    return "The first line names: " + ", ".join(safe_name(name, position) for position, name in enumerate(header))


def _filled(columns: tuple[tuple[str, int], ...], cells: tuple[str, ...]) -> dict[str, str]:
    return {name: cells[position] for name, position in columns if cells[position]}


def _options(given: Mapping[str, str], faults: list[FieldError]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "priority" in given:
        options["priority"] = whole_of_cell(given["priority"])
    if "idempotency_key" in given:
        options["idempotency_key"] = given["idempotency_key"]
    for name in _TIMES:
        if name not in given:
            continue
        moment = moment_of_cell(given[name], name)
        if isinstance(moment, FieldError):
            faults.append(moment)
        else:
            options[name] = moment
    return options


def _flag(cell: str, faults: list[FieldError]) -> bool:
    word = cell.casefold()
    if word not in _YES | _NO:
        faults.append(
            FieldError("allow_dupplicate", "is neither true nor false", "write true or false, or leave it empty")
        )
    return word in _YES
