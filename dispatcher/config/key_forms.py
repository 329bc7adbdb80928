"""How the keys of settings are written: the one that signs alerts, and those that encrypt what is stored."""

import base64
import binascii
import re
from typing import Final

_WRITTEN_KEY: Final = "whsec_"
"""How a secret begins that is a key in base64; any other text is used as it is."""


_LEAST_KEY_BYTES: Final = 24  # by the specification; what is shorter can be guessed from one alert and its signature


def signing_key(secret: str) -> bytes:
    """Return the bytes that a secret signs with.

    Raises `ValueError` where `whsec_` is not followed by base64 of 24 bytes or more.
    """
    if not secret.startswith(_WRITTEN_KEY):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_WRITTEN_KEY), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError(f"begins with {_WRITTEN_KEY}, but what follows is not base64")
    if len(key) < _LEAST_KEY_BYTES:
        raise ValueError(
            f"begins with {_WRITTEN_KEY}, but what follows is a key of fewer than {_LEAST_KEY_BYTES} bytes"
        )
    return key


KEYS_OFF: Final = "off"
"""In the place of the first key: new values are stored as they are."""

_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")


def encryption_keys(text: str) -> list[str]:
    """Return the keys that `encryption_keys` lists, in their order, perhaps `KEYS_OFF` before them.

    Raises `ValueError`, without any of them.
    """
    listed = [one.lower() for one in re.split(r"[\s,]+", text) if one]
    keys = listed[1:] if listed[:1] == [KEYS_OFF] else listed
    for place, key in enumerate(keys, 1):
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"has no 64 hexadecimal digits as its key {place}")
    if not listed or len(set(keys)) < len(keys):
        raise ValueError("names a key twice" if listed else "names no key")
    return listed
