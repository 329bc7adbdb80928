"""Mappings: how the body of another program's webhook becomes a lead."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import Connection, text

from dispatcher.errors import FieldError, NotAllowed
from dispatcher.importing.row import all_of, moment_of_cell, whole_of_cell
from dispatcher.lead.masking import safe_name
from dispatcher.lead.options import check_account
from dispatcher.lead.phone import Country, canonical_phone
from dispatcher.lead.variables import read_json
from dispatcher.operator.record import FOREIGN_JSON, Record
from dispatcher.store import audit
from dispatcher.store.database import Database

OPTIONS: Final = ("idempotency_key", "priority", "not_before", "expires_at")
TARGETS: Final = ("phone_number", "campaign_id", "allow_dupplicate", "variables", *OPTIONS)
MOST_FIELDS: Final = 80

_VARIABLE: Final = "variables."
_TIMES: Final = ("not_before", "expires_at")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_LONGEST_PATH: Final = 300
_STEP: Final = re.compile(
    r'(?:^|\.)(?:"(?P<quoted>[^"]+)"|(?P<name>[^."\[\]]+))|\[(?P<index>\d{1,4})\]|\[(?P<key>[^=\[\]"]+)=(?P<value>[^\]"]*)\]'
)
_FLAGS: Final[Mapping[str, bool]] = {"true": True, "false": False}

_PATH_REMEDY: Final = 'write e.g. properties.phone, items[0].phone, field_data[name=phone].values[0] or "a.b"'


@dataclass(frozen=True, slots=True)
class WebhookMapping(Record):
    """A mapping as it is stored.

    fields    a field of the lead or of the options of `submit`, `variables.NAME`, or `variables`; and its place in the
              body
    fixed     fields that are the same for every lead, with their values
    country   two letters: how numbers without a country code are completed
    """

    account: str
    name: str
    fields: Mapping[str, str]
    fixed: Mapping[str, Any] = field(metadata=FOREIGN_JSON)
    country: str | None = None
    changed_at: datetime | None = None
    changed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a mapping makes of a body. The repr shows no value.

    lead     the fields of a lead, to be validated
    options  those of `submit`
    faults   what is wrong before validation
    """

    lead: dict[str, Any] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    faults: list[FieldError]

    def all_faults(self) -> list[FieldError]:
        """Return these faults and those of the lead and its options."""
        return all_of(self.faults, self.lead, self.options)


def mapped(mapping: WebhookMapping, body: Mapping[str, Any]) -> Mapped:
    """Read a lead out of a body. What is not there, null or empty is left out; the lead then says what is missing."""
    found = Mapped({}, {}, [])
    variables: dict[str, Any] = {}
    given = dict(mapping.fixed)
    for target, path in mapping.fields.items():
        value = at(body, path)
        if value not in (None, ""):
            given[target] = value
    for target, value in given.items():
        if target.startswith(_VARIABLE):
            variables[target.removeprefix(_VARIABLE)] = value
        elif target == "variables" and isinstance(value, dict):
            variables = {name: one for name, one in value.items() if one not in (None, "")} | variables
        elif target in OPTIONS:
            found.options[target] = _option(target, value, found.faults)
        else:
            found.lead[target] = _field(target, value, mapping, found.faults)
    if variables:
        found.lead["variables"] = variables
    return found


def at(body: object, path: str) -> object:
    """Return the value at a path; None where there is none.

    A name that is written exactly like the path comes first: `data.phone` may be one field of a form.
    """
    if isinstance(body, Mapping) and path in body:
        return body[path]
    value: object = body
    for step in _STEP.finditer(path):
        match value:
            case Mapping() if step["index"] is None and step["key"] is None:
                value = value.get(step["quoted"] or step["name"])
            case list() if step["index"] is not None and int(step["index"]) < len(value):
                value = value[int(step["index"])]
            case list() if step["key"] is not None:
                value = next((one for one in value if _has(one, step["key"], step["value"])), None)
            case _:
                return None
    return value


def pointer_of(path: str, body: object) -> str:
    """Return the JSON Pointer (RFC 6901) of the place that a path means in this body."""
    if isinstance(body, Mapping) and path in body:
        return f"/{escaped(path)}"
    places: list[str] = []
    value: object = body
    for step in _STEP.finditer(path):
        if step["key"] is not None:
            rows = value if isinstance(value, list) else []
            place = next((n for n, one in enumerate(rows) if _has(one, step["key"], step["value"])), None)
            if place is None:  # it is missing from the list
                break
            value = rows[place]
            places.append(str(place))
        elif step["index"] is not None:
            place = int(step["index"])
            value = value[place] if isinstance(value, list) and place < len(value) else None
            places.append(step["index"])
        else:
            name = step["quoted"] or step["name"]
            value = value.get(name) if isinstance(value, Mapping) else None
            places.append(escaped(name))
    return "".join(f"/{place}" for place in places)


def escaped(name: str) -> str:
    """Return a name as a JSON Pointer has it (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _has(one: object, key: str, value: str) -> bool:
    return isinstance(one, Mapping) and str(one.get(key)) == value


def _field(name: str, value: object, mapping: WebhookMapping, faults: list[FieldError]) -> object:
    match name, value:
        case "phone_number", str() | int() if not isinstance(value, bool):
            country = None if mapping.country is None else Country(mapping.country)
            number = canonical_phone(str(value), name, country)
            if isinstance(number, FieldError):
                faults.append(number)
            return str(value) if isinstance(number, FieldError) else number
        case "campaign_id", str():
            return whole_of_cell(value.strip())
        case "allow_dupplicate", str():
            return _FLAGS.get(value.strip().lower(), value)
        case _:
            return value


def _option(name: str, value: object, faults: list[FieldError]) -> object:
    match name, value:
        case (("not_before" | "expires_at"), str()):
            moment = moment_of_cell(value.strip(), name)
            if isinstance(moment, FieldError):
                faults.append(moment)
                return None
            return moment
        case "priority", str():
            return whole_of_cell(value.strip())
        case "idempotency_key", int() if not isinstance(value, bool):
            return str(value)
        case _:
            return value


_PUT = text("""
INSERT INTO dispatcher.webhook_mappings (account, name, fields, fixed, country, changed_by)
VALUES (:account, :name, CAST(:fields AS jsonb), CAST(:fixed AS jsonb), CAST(:country AS text), :actor)
ON CONFLICT (account, name) DO UPDATE SET fields = excluded.fields, fixed = excluded.fixed,
    country = excluded.country, changed_by = excluded.changed_by, changed_at = now()
RETURNING account, name, fields, fixed, country, changed_at, changed_by, xmax = 0 AS created
""")

_FIND = text("""
SELECT account, name, fields, fixed, country, changed_at, changed_by FROM dispatcher.webhook_mappings
WHERE account = :account AND name = :name
""")

_LIST = text("""
SELECT account, name, fields, fixed, country, changed_at, changed_by FROM dispatcher.webhook_mappings
WHERE (CAST(:account AS text) IS NULL OR account = CAST(:account AS text)) ORDER BY account, name LIMIT :most
""")

_REMOVE = text("DELETE FROM dispatcher.webhook_mappings WHERE account = :account AND name = :name")


def find(connection: Connection, account: str, name: str) -> WebhookMapping | None:
    """Return the mapping of this name."""
    row = connection.execute(_FIND, {"account": account, "name": name}).mappings().first()
    return None if row is None else WebhookMapping.of(row)


class Mappings:
    """Stores, lists and removes mappings. `actor` is written to the audit log, e.g. `ada@ops-1`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, mapping: WebhookMapping, *, actor: str) -> bool:
        """Store a mapping, or replace the one of this name; return whether it is new.

        An intake reads it by it within a second. Raises `NotAllowed` for one that cannot be, with every fault.
        """
        _check(mapping)

        def act(connection: Connection) -> bool:
            values = {
                "account": mapping.account, "name": mapping.name, "country": mapping.country, "actor": actor,
                "fields": orjson.dumps(dict(mapping.fields)).decode(),
                "fixed": orjson.dumps(dict(mapping.fixed)).decode(),
            }  # fmt: skip
            row = connection.execute(_PUT, values).one()
            detail = {"account": mapping.account, "fields": dict(mapping.fields), "fixed": sorted(mapping.fixed)}
            audit.note(connection, actor, "mapping.set", f"mapping {mapping.name}", detail)
            return bool(row.created)

        return self._database.again(act)

    def get(self, account: str, name: str) -> WebhookMapping:
        """Return a mapping. Raises `NotAllowed` if there is none of this name."""
        check_account(account)
        found = self._database.read(find, account, name)
        if found is None:
            raise _unknown(account, name)
        return found

    def all(self, *, account: str | None = None, most: int = 100) -> list[WebhookMapping]:
        """Return the mappings by account and name."""
        rows = self._database.read(
            lambda connection: connection.execute(_LIST, {"account": account, "most": most}).mappings().all()
        )
        return list(map(WebhookMapping.of, rows))

    def remove(self, account: str, name: str, *, actor: str) -> None:
        """Remove a mapping; its address answers 404 within a second. Raises `NotAllowed` if there is none."""
        check_account(account)

        def act(connection: Connection) -> None:
            if not connection.execute(_REMOVE, {"account": account, "name": name}).rowcount:
                raise _unknown(account, name)
            audit.note(connection, actor, "mapping.remove", f"mapping {name}", {"account": account})

        self._database.again(act)


def fixed_value(text: str) -> object:
    """Return the value that an operator wrote: JSON where it is JSON, else the text."""
    try:
        return read_json(text)
    except ValueError:
        return text


def _unknown(account: str, name: str) -> NotAllowed:
    return NotAllowed(
        f"The account {account} has no mapping {safe_name(name, 0)}; `dispatcher mapping list` shows them."
    )


def _check(mapping: WebhookMapping) -> None:
    check_account(mapping.account)
    faults: list[str] = []
    if _NAME.fullmatch(mapping.name) is None or safe_name(mapping.name, 0) != mapping.name:
        faults.append("the name is not 1 to 40 of a-z, 0-9, - and _ that begin with a letter and hold few digits")
    if not 0 < len(mapping.fields) <= MOST_FIELDS:
        faults.append(f"give 1 to {MOST_FIELDS} --field TARGET=PATH")
    for position, target in enumerate((*mapping.fields, *mapping.fixed)):
        if not (target in TARGETS or (target.startswith(_VARIABLE) and target != _VARIABLE)):
            shown = safe_name(target, position)
            faults.append(f"{shown} is no field; the fields are {', '.join(TARGETS)} and variables.NAME")
    for target in sorted(mapping.fields.keys() & mapping.fixed.keys()):
        faults.append(f"{target} is given by --field and by --value; give one")  # noqa: PERF401
    for position, path in enumerate(mapping.fields.values()):
        if len(path) > _LONGEST_PATH or not path.isprintable() or not _is_path(path):
            faults.append(f"{safe_name(path, position)} is no path; {_PATH_REMEDY}")
    if "phone_number" not in {*mapping.fields, *mapping.fixed}:
        faults.append("no field becomes phone_number; add --field phone_number=PATH")
    if "campaign_id" not in {*mapping.fields, *mapping.fixed}:
        faults.append("no field becomes campaign_id; add --field campaign_id=PATH, or --value campaign_id=ID")
    if mapping.country is not None:
        try:
            Country(mapping.country)
        except ValueError as fault:
            faults.append(f"--country: {fault}")
    if faults:
        raise NotAllowed(f"The mapping was refused, nothing was stored: {'; '.join(faults)}.")


def _is_path(path: str) -> bool:
    """Return whether the steps of the path follow each other without a gap."""
    end = 0
    for step in _STEP.finditer(path):
        if step.start() != end:
            return False
        end = step.end()
    return end == len(path) > 0
