"""Sessions: kept here and named by a random cookie, so that a log-out or a restart really ends them."""

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from dispatcher.console.people import Person

LONGEST_SECONDS: Final = 12 * 3600.0
"""A session ends after this, however busy: a working day."""

REVEAL_SECONDS: Final = 600.0
"""Numbers that were revealed are masked again after this."""

_MOST: Final = 1000  # more are ended, the idlest first: memory is not for those who log in again and again


@dataclass(slots=True)
class Session:
    """One browser of one person. Times are of a monotonic clock, in seconds."""

    person: Person
    started: float
    seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    by_key: bool = False  # entered with the one-time link of the terminal
    revealed_until: float = 0.0
    theme: str = "auto"
    notices: list[tuple[str, str]] = field(default_factory=list)  # (kind, sentence), shown once

    def knows(self, token: str) -> bool:
        """Whether this is the session's CSRF token; takes as long for any."""
        return hmac.compare_digest(self.csrf.encode(), token.encode())


class Sessions:
    """All sessions of this process. Thread-safe. `idle_seconds` without a request end one."""

    def __init__(self, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._by_hash: dict[bytes, Session] = {}

    def begin(self, person: Person, *, by_key: bool = False) -> tuple[str, Session]:
        """A new session with a cookie of its own: what an attacker planted before the login is worth nothing."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        session = Session(person, now, now, by_key=by_key)
        with self._lock:
            self._drop_ended(now)
            if len(self._by_hash) >= _MOST:
                del self._by_hash[min(self._by_hash, key=lambda one: self._by_hash[one].seen)]
            self._by_hash[_hash(cookie)] = session
        return cookie, session

    def find(self, cookie: str | None) -> Session | None:
        """The live session of a cookie, which counts as seen now."""
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
        """Forget a session."""
        with self._lock:
            self._by_hash.pop(_hash(cookie or ""), None)

    def reveal(self, session: Session) -> None:
        """Show numbers in this session for `REVEAL_SECONDS`."""
        session.revealed_until = self._clock() + REVEAL_SECONDS

    def mask(self, session: Session) -> None:
        """Mask numbers again."""
        session.revealed_until = 0.0

    def revealed(self, session: Session) -> bool:
        """Whether this session sees numbers now."""
        return self._clock() < session.revealed_until

    def _ended(self, session: Session, now: float) -> bool:
        return now - session.seen > self._idle_seconds or now - session.started > LONGEST_SECONDS

    def _drop_ended(self, now: float) -> None:
        for key in [key for key, session in self._by_hash.items() if self._ended(session, now)]:
            del self._by_hash[key]


def _hash(cookie: str) -> bytes:
    """The cookie itself is kept nowhere: a dump of this process opens no session."""
    return sha256(cookie.encode()).digest()
