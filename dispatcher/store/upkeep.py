"""What Postgres does to keep tables and indexes small, and what keeps it from that, as `dispatcher doctor` reads it.

Sizes are estimates from the statistics: no table is read, and no extension is needed.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

_TABLES: Final = text("""
SELECT class.relname AS name, coalesce(seen.n_live_tup, 0) AS live, coalesce(seen.n_dead_tup, 0) AS dead,
    seen.last_autovacuum, pg_relation_size(class.oid) AS bytes, coalesce(seen.n_mod_since_analyze, 0) AS changed,
    class.reltuples >= 0 AND EXISTS (
        SELECT FROM pg_stats AS known WHERE known.schemaname = 'dispatcher' AND known.tablename = class.relname
    ) AS analyzed,
    (SELECT array_agg(switched.option) FROM (
        SELECT option_name AS option, option_value FROM pg_options_to_table(class.reloptions)
        UNION ALL
        SELECT 'toast.' || option_name, option_value FROM pg_options_to_table(toast.reloptions)
    ) AS switched
    WHERE switched.option LIKE '%autovacuum_enabled' AND NOT CAST(switched.option_value AS boolean)) AS off
FROM pg_class AS class
LEFT JOIN pg_class AS toast ON toast.oid = class.reltoastrelid
LEFT JOIN pg_stat_user_tables AS seen ON seen.relid = class.oid
WHERE class.relnamespace = to_regnamespace('dispatcher') AND class.relkind = 'r'
ORDER BY dead DESC, class.relname
""")

# An index that is being built now is not valid yet. Of other logins' builds a role without rights sees no index.
_INVALID: Final = text("""
SELECT class.relname AS name, of_table.relname AS "table", index.indisunique AS unique
FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indexrelid
JOIN pg_class AS of_table ON of_table.oid = index.indrelid
WHERE class.relnamespace = to_regnamespace('dispatcher') AND NOT index.indisvalid AND NOT EXISTS (
    SELECT FROM pg_stat_progress_create_index AS build
    WHERE build.datname = current_database() AND coalesce(build.index_relid, 0) IN (0, index.indexrelid)
)
ORDER BY class.relname
""")

# By the number of rows and of pages that the same VACUUM or ANALYZE has counted. Of a row: 4 bytes of line pointer and
# 36 of header, null bitmap and alignment; of an entry 12 and alignment, on pages that random inserts leave 70 % full.
_SPACE: Final = text("""
WITH known AS (
    SELECT stats.tablename, stats.attname, stats.avg_width, stats.null_frac
    FROM pg_stats AS stats WHERE stats.schemaname = 'dispatcher' AND NOT stats.inherited
), sized AS (
    SELECT class.relname AS name, false AS of_index, class.reltuples, class.relpages,
        (SELECT 40 + sum(known.avg_width * (1 - known.null_frac)) FROM known WHERE known.tablename = class.relname)
            / coalesce((SELECT CAST(option_value AS float8) / 100 FROM pg_options_to_table(class.reloptions)
                        WHERE option_name = 'fillfactor'), 1) AS width
    FROM pg_class AS class WHERE class.relnamespace = to_regnamespace('dispatcher') AND class.relkind = 'r'
    UNION ALL
    SELECT class.relname, true, class.reltuples, class.relpages,
        (SELECT (20 + sum(coalesce(known.avg_width, 16))) / 0.7
         FROM pg_attribute AS part
         LEFT JOIN pg_attribute AS field
            ON field.attrelid = index.indrelid AND field.attnum = index.indkey[part.attnum - 1]
         LEFT JOIN known ON known.tablename = of_table.relname AND known.attname = field.attname
         WHERE part.attrelid = class.oid)
    FROM pg_index AS index
    JOIN pg_class AS class ON class.oid = index.indexrelid
    JOIN pg_class AS of_table ON of_table.oid = index.indrelid
    WHERE class.relnamespace = to_regnamespace('dispatcher')
)
SELECT name, of_index, relpages * CAST(current_setting('block_size') AS bigint) AS bytes,
    CAST(greatest(reltuples, 0) * width AS bigint) AS needed
FROM sized WHERE reltuples >= 0 AND width IS NOT NULL ORDER BY relpages DESC, name
""")

_LONG: Final = text("""
SELECT pid, coalesce(nullif(application_name, ''), 'unnamed') AS application, state,
    CAST(extract(epoch FROM clock_timestamp() - xact_start) AS float8) AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND xact_start < clock_timestamp() - make_interval(secs => :seconds)
ORDER BY xact_start
""")

_PREPARED: Final = text("""
SELECT gid AS name, CAST(extract(epoch FROM clock_timestamp() - prepared) AS float8) AS seconds
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => :seconds)
ORDER BY prepared
""")

_SLOTS: Final = text("""
SELECT slot_name AS name, active, age(xmin) AS held_transactions,
    CASE WHEN restart_lsn IS NULL OR pg_is_in_recovery() THEN 0
         ELSE CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS bigint) END AS kept_bytes
FROM pg_replication_slots
UNION ALL
-- A standby without a slot tells its oldest query by hot_standby_feedback.
SELECT NULL, true, age(backend_xmin), 0 FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
ORDER BY name
""")

_AGES: Final = text("""
SELECT kind, age, may_reach, (
    SELECT quote_ident(space.nspname) || '.' || quote_ident(class.relname)
    FROM pg_class AS class JOIN pg_namespace AS space ON space.oid = class.relnamespace
    WHERE class.relkind IN ('r', 'm') AND class.relfrozenxid <> '0'
    ORDER BY CASE kind WHEN 'transaction' THEN age(class.relfrozenxid) ELSE mxid_age(class.relminmxid) END DESC
    LIMIT 1
) AS "table"
FROM pg_database AS database CROSS JOIN LATERAL (VALUES
    ('transaction', age(database.datfrozenxid), CAST(current_setting('autovacuum_freeze_max_age') AS bigint)),
    ('multixact', mxid_age(database.datminmxid),
     CAST(current_setting('autovacuum_multixact_freeze_max_age') AS bigint))
) AS counted (kind, age, may_reach)
WHERE database.datname = current_database() AND NOT pg_is_in_recovery()
""")

_SIGHT: Final = text("""
SELECT current_user AS role, count(*) FILTER (
    WHERE query = '<insufficient privilege>' AND datname = current_database()
) AS hidden
FROM pg_stat_activity
""")

_SWITCHES: Final = text("""
SELECT name FROM unnest(ARRAY['autovacuum', 'track_counts']) AS name WHERE current_setting(name) <> 'on'
""")


@dataclass(frozen=True, slots=True)
class TableUpkeep:
    """One table; the numbers of rows are the server's estimates.

    changed    rows changed since the table was analyzed
    analyzed   whether there are statistics of it
    off        its options that switch autovacuum off
    """

    name: str
    live: int
    dead: int
    last_autovacuum: datetime | None
    bytes: int
    changed: int = 0
    analyzed: bool = True
    off: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InvalidIndex:
    """An index that no statement uses, because a build of it was interrupted; writes still pay for it."""

    name: str
    table: str
    unique: bool


@dataclass(frozen=True, slots=True)
class Space:
    """The `bytes` that a table or an index has, and about how many its rows need."""

    name: str
    of_index: bool
    bytes: int
    needed: int


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """An open transaction: it keeps dead rows from being removed."""

    pid: int
    application: str
    state: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """A transaction that waits for its second phase, and holds what an open one holds."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ReplicationSlot:
    """A replication slot, or without a name a standby that has none.

    held_transactions   since so many no dead row is removed; None: it holds back none
    kept_bytes          of the write-ahead log
    """

    name: str | None
    active: bool
    held_transactions: int | None
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class FrozenAge:
    """How many transactions or multixacts were begun since the oldest row that is not frozen, which is in `table`.

    may_reach   at this age autovacuum begins to freeze, whatever is set
    """

    kind: str
    age: int
    may_reach: int
    table: str | None


@dataclass(frozen=True, slots=True)
class LoginSight:
    """What the login does not see: `hidden` sessions of other logins on this database."""

    role: str
    hidden: int


def tables(connection: Connection) -> list[TableUpkeep]:
    """Return the dispatcher's tables, those with the most dead rows first."""
    rows = connection.execute(_TABLES).mappings()
    return [TableUpkeep(**{**row, "off": tuple(row["off"] or ())}) for row in rows]


def invalid_indexes(connection: Connection) -> list[InvalidIndex]:
    """Return the indexes that are not valid and that nobody is building."""
    return [InvalidIndex(**row) for row in connection.execute(_INVALID).mappings()]


def spaces(connection: Connection) -> list[Space]:
    """Return the size of each table and index that has statistics, the largest first."""
    return [Space(**row) for row in connection.execute(_SPACE).mappings()]


def long_transactions(connection: Connection, *, seconds: float) -> list[LongTransaction]:
    """Return the transactions of this database that are open for longer; of other logins only what `sight` allows."""
    return [LongTransaction(**row) for row in connection.execute(_LONG, {"seconds": seconds}).mappings()]


def prepared_transactions(connection: Connection, *, seconds: float) -> list[PreparedTransaction]:
    """Return the prepared transactions of this database that wait for longer."""
    return [PreparedTransaction(**row) for row in connection.execute(_PREPARED, {"seconds": seconds}).mappings()]


def slots(connection: Connection) -> list[ReplicationSlot]:
    """Return the replication slots of the server, and standbys without one that hold back dead rows."""
    return [ReplicationSlot(**row) for row in connection.execute(_SLOTS).mappings()]


def frozen_ages(connection: Connection) -> list[FrozenAge]:
    """Return how old the oldest rows of this database are; nothing on a standby."""
    return [FrozenAge(**row) for row in connection.execute(_AGES).mappings()]


def sight(connection: Connection) -> LoginSight:
    """Return what this login does not see of other sessions."""
    return LoginSight(**connection.execute(_SIGHT).mappings().one())


def switched_off(connection: Connection) -> list[str]:
    """Return the settings of the server without which nothing is vacuumed by itself, and which are off."""
    return list(connection.execute(_SWITCHES).scalars())
