"""What all tests on a real Postgres share."""

from collections.abc import Iterator

import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.operator.replay import Failures
from dispatcher.store.database import Database
from tests.database.queue import Queue
from tests.support.doubles import Bell
from tests.support.rows import Rows


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated, empty database, as workers reach it."""
    database = Database(normal_database_url(database_url), pool_size=20)
    yield database
    database.close()


@pytest.fixture
def queue(database: Database) -> Queue:
    """Puts leads into the database and reads them back."""
    return Queue(database)


@pytest.fixture
def rows(database_url: str) -> Iterator[Rows]:
    """Puts rows in any state into the database and reads them back, as an operator's process reaches it."""
    database = Database(normal_database_url(database_url))
    yield Rows(database)
    database.close()


@pytest.fixture
def bell() -> Bell:
    """A doorbell that records its rings."""
    return Bell()


@pytest.fixture
def failures(rows: Rows, bell: Bell) -> Failures:
    """Acts on the failed leads of `rows`."""
    return Failures(rows.database, bell)
