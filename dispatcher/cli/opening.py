"""The `Dispatcher` that a command works with, from the environment, closed when the command is done."""

from collections.abc import Iterator
from contextlib import contextmanager

from dispatcher.runtime import Dispatcher
from dispatcher.settings import Settings


@contextmanager
def opened() -> Iterator[Dispatcher]:
    """Raises `NotConfigured` where the environment lacks something."""
    dispatcher = Dispatcher(Settings.from_environment())
    try:
        yield dispatcher
    finally:
        dispatcher.close()
