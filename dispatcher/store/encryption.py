"""Encryption at rest: the one place where variables, contacts, answers and refused rows are encrypted and decrypted.

A stored value is `enc:1:KEY:TEXT`: the version, the id of the key, and nonce, ciphertext and tag of AES-256-GCM in
base64. What it belongs to (`owner`) and what it is (`content`) are authenticated with it, so that a value that was
moved to another lead or column does not decrypt. Values without this form are plain: both may stand in one table.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from os import urandom
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from dispatcher.config.key_forms import KEYS_OFF, encryption_keys
from dispatcher.config.settings import Settings
from dispatcher.errors import DispatcherError, NotAllowed, NotConfigured

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from dispatcher.store.reading import ReadConnection

_MARK: Final = "enc:"
ENCRYPTED: Final = "enc:1:"
"""What an encrypted value begins with."""
_PLAIN: Final = "enc:0:"  # plain text that begins with the mark itself
_NONCE_BYTES: Final = 12
_FORM: Final = re.compile(r"enc:1:([0-9a-f]{8}):([A-Za-z0-9+/]+={0,2})")

LIKE: Final = f"{ENCRYPTED}%"
"""The pattern, for SQL's LIKE, of an encrypted text; of one in a jsonb column, after its quotation mark."""

KEYS_HELD: Final = """(
    NOT EXISTS (SELECT FROM dispatcher.encryption_keys WHERE id <> ALL (CAST(:key_ids AS text[])))
)"""
"""The condition that this process has every key that leads are encrypted under."""


class Content(StrEnum):
    """What a value is; part of what is authenticated."""

    VARIABLES = "variables"
    CONTACT_NUMBER = "contact number"
    CONTACT_VARIABLES = "contact variables"
    RESPONSE = "response"
    ROW = "row"
    SUBMITTED = "submitted lead"


@dataclass(frozen=True, slots=True)
class Table:
    """A table with encrypted columns.

    key       the columns that name a row, with their types
    contents  its encrypted columns
    owner     returns what owns the values of a row, from the columns `key` and `of`
    of        the column that `owner` reads beside the key
    passing   the condition of rows that are plain for so short that nobody encrypts them
    """

    name: str
    key: Mapping[str, str]
    contents: Mapping[str, Content]
    owner: Callable[[Mapping[Any, Any]], object]
    of: str
    passing: str = "false"

    @property
    def jsons(self) -> frozenset[str]:
        """Return those of the columns that are jsonb."""
        return frozenset(name for name, content in self.contents.items() if content in _OBJECTS)


class KeyMissing(NotConfigured):
    """A stored value is encrypted under a key that this process does not have."""

    def __init__(self, key_id: str) -> None:
        super().__init__(missing([key_id]))
        self.key_id = key_id


class NotAuthentic(DispatcherError):
    """A stored value was changed, or belongs to another lead."""

    def __init__(self, owner: object, content: Content) -> None:
        super().__init__(
            f"What is stored as {content.value} of {owner} does not decrypt: it was changed in the database, or moved "
            "there from another row; restore it from a backup, or cancel the lead and submit it again."
        )


def missing(key_ids: Sequence[str]) -> str:
    """Return the sentence about keys that this process would need."""
    keys = f"the key {key_ids[0]}" if len(key_ids) == 1 else f"the keys {', '.join(key_ids)}"
    return (
        f"Stored leads are encrypted under {keys}, which this process does not have; add what is missing to "
        "DISPATCHER_ENCRYPTION_KEYS, or run `dispatcher rekey` where it is known."
    )


def key_id_of(key: bytes) -> str:
    """Return what tells one key from another and does not give it away, 8 hexadecimal digits."""
    return sha256(b"dispatcher encryption key" + key).hexdigest()[:8]


def key_id_in(stored: object) -> str | None:
    """Return the id of the key that a stored value is encrypted under; None if it is plain."""
    found = _FORM.fullmatch(stored) if isinstance(stored, str) else None
    return None if found is None else found[1]


class KeyRing:
    """The keys of a process: the first encrypts, all decrypt. The repr shows their ids only.

    keys       of 32 bytes each
    encrypts   False: new values are stored as they are
    """

    def __init__(self, keys: Sequence[bytes] = (), *, encrypts: bool = True) -> None:
        self._ciphers: dict[str, AESGCM] = {}
        if keys:
            aead = _aead()
            self._ciphers = {key_id_of(key): aead(key) for key in keys}
        self.key_ids = tuple(self._ciphers)
        """Their ids, in their order."""
        self.key_id: str | None = self.key_ids[0] if self.key_ids and encrypts else None
        """The id of the key that new values are encrypted under; None: they are stored as they are."""

    @classmethod
    def of(cls, settings: Settings) -> "KeyRing":
        """Return that of the settings. Raises `NotConfigured` where the package `cryptography` is missing."""
        if settings.encryption_keys is None:
            return NO_KEYS
        first, *rest = encryption_keys(settings.encryption_keys.reveal())
        off = first == KEYS_OFF
        return cls([bytes.fromhex(key) for key in ([] if off else [first]) + rest], encrypts=not off)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.key_ids)}, encrypts={self.key_id is not None})"

    @property
    def decrypting(self) -> "KeyRing":
        """The same keys, where new values are stored as they are."""
        ring = KeyRing()
        ring._ciphers, ring.key_ids = self._ciphers, self.key_ids
        return ring

    # Writing ----------------------------------------------------------------------------------------------------------

    def encrypted(self, value: str, owner: object, content: Content) -> str:
        """Return a text as it is stored. `owner`: the id of the lead that it belongs to, or what names its row."""
        if self.key_id is None:
            return _PLAIN + value if value.startswith(_MARK) else value
        nonce = urandom(_NONCE_BYTES)
        sealed = nonce + self._ciphers[self.key_id].encrypt(nonce, value.encode(), _bound_to(owner, content))
        return f"{ENCRYPTED}{self.key_id}:{b64encode(sealed).decode()}"

    def encrypted_json(self, value: str, owner: object, content: Content) -> str:
        """Return the text of a JSON object as a jsonb column stores it: encrypted, it is a JSON string."""
        return value if self.key_id is None else f'"{self.encrypted(value, owner, content)}"'

    # Reading ----------------------------------------------------------------------------------------------------------

    def decrypted(self, stored: str, owner: object, content: Content) -> str:
        """Return a stored text as it was given. Raises `KeyMissing` or `NotAuthentic`."""
        if not stored.startswith(ENCRYPTED):
            return stored.removeprefix(_PLAIN)
        found = _FORM.fullmatch(stored)
        if found is None:  # nothing that we stored: it must not be taken for the plain value
            raise NotAuthentic(_told(owner), content)
        cipher = self._ciphers.get(found[1])
        if cipher is None:
            raise KeyMissing(found[1])
        from cryptography.exceptions import InvalidTag

        try:
            sealed = b64decode(found[2], validate=True)
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return cipher.decrypt(nonce, rest, _bound_to(owner, content)).decode()
        except (InvalidTag, NotBase64, ValueError):
            raise NotAuthentic(_told(owner), content) from None

    def decrypted_json_text(self, stored: str, owner: object, content: Content) -> str:
        """Return the JSON text of an object from the text of a jsonb column."""
        return self.decrypted(stored[1:-1], owner, content) if stored.startswith('"') else stored

    def decrypted_json(self, stored: Any, owner: object, content: Content) -> Mapping[str, Any]:  # noqa: ANN401 - a column's
        """Return the object of a jsonb column, which the driver has read."""
        found: Mapping[str, Any] = (
            orjson.loads(self.decrypted(stored, owner, content)) if isinstance(stored, str) else stored
        )
        return found

    def row(self, row: Mapping[Any, Any], owner: object, **contents: Content) -> dict[str, Any]:
        """Return the columns of a row with those of `contents` decrypted; a column that holds NULL stays so."""
        opened = dict(row)
        for name, content in contents.items():
            if isinstance(opened.get(name), str):
                read = self.decrypted_json if content in _OBJECTS else self.decrypted
                opened[name] = read(opened[name], owner, content)
        return opened


_OBJECTS: Final = frozenset({Content.VARIABLES, Content.CONTACT_VARIABLES, Content.SUBMITTED})

OF_CONTACT: Final = {"phone_number": Content.CONTACT_NUMBER, "variables": Content.CONTACT_VARIABLES}
"""What the columns of a secondary contact hold, for `KeyRing.row`."""

TABLES: Final = {
    table.name: table
    for table in (
        Table("leads", {"id": "uuid"}, {"variables": Content.VARIABLES}, lambda row: row["id"], "id"),
        Table(
            "lead_contacts",
            {"lead_id": "uuid", "position": "smallint"},
            OF_CONTACT,
            lambda row: contact_owner(row["lead_id"], row["position"]),
            "lead_id",
        ),
        Table(
            "lead_revisions",
            {"lead_id": "uuid", "revision": "integer"},
            {"variables": Content.VARIABLES},
            lambda row: row["lead_id"],
            "lead_id",
        ),
        Table("lead_attempts", {"id": "uuid"}, {"response": Content.RESPONSE}, lambda row: row["lead_id"], "lead_id"),
        Table("failed_leads", {"id": "bigint"}, {"response": Content.RESPONSE}, lambda row: row["lead_id"], "lead_id"),
        Table(
            "import_rejections",
            {"id": "bigint"},
            {"original": Content.ROW},
            lambda row: row_owner(row["import_id"]),
            "import_id",
        ),
        Table("inbox", {"id": "uuid"}, {"lead": Content.SUBMITTED}, lambda row: row["id"], "id", "state = 'waiting'"),
    )
}
"""Every column that is encrypted, by table."""

NO_KEYS: Final = KeyRing()
"""That of a process without keys: it stores values as they are, and reads only plain ones."""

OPTION: Final = "key_ring"
"""The execution option of SQLAlchemy under which the engines of a `Database` carry its key ring."""


def of(connection: "ReadConnection") -> KeyRing:
    """Return the key ring of the `Database` that a connection is from; a caller's own connection has none."""
    ring: KeyRing = connection.get_execution_options().get(OPTION, NO_KEYS)
    return ring


_UNHELD = text("SELECT id FROM dispatcher.encryption_keys WHERE id <> ALL (CAST(:key_ids AS text[])) ORDER BY id")

_REGISTER = text("INSERT INTO dispatcher.encryption_keys (id) VALUES (:key_id) ON CONFLICT (id) DO NOTHING")


def unheld(connection: Connection, ring: KeyRing) -> list[str]:
    """Return the ids of keys that leads are encrypted under and that the ring lacks."""
    return list(connection.execute(_UNHELD, {"key_ids": list(ring.key_ids)}).scalars())


_IN_USE = text("SELECT EXISTS (SELECT FROM dispatcher.encryption_keys)")


def refuse_filter(connection: "ReadConnection") -> None:
    """Raise `NotAllowed` where variables are encrypted: no statement can compare them."""
    if of(connection).key_id is not None or connection.execute(_IN_USE).scalar():
        raise NotAllowed(
            "Variables are encrypted in the database, so that leads cannot be filtered by them; filter by campaign, "
            "batch, idempotency key or time instead."
        )


def register(connection: Connection, ring: KeyRing) -> None:
    """Make the key known that new leads are encrypted under; else the first of them does."""
    if ring.key_id is not None:
        connection.execute(_REGISTER, {"key_id": ring.key_id})


def _bound_to(owner: object, content: Content) -> bytes:
    return f"{content.value}:{owner}".encode()


def _told(owner: object) -> str:
    return f"lead {owner}" if isinstance(owner, UUID) else str(owner)


def _aead() -> "type[AESGCM]":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise NotConfigured(
            "DISPATCHER_ENCRYPTION_KEYS needs the package cryptography: pip install 'voicery-dispatcher[encryption]'."
        ) from None
    return AESGCM


def stored_contact(ring: KeyRing, lead_id: UUID, position: int, number: str, variables: str) -> tuple[str, str]:
    """Return the number and the JSON text of the variables of a secondary contact as they are stored."""
    owner = contact_owner(lead_id, position)
    return (
        ring.encrypted(number, owner, Content.CONTACT_NUMBER),
        ring.encrypted_json(variables, owner, Content.CONTACT_VARIABLES),
    )


def contact_owner(lead_id: UUID | str, position: int) -> str:
    """Return what names a secondary contact as the owner of its values."""
    return f"contact {position} of lead {lead_id}"


def row_owner(import_id: int) -> str:
    """Return what names the refused rows of an import as the owner of their texts."""
    return f"import {import_id}"


def decrypted_row(
    ring: KeyRing, table: str, row: Mapping[Any, Any], values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return `values`, columns of a row of this table or all of it, decrypted; `row` has the columns of its owner."""
    wanted = row if values is None else values
    known = TABLES.get(table)
    return dict(wanted) if known is None else ring.row(wanted, known.owner(row), **known.contents)


def readable_row(
    ring: KeyRing, table: str, row: Mapping[Any, Any], values: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return what `decrypted_row` does, without the columns that do not decrypt, and the names of those."""
    wanted = row if values is None else values
    try:
        return decrypted_row(ring, table, row, wanted), frozenset()
    except NotAuthentic:
        read: dict[str, Any] = {}
        for name, value in wanted.items():
            with suppress(NotAuthentic):
                read |= decrypted_row(ring, table, row, {name: value})
        return read, frozenset(wanted) - frozenset(read)


def encrypted_row(ring: KeyRing, table: str, row: Mapping[Any, Any], values: Mapping[str, str]) -> dict[str, str]:
    """Return the new texts of columns of a row as they are stored; those of jsonb columns are JSON texts."""
    known = TABLES.get(table)
    if known is None:
        return dict(values)
    owner, jsons = known.owner(row), known.jsons
    return {
        name: value
        if name not in known.contents or not value
        else (ring.encrypted_json if name in jsons else ring.encrypted)(value, owner, known.contents[name])
        for name, value in values.items()
    }
