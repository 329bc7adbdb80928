"""The fixtures. This module is loaded by every pytest where the dispatcher is installed, and loads nothing itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dispatcher.testing.captured import CapturedLeads
    from dispatcher.testing.sandbox import VoiceryForTests
    from dispatcher.testing.stores import Servers, Stores


@pytest.fixture
def captured_leads() -> "Iterator[CapturedLeads]":
    """What the test submits, validated and kept in a list: no Postgres, no Redis."""
    from dispatcher.testing.captured import capturing

    with capturing() as captured:
        yield captured


@pytest.fixture(scope="session")
def dispatcher_servers() -> "Iterator[Servers]":
    """A real Postgres with the schema and a real Redis, started once a session. Needs the extra `[embedded]`."""
    from dispatcher.testing.stores import Servers

    with Servers.started() as servers:
        yield servers


@pytest.fixture
def dispatcher_stores(dispatcher_servers: "Servers", monkeypatch: pytest.MonkeyPatch) -> "Iterator[Stores]":
    """Both stores without leads; the environment and `dispatcher.submit` lead to them."""
    from dispatcher.testing.stores import Stores

    for name, value in dispatcher_servers.environment.items():
        monkeypatch.setenv(name, value)
    with Stores.emptied(dispatcher_servers) as stores:
        yield stores


@pytest.fixture
def voicery_sandbox(dispatcher_stores: "Stores", monkeypatch: pytest.MonkeyPatch) -> "Iterator[VoiceryForTests]":
    """The sandbox in Voicery's place, and delivery to it in this process. Needs the extra `[sandbox]`."""
    try:
        from dispatcher.testing.sandbox import VoiceryForTests
    except ModuleNotFoundError as missing:
        if missing.name != "aiohttp":
            raise
        raise pytest.UsageError("voicery_sandbox needs an extra: pip install 'voicery-dispatcher[sandbox]'.") from None

    with VoiceryForTests.started(dispatcher_stores) as voicery:
        for name, value in voicery.environment.items():
            monkeypatch.setenv(name, value)
        yield voicery
