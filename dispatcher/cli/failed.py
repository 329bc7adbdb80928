"""The filters of failed leads as options: the same words for `failed` and `replay`, and in the console's addresses."""

import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from dispatcher import moments
from dispatcher.cli import arguments
from dispatcher.decisions.states import FailureClass

_PANEL: Final = "Filters (all that are given must hold)"


def _option(kind: Any, *flags: str, help: str, **more: Any) -> Any:  # noqa: ANN401 - as typer has it
    return Annotated[kind | None, typer.Option(*flags, help=help, rich_help_panel=_PANEL, **more)]


_OPTIONS: Final[Mapping[str, Any]] = {
    "failure_class": _option(FailureClass, "--class", help="Why it failed.", case_sensitive=False),
    "campaign_id": _option(int, "--campaign", parser=arguments.campaign_id, metavar="ID", help="Id of the campaign."),
    "account": _option(str, "--account", help="Name of the account."),
    "fingerprint": _option(str, "--cause", help="Fingerprint, as `failed --group` shows it."),
    "http_status": _option(int, "--http-status", min=100, max=599, help="What Voicery answered."),
    "text": _option(str, "--text", help="Occurs in the message."),
    "phone_number": _option(str, "--phone", help="How the number ends, e.g. 0123."),
    "idempotency_key": _option(str, "--key", help="Idempotency key, the producer's reference."),
    "batch_id": _option(UUID, "--batch", help="Id of the import."),
    "variable": _option(str, "--var", metavar="NAME=TEXT", help="The lead has this variable, e.g. plan=pro."),
    "attempts_from": _option(int, "--attempts", min=0, help="At least so many attempts."),
    "replayed_before": _option(
        bool, "--replayed-before/--never-replayed", help="Sent again by somebody before, and failed once more; or not."
    ),
    "failed_since": _option(str, "--since", help=f"Failed at or after, {moments.PAST_HELP}."),
    "failed_before": _option(str, "--before", help="Failed before."),
    "submitted_since": _option(str, "--submitted-since", help="Submitted at or after."),
    "submitted_before": _option(str, "--submitted-before", help="Submitted before."),
}


_MOMENTS: Final = {
    "failed_since": "--since",
    "failed_before": "--before",
    "submitted_since": "--submitted-since",
    "submitted_before": "--submitted-before",
}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each filter; those given are its `wanted`, as `Dispatcher.failed` takes them."""

    @wraps(command)
    def run(**options: Any) -> None:  # noqa: ANN401 - whatever the command takes
        given = {name: value for name in _OPTIONS if (value := options.pop(name)) is not None}
        command(wanted=_read(given), **options)

    own = inspect.signature(command)
    parameters = [one for one in own.parameters.values() if one.name != "wanted"]
    ids = [one for one in parameters if one.name == "ids"]
    asked = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _OPTIONS.items()
    ]
    others = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters if one not in ids]
    run.__signature__ = own.replace(parameters=[*ids, *asked, *others])  # type: ignore[attr-defined]
    return run


def _read(given: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    readers: Mapping[str, Callable[[str], Any]] = {
        "phone_number": arguments.ending,
        "variable": arguments.variable,
        **{name: partial(arguments.past, now=now, option=option) for name, option in _MOMENTS.items()},
    }
    return {name: readers[name](value) if name in readers else value for name, value in given.items()}
