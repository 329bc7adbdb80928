"""Masks: of a phone number, of whatever looks like one in a text, and of names that others chose.

Apart from how numbers are read, because lists and logs mask without the tables of numbering plans.
"""

import re

_NUMBER_IN_TEXT = re.compile(
    # An id or a time is taken whole first: its digits are no number.
    r"(?P<plain>(?<![\w-])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![\w-])"
    r"|(?<![\w-])\d{4}-[01]\d-[0-3]\d[ T][0-2]\d:[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?!\d))"
    r"|\+?\d(?:[ ().\-/]{0,2}\d){6,}",
    re.IGNORECASE,
)
_NAME_LENGTH = 40
_DIGITS_OF_A_PERSON = 7


def mask_phone(number: str) -> str:
    """Return `+•••0100` for `+14155550100`: the last 4 digits, fewer of a short number, not its length or region.

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
    """Mask whatever looks like a phone number (7 digits and more, separators allowed) inside a foreign text.

    UUIDs and times of day with their date stay.
    """
    return _NUMBER_IN_TEXT.sub(lambda found: found["plain"] or mask_phone(found.group()), text)


def safe_name(name: object, position: int) -> str:
    """Return a key as an error message may show it, or `key 3` when the key itself may be a value or is not printable.

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
