"""What may be shown of a person: the last digits of a number, and names that are no values.

Logs, tracebacks, tables and error messages use these; a whole number is printed only where an operator asks for it.
"""

import re

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
