"""The addresses of the two stores as people write them, in the one form that our drivers take.

Every function raises `ValueError` with the fault, never with the address: it carries a password.
"""

import re
from typing import Final
from urllib.parse import urlsplit

_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<rest>.*)", re.DOTALL)
_POSTGRES: Final = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_REDIS: Final = {"redis": "redis", "rediss": "rediss", "unix": "unix", "redis+socket": "unix"}
_POSTGRES_HOST: Final = re.compile(r"(?:[^@]*@)?(?:\[[^\]/?]+\]|[^\[\]/:?@]*)(?::\d*)?(?:[/?]|$)", re.ASCII)
_REDIS_PATH: Final = re.compile(r"/?|/\d{1,5}")


def normal_database_url(url: str) -> str:
    """`postgres://…` and `postgresql://…` become `postgresql+psycopg://…`, which names the driver that we install."""
    scheme, rest = _split(url)
    if scheme.startswith("postgresql+") and scheme not in _POSTGRES:
        raise ValueError("names another driver than psycopg 3; write postgresql://")
    if scheme not in _POSTGRES:
        raise ValueError("is not a Postgres address; the dispatcher needs Postgres 14 or newer")
    if _POSTGRES_HOST.match(rest) is None and "," not in rest:
        raise ValueError("has no usable host and port; percent-encode / ? # @ : [ ] in the password")
    return f"postgresql+psycopg://{rest}"


def normal_redis_url(url: str) -> str:
    """`redis://`, `rediss://` (TLS) or `unix://` of one Redis server; clusters and sentinels are refused."""
    scheme, rest = _split(url)
    _refuse_many(scheme, rest)
    match _REDIS.get(scheme):
        case None:
            raise ValueError("is not a Redis address; write redis://, rediss:// or unix://")
        case "unix":
            if not rest.startswith("/") and "@/" not in rest:
                raise ValueError("names no socket; write unix:///path/of/redis.sock")
            return f"unix://{rest}"
        case normal:
            _check_server(f"{normal}://{rest}")
            return f"{normal}://{rest}"


def _refuse_many(scheme: str, rest: str) -> None:
    """Celery cannot use a cluster as its broker, and would say so only by strange errors."""
    address, _, query = rest.partition("?")
    host = address.rpartition("@")[2]
    if "sentinel" in scheme:
        raise ValueError("names a Redis sentinel, which is not supported; give the address of the server itself")
    # AWS names the entry to a cluster `clustercfg.…`.
    if (
        "cluster" in scheme
        or "cluster" in query.lower()
        or "," in host
        or ";" in host
        or host.startswith("clustercfg.")
    ):
        raise ValueError("names a Redis cluster or several servers, which Celery cannot use; give the address of one")


def _check_server(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has no usable host and port; percent-encode / ? # @ : in the password") from None
    if not host:
        raise ValueError("names no host")
    if _REDIS_PATH.fullmatch(parts.path) is None:
        raise ValueError("has a path that is not the number of a database")


def _split(url: str) -> tuple[str, str]:
    found = _SCHEME.fullmatch(url)
    if found is None or not url.isprintable() or " " in url:
        raise ValueError("is not an address of the form scheme://user:password@host:port/name")
    return found["scheme"].lower(), found["rest"]
