"""What a change of Postgres' timeline means."""

from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.store.timeline import Timeline

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LAST = NOW - timedelta(seconds=30)


def seen(noted: str | None, here: str | None, *, at: datetime | None = LAST, covered: bool = False) -> Timeline:
    return Timeline(noted, here, at, covered, NOW)


@pytest.mark.parametrize(
    ("noted", "here", "changed", "continues"),
    [
        (None, "7/5/1", False, False),
        ("7/5/1", None, False, False),
        ("7/5/1", "7/5/1", False, False),
        ("7/5/1", "7/5/2", True, True),
        ("7/5/9", "7/5/10", True, True),
        ("7/5/1/older", "7/5/1", True, True),
        ("7/5/2", "7/5/1", True, False),
        ("8/5/1", "7/5/2", True, False),
        ("7/6/1", "7/5/2", True, False),
    ],
)
def test_only_a_later_timeline_of_the_same_database_continues_the_noted_one(
    noted: str | None, here: str | None, *, changed: bool, continues: bool
) -> None:
    line = seen(noted, here)
    assert (line.changed, line.continues) == (changed, continues)


@pytest.mark.parametrize(
    ("covered", "age_seconds", "confirmed_ago", "has_all"),
    [
        (True, 30, None, True),  # a worker that was started since: soon enough after the last sweep
        (True, 301, None, False),  # or a backup
        (True, 9000, 9000, True),  # the sweep that was the last one is still here
        (True, 30, 29, False),  # it was confirmed more than is here
        (True, 30, 40, True),  # another sweep was the last one
        (False, 1, 1, False),  # commits waited for no standby
    ],
)
def test_commits_are_all_there_only_where_they_waited_for_a_standby_and_nothing_speaks_against_it(
    *, covered: bool, age_seconds: int, confirmed_ago: int | None, has_all: bool
) -> None:
    line = seen("7/5/1", "7/5/2", at=NOW - timedelta(seconds=age_seconds), covered=covered)
    confirmed = None if confirmed_ago is None else NOW - timedelta(seconds=confirmed_ago)
    assert line.has_all(confirmed) == has_all


def test_an_older_copy_lacks_commits_whatever_they_waited_for() -> None:
    assert not seen("7/5/1/older", "7/5/1", covered=True).has_all(LAST)


def test_what_may_be_missing_begins_a_little_before_the_last_sweep() -> None:
    since = seen("7/5/1", "7/5/2").since
    assert since is not None
    assert since < LAST
    assert seen("7/5/1", "7/5/2", at=None).since is None
