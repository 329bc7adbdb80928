"""Connections to Postgres: opened by libpq from `DATABASE_URL`, with every setting that our queries or guarantees need.

What a server, a database or a role sets by default must not decide how a timestamp is read or what a transaction sees.
The settings go into the start-up options; what they cannot carry is verified on each new connection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Connection
from sqlalchemy.pool import ConnectionPoolEntry

from dispatcher.errors import StoreUnavailable
from dispatcher.store.primaries import Primaries
from dispatcher.store.trouble import NothingDone

Arguments = dict[str, Any]

PINNED: Final = {
    "client_encoding": "UTF8",
    "datestyle": "ISO, MDY",  # the driver reads no other
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",  # a claim must see a pause that was committed while it waited
    "default_transaction_deferrable": "off",
    "client_min_messages": "notice",  # a commit that no standby has is told by a warning (`note_alone`)
    "row_security": "off",  # a policy that hides leads is refused by Postgres, not obeyed unnoticed
    "search_path": "pg_catalog",  # our names are written in full; nothing may shadow now() and =
}
"""Name and value of the settings that decide what we read or what a transaction sees."""

DURABLE: Final = {"synchronous_commit": "on"}
"""A claim must survive a crash of Postgres before its POST may leave."""

BOUNDS: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",  # what a process holds that is frozen in mid-transaction, others lack
    "idle_session_timeout": "0",
}
FAST: Final = {"jit": "off", "plan_cache_mode": "force_generic_plan"}

# The frequent statements read a few rows, but their plans may be made and cached before a growing table has statistics;
# then a scan of the whole table looks cheap. Measured: 1 850 rows read for each lead. Hash joins stay: without them the
# results of a turn are compared with each lead of it, one by one.
PROBES: Final = dict.fromkeys(("enable_seqscan", "enable_mergejoin", "enable_material"), "off")

READ_ONLY: Final = {"default_transaction_read_only": "on"}
"""For a replica, which refuses writes by itself until it is promoted."""

_VERIFIED: Final = (*PINNED, "synchronous_commit", "server_encoding", "session_replication_role")
_WITH_TRANSACTION_TIMEOUT: Final = 170000
"""Older servers do not know the setting, and would refuse a start-up option of its name."""
_ASK: Final = "SELECT " + ", ".join(f"pg_catalog.current_setting('{name}')" for name in _VERIFIED)
_WAITS_FOR_STANDBY: Final = "SyncRepWaitForLSN"
_ALONE: Final = "dispatcher_alone"

_READ_ONLY: Final = """
SELECT source IN ('database', 'user', 'database user') FROM pg_catalog.pg_settings
WHERE name = 'default_transaction_read_only' AND setting = 'on'
"""


class UnusableSession(NothingDone):
    """A session has a setting that breaks a guarantee and that we cannot change; waiting will not help."""


def options(*groups: dict[str, str]) -> str:
    """Return the start-up option that sets every setting of `groups`."""
    return " ".join(f"-c {name}={_escaped(value)}" for group in groups for name, value in group.items())


def connector(
    url: str,
    arguments: Arguments,
    *,
    pooler: bool,
    strict: bool = True,
    driver: "type[psycopg.Connection[Any]]" = psycopg.Connection,
    latest: dict[str, int] | None = None,
) -> Callable[[], Any]:
    """Return what opens a connection to `url`, parsed by libpq: several hosts, sockets and services work.

    arguments   of libpq, and `prepare_threshold`. Of those that the URL gives too, `options` are joined, ours last; of
                the rest the URL's count, but for `application_name`
    pooler      the sessions get no start-up options; their settings are verified instead
    strict      refuse sessions that break a guarantee; `dispatcher doctor` accepts and reports them
    driver      the class of the connections
    latest      what this process remembers of timelines (`Primaries`); None: it is forgotten with each connection
    """
    base = url.replace("postgresql+psycopg://", "postgresql://", 1)

    def opened(given: Mapping[str, Any], changed: Mapping[str, Any]) -> psycopg.Connection[Any]:
        joined = {**arguments, "client_encoding": "UTF8"}
        if given.get("options") and joined.get("options"):
            joined["options"] = f"{given['options']} {joined['options']}"
        driver_only = {name: joined.pop(name) for name in ("prepare_threshold",) if name in joined}
        kept = {name: value for name, value in joined.items() if name in _OURS or given.get(name) is None}
        connection = driver.connect(make_conninfo(base, **{**kept, **changed}), **driver_only)
        try:
            verify(connection, pooler=pooler, strict=strict)
        except BaseException:
            connection.close()
            raise
        return connection

    def connect() -> psycopg.Connection[Any]:
        given = conninfo_to_dict(base)
        return Primaries(given, {} if latest is None else latest).connect(partial(opened, given))

    return connect


_OURS: Final = frozenset({"options", "application_name", "client_encoding"})
_OF_THE_ENVIRONMENT: Final = frozenset({"datestyle", "timezone"})
"""The settings that libpq also sends from PGDATESTYLE and PGTZ, which override our options."""


def verify(connection: psycopg.Connection[Any], *, pooler: bool, strict: bool = True) -> None:
    """Raise `UnusableSession`, if `strict`, unless the session has the settings that our guarantees need.

    The default of read-only transactions, where a database or a role sets it, is overruled. Where the server's own
    configuration sets it, the server was taken out of service, and writes to it would be lost: it is not overruled.
    """
    connection.autocommit = True
    if not pooler and connection.info.server_version >= _WITH_TRANSACTION_TIMEOUT:
        connection.execute("SET transaction_timeout = 0")  # each statement has its own timeout, and pauses have theirs
    for fault in faults(found(connection)):
        if not pooler and fault.name in _OF_THE_ENVIRONMENT:
            connection.execute(f"SET {fault.name} = '{fault.needed}'")
        elif strict:
            raise UnusableSession(fault.sentence(pooler=pooler))
    row = connection.execute(_READ_ONLY).fetchone() if _is_read_only(connection) else None
    if row is not None and row[0]:
        if pooler and strict:
            raise UnusableSession(Fault("default_transaction_read_only", "on", "off").sentence(pooler=True))
        if not pooler:
            connection.execute("SET default_transaction_read_only = off")
    connection.autocommit = False


def found(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the settings of a session that matter, by one round trip."""
    return dict(zip(_VERIFIED, connection.execute(_ASK).fetchone() or (), strict=True))


def seen_by(connection: Connection) -> dict[str, str]:
    """Return the same for a connection of SQLAlchemy."""
    return dict(zip(_VERIFIED, connection.exec_driver_sql(_ASK).one(), strict=True))


@dataclass(frozen=True, slots=True)
class Fault:
    """A setting of the session that breaks a guarantee."""

    name: str
    found: str
    needed: str

    def sentence(self, *, pooler: bool) -> str:
        """Return the fault and its remedy."""
        if self.name == "server_encoding":
            return (
                f"The database is encoded in {self.found}, which cannot hold every name; make one with "
                "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0 and name it in DATABASE_URL."
            )
        way = f"ALTER ROLE … SET {self.name} = '{self.needed}' for the role of DATABASE_URL"
        if self.name == "session_replication_role":
            return f"Sessions of this role run without triggers ({self.name} = {self.found}); {way}."
        through = "behind the pooler " if pooler else ""
        why = "" if pooler else " although we ask for it: a proxy drops our options; set DISPATCHER_POOLER=true, and"
        return f"Sessions {through}have {self.name} = '{self.found}', we need '{self.needed}';{why} {way}."


def faults(seen: Mapping[str, str]) -> list[Fault]:
    """Return the settings of a session that break a guarantee."""
    needed = {**PINNED, "session_replication_role": "origin"}
    wrong = [Fault(name, seen[name], value) for name, value in needed.items() if not _same(name, seen[name], value)]
    if seen["server_encoding"] != "UTF8":
        wrong.insert(0, Fault("server_encoding", seen["server_encoding"], "UTF8"))
    if seen["synchronous_commit"] == "off":
        wrong.append(Fault("synchronous_commit", "off", "on"))
    return wrong


def note_alone(driver: "psycopg.Connection[Any]", entry: ConnectionPoolEntry) -> None:
    """Note a commit whose wait for a synchronous standby was cancelled: Postgres confirms it, with a warning only.

    The warning is known by the function of the server that gives it: its words are translated, its code is of them all.
    """

    def note(told: psycopg.errors.Diagnostic) -> None:
        if told.source_function == _WAITS_FOR_STANDBY:
            entry.info[_ALONE] = True

    driver.add_notice_handler(note)


def refuse_alone(connection: Connection) -> None:
    """Raise `StoreUnavailable` if a commit was confirmed that no standby may have: a promotion would forget it."""
    if connection.info.pop(_ALONE, False):
        raise StoreUnavailable(
            "Somebody cancelled a commit that waited for the synchronous standby: it is on the primary, and may not be "
            "on the standby. Bring the standby back, or take it out of synchronous_standby_names."
        )


def _same(name: str, found: str, needed: str) -> bool:
    if name == "datestyle":  # the order of day and month affects only input, and we write ISO
        return found.startswith("ISO")
    if name == "extra_float_digits":
        return int(found) >= 1
    if name == "client_encoding":
        return found in {"UTF8", "UNICODE"}
    if name == "client_min_messages":
        return found != "error"  # each other level lets warnings through
    if name in {"timezone", "search_path", "row_security"}:  # every instant has its offset; see `PINNED` for the rest
        return True
    return found.lower() == needed.lower()


def _is_read_only(connection: psycopg.Connection[Any]) -> bool:
    status = connection.info.parameter_status("default_transaction_read_only")
    return status != "off"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
