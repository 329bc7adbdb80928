"""What every record of this package has in common: it is made of a row by names, and turned into JSON with masking."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Self, get_args, get_type_hints
from uuid import UUID

from dispatcher.lead.masking import mask_numbers, mask_phone

MASKED: Final = "•••"


class Record:
    """Base of the records: frozen dataclasses whose fields may say in their metadata how they are masked."""

    __slots__ = ()

    JSON: ClassVar[tuple[str, ...]] = ()
    """Names of the fields and properties that `as_dict` has, in its order; empty: all fields that are not internal."""

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Self:
        """Return the record of a row: columns go to the fields of the same name, other columns are left out.

        Text becomes the enumeration that a field is annotated with, and a list a tuple.
        """
        values = dict(row)
        return cls(**{name: _typed(kind, values[name]) for name, kind in _shape(cls).kinds.items() if name in values})

    def as_dict(self, *, reveal: bool = False) -> dict[str, Any]:
        """Return the record as JSON takes it. `reveal`: with a person's number and variables, not masked."""
        shape = _shape(type(self))
        return {
            name: _plain(getattr(self, name), None if reveal else shape.masks.get(name), reveal=reveal)
            for name in self.JSON or shape.shown
        }


def masked(mask: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:
    """Return the metadata of a field whose value `as_dict` shows only by this function, unless asked to reveal it."""
    return {"mask": mask}


def mask_variables(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the variables, which are the campaign's, without their values, which are the person's."""
    return dict.fromkeys(variables, MASKED)


INTERNAL: Final = {"internal": True}
"""The metadata of a field that `as_dict` leaves out."""

PHONE: Final = masked(mask_phone)
VARIABLES: Final = masked(mask_variables)
FOREIGN_TEXT: Final = masked(mask_numbers)
"""Text of Voicery, of an operator or of a file, which may repeat a person's number."""

_LONGEST_ID: Final = 10**9
_IDS_OF_OURS: Final = frozenset({"voicery_lead_id", "voicery_lead_ids", "watermark"})
"""Names under which the dispatcher itself writes Voicery's ids, which may have as many digits as a number."""


def mask_inside(value: object) -> Any:  # noqa: ANN401 - what JSON takes
    """Return JSON with the numbers in its texts masked, at any depth, and whole numbers that are long enough to be one.

    Times and ids stay.
    """
    match value:
        case Mapping():
            return {name: one if _is_id(name, one) else mask_inside(one) for name, one in value.items()}
        case list() | tuple():
            return [mask_inside(one) for one in value]
        case str():
            return value if is_time_or_id(value) else mask_numbers(value)
        case int() if abs(value) > _LONGEST_ID:
            return mask_phone(str(value))
        case _:
            return value


def _is_id(name: object, value: object) -> bool:
    several = value if isinstance(value, list | tuple) else [value]
    return name in _IDS_OF_OURS and all(isinstance(one, int) for one in several)


def in_words(value: object) -> str:
    """Return JSON for a reader: `yes`, `one, two`, `name: value; other name: value`; what is empty is left out."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case Mapping():
            given = {name: one for name, one in value.items() if one not in (None, "", {}, [])}
            return "; ".join(f"{str(name).replace('_', ' ')}: {in_words(one)}" for name, one in given.items())
        case list() | tuple():
            return ", ".join(map(in_words, value))
        case _:
            return str(value)


def mask_reference(key: str) -> str:
    """Return an idempotency key with what may be a person's number masked; a UUID stays."""
    return key if is_time_or_id(key) else mask_numbers(key)


def for_audit(wanted: object) -> dict[str, Any]:
    """Return the conditions given of a filter of leads as JSON takes them; number and variable are masked."""
    given = {one.name: getattr(wanted, one.name) for one in fields(wanted)}  # type: ignore[arg-type]  # a dataclass
    for name, mask in (("phone_number", mask_phone), ("text", mask_numbers), ("idempotency_key", mask_numbers)):
        given[name] = None if given[name] is None else mask(given[name])
    given["variable"] = None if given["variable"] is None else f"{given['variable'][0]}={MASKED}"
    return {
        name: value if isinstance(value, str | int | bool) else _condition(value)
        for name, value in given.items()
        if value is not None and value != ()
    }


def _condition(value: object) -> object:
    return list(value) if isinstance(value, tuple) else str(value)


def is_time_or_id(text: str) -> bool:
    """Return whether the whole text is a time or a UUID, whose digits are no phone number."""
    for read in (datetime.fromisoformat, UUID):
        try:
            read(text)
        except ValueError:
            continue
        return "-" in text
    return False


FOREIGN_JSON: Final = masked(mask_inside)
REFERENCE: Final = masked(mask_reference)


def _plain(value: Any, mask: Callable[[Any], Any] | None, *, reveal: bool) -> Any:  # noqa: ANN401 - what JSON takes
    match value:
        case None:
            return None
        case _ if mask is not None:
            return mask(value)
        case Record():
            return value.as_dict(reveal=reveal)
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case Mapping():
            return dict(value)
        case tuple() | list():
            return [_plain(one, None, reveal=reveal) for one in value]
        case _:
            return value


class _Shape:
    """What the methods of a record need to know of its class: found once."""

    def __init__(self, cls: type[Record]) -> None:
        hints = get_type_hints(cls)
        own = fields(cls)  # type: ignore[arg-type]  # every record is a dataclass
        self.kinds = {field.name: _kind(hints[field.name]) for field in own}
        self.masks = {field.name: field.metadata["mask"] for field in own if "mask" in field.metadata}
        self.shown = tuple(field.name for field in own if not field.metadata.get("internal"))


_shapes: Final[dict[type[Record], _Shape]] = {}


def _shape(cls: type[Record]) -> _Shape:
    shape = _shapes.get(cls)
    if shape is None:
        shape = _shapes[cls] = _Shape(cls)
    return shape


def _kind(hint: Any) -> type | None:  # noqa: ANN401 - any annotation
    """Return the type that a column's value has to be turned into; None: it stays as it is."""
    for one in (hint, *get_args(hint)):
        if isinstance(one, type) and issubclass(one, StrEnum):
            return one
    return tuple if getattr(hint, "__origin__", None) is tuple else None


def _typed(kind: type | None, value: Any) -> Any:  # noqa: ANN401 - what a column holds
    return value if kind is None or value is None else kind(value)
