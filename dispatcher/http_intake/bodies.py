"""Bodies: JSON and forms, read strictly, and the lead that an object of JSON describes.

Strictly: a name twice in one object, NaN and Infinity, invalid UTF-8 and numbers of thousands of digits are refused,
where most readers of JSON take the last name, a number that JSON does not have, or a rounded one.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from dispatcher.errors import DispatcherError, FieldError
from dispatcher.http_intake.mappings import OPTIONS, Mapped, escaped
from dispatcher.importing.row import TIME_REMEDY, moment_of_cell
from dispatcher.lead.lead import FLAG_REMEDY
from dispatcher.lead.options import TIME_REMEDY as PYTHON_TIME_REMEDY
from dispatcher.lead.variables import OBJECT_REMEDY, NameTwice, each_once

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
LINES: Final = ("application/x-ndjson", "application/jsonl", "application/ndjson")

_MOST_FORM_FIELDS: Final = 200
_TIMES: Final = ("not_before", "expires_at")


class UnreadableBody(DispatcherError):
    """A body, or an item of a batch, that cannot be read. `fault` and `remedy` hold nothing of it."""

    def __init__(self, fault: str, remedy: str) -> None:
        self.fault = fault
        self.remedy = remedy
        super().__init__(f"The body {fault}; {remedy}.")

    def as_field(self) -> FieldError:
        """Return the fault as that of a whole lead."""
        return FieldError("lead", self.fault, self.remedy)


def read_json(text: str) -> object:
    """Return the value of a JSON text (RFC 8259). Raises `UnreadableBody`."""
    if text.startswith("\ufeff"):
        raise UnreadableBody("begins with a byte order mark", "leave it out")
    try:
        return _STRICT.decode(text)
    except (RecursionError, ValueError) as error:
        raise unreadable(error) from None


def raw_decode(text: str, start: int) -> tuple[object, int]:
    """Return the value that begins at `start`, and where it ends.

    Raises `json.JSONDecodeError` where the text ends too early or is no JSON, and `UnreadableBody` for other faults.
    """
    try:
        return _STRICT.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:
        raise unreadable(error) from None


def unreadable(error: RecursionError | ValueError) -> UnreadableBody:
    """Return what is to be said of an error of the reader of JSON: nothing of the body."""
    if isinstance(error, json.JSONDecodeError):
        where = f"line {error.lineno}, column {error.colno}"
        return UnreadableBody(f"is not JSON ({error.msg.lower()}: {where})", "send valid JSON")
    if isinstance(error, NameTwice):
        return UnreadableBody(error.fault, error.remedy)
    if isinstance(error, RecursionError):
        return UnreadableBody("is nested too deeply", "flatten it")
    return UnreadableBody("has a number that is too long", "send long identifiers as text")  # than Python reads


def _no_number(name: str) -> NoReturn:
    raise UnreadableBody(f"contains {name}, which is no number of JSON", "leave the field out, or send null")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=each_once, parse_constant=_no_number)


def text_of(raw: bytes) -> str:
    """Return the text of bytes in UTF-8. Raises `UnreadableBody`."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableBody(f"is not UTF-8 at byte {error.start}", "encode the text as UTF-8") from None


def object_of(raw: bytes, kind: str) -> dict[str, Any]:
    """Return the object of a JSON body, or the fields of a form; one that is repeated is a list of its values."""
    if kind == FORM:
        return _form(raw)
    found = read_json(text_of(raw))
    if not isinstance(found, dict):
        raise UnreadableBody(f"is {_NAMES[type(found).__name__]}, not an object", "send one object, in braces")
    return found


def _form(raw: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=_MOST_FORM_FIELDS,
        )
    except ValueError:
        fault = f"is not form-encoded text in UTF-8 of at most {_MOST_FORM_FIELDS} fields"
        raise UnreadableBody(fault, "encode it as application/x-www-form-urlencoded, or send JSON") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            before = fields[name]
            fields[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            fields[name] = value
    return fields


def lead_of(body: object) -> Mapped:
    """Return the lead that an object describes: the fields of `Lead` and of the options of `submit`, side by side."""
    if not isinstance(body, dict):
        return Mapped(body, {}, [])  # type: ignore[arg-type]  # the lead says that it is none
    faults: list[FieldError] = []
    lead: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in body.items():
        if name not in OPTIONS:
            lead[name] = value
        elif name in _TIMES and isinstance(value, str):
            moment = moment_of_cell(value, name)
            if isinstance(moment, FieldError):
                faults.append(moment)
            else:
                options[name] = moment
        else:
            options[name] = value
    return Mapped(lead, options, faults)


_NAMES: Final[Mapping[str, str]] = {
    "str": "a string", "dict": "an object", "list": "an array", "int": "an integer", "float": "a number",
    "bool": "a boolean", "NoneType": "null", "datetime": "a time",
}  # fmt: skip
_PYTHON: Final = re.compile(r"is of type (\w+)(?:, not (a bool|an integer|a list|a mapping|an object|text|a time))?")
_JSON_WORDS: Final[Mapping[str, str]] = {
    "a bool": "a boolean", "an integer": "an integer", "a list": "an array", "a mapping": "an object",
    "an object": "an object", "text": "a string", "a time": "a time",
}  # fmt: skip
_JSON_REMEDIES: Final[Mapping[str, str]] = {
    FLAG_REMEDY: "send true or false, or leave it out for false",
    OBJECT_REMEDY: "send an object",
    PYTHON_TIME_REMEDY: TIME_REMEDY,
    "pass a list of {phone_number, variables}, or leave it out": "send an array of {phone_number, variables}",
}


def in_json_words(error: FieldError) -> FieldError:
    """Return the fault in the words of JSON instead of Python's: a boolean, not a bool."""

    def words(found: re.Match[str]) -> str:
        kind = _NAMES.get(found[1], found[1])
        return f"is {kind}" + (f", not {_JSON_WORDS[found[2]]}" if found[2] else "")

    remedy = _JSON_REMEDIES.get(error.remedy, error.remedy)
    if remedy.startswith("pass a mapping with the keys"):
        remedy = remedy.replace("pass a mapping", "send an object")
    return FieldError(error.field, _PYTHON.sub(words, error.fault), remedy.replace("pass ", "send "))


def pointer_to(field: str, body: object) -> str:
    """Return the JSON Pointer (RFC 6901) of a field as faults name it, e.g. `secondary_contacts[1].variables.mail`.

    Names that contain dots or brackets are looked for in the body. A name that faults do not show ends the pointer.
    """
    if field in ("lead", "options", "batch_id", ""):
        return ""
    pointer, value, rest = "", body, field.removeprefix("options.")
    while rest:
        if isinstance(value, Mapping):
            names = [name for name in value if rest == name or rest.startswith((f"{name}.", f"{name}["))]
            name = max(names, key=len, default=_FIRST.match(rest)[0])  # type: ignore[index]  # it matches anything
            if name.startswith("‹"):
                return pointer
            pointer, value, rest = f"{pointer}/{escaped(name)}", value.get(name), rest[len(name) :]
        elif (index := _INDEX.match(rest)) is not None:
            place = int(index[1])
            value = value[place] if isinstance(value, list) and place < len(value) else None
            pointer, rest = f"{pointer}/{place}", rest[index.end() :]
        else:
            return pointer
        rest = rest.removeprefix(".")
    return pointer


_FIRST: Final = re.compile(r"[^.\[]*|.")
_INDEX: Final = re.compile(r"\[(\d+)\]")
