"""What an upgrade would lock and read, and for how long at this size, without doing it (`migrate --check`)."""

import re
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, text

from dispatcher.store.ddl import LOCK_MILLISECONDS, RevisionStep
from dispatcher.store.migration import current, revisions, scripts
from dispatcher.store.schema import SCHEMA


class Work(StrEnum):
    """What a step does with its table."""

    CATALOG = "changes the catalog only"
    READ = "reads the whole table, while it is written"
    PORTIONS = "changes rows, some at a time"
    WRITE = "writes rows in one transaction"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step of a pending revision.

    `lock`: the strongest lock that it takes, or "" where the table is new or none is taken. `seconds`: how long it
    reads or writes, estimated from a sample of the table; a catalog change holds its lock for some milliseconds.
    """

    table: str
    what: str
    lock: str
    work: Work
    rows: int
    size_bytes: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "table": self.table, "what": self.what, "lock": self.lock, "work": self.work.value, "rows": self.rows,
            "bytes": self.size_bytes, "seconds": round(self.seconds, 1),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlannedRevision:
    """A revision that the database lacks, what it is for, and its steps."""

    revision: str
    title: str
    steps: tuple[PlannedStep, ...]

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return {"revision": self.revision, "title": self.title, "steps": [step.as_dict() for step in self.steps]}


LONGEST_WAIT_SECONDS: Final = LOCK_MILLISECONDS / 1000
"""How long a writer waits for a step that waits for its lock, in seconds; then the step gives way for a second."""

_SIZE: Final = text(f"""
SELECT greatest(reltuples, 0)::bigint AS rows, pg_relation_size(oid) AS bytes FROM pg_class
WHERE oid = to_regclass('{SCHEMA}.' || quote_ident(:table)) AND relkind = 'r'
""")
_SAMPLE_BYTES: Final = 32 * 1024 * 1024

_TRIGGER_LOCK: Final = "SHARE ROW EXCLUSIVE"

# What a statement does, by its form; the first that matches. The steps of all revisions have one of them (tested).
_FORMS: Final = (
    (r"(?i)VALIDATE CONSTRAINT (?P<what>\w+)", "SHARE UPDATE EXCLUSIVE", Work.READ, "checks {what}"),
    (r"(?i)CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?P<what>\w+)", "SHARE UPDATE EXCLUSIVE", Work.READ, "builds {what}"),
    (r"(?i)DROP INDEX CONCURRENTLY (?P<what>\w+)", "SHARE UPDATE EXCLUSIVE", Work.CATALOG, "drops {what}"),
    (r"(?i)^CREATE (?:OR REPLACE )?(?:FUNCTION|VIEW) \w+\.(?P<what>\w+)", "", Work.CATALOG, "defines {what}"),
    (
        r"(?i)^CREATE (?:UNLOGGED )?(?:TABLE|SCHEMA)[^;(]*?\b(?P<what>\w+)(?= \(|;|$)",
        "",
        Work.CATALOG,
        "creates {what}",
    ),
    (
        r"(?i)\bDROP TRIGGER (?:IF EXISTS )?(?P<what>\w+) ON\b",
        "ACCESS EXCLUSIVE",
        Work.CATALOG,
        "replaces or drops {what}",
    ),
    (r"(?i)\bTRIGGER (?:IF EXISTS )?(?P<what>\w+) (?:BEFORE|AFTER|ON)\b", _TRIGGER_LOCK, Work.CATALOG, "sets {what}"),
    (r"(?i)^ALTER TABLE \S+ SET \(", "SHARE UPDATE EXCLUSIVE", Work.CATALOG, "sets how it is vacuumed"),
    (r"(?i)^ALTER TABLE", "ACCESS EXCLUSIVE", Work.CATALOG, "alters it"),
    (r"(?i)^(?:REVOKE|GRANT|ALTER FUNCTION|COMMENT)", "", Work.CATALOG, "sets rights or settings of functions"),
    (r"(?i)^WITH .*:after\b", "ROW EXCLUSIVE", Work.PORTIONS, "mends rows"),
    (r"(?i)^(?:WITH|INSERT|UPDATE|DELETE|LOCK|DO|SELECT)", "ROW EXCLUSIVE", Work.WRITE, "writes rows"),
)


def plan(connection: Connection) -> list[PlannedRevision]:
    """Return the revisions that the database lacks, with their steps. Changes nothing, and is read-only by force.

    Raises `SchemaOutOfDate` for a schema that no released version can upgrade. A database without the dispatcher's
    tables gets one revision without steps: there is nothing yet that could be locked.
    """
    found = current(connection)
    if found is None:
        return [PlannedRevision(revisions()[-1], "Everything is made anew: there is nothing to lock.", ())]
    pending = [revision for revision in revisions() if revision > found]
    return [_planned(connection, revision) for revision in pending]


def _planned(connection: Connection, revision: str) -> PlannedRevision:
    from alembic.config import Config  # late: as in `migration`
    from alembic.operations import Operations
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    steps: list[RevisionStep] = []
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes.update(plan=steps, tell=lambda _: None)
    directory = ScriptDirectory.from_config(config)
    script = directory.get_revision(revision)
    assert script is not None  # noqa: S101 - its file has just been listed
    context = MigrationContext.configure(connection, environment_context=EnvironmentContext(config, directory))
    connection.rollback()
    connection.execute(text("SET TRANSACTION READ ONLY"))
    with Operations.context(context):
        script.module.upgrade()
    planned = PlannedRevision(
        revision, script.doc.split(".")[0] + ".", tuple(_step(connection, step) for step in steps)
    )
    connection.rollback()
    return planned


def _step(connection: Connection, step: RevisionStep) -> PlannedStep:
    statement = " ".join(re.sub(r"--[^\n]*\n", "", step.statement).split())
    lock, work, what = _form(statement)
    size = connection.execute(_SIZE, {"table": step.table}).first()
    rows, size_bytes = (0, 0) if size is None else (size.rows, size.bytes)
    lasts = 0.0 if work is Work.CATALOG or not size_bytes else _seconds(connection, step.table, size_bytes)
    lasts += rows * step.row_seconds
    return PlannedStep(step.table, what, "" if size is None else lock, work, rows, size_bytes, lasts)


def _form(statement: str) -> tuple[str, Work, str]:
    for pattern, lock, work, what in _FORMS:
        if found := re.search(pattern, statement):
            return lock, work, what.format(**found.groupdict())
    raise ValueError(f"a step of a revision has a form that is not known: {statement[:60]!r}")


def _seconds(connection: Connection, table: str, size_bytes: int) -> float:
    """Time a sample of the table, and return the time for all of it, in seconds."""
    percent = min(100.0, 100.0 * _SAMPLE_BYTES / size_bytes)
    started = time.perf_counter()
    connection.execute(text(f"SELECT count(*) FROM {SCHEMA}.{table} TABLESAMPLE SYSTEM ({percent:.6f})"))
    return (time.perf_counter() - started) * 100.0 / percent
