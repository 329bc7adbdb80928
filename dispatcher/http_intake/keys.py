"""The keys of the HTTP intake: what a key may do, how it is made, found, replaced and revoked.

A key is `vdk_`, ten letters by which it is found, `_`, and 256 random bits. Stored are the ten letters and the SHA-256
of the whole: with so many random bits, a slow hash would add nothing (NIST SP 800-63B, 5.1.1.2 asks for one where a
person chose the secret).
"""

import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from string import ascii_lowercase
from typing import Final

from sqlalchemy import Connection, RowMapping, text

from dispatcher.config.account import parse_rate_limit
from dispatcher.errors import NotAllowed
from dispatcher.lead.masking import mask_numbers
from dispatcher.lead.options import MAX_CAMPAIGN_ID, check_account
from dispatcher.operator.record import FOREIGN_TEXT, INTERNAL, Record
from dispatcher.store import audit
from dispatcher.store.database import Database

KEY: Final = re.compile(r"vdk_(?P<prefix>[a-z]{10})_[A-Za-z0-9_-]{43}")
DEFAULT_RATE: Final = "600/minute; 100/second"
OVERLAP: Final = timedelta(days=1)
MOST_CAMPAIGNS: Final = 1000

_SHOWN: Final = re.compile(r"(?:vdk_)?(?P<prefix>[a-z]{10})(?:_.*)?")
_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class ApiKey(Record):
    """A key as it is stored. Times are aware.

    prefix      the part by which it is found and named
    campaigns   the campaigns that it may submit to and read; None: all of its account
    mapping     the one webhook that it is for; None: every other path
    rate_limit  leads that it may submit or read at one intake, written as `DISPATCHER_RATE_LIMIT`
    active      it is neither revoked nor past its end
    """

    prefix: str
    name: str = field(metadata=FOREIGN_TEXT)
    account: str
    campaigns: tuple[int, ...] | None
    mapping: str | None
    rate_limit: str
    active: bool
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    id: int = field(metadata=INTERNAL)
    digest: bytes = field(repr=False, metadata=INTERNAL)

    def is_key(self, digest: bytes) -> bool:
        """Return whether this is the SHA-256 of the key, by a comparison in constant time."""
        return hmac.compare_digest(self.digest, digest)

    def may_use(self, campaign_id: int) -> bool:
        """Return whether the key may submit to this campaign, and read its leads."""
        return self.campaigns is None or campaign_id in self.campaigns


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a new key may do. See `ApiKey`.

    expires_at   the end, or a timedelta from the database's now
    """

    name: str
    account: str
    campaigns: tuple[int, ...] | None = None
    mapping: str | None = None
    rate_limit: str = DEFAULT_RATE
    expires_at: datetime | timedelta | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key. `secret` is shown once; nobody can read it again."""

    key: ApiKey
    secret: str = field(repr=False)


_COLUMNS: Final = """
id, prefix, digest, name, account, campaigns, mapping, rate_limit, created_at, created_by, expires_at, revoked_at,
last_used_at, (revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS active
"""

_INSERT = text(f"""
INSERT INTO dispatcher.api_keys (prefix, digest, name, account, campaigns, mapping, rate_limit, created_by, expires_at)
VALUES (:prefix, :digest, :name, :account, CAST(:campaigns AS bigint[]), CAST(:mapping AS text), :rate_limit, :actor,
    coalesce(CAST(:expires_at AS timestamptz), now() + CAST(:expires_in AS interval)))
RETURNING {_COLUMNS}
""")

_FIND = text(f"SELECT {_COLUMNS} FROM dispatcher.api_keys WHERE prefix = :prefix")

_NAMED = text(f"""
SELECT {_COLUMNS} FROM dispatcher.api_keys
WHERE prefix = CAST(:prefix AS text) OR name = :name ORDER BY id DESC LIMIT 3 FOR UPDATE
""")

_LIST = text(f"""
SELECT {_COLUMNS} FROM dispatcher.api_keys
WHERE (CAST(:account AS text) IS NULL OR account = CAST(:account AS text))
ORDER BY id DESC LIMIT :most
""")

_END = text(f"""
-- A key that ends earlier already keeps its end.
UPDATE dispatcher.api_keys
SET revoked_at = CASE WHEN CAST(:overlap AS interval) IS NULL THEN now() ELSE revoked_at END,
    expires_at = least(expires_at, now() + CAST(:overlap AS interval))
WHERE id = :id RETURNING {_COLUMNS}
""")

_USED = text("""
UPDATE dispatcher.api_keys SET last_used_at = now()
WHERE id = :id AND coalesce(last_used_at < now() - interval '1 minute', true)
""")

_STATE = text("""
SELECT count(*) FILTER (WHERE now() < coalesce(expires_at, 'infinity')) AS active,
    count(*) FILTER (WHERE expires_at > now() AND expires_at < now() + interval '14 days') AS ending
FROM dispatcher.api_keys WHERE revoked_at IS NULL
""")


def digest_of(secret: str) -> bytes:
    """Return what is stored of a key."""
    return sha256(secret.encode()).digest()


def find(connection: Connection, prefix: str) -> ApiKey | None:
    """Return the key of this prefix, also one that is revoked or has ended."""
    row = connection.execute(_FIND, {"prefix": prefix}).mappings().first()
    return None if row is None else _key(row)


def note_use(connection: Connection, key_id: int) -> None:
    """Note that a key was used now, unless that was noted within the last minute."""
    connection.execute(_USED, {"id": key_id})


def counts(connection: Connection) -> tuple[int, int]:
    """Return the number of active keys, and of those among them that end within two weeks."""
    row = connection.execute(_STATE).one()
    return row.active, row.ending


class Keys:
    """Makes, lists, replaces and revokes keys. `actor` is written to the audit log, e.g. `ada@ops-1`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, terms: KeyTerms, *, actor: str) -> Issued:
        """Make a key. Raises `NotAllowed` for terms that cannot be, with every fault."""
        _check(terms)
        return self._database.again(_create, terms, actor, "key.create", {})

    def all(self, *, account: str | None = None, most: int = 100) -> list[ApiKey]:
        """Return the keys, the latest first, also those that have ended."""
        if account is not None:
            check_account(account)
        return self._database.read(_all, account, most)

    def rotate(
        self,
        which: str,
        *,
        actor: str,
        overlap: timedelta = OVERLAP,
        expires_at: datetime | timedelta | None = None,
    ) -> tuple[Issued, ApiKey]:
        """Make a key with the same name and rights, and let the old one work for `overlap` more.

        which        the beginning of the key, or its name where only one active key has it
        expires_at   the new key's end; by default it lives as long as the old one was meant to

        Returns the new key, and the old one with its end. Raises `NotAllowed` where no active key is meant.
        """

        def act(connection: Connection) -> tuple[Issued, ApiKey]:
            old = _active(connection, which)
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            terms = KeyTerms(old.name, old.account, old.campaigns, old.mapping, old.rate_limit, expires_at or lifetime)
            _check(terms)
            issued = _create(connection, terms, actor, "key.rotate", {"replaces": old.prefix})
            ended = _key(connection.execute(_END, {"id": old.id, "overlap": overlap}).mappings().one())
            return issued, ended

        return self._database.again(act)

    def revoke(self, which: str, *, actor: str) -> ApiKey:
        """Revoke a key: every intake refuses it within a second. Raises `NotAllowed` where no active key is meant."""

        def act(connection: Connection) -> ApiKey:
            old = _active(connection, which)
            audit.note(connection, actor, "key.revoke", f"key {old.prefix}", {"account": old.account})
            return _key(connection.execute(_END, {"id": old.id, "overlap": None}).mappings().one())

        return self._database.again(act)


def _all(connection: Connection, account: str | None, most: int) -> list[ApiKey]:
    return list(map(_key, connection.execute(_LIST, {"account": account, "most": most}).mappings()))


def _active(connection: Connection, which: str) -> ApiKey:
    shown = _SHOWN.fullmatch(which.strip())
    rows = connection.execute(_NAMED, {"prefix": shown["prefix"] if shown else None, "name": which.strip()}).mappings()
    found = [key for key in map(_key, rows) if key.active]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(f"vdk_{key.prefix}" for key in found[:2])
        raise NotAllowed(f"Several active keys have this name, e.g. {names}; name one by its beginning.")
    raise NotAllowed("No active key has this beginning or name; `dispatcher keys list` shows them.")


def _create(connection: Connection, terms: KeyTerms, actor: str, action: str, more: dict[str, object]) -> Issued:
    prefix = "".join(secrets.choice(ascii_lowercase) for _ in range(10))
    secret = f"vdk_{prefix}_{secrets.token_urlsafe(32)}"
    end = terms.expires_at
    row = connection.execute(
        _INSERT,
        {
            "prefix": prefix, "digest": digest_of(secret), "name": terms.name, "account": terms.account,
            "campaigns": None if terms.campaigns is None else sorted(set(terms.campaigns)), "mapping": terms.mapping,
            "rate_limit": terms.rate_limit, "actor": actor,
            "expires_at": end if isinstance(end, datetime) else None,
            "expires_in": end if isinstance(end, timedelta) else None,
        },
    ).mappings().one()  # fmt: skip
    key = _key(row)
    detail = {"account": key.account, "campaigns": key.campaigns, "mapping": key.mapping, **more}
    audit.note(connection, actor, action, f"key {prefix}", detail)
    return Issued(key, secret)


def _key(row: RowMapping) -> ApiKey:
    return ApiKey.of(row)


def _check(terms: KeyTerms) -> None:
    check_account(terms.account)
    faults: list[str] = []
    name, campaigns = terms.name, terms.campaigns
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        faults.append(f"the name is not 1 to {_LONGEST_NAME} printable characters; say who uses the key")
    elif mask_numbers(name) != name:
        faults.append("the name contains what may be a phone number; say who uses the key in words")
    if campaigns is not None and not (
        0 < len(campaigns) <= MOST_CAMPAIGNS and all(0 < one <= MAX_CAMPAIGN_ID for one in campaigns)
    ):
        faults.append(f"the campaigns are not 1 to {MOST_CAMPAIGNS} ids; give Voicery's, or none for all")
    try:
        parse_rate_limit(terms.rate_limit)
    except ValueError as fault:
        faults.append(f"the rate limit {fault}; write e.g. 600/minute, or off")
    if isinstance(terms.expires_at, timedelta) and terms.expires_at <= timedelta(0):
        faults.append("the end lies in the past; give a time to come, e.g. 365d")
    if faults:
        raise NotAllowed(f"The key was refused, nothing was stored: {'; '.join(faults)}.")
