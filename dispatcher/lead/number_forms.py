"""One phone number in every form in which it may stand in a text: international, national, parted, in other digits.

A national form is looked for where the number has at least seven digits without its country code: fewer stand in too
many texts that mean something else, so such a number is found only with its country code.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final
from uuid import UUID

from phonenumbers import PhoneMetadata, national_significant_number, parse, region_code_for_country_code

REMOVED: Final = "•••"
"""What stands in the place of a number that was removed."""

_LEAST_NATIONAL: Final = 7
_PART: Final = r"[\W_]{0,4}"  # between two digits
_EXIT: Final = "(?:00|011|810)"  # dialled before a country code


class NumberForms:
    """Finds one number in texts and in JSON values. The repr shows it masked.

    canonical   the number in E.164 form, as `canonical_phone` returns it
    """

    def __init__(self, canonical: str) -> None:
        number = parse(canonical)
        code, national = str(number.country_code), national_significant_number(number)
        self.digits = code + national
        """Country code and number, without `+`."""
        self.national_digits = national
        """The same without the country code: every form contains these, with nothing but non-digits in between."""
        trunk = f"(?:{'|'.join(sorted({'0', *_trunk(number.country_code or 0)}, key=len, reverse=True))}){_PART}"
        abroad = rf"\+?(?:{_EXIT}{_PART})?{_parted(code)}{_PART}(?:{trunk})?"
        prefix = f"(?:{abroad}|{trunk})?" if len(national) >= _LEAST_NATIONAL else abroad
        self._pattern = re.compile(rf"(?<![0-9]){prefix}{_parted(national)}(?![0-9])|\+?{self.digits}")

    def __repr__(self) -> str:
        return f"NumberForms({REMOVED})"

    def stands_in(self, value: object) -> bool:
        """Return whether a text or a JSON value, its names included, contains the number."""
        match value:
            case str():
                return self._pattern.search(_plain(value)) is not None and not _is_uuid(value)
            case bool() | None:
                return False
            case int() | float():
                return self._pattern.search(_written(value)) is not None
            case Mapping():
                return any(self.stands_in(name) or self.stands_in(item) for name, item in value.items())
            case list():
                return any(map(self.stands_in, value))
            case _:
                return False

    def removed_from(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Return the text or JSON value with `REMOVED` in the place of the number; a JSON number becomes this text."""
        match value:
            case str():
                return self._without(value)
            case bool() | None:
                return value
            case int() | float():
                return REMOVED if self.stands_in(value) else value
            case Mapping():
                kept: dict[str, Any] = {}
                for name, item in value.items():
                    kept[_free(self._without(name), kept)] = self.removed_from(item)
                return kept
            case list():
                return [self.removed_from(item) for item in value]
            case _:
                return value

    def kept_in(self, text: str, change: Callable[[str], str]) -> str:
        """Return the text with all of it changed by `change` but this number."""
        return self._rebuilt(text, change, lambda own: own)

    def _without(self, text: str) -> str:
        return self._rebuilt(text, lambda other: other, lambda _: REMOVED)

    def _rebuilt(self, text: str, others: Callable[[str], str], own: Callable[[str], str]) -> str:
        if _is_uuid(text):
            return text
        parts, end = [], 0
        for one in self._pattern.finditer(_plain(text)):
            parts += [others(text[end : one.start()]), own(text[one.start() : one.end()])]
            end = one.end()
        return "".join([*parts, others(text[end:])])


def _parted(digits: str) -> str:
    return _PART.join(digits)


@cache
def _trunk(country_code: int) -> frozenset[str]:
    metadata = PhoneMetadata.metadata_for_region(region_code_for_country_code(country_code))
    prefix = str(metadata.national_prefix or "") if metadata is not None else ""
    return frozenset([prefix] if prefix.isdecimal() else [])


def _plain(text: str) -> str:
    """Return the text with ASCII digits, each character at its place."""
    if text.isascii():
        return text
    return "".join(
        character if character.isascii() or (digit := unicodedata.decimal(character, None)) is None else str(digit)
        for character in text
    )


def _written(number: float) -> str:
    return str(int(number)) if number == number // 1 else str(number)


def _is_uuid(text: str) -> bool:
    """Return whether the text is an id, whose last group may be digits by chance."""
    if len(text) != 36:
        return False
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _free(name: str, taken: Mapping[str, object]) -> str:
    """Return the name, or one that no other value of the object has: two names may have differed by the number."""
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name} {count}"
    return free


@cache
def foreign_digits() -> str:
    """Return every decimal digit outside of ASCII, for a search that cannot ask Unicode."""
    return "".join(
        chr(point)
        for point in range(0x80, 0x20000)
        if not 0xD800 <= point <= 0xDFFF and unicodedata.decimal(chr(point), None) is not None
    )
