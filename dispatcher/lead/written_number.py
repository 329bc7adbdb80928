"""A phone number as people write it and programs export it, reduced to its digits.

Nothing is guessed here: what surrounds a number is dropped only where it cannot be part of it. Which country the digits
belong to is decided in `phone`.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final


class UnclearNumber(ValueError):
    """The text is no number, or may be more than one. Says why and what to write; never the number itself."""

    def __init__(self, fault: str, remedy: str) -> None:
        self.fault = fault
        self.remedy = remedy
        super().__init__(fault)


EXAMPLE: Final = "write it in E.164 form, e.g. +14155550100"
_ONE_ONLY: Final = "keep one number, and pass the other as a secondary contact or a lead of its own"
_NO_EXTENSION: Final = "leave the extension out, or write the direct number"
_AS_TEXT: Final = "format the column as text in the original, enter the number again, and export once more"


@dataclass(frozen=True, slots=True)
class WrittenNumber:
    """The digits of a number. The repr shows none.

    digits       ASCII digits, without `+` and separators
    plus         a `+` stood before them
    groups       the same, as separators part them
    decimals     they ended in `.0`, or thousands were parted: leading zeros were lost
    trunk        position of a zero written as `(0)`; None if there is none
    """

    digits: str
    groups: tuple[str, ...]
    plus: bool
    decimals: bool
    trunk: int | None

    def __repr__(self) -> str:
        return f"WrittenNumber(plus={self.plus})"

    @property
    def without_trunk(self) -> str:
        """The digits without the zero in parentheses."""
        return self.digits if self.trunk is None else self.digits[: self.trunk] + self.digits[self.trunk + 1 :]


def read_digits(value: str) -> WrittenNumber:
    """Return the digits of the one number in the text. Raises `UnclearNumber`."""
    text = _without_parameters(_unwrapped(_plain(value)))
    if not text:
        raise UnclearNumber("is empty", EXAMPLE)
    if not any(map(str.isdigit, text)):
        raise UnclearNumber("has no digits", EXAMPLE)
    if _SCIENTIFIC.fullmatch(text):
        raise UnclearNumber("is in scientific notation: the spreadsheet has dropped digits", _AS_TEXT)
    whole = _without_decimals(text)
    decimals = whole != text
    text = _single(whole)
    trunk = _TRUNK.search(text)
    digits = text.translate(_SEPARATORS)
    if _DIGITS.fullmatch(digits) is None:
        raise _why_not_digits(digits)
    return WrittenNumber(
        digits=digits.removeprefix("+"),
        groups=tuple(DIGIT_GROUP.findall(text)),
        plus=digits.startswith("+"),
        decimals=decimals,
        trunk=None if trunk is None else _digit_count(text[: trunk.start()]),
    )


_REVERSING: Final = "\u202e"
_ASCII: Final = {
    "\u2212": "-",
    "\ufe62": "+",
    "\u060c": ",",  # Arabic comma, semicolon, decimal and thousands separators
    "\u061b": ";",
    "\u066b": ".",
    "\u066c": ",",
    "\u3001": ",",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
}


def _plain(value: str) -> str:
    """Return the text with the digits, spaces and dashes of ASCII, without marks that show nothing."""
    if value.isascii():
        return value.strip()
    if _REVERSING in value:
        raise UnclearNumber(
            "contains a mark (U+202E) that shows its digits in reverse: which order was meant is unclear", EXAMPLE
        )
    return "".join(map(_plain_character, value)).strip()


def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    if character in _ASCII:
        return _ASCII[character]
    if "\uff01" <= character <= "\uff5e":  # full-width forms
        return chr(ord(character) - 0xFEE0)
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    match unicodedata.category(character):
        case "Cf":
            return ""
        case "Zs":
            return " "
        case "Pd":
            return "-"
        case _:
            return "" if "\ufe00" <= character <= "\ufe0f" else character  # variation selectors


_QUOTED: Final = re.compile(r"""=?"([^"]*)"|'([^']*)'?|=(\+[^=]*)""")
_LABEL: Final = re.compile(
    r"(?:(?:tel|telephone|telefon|phone|mobile|mobil|cell|handy|whatsapp|callto|sms)[.:\s]\s*:?|p:)\s*", re.IGNORECASE
)


def _unwrapped(text: str) -> str:
    """Return the text without what marks a cell as text (`="…"`, an apostrophe) and without a label (`tel:`, `p:`)."""
    while (found := _QUOTED.fullmatch(text)) is not None:
        text = next(group for group in found.groups() if group is not None).strip()
    label = _LABEL.match(text)
    return text if label is None else text[label.end() :].strip()


_PARAMETER: Final = re.compile(r";\s*([a-z-]+)\s*=([^;]*)", re.IGNORECASE)


def _without_parameters(text: str) -> str:
    """Return the text without the parameters of a `tel:` URI (RFC 3966), where they change nothing."""
    context = ""
    for name, value in _PARAMETER.findall(text):
        if name.lower() != "phone-context":
            raise UnclearNumber("has an extension or another parameter, which cannot be dialled", _NO_EXTENSION)
        context = value.strip()
    number = _PARAMETER.sub("", text).strip()
    if not context or number.startswith("+"):
        return number
    if not context.startswith("+"):
        raise UnclearNumber("is a number inside of an organisation only", EXAMPLE)
    return context + number


_SCIENTIFIC: Final = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE][+-]?\d+")
_GROUPED: Final = re.compile(r"\+?\d{1,3}(?:(?P<by>[., '])\d{3})(?:(?P=by)\d{3})*(?P<decimals>(?!(?P=by))[.,]0{1,2})?")
_DECIMALS: Final = re.compile(r"(?P<number>.*\d)\s*(?P<by>[.,])(?P<zeros>0+)", re.DOTALL)
_FRACTION: Final = re.compile(r"\+?\d{7,}[.,](?!0+\Z)\d{1,3}")
_LONE_NUMBER: Final = re.compile(r"\+?\d{7,}")
_MOST_DIGITS: Final = 15


def _without_decimals(text: str) -> str:
    """Return the text without `.0`, `,00` and thousands separators, as spreadsheets write numbers they count with."""
    grouped = _GROUPED.fullmatch(text)
    if grouped is not None and (grouped["decimals"] or grouped["by"] in ",'"):
        return text.removesuffix(grouped["decimals"] or "").replace(grouped["by"], "")
    if _FRACTION.fullmatch(text):
        raise UnclearNumber("has decimals, which may be digits of it", _AS_TEXT)
    found = _DECIMALS.fullmatch(text)
    if found is None:
        return text
    number, zeros = found["number"], found["zeros"]
    if _LONE_NUMBER.fullmatch(number) and (len(zeros) < 3 or len(number) + len(zeros) > _MOST_DIGITS):
        return number
    if found["by"] == "." and ("." in number or (len(zeros) > 2 and not _LONE_NUMBER.fullmatch(number))):
        return text  # dots between groups of digits, as in 06.39.98.00.00
    raise UnclearNumber(
        f"ends in {found['by']}{'0' * min(len(zeros), 3)}, which may be the decimals of a spreadsheet or digits of it",
        _AS_TEXT,
    )


_EXTENSION: Final = re.compile(
    r"(?:ext|extn|extension|x|xtn|int|interno|anexo|poste|dw|durchwahl|доб|#)[\s.:]*\d{1,7}#?\s*|"
    r"\s*,\s*,[\s,]*\d+#?|\s*[,pw]\s*\d{1,4}#?",
    re.IGNORECASE,
)
_EXTENSION_AT_END: Final = re.compile(rf"(?<=[\d\s)])(?:{_EXTENSION.pattern})\Z", re.IGNORECASE)
_DIVIDER: Final = re.compile(r"[;,|&\r\n]|\b(?:or|and|oder|und|ou|et|o|y|e|bzw)\b\.?", re.IGNORECASE)
_OF_A_NUMBER: Final = 5  # digits: fewer are no number of a person
_LONGEST_CODE: Final = 6  # digits of an area code, with its 0


def _single(text: str) -> str:
    """Return the text, if it holds one number."""
    if _EXTENSION_AT_END.search(text):
        raise UnclearNumber("has an extension, which cannot be dialled", _NO_EXTENSION)
    parts = [part.strip() for part in _DIVIDER.split(text) if part.strip()]
    begins = [part for half in text.split("+") if (part := half.strip())]
    if any(sum(_digit_count(part) >= _OF_A_NUMBER for part in found) > 1 for found in (parts, begins)):
        raise UnclearNumber("may hold more than one number", _ONE_ONLY)
    _refuse_alternatives(text)
    if len(parts) == 1 and parts[0].rstrip(".") == text.rstrip(" .;,|&\r\n"):
        return parts[0]
    return text


def _digit_count(text: str) -> int:
    return sum(map(str.isdigit, text))


def _refuse_alternatives(text: str) -> None:
    """Refuse a slash after a whole number: another end may follow. After an area code it parts (`0475/12 34 56`)."""
    first, *others = (_digit_count(part) for part in text.split("/"))
    longest = _LONGEST_CODE + 3 if text.startswith(("+", "00")) else _LONGEST_CODE
    if others and (first > longest or (len(others) == 1 and others[0] < 3)):
        if sum(others) >= _OF_A_NUMBER:
            raise UnclearNumber("may hold more than one number", _ONE_ONLY)
        raise UnclearNumber("has a / after which another number may begin", _ONE_ONLY)


DIGIT_GROUP: Final = re.compile("[0-9]+")
_TRUNK: Final = re.compile(r"\(\s*0\s*\)")
_SEPARATORS: Final = dict.fromkeys(map(ord, " \t.-()/"))
_DIGITS: Final = re.compile(r"\+?[0-9]+")


def _why_not_digits(text: str) -> UnclearNumber:
    if text.startswith("="):
        return UnclearNumber("is a formula, not its value", _AS_TEXT)
    if any(map(str.isalpha, text)):
        return UnclearNumber("contains letters", "write every letter as the digit on its key, in E.164 form")
    if "+" in text[1:]:
        return UnclearNumber("has a + that is not at its beginning", EXAMPLE)
    return UnclearNumber("contains something that is neither a digit nor a separator", EXAMPLE)
