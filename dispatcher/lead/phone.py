"""A phone number in its one canonical form, E.164: `+` and at most 15 digits.

Numbering plans are those of the `phonenumbers` library. A number whose country or length does not exist is refused;
one that merely looks unusual passes, because plans change faster than libraries.
"""

import re
from dataclasses import dataclass
from functools import cache

from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    NumberParseException,
    PhoneMetadata,
    PhoneNumberFormat,
    ValidationResult,
    format_number,
    is_possible_number_with_reason,
    parse,
)

from dispatcher.errors import FieldError

_NON_GEOGRAPHIC = "001"


@dataclass(frozen=True, slots=True)
class _Plan:
    """How long the numbers of a country are, and what may be cut off their beginning."""

    lengths: frozenset[int]
    prefix: re.Pattern[str] | None


def is_canonical(digits: str) -> bool:
    """Whether `digits` (`+` and ASCII digits) are a possible number that parsing and formatting leave as it is."""
    for end in (1, 2, 3):
        if (country_code := digits[1 : 1 + end]).isdecimal() and country_code[0] != "0":
            plan = _plan(country_code)
            if plan is not None:
                number = digits[1 + end :]
                return len(number) in plan.lengths and (plan.prefix is None or plan.prefix.match(number) is None)
    return False


@cache  # a thousand country codes at most
def _plan(country_code: str) -> _Plan | None:
    """The plan that numbers with this country code are parsed by; None: no country has it."""
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(country_code))
    if regions is None:
        return None
    if regions[0] == _NON_GEOGRAPHIC:
        metadata = PhoneMetadata.metadata_for_nongeo_region(int(country_code))
    else:
        metadata = PhoneMetadata.metadata_for_region(regions[0])
    if metadata is None or metadata.general_desc is None:
        return _Plan(frozenset(), None)
    prefix = metadata.national_prefix_for_parsing
    return _Plan(frozenset(metadata.general_desc.possible_length), re.compile(prefix) if prefix else None)


_NUMBER_IN_TEXT = re.compile(r"\+?\d(?:[ ().\-/]{0,2}\d){6,}")
_NAME_LENGTH = 40
_DIGITS_OF_A_PERSON = 7


def mask_phone(number: str) -> str:
    """`+14155550100` → `+•••0100`: the last 4 digits, fewer of a short number, never its length or its region.

    Accepts any text, so that a log line may mask what was not validated yet.
    """
    digits = [character for character in number if character.isdigit()]
    match len(digits):
        case count if count >= 11:
            shown = 4
        case count if count >= 9:
            shown = 3
        case count if count >= _DIGITS_OF_A_PERSON:
            shown = 2
        case _:
            return "+•••"
    return "+•••" + "".join(digits[-shown:])


def mask_numbers(text: str) -> str:
    """Mask whatever looks like a phone number (7 digits and more, separators allowed) inside a foreign text."""
    return _NUMBER_IN_TEXT.sub(lambda found: mask_phone(found.group()), text)


def safe_name(name: object, position: int) -> str:
    """A key as an error message may show it, or `key 3` when the key itself may be a value or is not printable.

    Producers sometimes swap names and values; a number, an address or an escape sequence must not reach a log that way.
    """
    if (
        isinstance(name, str)
        and name.isprintable()
        and 0 < len(name) <= _NAME_LENGTH
        and "@" not in name
        and sum(map(str.isdigit, name)) < _DIGITS_OF_A_PERSON
    ):
        return name
    return f"‹key {position + 1}›"


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
