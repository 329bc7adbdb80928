"""A phone number as spreadsheets write it, brought near E.164; what is left to say, `Lead` says."""

import re
from typing import Final

from phonenumbers import SUPPORTED_REGIONS as REGIONS
from phonenumbers import NumberParseException, PhoneNumberFormat, format_number, parse

from dispatcher.errors import FieldError

_SCIENTIFIC: Final = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE]\+?\d+")
_WITH_FRACTION: Final = re.compile(r"(\+?\d{5,})[.,]0+")
_NATIONAL: Final = re.compile(r"[0-9 .\-()/\u00a0\u2009\u202f\u2010-\u2013]+")


def known_country(code: str) -> bool:
    """Whether `--country` takes this: two letters, as in ISO 3166."""
    return code.upper() in REGIONS


def phone_of_cell(cell: str, field: str, country: str | None) -> str | FieldError:
    """The number with its `+`, where the cell or the default country says it; else the cell as it is.

    An apostrophe before it (a spreadsheet's mark for text) and a `.0` behind it are dropped; `00` becomes `+`.
    """
    text = cell.strip().removeprefix("'").strip()
    if _SCIENTIFIC.fullmatch(text):
        return FieldError(
            field,
            "is in scientific notation: the spreadsheet has dropped digits",
            "format the column as text in the original, enter the number again, and export once more",
        )
    fraction = _WITH_FRACTION.fullmatch(text)
    if fraction is not None:
        text = fraction[1]
    if text.startswith("00"):
        return "+" + text[2:].lstrip()
    if text.startswith("+") or not _NATIONAL.fullmatch(text):
        return text
    if country is None:
        remedy = "write it with + and the country code, or name the numbers' country: --country DE"
        return FieldError(field, "does not start with + and the country code", remedy)
    try:
        return format_number(parse(text, country.upper()), PhoneNumberFormat.E164)
    except NumberParseException:
        return FieldError(
            field, f"cannot be a phone number of {country.upper()}", "write it with + and the country code"
        )
