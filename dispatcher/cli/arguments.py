"""The options that several commands have, how each is read, and the `Dispatcher` that a command works with.

What a command needs only when it runs is imported then: its help and its completion are made of this alone.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher import moments
from dispatcher.cli import screen
from dispatcher.errors import DispatcherError
from dispatcher.lead.options import MAX_CAMPAIGN_ID

if TYPE_CHECKING:
    from dispatcher.api import Dispatcher
    from dispatcher.web.server import Address

LeadId = Annotated[str, typer.Argument(metavar="ID", help="Id of the lead.", show_default=False)]
LeadIds = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of leads.", show_default=False)]
SomeLeadIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of leads.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Greatest number to show, newest first.")]
Account = Annotated[str, typer.Option("--account", help="Name of the account.")]
OfAccount = Annotated[str | None, typer.Option("--account", help="Those of this account.", show_default=False)]
CertificateFile = Annotated[
    Path | None, typer.Option("--tls-certificate", help="A PEM file: serve https.", exists=True, dir_okay=False)
]
KeyFile = Annotated[
    Path | None, typer.Option("--tls-key", help="The certificate's key, PEM.", exists=True, dir_okay=False)
]


@contextmanager
def opened(*, rehearsing: bool = False) -> Iterator["Dispatcher"]:
    """Make a `Dispatcher` from the environment, and close it when the command is done.

    `rehearsing` is a dry run. Raises `NotConfigured` where the environment lacks a setting.
    """
    from dispatcher.api import Dispatcher
    from dispatcher.config.settings import Settings

    # It logs each lost connection; what could not be done because of one is said by the command's error.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    dispatcher = Dispatcher(Settings.from_environment(), rehearsing=rehearsing)
    try:
        yield dispatcher
        if rehearsing:
            screen.warn(("A dry run: nothing was changed.", "yellow"))
    finally:
        dispatcher.close()


def address(host: str, port: int, certificate: Path | None, key: Path | None) -> "Address":
    """Return where to listen, with the certificate if one is given. Needs an extra with a server."""
    from dispatcher.web.server import Address, certificate_of

    with _misuse("--tls-key"):
        return Address(host, port, certificate_of(certificate, key))


def told_place(dispatcher: "Dispatcher", *, json: bool) -> dict[str, Any]:
    """Return how old what was read may be, as JSON has it; nothing without a replica. Without `json` it is printed."""
    place = dispatcher.reading.place
    if place is None:
        return {}
    if not json:
        screen.warn((place.sentence, "yellow" if place.fault else "dim"))
    return {"replica": place.as_dict()}


def actor() -> str:
    """Return who is responsible: the user of this process at this machine."""
    from dispatcher.config.account import whoami

    return whoami()


def past(text: str, now: datetime, option: str) -> datetime:
    """Read a time that has passed."""
    with _misuse(option):
        return moments.past(text, now)


def future(text: str, now: datetime, option: str) -> datetime | timedelta:
    """Read a time to come."""
    with _misuse(option):
        return moments.future(text, now)


def duration(text: str, option: str) -> timedelta:
    """Read a duration."""
    with _misuse(option):
        return moments.duration(text)


def campaign_id(text: str) -> int:
    """Read the id of a campaign."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:20]) <= MAX_CAMPAIGN_ID:
        raise typer.BadParameter("it is not an id of a campaign; write it as Voicery shows it, e.g. 42")
    return int(text)


def campaign_option(help: str, flag: str = "--campaign", **more: Any) -> Any:  # noqa: ANN401 - as typer has it
    """Return the option for one campaign."""
    return typer.Option(flag, parser=campaign_id, metavar="ID", help=help, show_default=False, **more)


def rate_limit(text: str) -> str:
    """Read a rate limit, or a word for none."""
    from dispatcher.config.account import EXAMPLES, parse_rate_limit

    try:
        parse_rate_limit(text)
    except ValueError as fault:
        raise typer.BadParameter(f"{fault}; {EXAMPLES}", param_hint="RATE") from None
    return text


def variable(text: str) -> tuple[str, str]:
    """Read the name and the value of a variable."""
    from dispatcher.operator.failure_filter import variable_of

    with _misuse("--var"):
        return variable_of(text)


def ending(text: str) -> str:
    """Read the last digits of a number."""
    from dispatcher.operator.failure_filter import ending_of

    with _misuse("--phone"):
        return ending_of(text)


def note_person_looked_up(dispatcher: "Dispatcher", number: str | None) -> None:
    """Write to the audit log that somebody was looked for by the number; a few last digits name nobody."""
    from dispatcher.operator import person_lookups
    from dispatcher.store.trouble import StatementRefused

    if number is None or not person_lookups.names_a_person(number):
        return
    try:
        dispatcher.database.again(person_lookups.note, actor(), number)
    except (DispatcherError, StatementRefused):  # a reading role writes nothing
        screen.warn(("! ", "yellow"), "This look-up of a person could not be written to the audit log.")


@contextmanager
def _misuse(option: str) -> Iterator[None]:
    try:
        yield
    except ValueError as fault:
        raise typer.BadParameter(str(fault), param_hint=option) from None
