"""Pseudonyms of persons: the keyed hash (HMAC-SHA-256, RFC 2104) of a phone number in E.164.

Whoever has the database without the key cannot tell whose hash it is, although all numbers could be tried. The key is
the setting `DISPATCHER_PRIVACY_KEY` or the content of `DISPATCHER_PRIVACY_KEY_FILE`; it is never in the database.
"""

import hmac
from hashlib import sha256
from pathlib import Path
from typing import Final

from dispatcher.config.secret_files import secret_in
from dispatcher.config.settings import Settings
from dispatcher.errors import NotConfigured

LEAST_KEY_CHARACTERS: Final = 32
"""A shorter key could be guessed together with the numbers."""

_SEALED: Final = "k1:"  # the first form; a later one must compare with this too
_BLOCK_BYTES: Final = 64  # of SHA-256, in RFC 2104
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_MAKE_ONE: Final = (
    "make one with `openssl rand -hex 32`, keep a copy outside the database, and give it to every process"
)


class Pseudonyms:
    """Computes pseudonyms under one key. The repr shows the id of the key, never the key.

    key   text of at least `LEAST_KEY_CHARACTERS` characters, spaces around it ignored; None if no key is set
    """

    def __init__(self, key: str | None) -> None:
        block = b""
        if key is not None:
            block = key.strip().encode()
            if len(block) > _BLOCK_BYTES:
                block = sha256(block).digest()
            block = block.ljust(_BLOCK_BYTES, b"\0")
        self._inner, self._outer = block.translate(_INNER), block.translate(_OUTER)
        self._begun = sha256(self._inner), sha256(self._outer)  # copied for each message, which costs less than both
        self.key_id: str | None = self.digest_of(b"dispatcher privacy key").hex()[:16] if block else None
        """What tells one key from another and gives neither away; None without a key."""

    @classmethod
    def of(cls, settings: Settings) -> "Pseudonyms":
        """Return those of the settings; the file is read here. Raises `NotConfigured`, never with the key in it."""
        if settings.privacy_key_file is not None:
            return cls(_key_in(settings.privacy_key_file))
        return cls(settings.privacy_key.reveal() if settings.privacy_key is not None else None)

    def __repr__(self) -> str:
        return f"Pseudonyms(key_id={self.key_id!r})"

    def require(self, purpose: str) -> None:
        """Raise `NotConfigured` if there is no key; `purpose` begins the sentence, e.g. "A block by hash alone"."""
        if self.key_id is None:
            raise NotConfigured(f"{purpose} needs DISPATCHER_PRIVACY_KEY, which is not set; {_MAKE_ONE}.")

    def digest(self, phone_number: str) -> bytes:
        """Return the pseudonym, 32 bytes, of a number in E.164. Raises `NotConfigured` without a key."""
        self.require("A pseudonym")
        return self.digest_of(phone_number.encode())

    def digest_of(self, message: bytes) -> bytes:
        """Return the HMAC-SHA-256 of any bytes under the key."""
        inner, outer = self._begun[0].copy(), self._begun[1].copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def stand_in(self, idempotency_key: str) -> str | None:
        """Return what is stored instead of an idempotency key that names an erased person; None without a key."""
        if self.key_id is None:
            return None
        return f"erased:{self.digest_of(b'idempotency key:' + idempotency_key.encode()).hex()}"

    def sealed(self, payload_hash: str) -> str:
        """Return a payload's hash as it is stored where the payload is not: under the key, or as it is without one."""
        if self.key_id is None or payload_hash.startswith(_SEALED):
            return payload_hash
        return f"{_SEALED}{self.key_id}:{self.digest_of(b'payload:' + payload_hash.encode()).hex()}"

    def is_of(self, stored: str | None, payload_hash: str) -> bool:
        """Return whether a stored hash, sealed or from before there was a key, is that of this payload.

        Raises `NotConfigured` if it is sealed under another key than this process has.
        """
        if stored is None or not stored.startswith(_SEALED):
            return stored == payload_hash
        if stored.removeprefix(_SEALED).split(":")[0] != self.key_id:
            raise NotConfigured(
                "Whether this repeats an earlier submission cannot be told: that one is stored under another "
                "DISPATCHER_PRIVACY_KEY than this process has; give every process the same."
            )
        return same(stored.encode(), self.sealed(payload_hash).encode())

    def pads(self) -> dict[str, bytes | None]:
        """Return what `digest_sql` binds: both NULL without a key, so that its result is NULL and equals nothing."""
        if self.key_id is None:
            return {"inner_pad": None, "outer_pad": None}
        return {"inner_pad": self._inner, "outer_pad": self._outer}


def digest_sql(phone_number: str) -> str:
    """Return SQL for the pseudonym of the SQL expression `phone_number`; `Pseudonyms.pads` gives its parameters."""
    return (
        f"sha256(CAST(:outer_pad AS bytea) || sha256(CAST(:inner_pad AS bytea) || convert_to({phone_number}, 'UTF8')))"
    )


def same(one: bytes, other: bytes) -> bool:
    """Return whether two pseudonyms are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)


def _key_in(path: Path) -> str:
    variable = "DISPATCHER_PRIVACY_KEY_FILE"
    key = secret_in(path, variable)
    if len(key) < LEAST_KEY_CHARACTERS:
        key = ""  # tracebacks show local variables
        raise NotConfigured(
            f"{variable}: the file holds no text of at least {LEAST_KEY_CHARACTERS} characters; {_MAKE_ONE}."
        )
    return key
