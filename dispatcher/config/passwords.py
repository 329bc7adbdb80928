"""The passwords in addresses of several servers, which `urllib.parse` refuses where one of them is an IPv6 address."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

_USER: Final = re.compile(r"\A(?P<before>[a-z][a-z0-9+]*://)(?P<user>[^/?#]*)@")
_PARAMETERS: Final = frozenset({"password", "sentinel_password", "ssl_password", "sslpassword"})


def passwords_of(url: str) -> list[str]:
    """Return the passwords of an address, as they are written and as they are meant."""
    _, _, query = url.partition("#")[0].partition("?")
    found = [value for name, value in parse_qsl(query) if name in _PARAMETERS]
    written = server_password(url)
    return [*found, written, unquote(written)] if written else found


def server_password(url: str) -> str:
    """Return the password in front of the servers, as it is written; empty without one."""
    user = _USER.match(url)
    return user["user"].partition(":")[2] if user else ""


def without_user(url: str) -> str:
    """Return the address without the name and the password in front of its servers."""
    return _USER.sub(lambda found: found["before"], url, count=1)
