"""Sandboxes and connections to them; both end with the test."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from dispatcher.sandbox.server import Sandbox
from tests.sandbox.client import PATIENCE_SECONDS, Client, Wire


@pytest.fixture
def start() -> Iterator[Callable[..., Client]]:
    """Start a sandbox with the given options; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def started(**options: Any) -> Client:
            sandbox = stack.enter_context(Sandbox(**options))
            session = stack.enter_context(requests.Session())
            session.trust_env = False
            return Client(sandbox, session)

        yield started


@pytest.fixture
def dial() -> Iterator[Callable[..., Wire]]:
    """Connect to a sandbox with a raw socket."""
    with contextlib.ExitStack() as stack:

        def dialled(sandbox: Sandbox, tls: ssl.SSLContext | None = None) -> Wire:
            address = urlsplit(sandbox.base_url)
            connection = socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS)
            stack.enter_context(connection)
            if tls is not None:
                connection = stack.enter_context(tls.wrap_socket(connection, server_hostname="localhost"))
            return Wire(connection)

        yield dialled
