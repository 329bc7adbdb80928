"""The part of a Postgres address behind `postgresql://`, as libpq reads it: hosts, and the parameters it knows.

Source: PostgreSQL 18, chapters 32.1.1 (connection strings) and 32.1.2 (parameter key words).
"""

import re
from difflib import get_close_matches
from typing import Final
from urllib.parse import quote, unquote

_CREDENTIALS: Final = re.compile(r"(?P<user>[^:/?#@]*)(?::(?P<password>[^@]*))?@(?P<after>.*)", re.DOTALL)
_HOST: Final = re.compile(r"(\[[^\]/?]+\]|[^\[\]:/?@]*)(:\d*)?", re.ASCII)
_HOST_WITH_PORT: Final = re.compile(r"[^:/]+:\d+", re.ASCII)
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

# fmt: off
KNOWN: Final = frozenset((
    "application_name", "channel_binding", "connect_timeout", "dbname", "fallback_application_name",
    "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives", "keepalives_count",
    "keepalives_idle", "keepalives_interval", "krbsrvname", "load_balance_hosts", "max_protocol_version",
    "min_protocol_version", "options", "passfile", "password", "port", "require_auth", "requirepeer", "requiressl",
    "scram_client_key", "scram_server_key", "service", "ssl", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcompression", "sslcrl", "sslcrldir", "sslkey",
    "sslkeylogfile", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "sslsni", "target_session_attrs",
    "tcp_user_timeout", "user",
))
# fmt: on
_REMEDIES: Final = {
    "client_encoding": "the dispatcher sets it itself; remove it",
    "replication": "the dispatcher needs an ordinary session; remove it",
    "pgbouncer": "Postgres does not know it; remove it and set DISPATCHER_POOLER=true",
    "prepare_threshold": "Postgres does not know it; remove it and set DISPATCHER_POOLER=true",
    "statement_cache_size": "Postgres does not know it; remove it and set DISPATCHER_POOLER=true",
    "prepared_statements": "Postgres does not know it; remove it and set DISPATCHER_POOLER=true",
    "schema": "the tables are in the schema dispatcher; remove it",
    "connection_limit": "Postgres does not know it; remove it, the pool is sized by DISPATCHER_CONCURRENCY",
    "pool_timeout": "Postgres does not know it; remove it",
}
_NUMBERS: Final = frozenset(
    ["connect_timeout", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"]
)
_CHOICES: Final = {
    "target_session_attrs": frozenset(["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]),
    "sslmode": frozenset(["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
    "load_balance_hosts": frozenset({"disable", "random"}),
    "channel_binding": frozenset({"require", "prefer", "disable"}),
    "gssencmode": frozenset({"disable", "prefer", "require"}),
}


def libpq_address(rest: str) -> str:
    """Return `rest` so that libpq can read it: a / or a lone % in the password is percent-encoded.

    Raises:
        ValueError: libpq would refuse it. The message names the parameter and never quotes a value.
    """
    rest = _with_readable_password(rest)
    authority, query = _divided(rest)
    hosts = authority.partition("@")[2] if "@" in authority else authority
    if not _are_hosts(hosts):
        raise ValueError("has no usable host and port; percent-encode / ? # @ : [ ] in the password")
    for pair in query.split("&") if query else ():
        _check_parameter(pair)
    return rest


def _with_readable_password(rest: str) -> str:
    authority, _ = _divided(rest)
    found = _CREDENTIALS.fullmatch(rest)
    if found is None or found["password"] is None or ("@" not in authority and _are_hosts(authority)):
        return rest
    if "/" not in found["password"] and not _BAD_PERCENT.search(found["password"]):
        return rest
    password = quote(unquote(found["password"]), safe="!#$&'()*+,;=?~:[]")
    return f"{found['user']}:{password}@{found['after']}"


def _divided(rest: str) -> tuple[str, str]:
    """Divide into what is before the path, and the query."""
    credentials, at, _ = rest.partition("@")
    start = len(credentials) + 1 if at and "/" not in credentials else 0
    end = min((index for index in (rest.find("/", start), rest.find("?", start)) if index >= 0), default=len(rest))
    return rest[:end], rest[end:].partition("?")[2]


def _are_hosts(hosts: str) -> bool:
    return all(_HOST.fullmatch(host) and _has_port(host) for host in hosts.split(","))


def _has_port(host: str) -> bool:
    port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else ""
    return not port or 0 < int(port) < 65_536


def _check_parameter(pair: str) -> None:
    written, equals, value = pair.partition("=")
    name, value = unquote(written), unquote(value)
    if name in _REMEDIES:
        raise ValueError(f"has the parameter {name}: {_REMEDIES[name]}")
    if name not in KNOWN:
        nearest = get_close_matches(name, KNOWN, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "remove it"
        shown = name if re.fullmatch(r"\w{1,40}", name) else "with a strange name"
        raise ValueError(f"has the parameter {shown}, which Postgres does not know; {hint}")
    if not equals or _BAD_PERCENT.search(pair):
        raise ValueError(f"has an unreadable value of {name}; write {name}=…, with % as %25")
    if name == "host" and any(_HOST_WITH_PORT.fullmatch(host) for host in value.split(",")):
        raise ValueError("names a port in the parameter host; write host=h1,h2&port=5432,5433")
    if name in _NUMBERS and re.fullmatch(r"[0-9]{1,9}", value) is None:
        raise ValueError(f"has a value of {name} that is no whole number")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ValueError(f"has a value of {name} that is none of {', '.join(sorted(_CHOICES[name]))}")
    if name == "ssl" and value != "true":
        raise ValueError("has a value of ssl that Postgres does not know; write sslmode=…")
