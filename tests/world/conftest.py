"""What the tests of the world share."""

from collections.abc import Iterator

import pytest

from dispatcher.voicery.client import VoiceryClient
from tests.database.conftest import database, queue
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
            read_timeout_seconds=SILENCE_SECONDS,
            deadline_seconds=5.0,
        )
        made.url, made.client = peer.url, client
        yield made
        client.close()
