"""The `Dispatcher` that a command works with, from the environment, closed when the command is done."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dispatcher.cli import screen

if TYPE_CHECKING:
    from dispatcher.runtime import Dispatcher


@contextmanager
def opened(*, rehearsing: bool = False) -> Iterator["Dispatcher"]:
    """Raises `NotConfigured` where the environment lacks something. `rehearsing`: all that is done is undone."""
    # Late: it brings SQLAlchemy and Celery, a second that `--help` and misuse need not cost.
    from dispatcher.config.settings import Settings
    from dispatcher.runtime import Dispatcher

    # Of a connection that was lost it warns wherever it was used; what could not be done in the end, we say ourselves.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    dispatcher = Dispatcher(Settings.from_environment(), rehearsing=rehearsing)
    try:
        yield dispatcher
        if rehearsing:
            screen.warn(("A dry run: nothing was changed.", "yellow"))
    finally:
        dispatcher.close()
