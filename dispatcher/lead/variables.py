"""The `variables` of a lead or contact: a JSON object that Postgres can store and Voicery can read.

Limits: 64 names, 5 levels (the object itself is the first), 16 KiB as compact UTF-8 JSON. Integers fit 64 signed bits;
beyond 2**53 many JSON readers round, so long identifiers are better sent as text.
"""

import json
import re
from collections.abc import Sequence
from math import isfinite
from typing import Any, Final, TypeAlias

import orjson

from dispatcher.errors import FieldError
from dispatcher.lead.masking import safe_name

_LONG_NUMBER: Final = re.compile(r"\d{19}")
_NAME: Final = re.compile(r'"\s*:')  # ends each name of an object; also in some texts, which are written as they are


class NameTwice(ValueError):
    """An object of JSON has a name twice: readers differ in which of the values counts."""

    def __init__(self, name: str, position: int) -> None:
        self.fault = f"has the name {safe_name(name, position)} twice in one object"
        self.remedy = "send each name once"
        super().__init__(f"{self.fault}; {self.remedy}")


def each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, as its `object_pairs_hook`. Raises `NameTwice`."""
    found: dict[str, Any] = {}
    for position, (name, value) in enumerate(pairs):
        if name in found:
            raise NameTwice(name, position)
        found[name] = value
    return found


def read_json(text: str | bytes) -> object:
    """Return the value of a JSON text. Raises `ValueError` for any other text, and `NameTwice`.

    orjson makes a float of an integer beyond 64 bits, so that a long identifier would be changed in silence instead of
    refused, and takes the last value of a name that an object has twice. A text in which either may be is read by the
    slower reader of the standard library.
    """
    written = text if isinstance(text, str) else text.decode()
    found: object = orjson.loads(written)
    if not _is_plain(written, found):
        try:
            found = json.loads(written, object_pairs_hook=each_once)  # orjson has refused what is not JSON
        except RecursionError:
            raise ValueError("is nested too deeply") from None  # in which orjson goes further
    return found


def _names(written: str) -> int:
    """Return a number that falls by one with each name of an object that is left out."""
    return len(_NAME.findall(written))


def _is_plain(written: str, found: object) -> bool:
    """Return whether the quick reader cannot have changed anything: written anew, the value has as many names."""
    if _LONG_NUMBER.search(written) or "\\u0022" in written:  # an escaped quotation mark would be counted when written
        return False
    try:
        return _names(written) == _names(orjson.dumps(found).decode())
    except TypeError:  # nested too deeply to be written
        return False


JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"

MAX_BYTES: Final = 16 * 1024
MAX_NAMES: Final = 64
MAX_DEPTH: Final = 5
MAX_FAULTS: Final = 20  # per object: enough to see what is wrong, in a message that can still be read

OBJECT_REMEDY: Final = "pass a dict of JSON values"

_SMALLEST_INT = -(2**63)
_GREATEST_INT = 2**63 - 1
_EXACT = 2**53
_NAMES: Final = frozenset({str})
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_SEND_LESS = "send less, or a reference to data kept elsewhere"


def check_variables(value: object, field: str) -> tuple[dict[str, JsonValue], list[FieldError]]:
    """Return a plain deep copy of the object and every fault found; with a fault, the copy is not to be used.

    Nothing is changed: no number rounded, no text trimmed, no date formatted. Subclasses of JSON's types (an enum of
    text, an ordered dict) are copied as what `json.dumps` would make of them.
    """
    if not isinstance(value, dict):
        return {}, [FieldError(field, f"is of type {type(value).__name__}, not an object", OBJECT_REMEDY)]
    if len(value) > MAX_NAMES:
        return {}, [FieldError(field, f"has {len(value)} names, more than {MAX_NAMES}", _SEND_LESS)]
    if plain_json(value) is not None:
        return dict(value), []
    walk = _Walk(field)
    copy = walk.copied(value)
    if walk.room < 0 or (not walk.faults and len(orjson.dumps(copy)) > MAX_BYTES):
        walk.faults.append(FieldError(field, f"is larger than {MAX_BYTES // 1024} KiB as JSON", _SEND_LESS))
    return copy, walk.faults


def plain_json(value: object) -> bytes | None:
    """Return the JSON of an object of texts, integers, flags and nothing else, as most variables are; None for others.

    It takes a quarter of the walk's time, and gives up on whatever the walk might find a fault in.
    """
    if type(value) is not dict or len(value) > MAX_NAMES or "" in value or not _NAMES.issuperset(map(type, value)):
        return None
    types = set(map(type, value.values()))
    if not types <= _PLAIN or (
        int in types and not all(type(item) is not int or -_EXACT <= item <= _EXACT for item in value.values())
    ):
        return None
    try:
        json_text = orjson.dumps(value)
    except TypeError:  # half of a surrogate pair
        return None
    return json_text if len(json_text) <= MAX_BYTES and b"\\u0000" not in json_text else None


class _Walk:
    """One pass over foreign data, bounded in depth, in size and in faults, so that no input can hold it up."""

    __slots__ = ("_field", "_trail", "faults", "room")

    def __init__(self, field: str) -> None:
        self._field = field
        self._trail: list[int | tuple[object, int]] = []  # where we are: an index, or a name and its position
        self.faults: list[FieldError] = []
        self.room = MAX_BYTES  # a lower bound of the JSON's length is taken off as we go

    def copied(self, value: dict[object, object]) -> dict[str, JsonValue]:
        copy: dict[str, JsonValue] = {}
        for position, (name, item) in enumerate(value.items()):
            if self._stopped():
                break
            self._trail.append((name, position))
            copy[self._name(name)] = self._value(item)
            self._trail.pop()
        return copy

    def _list(self, value: list[object]) -> list[JsonValue]:
        copy: list[JsonValue] = []
        for index, item in enumerate(value):
            if self._stopped():
                break
            self._trail.append(index)
            copy.append(self._value(item))
            self._trail.pop()
        return copy

    def _stopped(self) -> bool:
        return self.room < 0 or len(self.faults) >= MAX_FAULTS

    def _name(self, name: object) -> str:
        if not isinstance(name, str):
            self._fault(f"has a name of type {type(name).__name__}", "write names as text")
            return ""
        if not name:
            self._fault("has an empty name", "give it a name")
        return self._text(name)

    def _value(self, value: object) -> JsonValue:
        self.room -= 1
        match value:
            case None | bool():
                return value
            case str():
                return self._text(value)
            case int():
                return self._integer(value)
            case float():
                return self._number(value)
            case dict() | list() if len(self._trail) >= MAX_DEPTH:
                self._fault(f"is nested deeper than {MAX_DEPTH} levels", "flatten it")
            case dict():
                return self.copied(value)
            case list():
                return self._list(value)
            case tuple() | set() | frozenset():
                self._fault(f"is of type {type(value).__name__}, which JSON does not have", "pass a list")
            case _:
                self._fault(f"is of type {type(value).__name__}, which JSON does not have", "pass text or a number")
        return None

    def _text(self, value: str) -> str:
        self.room -= len(value)
        if self.room < 0:
            return ""
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                self._fault("contains half of a surrogate pair", "decode the text properly before passing it")
        if "\0" in value:
            self._fault("contains a NUL character", "remove it: Postgres cannot store it")
        return value if type(value) is str else str.__str__(value)

    def _integer(self, value: int) -> int:
        if not _SMALLEST_INT <= value <= _GREATEST_INT:
            self._fault("is an integer beyond 64 bits", "send it as text")
        return value if type(value) is int else int.__int__(value)

    def _number(self, value: float) -> float:
        if not isfinite(value):
            self._fault("is not a finite number", "leave it out, or pass null")
        return value if type(value) is float else float.__float__(value)

    def _fault(self, fault: str, remedy: str) -> None:
        where = "".join(f"[{at}]" if isinstance(at, int) else f".{safe_name(*at)}" for at in self._trail)
        self.faults.append(FieldError(self._field + where, fault, remedy))
