"""The `Dispatcher` that a command works with, from the environment, closed when the command is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.runtime import Dispatcher


@contextmanager
def opened() -> Iterator["Dispatcher"]:
    """Raises `NotConfigured` where the environment lacks something."""
    # Late: it brings SQLAlchemy and Celery, a second that `--help` and misuse need not cost.
    from dispatcher.config.settings import Settings
    from dispatcher.runtime import Dispatcher

    dispatcher = Dispatcher(Settings.from_environment())
    try:
        yield dispatcher
    finally:
        dispatcher.close()
