"""What `doctor` asks the Postgres server about itself."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

_READ = text("""
SELECT current_setting('server_version') AS version, CAST(current_setting('server_version_num') AS int) AS number,
    current_setting('fsync') = 'on' AS fsync, current_setting('full_page_writes') = 'on' AS full_page_writes,
    pg_is_in_recovery() AS standby, clock_timestamp() AS now
""")


@dataclass(frozen=True, slots=True)
class Server:
    """`number` is 150003 for version 15.3. `standby`: it takes no writes."""

    version: str
    number: int
    fsync: bool
    full_page_writes: bool
    standby: bool
    now: datetime


def read(connection: Connection) -> Server:
    """The connected server."""
    row = connection.execute(_READ).one()
    return Server(row.version, row.number, row.fsync, row.full_page_writes, row.standby, row.now)


_SESSION = text("""
SELECT current_user AS role, current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
    current_setting('statement_timeout') <> '0' AS statement_timeout,
    current_setting('lock_timeout') <> '0' AS lock_timeout
""")


@dataclass(frozen=True, slots=True)
class Session:
    """What holds for a session of ours: whether each is on."""

    role: str
    synchronous_commit: bool
    statement_timeout: bool
    lock_timeout: bool


def session(connection: Connection) -> Session:
    """The connected session, as it is outside of a transaction that asks for more."""
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
    """Rows by the server's own count, which is approximate."""

    name: str
    live: int
    dead: int
    last_autovacuum: datetime | None
    bytes: int


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """Somebody's transaction that keeps dead rows from being removed."""

    pid: int
    application: str
    state: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """`connections` may be open at once, by anybody; `connected` are."""

    autovacuum: bool
    connections: int
    connected: int


def table_sizes(connection: Connection) -> list[TableSize]:
    """The dispatcher's tables, those with the most dead rows first."""
    return [TableSize(**row) for row in connection.execute(_TABLES).mappings()]


def long_transactions(connection: Connection, *, seconds: float) -> list[LongTransaction]:
    """Transactions of this database that have been open for longer. Without rights those of others are left out."""
    return [LongTransaction(**row) for row in connection.execute(_LONG, {"seconds": seconds}).mappings()]


def limits(connection: Connection) -> Limits:
    """What the server allows, and uses."""
    return Limits(**connection.execute(_LIMITS).mappings().one())
