"""What the tests of the world share."""

from collections.abc import Iterator

import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.store.database import Database
from dispatcher.voicery.client import VoiceryClient
from tests.database.conftest import database, queue
from tests.support.world import World
from tests.voicery.peer import Peer
from tests.world.wires import SILENCE_SECONDS, Wires

__all__ = ["database", "queue", "wires"]


@pytest.fixture(scope="module")
def wires() -> Iterator[Wires]:
    made = Wires()
    with Peer(made.serve) as peer:
        client = VoiceryClient(
            base_url=peer.url,
            token=lambda: "a-token",
            idle_seconds=0.0,
            connect_timeout_seconds=5.0,
            read_timeout_seconds=SILENCE_SECONDS,
            deadline_seconds=5.0,
        )
        made.url, made.client = peer.url, client
        yield made
        client.close()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """An account with a database of its own."""
    database = Database(normal_database_url(database_url), pool_size=10)
    yield World(database)
    database.close()
