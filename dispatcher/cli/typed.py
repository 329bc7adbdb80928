"""What is typed behind an option, read; what cannot be read is misuse, and ends with 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import typer

from dispatcher.records import moments
from dispatcher.records.failure_filter import ending_of, variable_of


def past(text: str, now: datetime) -> datetime:
    """A moment that has passed."""
    with _misuse():
        return moments.past(text, now)


def future(text: str, now: datetime) -> datetime | timedelta:
    """A moment to come."""
    with _misuse():
        return moments.future(text, now)


def duration(text: str) -> timedelta:
    """A length of time."""
    with _misuse():
        return moments.duration(text)


def variable(text: str) -> tuple[str, str]:
    """The name and the value of a variable."""
    with _misuse():
        return variable_of(text)


def ending(text: str) -> str:
    """How a number ends."""
    with _misuse():
        return ending_of(text)


@contextmanager
def _misuse() -> Iterator[None]:
    try:
        yield
    except ValueError as fault:
        raise typer.BadParameter(str(fault)) from None
