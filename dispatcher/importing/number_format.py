"""What a number in a cell of Excel says: a number, a date or a duration, by its format (ECMA-376, 18.8).

A spreadsheet keeps 15 digits of a number. A longer one has been rounded by it, and is no longer what was typed.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Final

from dispatcher.errors import FieldError

Shown = Callable[[float], str | None]
"""Turns the number of a cell into text; None where the number cannot be what the format says."""

ROUNDED: Final = (
    "is a number of more than 15 digits, of which a spreadsheet keeps 15",
    "format the column as text, and write it again",
)
NO_NUMBER: Final = ("is a number that cannot be read", "write it again")
NO_DATE: Final = ("is a date before 1900 or after 9999", "write the date as text")
_MOST_WHOLE: Final = 10**15

_DATES: Final = frozenset({*range(14, 23), *range(27, 37), *range(50, 59)})
_DURATIONS: Final = frozenset({46})
_TIMES: Final = frozenset({45, 47})
_LITERAL: Final = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', re.IGNORECASE)
_PADDED: Final = re.compile(r'(?P<plus>\+|\\\+|"\+")?#*(?P<zeros>0+)')
_LONGEST_CODE: Final = 255  # characters, as Excel allows
_DAY: Final = 86_400


def plain_number(value: float) -> str | None:
    """Return a number without an exponent, with the digits that a spreadsheet shows; None for one that it rounded."""
    if abs(value) >= _MOST_WHOLE:
        return None
    if value.is_integer():
        return str(int(value))
    return format(Decimal(format(value, ".15g")), "f")


def shown_by(format_id: int, code: str | None, *, since_1904: bool) -> Shown:
    """Return how numbers are shown with a format: one of Excel's own by its id, or the `code` of the workbook's."""
    if code is None:
        is_date, is_duration = format_id in _DATES or format_id in _TIMES, format_id in _DURATIONS
    else:
        section = code[:_LONGEST_CODE].split(";")[0]
        padded = _PADDED.fullmatch(section)
        if padded is not None and (padded["plus"] or len(padded["zeros"]) > 1):
            return _padding("+" if padded["plus"] else "", len(padded["zeros"]))
        bare = _LITERAL.sub("", section)
        is_duration = re.search(r"\[[hms]+\]", bare, re.IGNORECASE) is not None
        is_date = not bare.lower().startswith("general") and re.search(r"[dmyhs]", bare, re.IGNORECASE) is not None
    if is_duration:
        return duration
    return _date_of(since_1904=since_1904) if is_date else plain_number


def _padding(sign: str, digits: int) -> Shown:
    def shown(value: float) -> str | None:
        text = plain_number(value)
        return text if text is None or value < 0 or not text.isdecimal() else sign + text.zfill(digits)

    return shown


def duration(value: float) -> str | None:
    """Return days as `37:30:00`."""
    if not abs(value) < _MOST_WHOLE / _DAY:
        return None
    seconds = round(abs(value) * _DAY)
    return f"{'-' if value < 0 else ''}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


@cache
def _date_of(*, since_1904: bool) -> Shown:
    def shown(value: float) -> str | None:
        if not 0 <= value < 2_958_466:  # the year 10000
            return None
        # Excel counts from 1900-01-01 as 1, and a 1900-02-29 that never was.
        first = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 31 if value < 60 else 30)  # noqa: DTZ001
        try:
            moment = first + timedelta(seconds=round(value * _DAY))
        except OverflowError:
            return None
        if value < 1 and moment.time() != datetime.min.time():
            return f"{moment:%H:%M:%S}"
        return f"{moment.date()}" if moment.time() == datetime.min.time() else f"{moment.date()} {moment:%H:%M:%S}"

    return shown


def cell_of(raw: str, shown: Shown) -> str | tuple[str, str]:
    """Return the text of a number as it stands in the file, or its fault and the remedy."""
    try:
        value = float(raw)
    except ValueError:
        return NO_NUMBER
    if not isfinite(value):
        return NO_NUMBER
    text = shown(value)
    if text is not None:
        return text
    return ROUNDED if shown is plain_number or abs(value) >= _MOST_WHOLE else NO_DATE


def fault_of(column: int, told: tuple[str, str]) -> FieldError:
    """Return the fault of a cell; `column` is 1-based."""
    return FieldError(f"column {column}", *told)
