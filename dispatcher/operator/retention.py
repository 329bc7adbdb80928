"""Remove expired rows in slices: each statement reads a bounded number of rows and returns where the next begins."""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from dispatcher.config.settings import Settings
from dispatcher.logs import events
from dispatcher.store import audit, erased, inbox
from dispatcher.store.database import Database
from dispatcher.store.reading import ReadConnection
from dispatcher.store.statement import first_id
from dispatcher.store.trouble import NotPermitted, StatementRefused

SLICE_ROWS: Final = 1000

_NIL: Final = UUID(int=0)

_MAY_GO: Final = """
(CAST(:failed AS boolean)
 OR NOT EXISTS (SELECT FROM dispatcher.failed_leads AS failure WHERE failure.lead_id = lead.id))
AND lead.state IN ('accepted', 'duplicate', 'cancelled', CASE WHEN CAST(:failed AS boolean) THEN 'failed' END)
AND lead.finished_at < :before
-- The greatest Voicery id of an account is the watermark of its next attempts: its lead stays.
AND (
    (lead.voicery_lead_id IS NULL AND NOT EXISTS (
        SELECT FROM dispatcher.lead_contacts AS contact
        WHERE contact.lead_id = lead.id AND contact.voicery_lead_id IS NOT NULL
    ))
    OR EXISTS (
        SELECT FROM dispatcher.leads AS later
        WHERE later.account = lead.account AND later.voicery_lead_id > greatest(
            lead.voicery_lead_id,
            (SELECT max(contact.voicery_lead_id) FROM dispatcher.lead_contacts AS contact
             WHERE contact.lead_id = lead.id)
        )
    )
)
"""

_LEADS = text(f"""
WITH looked AS MATERIALIZED (
    SELECT id, finished_at FROM dispatcher.leads
    WHERE finished_at >= :after_at AND finished_at < :before
      AND (finished_at, id) > (:after_at, CAST(:after_id AS uuid))
    ORDER BY finished_at, id
    LIMIT :most
), doomed AS (
    SELECT lead.id FROM dispatcher.leads AS lead
    WHERE lead.id = ANY (ARRAY(SELECT id FROM looked)) AND {_MAY_GO}
    ORDER BY lead.id
    FOR UPDATE OF lead SKIP LOCKED
), gone AS (
    -- Contacts, attempts, failures and revisions go with it.
    DELETE FROM dispatcher.leads AS lead WHERE lead.id = ANY (ARRAY(SELECT id FROM doomed)) RETURNING lead.id
)
SELECT (SELECT count(*) FROM gone) AS pruned, count(*) OVER () AS looked, looked.finished_at AS at, looked.id
FROM looked ORDER BY looked.finished_at DESC, looked.id DESC LIMIT 1
""")

_COUNT_LEADS = text(f"""
SELECT count(*) FILTER (WHERE state <> 'failed') AS ended, count(*) FILTER (WHERE state = 'failed') AS failed,
    count(*) FILTER (WHERE state = 'failed' AND resolved_at IS NULL) AS open
FROM dispatcher.leads AS lead WHERE lead.finished_at < :before AND {_MAY_GO}
""")

_RESPONSES = text("""
WITH looked AS MATERIALIZED (
    SELECT id FROM dispatcher.lead_attempts
    WHERE id > CAST(:after_id AS uuid) AND id < CAST(:before_id AS uuid) ORDER BY id LIMIT :most
), emptied AS (
    UPDATE dispatcher.lead_attempts AS attempt SET response = NULL
    WHERE attempt.id = ANY (ARRAY(SELECT id FROM looked)) AND attempt.response IS NOT NULL
      AND attempt.finished_at < :before
    RETURNING attempt.id
)
SELECT (SELECT count(*) FROM emptied) AS pruned, count(*) OVER () AS looked, looked.id
FROM looked ORDER BY looked.id DESC LIMIT 1
""")

_FAILURE_RESPONSES = text("""
WITH looked AS MATERIALIZED (
    SELECT id FROM dispatcher.failed_leads WHERE id > :after_id ORDER BY id LIMIT :most
), emptied AS (
    -- Of a failure that nobody has dealt with yet, a person needs to know what Voicery said.
    UPDATE dispatcher.failed_leads AS failure SET response = NULL
    WHERE failure.id = ANY (ARRAY(SELECT id FROM looked)) AND failure.response IS NOT NULL
      AND failure.resolved_at < :before
    RETURNING failure.id
)
SELECT (SELECT count(*) FROM emptied) AS pruned, count(*) OVER () AS looked, looked.id
FROM looked ORDER BY looked.id DESC LIMIT 1
""")

_KEYS = text("""
WITH looked AS MATERIALIZED (
    SELECT account, key, created_at FROM dispatcher.idempotency_keys
    WHERE created_at >= :after_at AND created_at < :before
      AND (created_at, account, key) > (:after_at, CAST(:after_account AS text), CAST(:after_key AS text))
    ORDER BY created_at, account, key
    LIMIT :most
), gone AS (
    DELETE FROM dispatcher.idempotency_keys AS held USING looked
    WHERE held.account = looked.account AND held.key = looked.key AND held.created_at < :before
      AND NOT EXISTS (SELECT FROM dispatcher.leads AS lead WHERE lead.id = held.lead_id)
    RETURNING held.key
)
SELECT (SELECT count(*) FROM gone) AS pruned, count(*) OVER () AS looked, looked.created_at AS at, looked.account,
    looked.key
FROM looked ORDER BY looked.created_at DESC, looked.account DESC, looked.key DESC LIMIT 1
""")

_RECORDS: Final = (
    # One at a time: each also deletes its dependent rows.
    text("""
    DELETE FROM dispatcher.imports
    WHERE id = (SELECT id FROM dispatcher.imports WHERE updated_at < :before ORDER BY id LIMIT 1)
    """),
    text("""
    DELETE FROM dispatcher.operations
    WHERE id = (SELECT id FROM dispatcher.operations WHERE finished_at < :before ORDER BY created_at LIMIT 1)
    """),
    text("""
    DELETE FROM dispatcher.api_keys
    WHERE id = (SELECT id FROM dispatcher.api_keys WHERE least(revoked_at, expires_at) < :before ORDER BY id LIMIT 1)
    """),
)

_OLD_INCIDENTS = text("""
-- By the primary key, which ascends with the time: the walk ends at the first row that is not old.
WITH looked AS MATERIALIZED (
    SELECT id, at FROM dispatcher.incidents WHERE id > :after_id ORDER BY id LIMIT :most
), gone AS (
    DELETE FROM dispatcher.incidents AS old
    WHERE old.id = ANY (ARRAY(SELECT id FROM looked WHERE at < :before)) AND old.at < :before
    RETURNING old.id
)
SELECT (SELECT count(*) FROM gone) AS pruned,
    CASE WHEN looked.at < :before THEN count(*) OVER () ELSE 0 END AS looked, looked.id
FROM looked ORDER BY looked.id DESC LIMIT 1
""")

_OLD_AUDIT = text("SELECT dispatcher.prune_audit(:before, 'dispatcher', :most)")
_AUDIT_KEPT: Final = timedelta(days=30)  # at least: the database deletes nothing younger

_NOW = text("SELECT now()")

_PASSED = text("UPDATE dispatcher.sweeps SET pruned_at = now() WHERE name = 'sweep'")

Place: TypeAlias = Mapping[str, Any]
"""The row after which the next slice begins, as parameters."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The number of rows that one statement removed, and where the next continues; None: nothing is left."""

    pruned: int
    following: Place | None


@dataclass(frozen=True, slots=True)
class Prunable:
    """The number of leads that would be deleted; `open`: those of the failed ones whose failure is open."""

    ended: int
    failed: int
    open: int


def since(moment: datetime) -> Place:
    """Return the position of the first lead that ended after `moment`."""
    return {"after_at": moment, "after_id": _NIL}


def prune_leads(
    connection: Connection, place: Place, before: datetime, *, failed: bool, most: int = SLICE_ROWS
) -> Slice:
    """Delete leads that ended before `before`; with `failed` also failed ones and those that failed once."""
    values = {**place, "before": before, "failed": failed}
    return _slice(connection, _LEADS, values, most, lambda row: {"after_at": row.at, "after_id": row.id})


def count_leads(connection: Connection, before: datetime, *, failed: bool) -> Prunable:
    """Return the number of leads that `prune_leads` would delete in all."""
    row = connection.execute(_COUNT_LEADS, {"before": before, "failed": failed}).one()
    return Prunable(row.ended, row.failed, row.open)


def responses_since(moment: datetime) -> Place:
    """Return the position of the first attempt that began after `moment`."""
    return {"after_id": first_id(moment)}


def prune_responses(connection: Connection, place: Place, before: datetime, *, most: int = SLICE_ROWS) -> Slice:
    """Empty the stored answers of attempts whose outcome has been known since before `before`."""
    # By the primary key, which begins with the time (UUIDv7): this saves inserts another index.
    values = {**place, "before": before, "before_id": first_id(before + timedelta(minutes=15))}
    return _slice(connection, _RESPONSES, values, most, lambda row: {"after_id": row.id})


def prune_failure_responses(connection: Connection, place: Place, before: datetime, *, most: int = SLICE_ROWS) -> Slice:
    """Empty the stored answers of failures that were resolved before `before`."""
    return _slice(connection, _FAILURE_RESPONSES, {**place, "before": before}, most, lambda row: {"after_id": row.id})


def keys_since(moment: datetime) -> Place:
    """Return the position of the first key that was used after `moment`."""
    return {"after_at": moment, "after_account": "", "after_key": ""}


def prune_keys(connection: Connection, place: Place, before: datetime, *, most: int = SLICE_ROWS) -> Slice:
    """Delete idempotency keys older than `before` whose lead has been deleted."""
    return _slice(
        connection,
        _KEYS,
        {**place, "before": before},
        most,
        lambda row: {"after_at": row.at, "after_account": row.account, "after_key": row.key},
    )


def prune_incidents(connection: Connection, place: Place, before: datetime, *, most: int = SLICE_ROWS) -> Slice:
    """Delete the incidents from before `before`."""
    return _slice(connection, _OLD_INCIDENTS, {**place, "before": before}, most, lambda row: {"after_id": row.id})


def prune_audit(connection: Connection, _place: Place, before: datetime, *, most: int = SLICE_ROWS) -> Slice:
    """Delete the oldest entries of the audit log, those from before `before`; what is left stays one chain."""
    pruned = connection.execute(_OLD_AUDIT, {"before": before, "most": most}).scalar_one()
    return Slice(pruned, _FIRST if pruned == most else None)


def prune_records(connection: Connection, before: datetime) -> int:
    """Delete one import, one operation and one key that ended before `before`, with their rows; return their number."""
    return sum(connection.execute(statement, {"before": before}).rowcount for statement in _RECORDS)


def database_now(connection: ReadConnection) -> datetime:
    """Return the time of the database, by which retention is measured."""
    moment: datetime = connection.execute(_NOW).scalar_one()
    return moment


def passed(connection: Connection) -> None:
    """Note that nothing is left to prune for now."""
    connection.execute(_PASSED)


def _slice(
    connection: Connection,
    statement: TextClause,
    values: Mapping[str, Any],
    most: int,
    place_of: Callable[[Row[Any]], Place],
) -> Slice:
    row = connection.execute(statement, {**values, "most": most}).first()
    if row is None:
        return Slice(0, None)
    return Slice(row.pruned, place_of(row) if row.looked >= most else None)


_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)

_FIRST: Final[Place] = {"after_id": 0}

_OVERLAP: Final = timedelta(days=1)
"""The overlap of a pass with the previous one, for outcomes recorded late and for wrong clocks."""

_READ_ALL_EVERY: Final = timedelta(days=1)


class Pruning:
    """Prunes in passes of as many steps as needed. After a crash the next process starts a new pass.

    What remains of old rows may be many: failed leads are kept longer, attempts without their answer as long as their
    leads. So a pass reads what has expired since the last one. The first pass of a process reads everything; of leads,
    failures and keys one pass a day does, to find what could not be deleted when it expired.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._leads = timedelta(days=settings.retention_days)
        self._failed = max(self._leads, timedelta(days=settings.failed_retention_days))
        self._audit = timedelta(days=settings.audit_retention_days)
        self._incidents = timedelta(days=settings.incident_retention_days)
        self._responses = timedelta(days=settings.response_retention_days)
        self._keys = max(self._leads, timedelta(days=settings.key_retention_days))
        self._pass: Generator[int, None, None] | None = None
        self._looked_until: datetime | None = None
        self._read_all_at: datetime | None = None

    def work(self, more: Callable[[], bool]) -> int:
        """Prune slices of one pass, one and then while `more`. Return the number of rows; raise as `step`."""
        pruned = self.step()
        while self._pass and more():
            pruned += self.step()
        return pruned

    def step(self) -> int:
        """Prune one slice of the current pass and return the number of rows. The last slice sets `sweeps.pruned_at`.

        Raises `StatementRefused` if a row cannot be pruned, and `NotPermitted` if this login may not delete; the pass
        then ends, and the next one tries again.
        """
        current, self._pass = self._pass or self._steps(), None
        try:
            pruned = next(current)
        except (StopIteration, StatementRefused, NotPermitted) as end:
            self._database.at_once(passed)
            if not isinstance(end, StopIteration):
                raise
            return 0
        self._pass = current
        return pruned

    def _steps(self) -> Generator[int, None, None]:
        today = self._database.read(database_now)
        looked_from = self._looked_until or _BEGINNING
        whole = self._read_all_at is None or today - self._read_all_at >= _READ_ALL_EVERY
        expired_from = _BEGINNING if whole else looked_from
        ended = partial(prune_leads, before=today - self._leads, failed=False)
        pruned = yield from self._walk(ended, since(_before(expired_from, self._leads)))
        failed = partial(prune_leads, before=today - self._failed, failed=True)
        pruned += yield from self._walk(failed, since(_before(expired_from, self._failed)))
        while forgotten := self._database.at_once(erased.prune, today - self._keys, most=SLICE_ROWS):
            yield forgotten
        old_keys = partial(prune_keys, before=today - self._keys)
        pruned += yield from self._walk(old_keys, keys_since(_before(expired_from, self._keys)))
        emptied = partial(prune_responses, before=today - self._responses)
        cleared = yield from self._walk(emptied, responses_since(_before(looked_from, self._responses)))
        if whole:  # by their ids; when they were resolved has no index
            emptied = partial(prune_failure_responses, before=today - self._responses)
            cleared += yield from self._walk(emptied, _FIRST)
        while forgotten := self._database.at_once(inbox.prune, today - self._leads, most=SLICE_ROWS):
            yield forgotten
        while forgotten := self._database.at_once(prune_records, before=today - self._leads):
            yield forgotten
        entries = yield from self._walk(partial(prune_audit, before=today - max(self._audit, _AUDIT_KEPT)), _FIRST)
        entries += yield from self._walk(partial(prune_incidents, before=today - self._incidents), _FIRST)
        self._looked_until, self._read_all_at = today, today if whole else self._read_all_at
        if pruned or cleared or entries:
            events.info("sweep.pruned", leads_and_keys=pruned, responses=cleared, records=entries)

    def _walk(self, prune: Callable[[Connection, Place], Slice], place: Place | None) -> Generator[int, None, int]:
        total = 0
        while place is not None:
            done = self._database.at_once(prune, place)
            place = done.following
            total += done.pruned
            yield done.pruned
        return total


def _apply(prune: Callable[[Connection, Place], Slice], place: Place, connection: Connection) -> Slice:
    return prune(connection, place)


def _before(since: datetime, kept: timedelta) -> datetime:
    return max(_BEGINNING, since - _OVERLAP - kept) if since > _BEGINNING else _BEGINNING


class Pruner:
    """Prunes on request. `actor` is written to the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def preview(self, older_than: timedelta, *, failed: bool) -> Prunable:
        """Return what `prune` would delete now; changes nothing."""
        with self._database.transaction() as connection:
            return count_leads(connection, database_now(connection) - older_than, failed=failed)

    def prune(self, older_than: timedelta, *, failed: bool, actor: str) -> Iterator[int]:
        """Delete the leads that ended longer ago, slice by slice; yield the number deleted by each slice.

        failed   also leads that failed, and leads that have a failure, resolved or not
        """
        before = self._database.read(database_now) - older_than
        place: Place | None = since(_BEGINNING)
        total = 0
        try:
            while place is not None:
                prune = partial(prune_leads, before=before, failed=failed)
                done = self._database.again(partial(_apply, prune, place))
                place = done.following
                total += done.pruned
                yield done.pruned
        finally:
            self._database.again(partial(_note, actor, older_than, failed, total))


def _note(actor: str, older_than: timedelta, failed: bool, leads: int, connection: Connection) -> None:  # noqa: FBT001
    detail = {"older_than_seconds": older_than.total_seconds(), "failed": failed, "leads": leads}
    audit.note(connection, actor, "prune", "leads", detail)
