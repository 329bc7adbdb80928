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
