"""Text that stands for a whole number or a time, as spreadsheets write them and as JSON has to."""

import re
from datetime import datetime
from typing import Final

from dispatcher.errors import FieldError

TIME_REMEDY: Final = "write the date, the time and its distance from UTC, e.g. 2026-11-23T14:00+01:00"

_WHOLE: Final = re.compile(r"([+-]?\d{1,19})(?:\.0+)?")


def whole_of_cell(cell: str) -> int | str:
    """The number; what is none stays as it is, so that the lead or its options name the fault."""
    found = _WHOLE.fullmatch(cell)
    return cell if found is None else int(found[1])


def moment_of_cell(cell: str, field: str) -> datetime | FieldError:
    """The time, written in ISO 8601. One without its zone is refused: nobody knows whose clock was meant."""
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return FieldError(field, "is not a time in ISO 8601", TIME_REMEDY)
    if moment.utcoffset() is None:
        return FieldError(field, "has no time zone", TIME_REMEDY)
    return moment
