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
class PostgresServer:
    """`number` is 150003 for version 15.3. `read_only`: a standby, or out of service."""

    version: str
    number: int
    fsync: bool
    full_page_writes: bool
    read_only: bool
    now: datetime


def read(connection: Connection) -> PostgresServer:
    """Return the version and the mode of the connected server."""
    row = connection.execute(_READ).one()
    return PostgresServer(row.version, row.number, row.fsync, row.full_page_writes, row.read_only, row.now)


_SESSION = text("""
SELECT current_user AS role, current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
    current_setting('statement_timeout') <> '0' AS statement_timeout,
    current_setting('lock_timeout') <> '0' AS lock_timeout
""")


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The settings of a session: whether each is on."""

    role: str
    synchronous_commit: bool
    statement_timeout: bool
    lock_timeout: bool


def session_settings(connection: Connection) -> SessionSettings:
    """Return the settings of the connected session."""
    return SessionSettings(**connection.execute(_SESSION).mappings().one())


_LIMITS = text("""
SELECT CAST(current_setting('max_connections') AS int) AS connections,
    -- Of sessions of other logins a role without rights is not told what they are.
    (SELECT count(*) FROM pg_stat_activity
     WHERE backend_type = 'client backend' OR backend_type IS NULL AND datname IS NOT NULL) AS connected
""")


@dataclass(frozen=True, slots=True)
class ConnectionUse:
    """`connections` may be open at once, by all clients; `connected` are."""

    connections: int
    connected: int


def server_limits(connection: Connection) -> ConnectionUse:
    """Return the limits of the server and their use."""
    return ConnectionUse(**connection.execute(_LIMITS).mappings().one())
