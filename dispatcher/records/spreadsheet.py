"""Cells that no spreadsheet takes for a formula (CWE-1236; OWASP, CSV injection).

A spreadsheet runs what begins like a formula, and so would a lead's name: such cells begin with an apostrophe. E.164
numbers begin with `+` and get one too, which keeps their zeros; JSON has them as they are.
"""

from typing import Final

_FORMULA: Final = tuple("=+-@\t\r\n\0;|%＝＋－＠")


def safe_cell(value: object) -> str:
    """The value as the text of a cell; None is an empty one."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip(" ").startswith(_FORMULA) else text
