"""The doctor's checks of the two keys outside the database: that of pseudonyms, and those of encryption at rest."""

from collections.abc import Iterator

from sqlalchemy import Connection

from dispatcher.cli.doctor import Check, Grade
from dispatcher.config.settings import Settings
from dispatcher.errors import NotConfigured
from dispatcher.operator import block_list
from dispatcher.store import encryption
from dispatcher.store.encryption import KeyRing
from dispatcher.store.pseudonym import Pseudonyms


def keys(settings: Settings, connection: Connection) -> Iterator[Check]:
    """Check that this process has the keys that the database was written with."""
    yield _privacy_key(settings, connection)
    yield _encryption(settings, connection)


def _privacy_key(settings: Settings, connection: Connection) -> Check:
    name = "Privacy key"
    try:
        pseudonyms = Pseudonyms.of(settings)
    except NotConfigured as error:
        return Check(name, Grade.BAD, str(error), "docs/do-not-call.md says what it is for.")
    stored = block_list.stored_key(connection)
    if stored is not None and stored != pseudonyms.key_id:
        found = "DISPATCHER_PRIVACY_KEY is " + (
            "not set, but persons are stored under one" if pseudonyms.key_id is None else "not the one in use"
        )
        if block_list.key_fits(connection, pseudonyms):
            return Check(name, Grade.DOUBTFUL, found, "Give every process the same key.")
        advice = "A worker with these settings sends nothing; set the key that persons were blocked or erased with."
        return Check(name, Grade.BAD, found, advice)
    if pseudonyms.key_id is None:
        return Check(name, Grade.GOOD, "not set, and nobody is stored under one")
    return Check(name, Grade.GOOD, "the one in use" if stored else "set, and not used yet")


def _encryption(settings: Settings, connection: Connection) -> Check:
    name = "Encryption"
    try:
        ring = KeyRing.of(settings)
    except NotConfigured as error:
        return Check(name, Grade.BAD, str(error), "docs/privacy.md says how values are encrypted.")
    lacking = encryption.unheld(connection, ring)
    if lacking:
        found, _, advice = encryption.missing(lacking).partition("; ")
        return Check(name, Grade.BAD, found, f"A worker with these settings sends nothing; {advice}")
    if ring.key_id is None:
        return Check(name, Grade.GOOD, "off: values are stored plain" if not ring.key_ids else "off for new values")
    return Check(name, Grade.GOOD, f"new values are encrypted under the key {ring.key_id}")
