"""The login: by name and password, or without users by a one-time link."""

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dispatcher.config.account import local_user
from dispatcher.console.auth import Role, User, Users
from dispatcher.errors import NotConfigured
from dispatcher.web.throttle import Throttle, source_of

TOO_MANY: Final = "Too many failed logins. Wait {seconds:.0f} s and try again."
WRONG: Final = "Name or password is wrong."
SPENT: Final = "That link has been used or is not the latest; the console prints the next one in its terminal."
UNREADABLE: Final = (
    "The list of users cannot be read now, so nobody can log in; the administrator finds why in the log."
)


class OneTimeKey:
    """The login without configured users: a one-time key that the console prints in its terminal, as notebooks do.

    Each key opens one session; after that `announce` is called with the next key.
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._lock = threading.Lock()
        self._key = secrets.token_urlsafe(24)

    def print(self) -> None:
        """Announce the current key."""
        self._announce(self._key)

    def use(self, key: str) -> User | None:
        """Return the local user if this is the current key, which is then invalid."""
        with self._lock:
            if not hmac.compare_digest(self._key.encode(), key.encode()):
                return None
            self._key = secrets.token_urlsafe(24)
        self.print()
        return User(local_user(), Role.ADMIN)


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """The reason for a refused login.

    wait_seconds   the time until the next try is checked; 0 for at once
    checked        the password was compared, and was wrong
    locked_seconds for how long this failure locks its source
    """

    text: str
    wait_seconds: float = 0.0
    checked: bool = False
    locked_seconds: float = 0.0


class Login:
    """Checks logins. Thread-safe; at most two passwords are checked at once, because each takes 32 MiB."""

    def __init__(self, users: Users, key: OneTimeKey | None, throttle: Throttle) -> None:
        self.users = users
        self.key = key
        self.throttle = throttle
        self._few = threading.BoundedSemaphore(2)

    def by_password(self, name: str, password: str, source: str) -> User | LoginRefused:
        """Return the user with this name and password. `source`: the address of the client."""

        def check() -> User | None:
            with self._few:
                return self.users.check(name, password)

        return self._tried(check, WRONG, source, name)

    def by_key(self, key: str, source: str) -> User | LoginRefused:
        """Return the local user if this is the one-time key. `source`: the address of the client."""
        return self._tried(lambda: None if self.key is None else self.key.use(key), SPENT, source)

    def _tried(
        self, check: Callable[[], User | None], fault: str, host: str, name: str | None = None
    ) -> User | LoginRefused:
        """Check a login that the throttle admits, which counts as a failure until it has succeeded."""
        source = source_of(host)
        wait_seconds = self.throttle.admit(source, name)
        if wait_seconds:
            return LoginRefused(TOO_MANY.format(seconds=wait_seconds), wait_seconds)
        try:
            person = check()
        except NotConfigured:
            return LoginRefused(UNREADABLE)
        if person is None:
            return LoginRefused(fault, checked=True, locked_seconds=self.throttle.wait_seconds(source))
        self.throttle.succeeded(source, name)
        return person
