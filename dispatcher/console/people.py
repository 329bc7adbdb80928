"""Who may use the console: names, roles and hashed passwords."""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from dispatcher.config.secret import Secret
from dispatcher.errors import NotConfigured

PASSWORD_LENGTH: Final = 12
"""The shortest password that `hash_password` takes (OWASP ASVS 5.0.0, 6.2.1 asks for 8, better 15)."""

_COST: Final = 15  # N = 2**15, r = 8, p = 1: 32 MiB and about 100 ms (RFC 7914; OWASP password storage)
_BLOCK: Final = 8
_MEMORY: Final = 64 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Role(StrEnum):
    """What somebody may do; each includes the ones before it."""

    VIEWER = "viewer"
    """Reads; numbers stay masked."""
    OPERATOR = "operator"
    """Acts on leads and campaigns, reveals numbers, exports."""
    ADMIN = "admin"
    """Sets limits, pauses whole accounts, and takes the risk of a second call."""

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what `other` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may log in. The name is what the audit log shows."""

    name: str
    role: Role


class People:
    """The users of the environment and of the users file, which is read again at each login."""

    def __init__(self, users: Secret | None, path: Path | None) -> None:
        """Raise `NotConfigured` for a line that is not `name:role:hash`, naming the line and showing nothing of it."""
        self._users = users
        self._path = path
        self._known = self._read()

    @property
    def anyone(self) -> bool:
        """Whether there is anybody who could log in with a password."""
        return bool(self._known)

    def check(self, name: str, password: str) -> Person | None:
        """The person, if name and password are right. An unknown name takes as long as a wrong password."""
        self._known = self._read()
        person, expected = self._known.get(name, (None, _NOBODY))
        right = _matches(password, expected)
        return person if right else None

    def role_of(self, name: str) -> Role | None:
        """The role that this person has now; None if they are no longer listed."""
        known = self._known.get(name)
        return None if known is None else known[0].role

    def _read(self) -> Mapping[str, tuple[Person, str]]:
        lines: list[str] = self._users.reveal().split() if self._users is not None else []
        if self._path is not None:
            try:
                lines += self._path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise NotConfigured(
                    f"DISPATCHER_CONSOLE_USERS_FILE cannot be read ({type(error).__name__}); "
                    "give the path of a text file."
                ) from None
        return dict(_people(lines))


def hash_password(password: str) -> str:
    """`scrypt.15.8.1.<salt>.<hash>`, without characters that a shell or a compose file would expand."""
    if len(password) < PASSWORD_LENGTH:
        raise NotConfigured(f"A password of the console has at least {PASSWORD_LENGTH} characters.")
    salt = secrets.token_bytes(16)
    return f"scrypt.{_COST}.{_BLOCK}.1.{_text(salt)}.{_text(_scrypt(password, salt, _COST))}"


def _people(lines: Iterable[str]) -> Iterable[tuple[str, tuple[Person, str]]]:
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, _, rest = stripped.partition(":")
        role, _, hashed = rest.partition(":")
        if _NAME.fullmatch(name) is None or role not in set(Role) or not _well_formed(hashed):
            raise NotConfigured(
                f"User {number} of the console is not name:role:hash with the role viewer, operator or admin; "
                "`dispatcher console --hash NAME:ROLE` writes such a line."
            )
        yield name, (Person(name, Role(role)), hashed)


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
"""What an unknown name is compared with: no password has this hash, and comparing takes as long as any."""
