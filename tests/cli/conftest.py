"""The command line on a database of its own."""

from collections.abc import Iterator

import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.store.database import Database
from tests.support.doubles import Line
from tests.support.rows import Rows


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Line:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Line()


@pytest.fixture
def rows(database_url: str) -> Iterator[Rows]:
    database = Database(normal_database_url(database_url))
    yield Rows(database)
    database.close()
