"""What the dispatcher tells its log: one canonical event for each attempt, and one for whatever a person should see.

Library first: this never configures logging. Events go to the standard logger `dispatcher` with their fields as
`extra`; the worker's log format decides how they look. No field ever holds a phone number, a variable or a token.
"""

import logging
from typing import Any, Final

import structlog

_LOGGER: Final = logging.getLogger("dispatcher")

_log: Final[structlog.stdlib.BoundLogger] = structlog.wrap_logger(
    _LOGGER,
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)


def note(event: str, **fields: Any) -> None:
    """Something ordinary, e.g. `attempt.finished`. Costs nothing where INFO is off."""
    if _LOGGER.isEnabledFor(logging.INFO):
        _log.info(event, **fields)


def warn(event: str, **fields: Any) -> None:
    """Something that holds leads back or that a person may want to know, e.g. `gate.closed`."""
    _log.warning(event, **fields)


def alarm(event: str, **fields: Any) -> None:
    """A bug or an incident: a person must look."""
    _log.error(event, **fields)
