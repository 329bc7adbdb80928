"""A free port on the loopback interface."""

import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"

_PORTS: Final = range(15000, 30000)
"""Below the ephemeral ports of Linux (32768 up) and macOS (49152 up): a client's outgoing connection can neither take
the port while a server restarts, nor, retrying against nobody, connect to itself."""


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(preferred: int | None = None) -> int:
    """The preferred port if it is free, else any."""
    if preferred is not None and is_free(preferred):
        return preferred
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if is_free(port):
            return port
    raise OSError(f"No free port between {_PORTS.start} and {_PORTS.stop}")


def accepts_connections(port: int) -> bool:
    """Whether a server listens there now."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0
