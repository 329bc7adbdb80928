"""Compare two spellings of a phone number. A list may show a number otherwise than it was sent."""

import re
from enum import StrEnum
from typing import Final

from dispatcher.decisions.reply import digits_of, same_number

_TELLING_DIGITS: Final = 8
"""Numbers with this many equal last digits may be the same: +52 1 55 … is +52 55 …, and 0171 … is +49 171 …"""
_FEWEST_DIGITS: Final = 6
"""A number with fewer digits identifies no person."""
_MOST_DIGITS: Final = 15
"""No number has more (E.164): a text with more shows several, or one with something behind it."""
_READABLE: Final = re.compile(r"(?:tel:)?[+\d\s()./\u2010-\u2015\u2212-]+", re.IGNORECASE)
_WHOLE: Final = re.compile(r"\+\d+")


class Likeness(StrEnum):
    """What comparing two spellings comes to."""

    SAME = "same"
    ALIKE = "alike"  # may be another form of the number: national, with a mobile prefix, shortened
    OTHER = "other"
    UNREADABLE = "unreadable"  # masked, or no number at all: it may be any


def likeness(shown: str, sent: str) -> Likeness:
    """Compare a number as Voicery's list shows it with one as it was sent (E.164)."""
    shown = shown.strip()
    digits, full = _digits(shown), _digits(sent)
    if not digits or _READABLE.fullmatch(shown) is None:
        return Likeness.UNREADABLE
    if same_number(shown, sent):
        return Likeness.SAME
    if len(digits) < _FEWEST_DIGITS:
        return Likeness.UNREADABLE if full.endswith(digits) else Likeness.OTHER  # its last digits, or another's
    telling = min(_TELLING_DIGITS, len(digits), len(full))
    if len(digits) > _MOST_DIGITS:
        return Likeness.ALIKE if full[-telling:] in digits else Likeness.OTHER
    if len(digits) > len(full) and full in digits and not shown.isdecimal():
        # A longer whole number, which the list finds because it holds ours; or ours with an extension set apart.
        return Likeness.OTHER if _WHOLE.fullmatch(shown) else Likeness.ALIKE
    if digits[-telling:] == full[-telling:] or full.startswith(digits):
        return Likeness.ALIKE
    return Likeness.OTHER


def _digits(number: str) -> str:
    """The digits without what leads to a country or an area: `00`, or `0`."""
    return digits_of(number).lstrip("0")
