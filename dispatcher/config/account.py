"""An account: one Voicery workspace, with its token and the base URL it may be sent to.

The token comes from the environment or, so that it can be rotated without a restart, from a file read at each use.
"""

import os
import pwd
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from dispatcher.config.secret_files import secret_in
from dispatcher.config.setting import Secret
from dispatcher.config.urls import check_base_url, is_loopback
from dispatcher.errors import FieldError, NotConfigured
from dispatcher.lead.options import ACCOUNT_NAME, DEFAULT_ACCOUNT

MAX_PERMITS: Final = 100_000  # the limiter remembers each of them
MAX_WINDOW_SECONDS: Final = 86_400.0

EXAMPLES: Final = "write it like 30/minute, or 100/minute; 20/10 seconds, or off"

_OFF = frozenset({"off", "none"})
_UNIT_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_WINDOW = re.compile(
    r"(?P<permits>\d{1,9}) */ *(?P<count>\d{1,6}(?:\.\d{1,3})?)? *(?P<unit>second|minute|hour|day)s?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class RateWindow:
    """At most `permits` requests in any `seconds`."""

    permits: int
    seconds: float

    def __post_init__(self) -> None:
        if not 1 <= self.permits <= MAX_PERMITS:
            raise ValueError(f"allows a number of requests that is not between 1 and {MAX_PERMITS}")
        if not 0 < self.seconds <= MAX_WINDOW_SECONDS:
            raise ValueError("has a window that is not between 0 seconds and a day")

    def __str__(self) -> str:
        return f"{self.permits}/{self.seconds:g} seconds"


def parse_rate_limit(text: str) -> tuple[RateWindow, ...]:
    """Read `100/minute; 20/10 seconds`; `off` is no limit, an empty tuple. Raises `ValueError` with the fault."""
    if text.strip().lower() in _OFF:
        return ()
    windows = []
    for part in re.split("[;,]", text):
        found = _WINDOW.fullmatch(part.strip())
        if found is None:
            raise ValueError("is not a rate limit: so many per second, minute, hour or day")
        seconds = float(found["count"] or 1) * _UNIT_SECONDS[found["unit"].lower()]
        windows.append(RateWindow(int(found["permits"]), seconds))
    return tuple(windows)


def pinned_url(base_url: str) -> str:
    """The base URL as an account is bound to it. A sandbox may come back on another port of this machine."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    where = host if is_loopback(host) else parts.netloc.lower()
    return f"{parts.scheme}://{where}{parts.path.rstrip('/')}"


def whoami() -> str:
    """Return the user of this process at this machine, e.g. `ada@ops-1`."""
    return f"{local_user()}@{socket.gethostname()}"


def local_user() -> str:
    """Return the name of this process's user by its uid. Not by LOGNAME, which everybody sets as they like."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"  # in a container the user often has no name


DEFAULT_BASE_URL: Final = "https://app.voicery.ai/api"

_PRINTABLE: Final = re.compile(r"[!-~]{1,4096}")  # what can stand in a header without ending it
_NOT_ONE: Final = "is not a token: it is empty, or has spaces, line breaks or characters beyond ASCII"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it was read, and what tells it from another and gives neither away."""

    secret: Secret
    fingerprint: str

    @classmethod
    def of(cls, text: str) -> "Token":
        """Return the token of this text."""
        return cls(Secret(text), sha256(b"voicery-dispatcher token\0" + text.encode()).hexdigest()[:16])


class AccountSettings(BaseModel):
    """The settings of one account. A producer needs no token; a worker needs `token` or `token_file`, not both.

    While a token is rotated, `next_token` or `next_token_file` holds the second one, which is used once Voicery refuses
    the first. Files are read at each use.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = DEFAULT_ACCOUNT
    token: Secret | None = None
    token_file: Path | None = None
    next_token: Secret | None = None
    next_token_file: Path | None = None
    base_url: str = DEFAULT_BASE_URL

    @property
    def has_token(self) -> bool:
        """Whether a token is set; whether its file can be read is known only at use."""
        return self.token is not None or self.token_file is not None

    def read_token(self) -> str:
        """Return the first token; a file is read at each call. Raises `NotConfigured`, never with the token in it."""
        token = self._read("VOICERY_API_TOKEN", self.token, self.token_file)
        if token is None:
            variable = self.variable("VOICERY_API_TOKEN")
            raise NotConfigured(f"{variable} is not set; create a token in Voicery's settings, then set it here.")
        return token

    def read_next_token(self) -> str | None:
        """Return the second token; None without one, and where its file is not there or is empty. Raises as above."""
        if self.next_token_file is not None:
            with suppress(OSError):  # what else is wrong with it is told when it is read
                if self.next_token_file.stat().st_size == 0:
                    return None
            if not os.path.lexists(self.next_token_file):
                return None
        return self._read("VOICERY_API_TOKEN_NEXT", self.next_token, self.next_token_file)

    def _read(self, name: str, token: Secret | None, path: Path | None) -> str | None:
        if path is not None:
            return self._token_of(path, self.variable(f"{name}_FILE"))
        return None if token is None else token.reveal().strip()

    @staticmethod
    def _token_of(path: Path, variable: str) -> str:
        token = secret_in(path, variable)
        if _PRINTABLE.fullmatch(token) is None:
            token = ""  # tracebacks show local variables
            raise NotConfigured(f"{variable}: what the file holds {_NOT_ONE}; write the token into it, and only that.")
        return token

    def faults(self, *, allow_http: bool) -> list[FieldError]:
        """Return every fault that can be found without opening a file or a socket."""
        faults = []
        first, base_url = self.variable("VOICERY_API_TOKEN"), self.variable("VOICERY_BASE_URL")
        second = self.variable("VOICERY_API_TOKEN_NEXT")
        if ACCOUNT_NAME.fullmatch(self.name) is None:
            faults.append(FieldError(first, "does not end in a name of an account", "use 1 to 40 of a-z, 0-9 and _"))
        tokens = (first, self.token, self.token_file), (second, self.next_token, self.next_token_file)
        for name, token, path in tokens:
            if token is not None and path is not None:
                faults.append(FieldError(name, "is set beside the file", "set one of the two"))
            if token is not None and _PRINTABLE.fullmatch(token.reveal().strip()) is None:
                faults.append(FieldError(name, _NOT_ONE, "copy it again from Voicery's settings"))
        if not self.has_token and (self.next_token is not None or self.next_token_file is not None):
            faults.append(FieldError(second, "is set without a first token", f"set {first}"))
        about_the_url = check_base_url(self.base_url, allow_http=allow_http)
        return faults + [FieldError(base_url, fault, f"the default is {DEFAULT_BASE_URL}") for fault in about_the_url]

    def variable(self, name: str) -> str:
        """Return this account's environment variable: that of the default account has no suffix."""
        return name if self.name == DEFAULT_ACCOUNT else f"{name}__{self.name.upper()}"
