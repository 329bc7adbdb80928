"""A phone number in its one canonical form, E.164: `+` and at most 15 digits.

Numbering plans are those of the `phonenumbers` library. A number whose country or length does not exist is refused;
one that merely looks unusual passes, because plans change faster than libraries.
"""

import re

from phonenumbers import (
    NumberParseException,
    PhoneNumberFormat,
    ValidationResult,
    format_number,
    is_possible_number_with_reason,
    parse,
)

from dispatcher.errors import FieldError
from dispatcher.leads.numbering import is_canonical

EXAMPLE = "write it in E.164 form, e.g. +14155550100"

_SEPARATORS = dict.fromkeys(map(ord, " .-()/\u00a0\u2009\u202f\u2010\u2011\u2012\u2013"))
_DIGITS_AFTER_PLUS = re.compile(r"\+[0-9]{1,20}")
_LONGEST_INPUT = 40
_E164_DIGITS = 15

_WHY_IMPOSSIBLE = {
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "lacks its area code",
    ValidationResult.TOO_SHORT: "has too few digits for its country",
    ValidationResult.TOO_LONG: "has too many digits for its country",
    ValidationResult.INVALID_LENGTH: "has a length that its country does not use",
    ValidationResult.INVALID_COUNTRY_CODE: "starts with a country code that does not exist",
}


def canonical_phone(value: object, field: str) -> str | FieldError:
    """Return `+<digits>`, or the fault of `field`.

    Spaces, dashes, dots, slashes and parentheses are dropped, also a trunk zero (`+44 (0)20 …`). Letters, extensions
    and a leading `00` are refused: what they mean depends on who wrote them.
    """
    if not isinstance(value, str):
        return FieldError(field, f"is of type {type(value).__name__}, not text", EXAMPLE)
    if len(value) > _LONGEST_INPUT:
        return FieldError(field, f"is longer than {_LONGEST_INPUT} characters", EXAMPLE)
    digits = value.translate(_SEPARATORS)
    if _DIGITS_AFTER_PLUS.fullmatch(digits) is None:
        return FieldError(field, _why_not_digits(digits), EXAMPLE)
    if len(digits) <= 1 + _E164_DIGITS and is_canonical(digits):
        return digits
    return _parsed(digits, field)


def _parsed(digits: str, field: str) -> str | FieldError:
    try:
        number = parse(digits)
    except NumberParseException:
        return FieldError(field, "cannot be a phone number of any country", EXAMPLE)
    possible = is_possible_number_with_reason(number)
    if possible != ValidationResult.IS_POSSIBLE:
        return FieldError(field, _WHY_IMPOSSIBLE[possible], EXAMPLE)
    canonical = format_number(number, PhoneNumberFormat.E164)
    if canonical != digits and format_number(parse(canonical), PhoneNumberFormat.E164) != canonical:
        # One person must not have two canonical forms: the rule of one open lead per person compares them.
        return FieldError(field, "has zeros between the country code and the number", EXAMPLE)
    if len(canonical) > 1 + _E164_DIGITS:
        return FieldError(field, f"has more than the {_E164_DIGITS} digits of E.164", EXAMPLE)
    return canonical


def _why_not_digits(text: str) -> str:
    if not text:
        return "is empty"
    if text.startswith("00"):
        return "starts with 00 instead of +"
    if not text.startswith("+"):
        return "does not start with + and the country code"
    if len(text) == 1:
        return "has no digits"
    if text[1:].isdecimal() and text.isascii():
        return "has too many digits"
    return "contains something that is neither a digit nor a separator (extensions are not supported)"
