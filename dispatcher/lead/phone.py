"""A phone number in its one canonical form, E.164: `+` and at most 15 digits.

Numbering plans are those of the `phonenumbers` library. A number whose country or length does not exist is refused;
one that merely looks unusual passes, because plans change faster than libraries.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import cast

from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    SUPPORTED_REGIONS,
    NumberParseException,
    PhoneMetadata,
    PhoneNumber,
    PhoneNumberFormat,
    ValidationResult,
    country_code_for_region,
    format_number,
    is_possible_number,
    is_possible_number_with_reason,
    is_valid_number,
    national_significant_number,
    number_type,
    parse,
    region_code_for_number,
)

from dispatcher.errors import FieldError
from dispatcher.lead.written_number import DIGIT_GROUP, EXAMPLE, UnclearNumber, WrittenNumber, read_digits

_NON_GEOGRAPHIC = "001"


@dataclass(frozen=True, slots=True)
class _Plan:
    """How long the numbers of a country are, and what may be cut off their beginning."""

    lengths: frozenset[int]
    prefix: re.Pattern[str] | None


def is_canonical(digits: str) -> bool:
    """Return whether `+` and ASCII digits are a possible number that parsing and formatting leave as it is."""
    found = _plan_at(digits[1:4])
    if found is None:
        return False
    begin, plan = found
    number = digits[begin:]
    return len(number) in plan.lengths and (plan.prefix is None or plan.prefix.match(number) is None)


@lru_cache(1100)  # every three digits, and some that are none
def _plan_at(beginning: str) -> tuple[int, _Plan] | None:
    """Return the plan of what follows `+`, at most three characters, and where in the number the national part begins.

    No country code is the beginning of another one.
    """
    for end in (1, 2, 3):
        if (country_code := beginning[:end]).isdecimal() and country_code[0] != "0":
            plan = _plan(country_code)
            if plan is not None:
                return 1 + end, plan
    return None


@cache  # a thousand country codes at most
def _plan(country_code: str) -> _Plan | None:
    """Return the plan that numbers with this country code are parsed by; None: no country has it."""
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


_LONGEST_INPUT = 100
_MOST_WRITTEN = 22  # digits: a prefix for calls abroad, country code, trunk prefix and number
_E164_DIGITS = 15
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SPACES = dict.fromkeys(map(ord, " -"))

_WHY_IMPOSSIBLE = {
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "lacks its area code",
    ValidationResult.TOO_SHORT: "has too few digits for its country",
    ValidationResult.TOO_LONG: "has too many digits for its country",
    ValidationResult.INVALID_LENGTH: "has a length that its country does not use",
    ValidationResult.INVALID_COUNTRY_CODE: "starts with a country code that does not exist",
}
COUNTRY_REMEDY = "write it with + and the country code"
TWO_READINGS_REMEDY = "write it with + and the country code, or with the 0 that its country dials before it"


@dataclass(frozen=True, slots=True)
class Country:
    """Completes numbers that are written without a country code. Raises `ValueError` for a code that does not exist.

    code       two letters, as in ISO 3166
    national   every number without `+` or `00` is one of this country: none has lost its `+`
    """

    code: str
    national: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", self.code.upper())
        if self.code not in SUPPORTED_REGIONS:
            raise ValueError("it is not the two letters of a country; write e.g. DE")

    def readings(self, digits: str, *, zero_lost: bool = False) -> list[PhoneNumber]:
        """Return what the digits are where they are dialled inside of the country.

        zero_lost   they come from a number that was counted with, so that a 0 may have stood before them
        """
        code = country_code_for_region(self.code)
        found = [number for number in (_parse(f"+{code}{digits}"), _parse(digits, self.code)) if number is not None]
        own = list({_e164(number): number for number in found if number.country_code == code}.values())
        abroad = [] if self.national else [number for number in found if self._dials(digits, number)]
        valid = [number for number in own if is_valid_number(number)]
        if zero_lost or not valid:
            with_zero = _parse(f"0{digits}", self.code)  # also Hungary's 06 without its 0
            own += [] if with_zero is None or with_zero.country_code != code else [with_zero]
        for number in valid[:1]:  # Gabon has mobile numbers with a zero at their beginning, and older ones without it
            twin = _other_zero(code, national_significant_number(number))
            own += [] if twin is None or number_type(twin) != number_type(number) else [twin]
        return own + abroad

    def _dials(self, digits: str, number: PhoneNumber) -> bool:
        """Return whether these are the whole number, after what the country dials for a call abroad."""
        metadata = PhoneMetadata.metadata_for_region(self.code)
        prefix = "" if metadata is None else metadata.international_prefix or ""
        return any(
            digits.endswith(text) and re.fullmatch(prefix, digits.removesuffix(text)) is not None
            for text in (_e164(number)[1:], _e164(number, trunk="0")[1:])
        )


def _other_zero(code: int, digits: str) -> PhoneNumber | None:
    """Return the number that differs by a zero at its beginning; None in countries where that is a trunk prefix."""
    digits = digits[1:] if digits.startswith("0") else f"0{digits}"
    plan = _plan(str(code))
    if plan is None or len(digits) not in plan.lengths or (plan.prefix is not None and plan.prefix.match("0")):
        return None
    return _parse(f"+{code}{digits}")


def canonical_phone(value: object, field: str, country: Country | None = None) -> str | FieldError:
    """Return `+<digits>`, or the fault of `field`.

    country   completes numbers that are written without their country code; None: such numbers are refused

    What is not part of a number is dropped: separators, invisible marks, `tel:`, a spreadsheet's `.0` or `="…"`. With
    `+` a number needs to be possible. Without it, the number is completed only if exactly one reading is valid in full:
    as one of `country`, or as one whose `+` (or `00` for it) was lost. Extensions, letters and a second number are
    refused.
    """
    if not isinstance(value, str):
        return FieldError(field, f"is of type {type(value).__name__}, not text", EXAMPLE)
    if len(value) > _LONGEST_INPUT:
        return FieldError(field, f"is longer than {_LONGEST_INPUT} characters", EXAMPLE)
    # As most are written: this alone is what reading a list of a million costs.
    if _E164.fullmatch(value) and is_canonical(value):
        return value
    digits = value.translate(_SPACES)
    if _E164.fullmatch(digits) and is_canonical(digits):
        return digits
    try:
        return _read(read_digits(value), country)
    except UnclearNumber as unclear:
        return FieldError(field, unclear.fault, unclear.remedy)


def country_code(canonical: str) -> int:
    """Return the country code of a canonical number: 49 of `+49…`."""
    return int(parse(canonical).country_code or 0)


def _read(written: WrittenNumber, country: Country | None) -> str:
    digits = written.digits
    if len(digits) > _MOST_WRITTEN:
        raise UnclearNumber("has too many digits", EXAMPLE)
    zeros = digits.startswith("00")
    if written.plus and not zeros and written.trunk is None:
        return _parsed(f"+{digits}")
    # Italy dials a zero in parentheses from abroad, most countries do not; at the beginning it says nothing of abroad.
    spellings = {digits, written.without_trunk if written.trunk else digits}
    readings = list(filter(None, (_international(f"+{one.removeprefix('00')}") for one in spellings)))
    if written.plus or (zeros and country is None):
        return _only_valid(readings, written, "of any country")
    if country is None:
        raise UnclearNumber("does not start with + and the country code", COUNTRY_REMEDY)
    # No country code begins with 0: what does is national, and then need not be valid, as with `+`.
    unusual = digits.startswith("0") and not zeros
    if country.national and not zeros:
        readings = []
    if not written.trunk:  # elsewhere a zero in parentheses follows a country code
        readings += country.readings(digits, zero_lost=written.decimals)
    whose = f"of {country.code}" + ("" if country.national else ", nor one that has lost its +")
    return _only_valid(readings, written, whose, unusual=unusual)


def _international(spelling: str) -> PhoneNumber | None:
    """Return the number that has these digits; only a trunk zero may be left out."""
    number = _parse(spelling)
    return number if number is not None and spelling in {_e164(number), _e164(number, trunk="0")} else None


def _only_valid(readings: Iterable[PhoneNumber], written: WrittenNumber, whose: str, *, unusual: bool = False) -> str:
    """Return the one valid number among the readings. Raises `UnclearNumber` where there are two, or none.

    unusual   where none is valid, the one possible number will do
    """
    found = {text: number for number in readings if len(text := _e164(number)) <= 1 + _E164_DIGITS}
    valid = [text for text, number in found.items() if is_valid_number(number)]
    if not valid and unusual:
        valid = [text for text, number in found.items() if is_possible_number(number)]
    if len(valid) > 1 and len(written.groups) > 1:
        # 479-234-5678 is grouped as in the United States, and 47 92 34 56 78 as in Norway.
        valid = [text for text in valid if written.groups in _usual_groups(found[text])] or valid
    match valid:
        case [text]:
            return text
        case []:
            raise UnclearNumber(f"is no valid number {whose}", COUNTRY_REMEDY)
        case _:
            readings_shown = " or ".join(sorted(_described(found[text]) for text in valid))
            raise UnclearNumber(f"may be two numbers, {readings_shown}", TWO_READINGS_REMEDY)


def _usual_groups(number: PhoneNumber) -> list[tuple[str, ...]]:
    """Return the groups of digits in which a number is printed, for use inside of its country and abroad."""
    forms = (PhoneNumberFormat.NATIONAL, PhoneNumberFormat.INTERNATIONAL)
    return [tuple(DIGIT_GROUP.findall(format_number(number, form))) for form in forms]


def _described(number: PhoneNumber) -> str:
    """Return a reading that shows nothing of a person: its country code, and how long it is."""
    region = region_code_for_number(number) or "no country"
    return f"{region} (+{number.country_code} and {len(national_significant_number(number))} digits)"


def _parse(text: str, country: str | None = None) -> PhoneNumber | None:
    try:
        return parse(text, country)
    except NumberParseException:
        return None


def _e164(number: PhoneNumber, trunk: str = "") -> str:
    return f"+{number.country_code}{trunk}{national_significant_number(number)}"


def _parsed(digits: str) -> str:
    """Return the number behind `+` and its country code, as its country writes it."""
    number = _parse(digits)
    if number is None:
        raise UnclearNumber("cannot be a phone number of any country", EXAMPLE)
    possible = is_possible_number_with_reason(number)
    if possible != ValidationResult.IS_POSSIBLE:
        raise UnclearNumber(_WHY_IMPOSSIBLE[possible], EXAMPLE)
    canonical = _e164(number)
    if canonical != digits:
        if _e164(cast("PhoneNumber", _parse(canonical))) != canonical:
            # One person must not have two canonical forms: the rule of one open lead per person compares them.
            raise UnclearNumber("has zeros between the country code and the number", EXAMPLE)
        if not is_valid_number(number):
            raise UnclearNumber("has a digit too many between the country code and the number", EXAMPLE)
    if len(canonical) > 1 + _E164_DIGITS:
        raise UnclearNumber(f"has more than the {_E164_DIGITS} digits of E.164", EXAMPLE)
    return canonical
