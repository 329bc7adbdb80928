"""`keys`: who may use the HTTP intake."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher import moments
from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened
from dispatcher.lead.options import DEFAULT_ACCOUNT

if TYPE_CHECKING:
    from dispatcher.http_intake.keys import ApiKey, Issued

keys = typer.Typer(
    help="Make, list, replace and revoke the keys of the HTTP intake.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Which = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="Its beginning, e.g. vdk_abcdefghij, or its name if only one has it.", show_default=False
    ),
]
Expires = Annotated[str | None, typer.Option("--expires", help="The end, e.g. 365d or a date.", show_default=False)]


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses it, e.g. shop.", show_default=False)],
    account: arguments.Account = DEFAULT_ACCOUNT,
    campaigns: Annotated[
        list[int] | None,
        arguments.campaign_option("Only this campaign; repeat for more. By default all of the account."),
    ] = None,
    hook: Annotated[
        str | None,
        typer.Option(
            "--hook", metavar="MAPPING", help="Only for this webhook; may stand in its URL.", show_default=False
        ),
    ] = None,
    rate: Annotated[
        str, typer.Option("--rate", help="Leads it may submit or read at one intake, or off.")
    ] = "600/minute; 100/second",
    expires: Expires = None,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Make a key and show it, once: only its hash is stored."""
    from dispatcher.http_intake.keys import Keys, KeyTerms

    terms = KeyTerms(name, account, tuple(campaigns) if campaigns else None, hook, rate, _end(expires))
    with opened(rehearsing=dry_run) as dispatcher:
        issued = Keys(dispatcher.database).create(terms, actor=arguments.actor())
    _show_issued(issued, dry_run=dry_run, json=json)


@keys.command("list")
def list_keys(
    account: arguments.OfAccount = None,
    limit: arguments.Limit = 100,
    json: screen.Json = False,
    csv: screen.Csv = False,
) -> None:
    """List the keys, the latest first, also those that have ended."""
    from dispatcher.http_intake.keys import Keys

    with opened() as dispatcher:
        found = Keys(dispatcher.database).all(account=account, most=limit)
    if screen.emit_list((key.as_dict() for key in found), json=json, csv=csv):
        return
    if not found:
        screen.say("There are no keys; `dispatcher keys create NAME` makes one.")
        return
    rate = ("rate",) if screen.wide() else ()
    table = screen.rows("Name", "account", "key", "for", *rate, "state", "last used", "by", "since", whole=("key",))
    now = datetime.now(UTC)
    for key in found:
        used = "never" if key.last_used_at is None else moments.ago(key.last_used_at, now)
        rates = (key.rate_limit,) if rate else ()
        table.add_row(
            key.name, key.account, f"vdk_{key.prefix}", _limits(key), *rates, _state(key, now), used, key.created_by,
            moments.ago(key.created_at, now),
        )  # fmt: skip
    screen.put(table)


@keys.command("rotate")
def rotate(
    which: Which,
    overlap: Annotated[str, typer.Option("--overlap", help="For how long the old one works on.")] = "1d",
    expires: Expires = None,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Make a key with the same rights and show it; the old one works on for a while."""
    from dispatcher.http_intake.keys import Keys

    lasting = timedelta(0) if overlap.strip() in {"0", "0s"} else arguments.duration(overlap, "--overlap")
    with opened(rehearsing=dry_run) as dispatcher:
        issued, old = Keys(dispatcher.database).rotate(
            which, actor=arguments.actor(), overlap=lasting, expires_at=_end(expires)
        )
    _show_issued(issued, old, dry_run=dry_run, json=json)


@keys.command("revoke")
def revoke(which: Which, dry_run: screen.DryRun = False, json: screen.Json = False) -> None:
    """Revoke a key. Every intake refuses it within a second."""
    from dispatcher.http_intake.keys import Keys

    with opened(rehearsing=dry_run) as dispatcher:
        key = Keys(dispatcher.database).revoke(which, actor=arguments.actor())
    if json:
        screen.emit({"key": key.as_dict(), "dry_run": dry_run})
    else:
        screen.say(("✓ ", "green"), f"vdk_{key.prefix} ({key.name}) is revoked; what uses it gets 401 within a second.")


def _end(expires: str | None) -> datetime | timedelta | None:
    return None if expires is None else arguments.future(expires, datetime.now(UTC), "--expires")


def _show_issued(issued: "Issued", old: "ApiKey | None" = None, *, dry_run: bool, json: bool) -> None:
    """Show a new key. After a dry run there is none to show."""
    if json:
        told = {"key": issued.key.as_dict(), "secret": None if dry_run else issued.secret, "dry_run": dry_run}
        screen.emit(told if old is None else {**told, "replaced": old.as_dict()})
        return
    if not dry_run:
        typer.echo(issued.secret)
    screen.warn(("✓ ", "green"), f"For {_scope(issued.key)}; shown once, and stored only as a hash.")
    if old is not None and old.expires_at is not None:
        screen.warn(f"vdk_{old.prefix} works until {old.expires_at:%Y-%m-%d %H:%M} UTC.")


def _scope(key: "ApiKey") -> str:
    return f"{key.account}, {_limits(key)}"


def _limits(key: "ApiKey") -> str:
    campaigns = "all campaigns" if key.campaigns is None else f"campaign {', '.join(map(str, key.campaigns))}"
    return campaigns if key.mapping is None else f"{campaigns}, only the webhook {key.mapping}"


def _state(key: "ApiKey", now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {moments.ago(key.revoked_at, now)}"
    if not key.active:
        return "ended"
    return "active" if key.expires_at is None else f"until {key.expires_at:%Y-%m-%d %H:%M}"
