"""The Postgres server, its sessions and its tables, as `dispatcher doctor` reads them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

_READ = text("""
SELECT current_setting('server_version') AS version, CAST(current_setting('server_version_num') AS int) AS number,
    current_setting('fsync') = 'on' AS fsync, current_setting('full_page_writes') = 'on' AS full_page_writes,
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only, clock_timestamp() AS now
""")


@dataclass(frozen=True, slots=True)
class Server:
    """`number` is 150003 for version 15.3. `read_only`: a standby, or out of service."""

    version: str
    number: int
    fsync: bool
    full_page_writes: bool
    read_only: bool
    now: datetime


def read(connection: Connection) -> Server:
    """Return the version and the mode of the connected server."""
    row = connection.execute(_READ).one()
    return Server(row.version, row.number, row.fsync, row.full_page_writes, row.read_only, row.now)


_SESSION = text("""
SELECT current_user AS role, current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
    current_setting('statement_timeout') <> '0' AS statement_timeout,
    current_setting('lock_timeout') <> '0' AS lock_timeout
""")


@dataclass(frozen=True, slots=True)
class Session:
    """The settings of a session: whether each is on."""

    role: str
    synchronous_commit: bool
    statement_timeout: bool
    lock_timeout: bool


def session_settings(connection: Connection) -> Session:
    """Return the settings of the connected session."""
    return Session(**connection.execute(_SESSION).mappings().one())


_TABLES = text("""
SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead, last_autovacuum, pg_total_relation_size(relid) AS bytes
FROM pg_stat_user_tables WHERE schemaname = 'dispatcher' ORDER BY n_dead_tup DESC
""")

_LONG = text("""
SELECT pid, coalesce(nullif(application_name, ''), 'unnamed') AS application, state,
    CAST(extract(epoch FROM now() - xact_start) AS float8) AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND xact_start < now() - make_interval(secs => :seconds)
ORDER BY xact_start
""")

_LIMITS = text("""
SELECT current_setting('autovacuum') = 'on' AS autovacuum,
    CAST(current_setting('max_connections') AS int) AS connections,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connected
""")


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table; the numbers of rows are the server's estimates."""

    name: str
    live: int
    dead: int
    last_autovacuum: datetime | None
    bytes: int


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """An open transaction: it keeps dead rows from being removed."""

    pid: int
    application: str
    state: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """`connections` may be open at once, by all clients; `connected` are."""

    autovacuum: bool
    connections: int
    connected: int


def table_sizes(connection: Connection) -> list[TableSize]:
    """Return the dispatcher's tables, those with the most dead rows first."""
    return [TableSize(**row) for row in connection.execute(_TABLES).mappings()]


def long_transactions(connection: Connection, *, seconds: float) -> list[LongTransaction]:
    """Return the transactions of this database that are open for longer; without rights, only those of our own role."""
    return [LongTransaction(**row) for row in connection.execute(_LONG, {"seconds": seconds}).mappings()]


def server_limits(connection: Connection) -> Limits:
    """Return the limits of the server and their use."""
    return Limits(**connection.execute(_LIMITS).mappings().one())
