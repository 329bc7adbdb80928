"""The rights of docs/operations.md suffice for the dispatcher, and one less does not.

All tests of this directory talk to Redis as that user; here its log of denials is read.
"""

from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis

from dispatcher.broker.connection import connect, refuse_cluster
from dispatcher.broker.doorbell import Doorbell
from dispatcher.broker.limiter import Limiter, LimiterUnavailable
from dispatcher.config.account import RateWindow
from dispatcher.lead.options import Channel

from .conftest import RedisServer, documented_user, eventually
from .test_worker import StartWorker, start_worker

__all__ = ["start_worker"]  # a fixture

CHANNEL = Channel("default", 42)
GRANTED = [right for right in documented_user()[1:] if right[0] in "~&+"]


@pytest.fixture
def user(server: RedisServer) -> Iterator[str]:
    """The name of the user, who has all rights again afterwards."""
    name, *rights = documented_user()
    with server.client() as admin:
        admin.execute_command("ACL", "LOG", "RESET")
        yield name
        admin.execute_command("ACL", "SETUSER", name, "reset", *rights)


def denied(server: RedisServer) -> list[str]:
    """What Redis has denied the user."""
    with server.client() as admin:
        return [str(entry["object"]) for entry in admin.acl_log()]


def ask_for_permits_and_version(server: RedisServer) -> None:
    with connect(server.url) as client:
        Limiter(client).take(CHANNEL, 1, [RateWindow(10, 1.0)])
        refuse_cluster(client)


def test_they_suffice(server: RedisServer, start_worker: StartWorker, user: str) -> None:
    worker = start_worker(server)
    ask_for_permits_and_version(server)
    assert Doorbell(server.url).ring(CHANNEL)
    worker.await_note("deliver:default:42")
    assert denied(server) == []


@pytest.mark.parametrize("right", GRANTED)
def test_one_less_does_not(server: RedisServer, start_worker: StartWorker, user: str, right: str) -> None:
    name, *rights = documented_user()
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", name, "reset", *(one for one in rights if one != right))
    with suppress(redis.RedisError, LimiterUnavailable):  # Redis' log says what was denied
        ask_for_permits_and_version(server)
        start_worker(server)
    eventually(lambda: denied(server))


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "ACL LIST", "SHUTDOWN", "SET other 1", "GET other", "MONITOR"],
)
def test_they_are_no_more_than_that(server: RedisServer, user: str, command: str) -> None:
    with connect(server.url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())
