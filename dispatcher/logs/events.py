"""The dispatcher's log events: one `attempt.finished` for each attempt, and one for whatever a person should see.

This never configures logging. Events go to the standard logger `dispatcher` with their fields as `extra`; the worker's
log format decides how they look. No field ever holds a phone number, a variable or a token. docs/operations.md lists
the events.
"""

import logging
import sys
from typing import Any, Final

_LOGGER: Final = logging.getLogger("dispatcher")


def info(event: str, **fields: Any) -> None:
    """Log something ordinary, e.g. `attempt.finished`."""
    _LOGGER.info(event, extra=fields, stacklevel=2)


def warning(event: str, **fields: Any) -> None:
    """Log something that holds leads back or that a person may want to know, e.g. `gate.closed`."""
    _LOGGER.warning(event, extra=fields, stacklevel=2)


def exception(event: str, **fields: Any) -> None:
    """Log a bug with the traceback of the exception that is being handled."""
    _LOGGER.error(event, exc_info=sys.exception(), extra=fields, stacklevel=2)


def error(event: str, **fields: Any) -> None:
    """Log a bug or an incident: a person must look."""
    _LOGGER.error(event, extra=fields, stacklevel=2)
