"""The `Dispatcher` that a command works with, from the environment, closed when the command is done."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from dispatcher import moments
from dispatcher.cli import screen
from dispatcher.config.account import EXAMPLES, parse_rate_limit
from dispatcher.lead.lead import MAX_CAMPAIGN_ID
from dispatcher.operator.failures import ending_of, variable_of

if TYPE_CHECKING:
    from dispatcher.api import Dispatcher


@contextmanager
def opened(*, rehearsing: bool = False) -> Iterator["Dispatcher"]:
    """Raises `NotConfigured` where the environment lacks something. `rehearsing`: all that is done is undone."""
    # Late: it brings SQLAlchemy and Celery, a second that `--help` and misuse need not cost.
    from dispatcher.api import Dispatcher
    from dispatcher.config.settings import Settings

    # Of a connection that was lost it warns wherever it was used; what could not be done in the end, we say ourselves.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    dispatcher = Dispatcher(Settings.from_environment(), rehearsing=rehearsing)
    try:
        yield dispatcher
        if rehearsing:
            screen.warn(("A dry run: nothing was changed.", "yellow"))
    finally:
        dispatcher.close()


def past(text: str, now: datetime, option: str) -> datetime:
    """A moment that has passed."""
    with _misuse(option):
        return moments.past(text, now)


def future(text: str, now: datetime, option: str) -> datetime | timedelta:
    """A moment to come."""
    with _misuse(option):
        return moments.future(text, now)


def duration(text: str, option: str) -> timedelta:
    """A length of time."""
    with _misuse(option):
        return moments.duration(text)


def campaign_id(text: str) -> int:
    """The id of a campaign."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:20]) <= MAX_CAMPAIGN_ID:
        raise typer.BadParameter("it is not an id of a campaign; write it as Voicery shows it, e.g. 42")
    return int(text)


def campaign_option(help: str, **more: Any) -> Any:  # noqa: ANN401 - as typer has it
    """The option for one campaign, the same wherever it is asked for."""
    return typer.Option("--campaign", parser=campaign_id, metavar="ID", help=help, show_default=False, **more)


def rate_limit(text: str) -> str:
    """A rate limit, or a word for none."""
    try:
        parse_rate_limit(text)
    except ValueError as fault:
        raise typer.BadParameter(f"{fault}; {EXAMPLES}", param_hint="RATE") from None
    return text


def variable(text: str) -> tuple[str, str]:
    """The name and the value of a variable."""
    with _misuse("--var"):
        return variable_of(text)


def ending(text: str) -> str:
    """How a number ends."""
    with _misuse("--phone"):
        return ending_of(text)


@contextmanager
def _misuse(option: str) -> Iterator[None]:
    try:
        yield
    except ValueError as fault:
        raise typer.BadParameter(str(fault), param_hint=option) from None
