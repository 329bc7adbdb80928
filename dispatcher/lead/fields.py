"""The fields of a mapping that a producer hands us: a key we do not know is a fault, never silently dropped data."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from dispatcher.errors import FieldError
from dispatcher.lead.masking import safe_name

NOT_GIVEN: Final[Any] = object()  # as a default value: tells a field left out from one that is None


MAX_UNKNOWN: Final = 10
"""Unknown keys of a mapping that are named; the others are counted."""


def given_fields(**fields: object) -> dict[str, object]:
    """Return the keyword arguments that were passed."""
    return {name: value for name, value in fields.items() if value is not NOT_GIVEN}


def known_fields(
    given: object, names: Sequence[str], faults: list[FieldError], *, where: str = "", otherwise: str
) -> Mapping[Any, object] | None:
    """Return the mapping after adding a fault per unknown key, or None (and a fault) if it is no mapping.

    `where` is the path of the mapping inside the lead; `otherwise` the remedy for a key that resembles none of `names`.
    """
    if not isinstance(given, Mapping):
        remedy = "pass a mapping with the keys " + ", ".join(names)
        faults.append(FieldError(where or "lead", f"is of type {type(given).__name__}, not a mapping", remedy))
        return None
    unknown = 0
    for position, name in enumerate(given):
        if name not in names:
            unknown += 1
            if unknown > MAX_UNKNOWN:
                continue
            shown = safe_name(name, position)
            nearest = get_close_matches(shown, names, n=1)
            remedy = f"did you mean {nearest[0]}?" if nearest else otherwise
            faults.append(FieldError(at(where, shown), "is not a known field", remedy))
    if unknown > MAX_UNKNOWN:
        faults.append(FieldError(where or "lead", f"has {unknown - MAX_UNKNOWN} more unknown fields", otherwise))
    return given


def at(where: str, name: str) -> str:
    """Return the path of a field: `phone_number`, `secondary_contacts[1].phone_number`."""
    return f"{where}.{name}" if where else name
