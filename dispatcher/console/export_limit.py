"""The bound on what one user takes out of the console by downloads, in all its processes together.

The audit log is the count: an export is read, judged and noted in one transaction, one at a time for each user.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from sqlalchemy import Connection, text

from dispatcher.errors import NotAllowed
from dispatcher.store import audit

EXPORTS: Final = 10
EXPORT_SECONDS: Final = 600.0
"""One user begins at most this many exports within this time."""

MOST_ROWS: Final = 100_000
ROWS: Final = 300_000
ROW_SECONDS: Final = 3600.0
"""The rows of one export, and of all exports of one user within this time."""

T = TypeVar("T")

_ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('dispatcher.export:' || :actor, 0))")

_LATELY: Final = text("""
SELECT CAST(extract(epoch FROM clock_timestamp() - at) AS float8) AS age, CAST(detail ->> 'rows' AS bigint) AS rows
FROM dispatcher.audit_log /* whole */
WHERE action IN ('export', 'export_refused') AND actor = :actor AND at > now() - make_interval(secs => :seconds)
ORDER BY at DESC
""")


class TooManyExports(NotAllowed):
    """The user has exported too much; `wait_seconds` says when there is room again."""

    def __init__(self, wait_seconds: float) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(
            f"You have exported a lot in a short time: wait {wait_seconds / 60:.0f} min, or narrow the filters. "
            "`dispatcher failed --json` on the server has no such limit."
        )


def take(
    connection: Connection,
    actor: str,
    subject: str,
    read: Callable[[Connection, int], Sequence[T]],
    detail: Mapping[str, object],
) -> Sequence[T] | None:
    """Return the rows of an export, noted in the audit log; None for more than `MOST_ROWS`, which counts as so many.

    read   returns the rows, at most as many as it is given

    Raises `TooManyExports`. A second export of the user waits until the transaction of the first one ends.
    """
    connection.execute(_ONE_AT_A_TIME, {"actor": actor})
    lately = connection.execute(_LATELY, {"actor": actor, "seconds": ROW_SECONDS}).all()
    wait_seconds = wait_of([(row.age, row.rows) for row in lately])
    if wait_seconds > 0:
        raise TooManyExports(wait_seconds)
    rows = read(connection, MOST_ROWS + 1)
    if len(rows) > MOST_ROWS:
        audit.note(connection, actor, "export_refused", subject, {**detail, "rows": MOST_ROWS})
        return None
    audit.note(connection, actor, "export", subject, {**detail, "rows": len(rows)})
    return rows


def wait_of(lately: Sequence[tuple[float, int]]) -> float:
    """Return the seconds until a user may export again; 0 for at once.

    lately   age in seconds and rows of the exports of the last `ROW_SECONDS`, the latest first
    """
    waits = [0.0]
    ages = [age for age, _ in lately if age < EXPORT_SECONDS]
    if len(ages) >= EXPORTS:
        waits.append(EXPORT_SECONDS - ages[EXPORTS - 1])
    kept = [(age, rows) for age, rows in lately if age < ROW_SECONDS]
    left = sum(rows for _, rows in kept)
    for age, rows in reversed(kept):
        if left + MOST_ROWS <= ROWS:
            break
        left -= rows
        waits.append(ROW_SECONDS - age)
    return max(waits)
