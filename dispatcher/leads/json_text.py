"""JSON that people and files bring, read without rounding: an integer of any length stays the integer it is."""

import json
import re
from typing import Final

import orjson

_LONG_NUMBER: Final = re.compile(r"\d{19}")


def read_json(text: str | bytes) -> object:
    """The value. Raises `ValueError` for what is no JSON.

    orjson makes a float of an integer beyond 64 bits, so that a long identifier would be changed in silence instead of
    refused; where so many digits stand in a row, the slower reader of the standard library takes its place.
    """
    written = text if isinstance(text, str) else text.decode()
    found: object = orjson.loads(written)
    if _LONG_NUMBER.search(written):
        found = json.loads(written)  # what is no JSON for orjson has not come so far
    return found
