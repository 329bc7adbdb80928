"""A database with roles, and its parts as the login of each sees them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.store.rights import Part
from dispatcher.wiring import Services
from tests.migration.flows import World
from tests.support.databases import Databases
from tests.support.logins import Installation, installation

WorldOf = Callable[..., World]


@pytest.fixture(scope="session")
def installed(databases: Databases) -> Iterator[Installation]:
    """The roles, and a login for each."""
    with installation(databases) as made:
        yield made


@pytest.fixture
def roles_url(databases: Databases, installed: Installation) -> Iterator[str]:
    """A database with the roles and rows in every state, for its superuser."""
    with databases.one(installed.template) as url:
        yield url


@pytest.fixture
def world_as(installed: Installation, roles_url: str) -> Iterator[WorldOf]:
    """`world_as(Part.PRODUCER, Part.WORKER)`: the database for a `Dispatcher` of one role and a queue of another."""
    with ExitStack() as stack:

        def services(part: Part | None) -> Services:
            url = roles_url if part is None else installed.url(roles_url, part)
            settings = Settings(database_url=normal_database_url(url), redis_url="redis://127.0.0.1:1/0", rate_limit=())
            return stack.enter_context(closing(Services(settings)))

        def made(dispatcher: Part | None = None, queue: Part | None = None) -> World:
            world = World(services(queue or dispatcher))
            world.dispatcher = stack.enter_context(closing(Dispatcher(services(dispatcher).settings)))
            return world

        yield made
