"""Coming in and leaving: passwords, the one-time link of a console without users, and the session's own switches."""

import getpass
import hmac
import secrets
import threading
from collections.abc import Callable
from typing import Final

from dispatcher.console.people import People, Person, Role
from dispatcher.console.throttle import Throttle

TOO_MANY: Final = "Too many failed logins. Wait {seconds:.0f} s and try again."
WRONG: Final = "Name or password is wrong."
SPENT: Final = "That link has been used or is not the latest; the console prints the next one in its terminal."


class OneTimeKey:
    """The way in where no users are set: whoever started the console reads it in the terminal, as of a notebook.

    Each key opens one session; `announce` is told of the next at once.
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._lock = threading.Lock()
        self._key = secrets.token_urlsafe(24)

    def print(self) -> None:
        """Tell the current key."""
        self._announce(self._key)

    def use(self, key: str) -> Person | None:
        """The person of this machine, if this is the key; it opens nothing a second time."""
        with self._lock:
            if not hmac.compare_digest(self._key.encode(), key.encode()):
                return None
            self._key = secrets.token_urlsafe(24)
        self.print()
        return Person(_local_name(), Role.ADMIN)


class Lobby:
    """Decides who comes in. Thread-safe; at most two passwords are checked at once, for the memory they take."""

    def __init__(self, people: People, key: OneTimeKey | None, throttle: Throttle) -> None:
        self.people = people
        self.key = key
        self.throttle = throttle
        self._few = threading.BoundedSemaphore(2)

    def enter(self, name: str, password: str, source: str) -> Person | str:
        """The person, or why not. `source` is the address that asks."""
        keys = (f"name:{name}", f"source:{source}")
        wait = self.throttle.wait_seconds(*keys)
        if wait:
            return TOO_MANY.format(seconds=wait)
        with self._few:
            person = self.people.check(name, password)
        if person is None:
            self.throttle.failed(*keys)
            return WRONG
        self.throttle.succeeded(*keys)
        return person

    def enter_by_key(self, key: str, source: str) -> Person | str:
        """The person at this machine, or why not."""
        wait = self.throttle.wait_seconds(f"key:{source}")
        if wait:
            return TOO_MANY.format(seconds=wait)
        person = self.key.use(key) if self.key is not None else None
        if person is None:
            self.throttle.failed(f"key:{source}")
            return SPENT
        return person


def _local_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "local"
