"""The users of the console: their roles, password hashes and sessions."""

import hashlib
import hmac
import re
import secrets
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final

from dispatcher.config.setting import Secret
from dispatcher.errors import NotConfigured
from dispatcher.lead.options import ACCOUNT_NAME

PASSWORD_LENGTH: Final = 12
"""The shortest password that `hash_password` accepts (OWASP ASVS 5.0.0, 6.2.1 asks for 8, better 15)."""

_COST: Final = 15  # N = 2**15, r = 8, p = 1: 32 MiB and about 100 ms (RFC 7914; OWASP password storage)
_BLOCK: Final = 8
_MEMORY: Final = 64 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Role(StrEnum):
    """The roles of users; each includes the ones before it."""

    VIEWER = "viewer"
    """Reads; phone numbers stay masked."""
    OPERATOR = "operator"
    """Acts on leads and campaigns, reveals numbers, exports."""
    ADMIN = "admin"
    """Sets limits, pauses whole accounts, and may replay a lead that could cause a second call."""

    def includes(self, other: "Role") -> bool:
        """Return whether this role includes the rights of `other`."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


@dataclass(frozen=True, slots=True)
class User:
    """A user. The audit log shows the name. `stamp` changes with the password. `accounts` None: all of them."""

    name: str
    role: Role
    stamp: str = field(default="", repr=False, compare=False)
    accounts: frozenset[str] | None = None

    def reaches(self, account: str) -> bool:
        """Return whether this user may see and change what belongs to the account."""
        return self.accounts is None or account in self.accounts


class Users:
    """The users from the environment and from the users file, which is read again at each request. Thread-safe."""

    def __init__(self, users: Secret | None, path: Path | None) -> None:
        """Raise `NotConfigured` for a line that is not `name:role:hash` or `name:role:hash:account,account`.

        The message names the line without its text.
        """
        self._users = users
        self._path = path
        self._text = self._read()
        self._known = self._parse(self._text)

    @property
    def anyone(self) -> bool:
        """Return whether any user with a password is configured."""
        return bool(self._known)

    def check(self, name: str, password: str) -> User | None:
        """Return the person if name and password are right. An unknown name takes as long as a wrong password.

        Raises `NotConfigured` if the users file cannot be read.
        """
        self._refresh()
        person, expected = self._known.get(name, (None, _NOBODY))
        right = _matches(password, expected)
        return person if right else None

    def find(self, name: str) -> User | None:
        """Return this user as configured now; None if there is none. Raises `NotConfigured` as `check` does."""
        self._refresh()
        known = self._known.get(name)
        return None if known is None else known[0]

    def still(self, person: User) -> bool:
        """Return whether this user has the role, accounts and password of the login. Raises `NotConfigured`."""
        now = self.find(person.name)
        return now == person and person.stamp in ("", now.stamp)

    def _refresh(self) -> None:
        if self._path is not None and (text := self._read()) != self._text:
            self._known = self._parse(text)
            self._text = text

    def _read(self) -> str:
        if self._path is None:
            return ""
        try:
            return self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotConfigured(
                f"DISPATCHER_CONSOLE_USERS_FILE cannot be read ({type(error).__name__}); give the path of a text file."
            ) from None

    def _parse(self, text: str) -> Mapping[str, tuple[User, str]]:
        lines: list[str] = self._users.reveal().split() if self._users is not None else []
        return dict(_users([*lines, *text.splitlines()]))


def hash_password(password: str) -> str:
    """Return `scrypt.15.8.1.<salt>.<hash>`, without characters that a shell or a compose file would expand."""
    if len(password) < PASSWORD_LENGTH:
        raise NotConfigured(f"A password of the console has at least {PASSWORD_LENGTH} characters.")
    salt = secrets.token_bytes(16)
    return f"scrypt.{_COST}.{_BLOCK}.1.{_text(salt)}.{_text(_scrypt(password, salt, _COST))}"


def _users(lines: Iterable[str]) -> Iterable[tuple[str, tuple[User, str]]]:
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, _, rest = stripped.partition(":")
        role, _, rest = rest.partition(":")
        hashed, confined, listed = rest.partition(":")
        accounts = accounts_in(listed) if confined else None
        known = _NAME.fullmatch(name) is not None and role in set(Role) and _well_formed(hashed)
        if not known or (confined and not accounts):
            raise NotConfigured(
                f"User {number} of the console is not name:role:hash with the role viewer, operator or admin, nor "
                "name:role:hash:account,account with the names of accounts; `dispatcher console --hash NAME:ROLE` "
                "writes such a line, and with NAME:ROLE:ACCOUNT one with accounts."
            )
        yield name, (User(name, Role(role), sha256(hashed.encode()).hexdigest(), accounts), hashed)


def accounts_in(listed: str) -> frozenset[str] | None:
    """Return the accounts of a text like `acme,globex`; None if it is no such text."""
    names = listed.split(",")
    return frozenset(names) if all(map(ACCOUNT_NAME.fullmatch, names)) else None


def _well_formed(hashed: str) -> bool:
    parts = hashed.split(".")
    return (
        len(parts) == 6 and parts[0] == "scrypt" and parts[1] in {"14", "15", "16", "17"} and parts[2:4] == ["8", "1"]
    )


def _matches(password: str, hashed: str) -> bool:
    _, cost, _, _, salt, expected = hashed.split(".")
    return hmac.compare_digest(_scrypt(password, _bytes(salt), int(cost)), _bytes(expected))


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    memory = max(_MEMORY, 2 * 128 * _BLOCK * 2**cost)
    return hashlib.scrypt(password.encode(), salt=salt, n=2**cost, r=_BLOCK, p=1, maxmem=memory, dklen=32)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


_NOBODY: Final = f"scrypt.{_COST}.{_BLOCK}.1.{_text(bytes(16))}.{_text(bytes(32))}"
"""The hash that is checked for an unknown name, so that the check takes equally long; no password matches it."""


LONGEST_SECONDS: Final = 12 * 3600.0
"""The longest duration of a session in seconds: a working day."""

REVEAL_SECONDS: Final = 600.0
"""The time in seconds after which revealed numbers are masked again."""

_MOST_SESSIONS: Final = 1000  # above it the session that has been idle longest is ended


@dataclass(slots=True)
class Session:
    """One browser session of one user. Times are seconds of a monotonic clock."""

    person: User
    started: float
    seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    by_key: bool = False  # logged in with the one-time link of the terminal
    revealed_until: float = 0.0
    theme: str = "auto"
    wrote: float = float("-inf")
    notices: list[tuple[str, str]] = field(default_factory=list)  # (kind, sentence), shown once

    def knows(self, token: str) -> bool:
        """Return whether this is the session's CSRF token, by a comparison in constant time."""
        return hmac.compare_digest(self.csrf.encode(), token.encode())


class Sessions:
    """All sessions of this process. Thread-safe. A session ends after `idle_seconds` without a request."""

    def __init__(self, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._by_hash: dict[bytes, Session] = {}

    def begin(self, person: User, *, by_key: bool = False) -> tuple[str, Session]:
        """Return a new cookie and its session, so that one set by an attacker before is useless (CWE-384)."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        session = Session(person, now, now, by_key=by_key)
        with self._lock:
            self._drop_ended(now)
            if len(self._by_hash) >= _MOST_SESSIONS:
                del self._by_hash[min(self._by_hash, key=lambda one: self._by_hash[one].seen)]
            self._by_hash[_hash(cookie)] = session
        return cookie, session

    def find(self, cookie: str | None) -> Session | None:
        """Return the active session of a cookie, and restart its idle time."""
        if not cookie:
            return None
        now = self._clock()
        with self._lock:
            session = self._by_hash.get(_hash(cookie))
            if session is None:
                return None
            if self._ended(session, now):
                del self._by_hash[_hash(cookie)]
                return None
            session.seen = now
            return session

    def end(self, cookie: str | None) -> None:
        """Delete a session."""
        with self._lock:
            self._by_hash.pop(_hash(cookie or ""), None)

    def reveal(self, session: Session) -> None:
        """Show numbers in this session for `REVEAL_SECONDS`."""
        session.revealed_until = self._clock() + REVEAL_SECONDS

    def mask(self, session: Session) -> None:
        """Mask numbers again."""
        session.revealed_until = 0.0

    def revealed(self, session: Session) -> bool:
        """Return whether this session shows numbers now."""
        return self._clock() < session.revealed_until

    def note_write(self, session: Session) -> None:
        """Remember that this session may just have changed something."""
        session.wrote = self._clock()

    def wrote_within(self, session: Session, seconds: float) -> bool:
        """Return whether this session may have changed something within the last `seconds`."""
        return self._clock() - session.wrote <= seconds

    def _ended(self, session: Session, now: float) -> bool:
        return now - session.seen > self._idle_seconds or now - session.started > LONGEST_SECONDS

    def _drop_ended(self, now: float) -> None:
        for key in [key for key, session in self._by_hash.items() if self._ended(session, now)]:
            del self._by_hash[key]


def _hash(cookie: str) -> bytes:
    """Hash a cookie. The cookie itself is not stored, so that a memory dump of this process gives no access."""
    return sha256(cookie.encode()).digest()
