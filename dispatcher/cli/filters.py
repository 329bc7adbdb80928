"""The filters of failed leads as options: the same words for `failed` and `replay`."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from dispatcher.cli import moments
from dispatcher.rules.states import FailureClass

_PANEL = "Filters (all that are given must hold)"

Class = Annotated[
    FailureClass | None, typer.Option("--class", help="Why it failed.", rich_help_panel=_PANEL, case_sensitive=False)
]
Campaign = Annotated[int | None, typer.Option("--campaign", min=1, help="Id of the campaign.", rich_help_panel=_PANEL)]
Account = Annotated[str | None, typer.Option("--account", help="Name of the account.", rich_help_panel=_PANEL)]
Cause = Annotated[
    str | None, typer.Option("--cause", help="Fingerprint, as `failed --group` shows it.", rich_help_panel=_PANEL)
]
Status = Annotated[
    int | None, typer.Option("--http-status", min=100, max=599, help="What Voicery answered.", rich_help_panel=_PANEL)
]
Words = Annotated[str | None, typer.Option("--text", help="Occurs in the message.", rich_help_panel=_PANEL)]
Batch = Annotated[UUID | None, typer.Option("--batch", help="Id of the import.", rich_help_panel=_PANEL)]
Since = Annotated[
    str | None, typer.Option("--since", help=f"Failed at or after, {moments.PAST_HELP}.", rich_help_panel=_PANEL)
]
Before = Annotated[str | None, typer.Option("--before", help="Failed before.", rich_help_panel=_PANEL)]


def given(
    *,
    failure_class: FailureClass | None,
    campaign: int | None,
    account: str | None,
    cause: str | None,
    http_status: int | None,
    text: str | None,
    batch: UUID | None,
    since: str | None,
    before: str | None,
) -> dict[str, Any]:
    """The filters that were given, as `Dispatcher.failed` takes them."""
    now = datetime.now(UTC)
    filters = {
        "failure_class": failure_class,
        "campaign_id": campaign,
        "account": account,
        "fingerprint": cause,
        "http_status": http_status,
        "text": text,
        "batch_id": batch,
        "failed_since": None if since is None else moments.past(since, now),
        "failed_before": None if before is None else moments.past(before, now),
    }
    return {name: value for name, value in filters.items() if value is not None}
