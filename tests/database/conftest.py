"""What all tests on a real Postgres share."""

from collections.abc import Iterator

import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.store.database import Database
from tests.database.queue import Queue


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
