"""What the columns of a table mean, told from its header once; then each row becomes a lead with its options.

A lead's own fields are recognised by name, contacts by `contact1_phone`, `contact1_<variable>`, …; every other column
is a variable. An empty cell is a variable left out: a table cannot tell it from a missing one.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.guess import like_campaigns, like_phones
from dispatcher.importing.row import Row, all_of, moment_of_cell, whole_of_cell
from dispatcher.importing.source import UnreadableFile
from dispatcher.lead.masking import mask_numbers, safe_name
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.lead.phone import Country, canonical_phone

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
class ImportOptions:
    """Frozen, and the same for the plan and the import.

    account      whose leads these are
    campaign_id  of rows that name none; None: every row must
    country      completes numbers that are written without a country code; None: such numbers are refused
    columns      what a column means, by its header: `{"Mobile": "phone_number", "First name": "customer_name"}`
    guess        take the column that sounds like a needed one that is missing: for a plan, which shows it
    again        import rows once more that an earlier import of this file took in
    actor        who imports, for the record
    workers      processes that read and validate, beside this one; 0: none
    """

    account: str = DEFAULT_ACCOUNT
    campaign_id: int | None = None
    country: Country | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    guess: bool = False
    again: bool = False
    actor: str = ""
    workers: int = 0


_LEAD_ADS: Final = frozenset({"ad_id", "adset_id", "form_id", "campaign_id"})
"""Columns of the lead ads that Meta exports. Each value begins with a letter for its kind and a colon: `p:+49…`."""
_LEAD_AD_PREFIX: Final = {
    "id": "l:",
    "ad_id": "ag:",
    "adset_id": "as:",
    "campaign_id": "c:",
    "form_id": "f:",
    "phone": "p:",
    "phone_number": "p:",
    **dict.fromkeys(("zip", "zip_code", "post_code", "postal_code"), "z:"),
}

_TIMES: Final = ("not_before", "expires_at")
_YES: Final = frozenset({"true", "t", "yes", "y", "1"})
_NO: Final = frozenset({"false", "f", "no", "n", "0"})


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one column means: `field` is one of a lead, an option, or the name of a variable after `variables.`.

    column    its name, as it may be shown
    position  from 0
    """

    column: str
    position: int
    field: str
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class _Contact:
    """The columns of one secondary contact; `number` counts from 1, as in the header."""

    number: int
    phone: int | None
    variables: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column means. Positions are 0-based. Picklable: other processes may read rows.

    prefixes   by position, what the exporter of lead ads put before each value
    notes      what a person should know before the import, in whole sentences
    meanings   each column that has a name, with what it means
    """

    fields: Mapping[str, int]
    variables: tuple[tuple[str, int], ...]
    contacts: tuple[_Contact, ...]
    nameless: frozenset[int]
    width: int
    campaign_id: int | None
    country: Country | None
    prefixes: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    meanings: tuple[Meaning, ...] = ()

    def __call__(self, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the row as (lead, options) for `submit_many`. Raises `InvalidLead` with the faults of a table."""
        if row.fault is not None:
            raise InvalidLead([row.fault])
        cells = self._cells(row)
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

    def numbers(self, row: Row) -> list[str]:
        """Return the numbers of a row as they are written: its lead's, then those of its contacts."""
        cells = self._cells(row)
        positions = [self.fields["phone_number"], *(contact.phone for contact in self.contacts)]
        return [cells[position] for position in positions if position is not None and cells[position]]

    def _cells(self, row: Row) -> tuple[str, ...]:
        cells = row.cells + ("",) * (self.width - len(row.cells))
        if not self.prefixes:
            return cells
        return tuple(cell.removeprefix(self.prefixes.get(position, "")) for position, cell in enumerate(cells))

    def _nameless(self, cells: tuple[str, ...]) -> list[FieldError]:
        remedy = "name the column in the header, or quote the cell that contains the delimiter"
        positions = [
            position
            for position, cell in enumerate(cells)
            if cell and (position >= self.width or position in self.nameless)
        ]
        return [FieldError(f"column {position + 1}", "has a value but no name", remedy) for position in positions]

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


def columns_of(header: tuple[str, ...], options: ImportOptions, first_rows: Sequence[Row] = ()) -> Columns:
    """Return what each column means. Raises `UnreadableFile` where the header cannot work.

    first_rows   some rows of the table: a column of campaigns is one only if it holds whole numbers
    """
    meanings = _mapped(header, options.columns)
    by_name = {name.casefold(): position for position, name in enumerate(header)}
    lead_ads = by_name.keys() >= _LEAD_ADS
    taken = {FIELDS.get(meaning.casefold(), meaning) for meaning in meanings.values()}
    notes = ["Read as an export of lead ads: what it puts before values (p:, z:, c:) is left out."] if lead_ads else []
    for name, field_name in FIELDS.items():
        position = by_name.get(name)
        if position is None or position in meanings or field_name in taken:
            continue
        if field_name == "campaign_id" and (lead_ads or _no_campaigns(position, first_rows, options)):
            notes += _not_campaigns(header[position], options)
            continue
        meanings[position] = field_name
        taken.add(field_name)
    guessed = _guessed(header, meanings, taken, options) if options.guess else {}
    meanings |= guessed
    _refuse_missing(header, taken | set(guessed.values()), options)
    _refuse_doubles(header)
    fields: dict[str, int] = {}
    variables: dict[str, int] = {}
    contacts: dict[int, dict[str, int]] = {}
    shown: list[Meaning] = []
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
        if meaning:
            told = own or (meaning if found is not None else f"variables.{safe_name(meaning, position)}")
            shown.append(Meaning(safe_name(name, position), position, told, guessed=position in guessed))
    return Columns(
        fields=fields,
        variables=tuple(variables.items()),
        contacts=tuple(_contact_columns(number, contacts[number]) for number in sorted(contacts)),
        nameless=frozenset(position for position, name in enumerate(header) if not name),
        width=len(header),
        campaign_id=options.campaign_id,
        country=options.country,
        prefixes={by_name[name]: prefix for name, prefix in _LEAD_AD_PREFIX.items() if lead_ads and name in by_name},
        notes=tuple(notes),
        meanings=tuple(shown),
    )


def _guessed(
    header: tuple[str, ...], meanings: Mapping[int, str], taken: AbstractSet[str], options: ImportOptions
) -> dict[int, str]:
    """Return the columns that sound like what is needed and missing."""
    found: dict[int, str] = {}
    if "phone_number" not in taken and (phones := like_phones(header, meanings)):
        found[phones[0]] = "phone_number"
    if "campaign_id" not in taken and options.campaign_id is None:
        found |= dict.fromkeys(like_campaigns(header, {*meanings, *found})[:1], "campaign_id")
    return found


def _no_campaigns(position: int, rows: Sequence[Row], options: ImportOptions) -> bool:
    """Return whether the column holds something else than campaigns of Voicery, while the options name one."""
    if options.campaign_id is None:
        return False
    cells = [row.cells[position] for row in rows if len(row.cells) > position and row.cells[position]]
    return bool(cells) and all(isinstance(whole_of_cell(cell), str) for cell in cells)


def _not_campaigns(name: str, options: ImportOptions) -> list[str]:
    if options.campaign_id is None:
        return []
    told = (
        f"The column {safe_name(name, 0)} holds no campaigns of Voicery: every lead goes into campaign "
        f"{options.campaign_id}, as --campaign says, and the column is a variable."
    )
    return [told]


def _mapped(header: tuple[str, ...], wanted: Mapping[str, str]) -> dict[int, str]:
    meanings: dict[int, str] = {}
    for name, meaning in wanted.items():
        if name not in header:
            raise UnreadableFile(f"There is no column “{safe_name(name, 0)}”. {_shown(header)}.")
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


def _refuse_missing(header: tuple[str, ...], fields: AbstractSet[str], options: ImportOptions) -> None:
    if "phone_number" not in fields and any(mask_numbers(name) != name for name in header):
        raise UnreadableFile(
            "The file has no header: a number stands in its first line. "
            "Put a line of names above it, e.g. phone_number,campaign_id,name."
        )
    if "phone_number" not in fields:
        likely = [safe_name(header[position], position) for position in like_phones(header)] or ["COLUMN"]
        others = f" (or {', '.join(likely[1:])})" if likely[1:] else ""
        raise UnreadableFile(
            f"There is no column phone_number; say which one it is, e.g. --map 'phone={likely[0]}'{others}. "
            f"{_shown(header)}."
        )
    if "campaign_id" not in fields and options.campaign_id is None:
        missing = "There is no column campaign_id"
        if any(FIELDS.get(name.casefold()) == "campaign_id" for name in header):
            missing = "The column campaign_id of an export of lead ads holds the advertising platform's campaigns"
        way_out = "name Voicery's campaign with --campaign"
        if likely := [safe_name(header[position], position) for position in like_campaigns(header)]:
            way_out += f", or say which column it is, e.g. --map 'campaign={likely[0]}'"
        raise UnreadableFile(f"{missing}; {way_out}. {_shown(header)}.")


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
