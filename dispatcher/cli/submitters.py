"""`submitters`: for which accounts and campaigns a login of Postgres may submit by SQL."""

from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli import arguments, screen
from dispatcher.cli.arguments import opened

if TYPE_CHECKING:
    from dispatcher.operator.submitters import Submitter

submitters = typer.Typer(
    help="Say for which accounts and campaigns a login of Postgres may call dispatcher.submit_lead.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Login = Annotated[
    str,
    typer.Argument(
        metavar="LOGIN", help="A login of Postgres, or public: every login that has no row.", show_default=False
    ),
]


@submitters.command("list")
def list_submitters(json: screen.Json = False, csv: screen.Csv = False) -> None:
    """List what each login may submit. Without any row every login may submit for every account."""
    from dispatcher.operator.submitters import PUBLIC, Submitters

    with opened() as dispatcher:
        found = Submitters(dispatcher.database).all()
    if screen.emit_list((one.as_dict() for one in found), json=json, csv=csv):
        return
    table = screen.rows("Login", "may submit for", "by")
    for one in found:
        table.add_row(one.login, _scope(one), one.changed_by)
    if PUBLIC not in {one.login for one in found}:
        table.add_row("every other", "all accounts", "")
    screen.put(table)


@submitters.command("allow")
def allow(
    login: Login,
    account: Annotated[
        str, typer.Option("--account", metavar="ACCOUNT", help="Name of the account.", show_default=False)
    ],
    campaigns: Annotated[
        list[int] | None,
        arguments.campaign_option("Only this campaign; repeat for more. By default all of the account."),
    ] = None,
    dry_run: screen.DryRun = False,
    json: screen.Json = False,
) -> None:
    """Let a login submit for an account, and for nothing else that it is not allowed as well."""
    from dispatcher.operator.submitters import Submitters

    with opened(rehearsing=dry_run) as dispatcher:
        row = Submitters(dispatcher.database).allow(login, account, campaigns or None, actor=arguments.actor())
    _show(row, dry_run=dry_run, json=json)


@submitters.command("revoke")
def revoke(
    login: Login, account: arguments.OfAccount = None, dry_run: screen.DryRun = False, json: screen.Json = False
) -> None:
    """Take an account away from a login, or each; with none left it may submit nothing."""
    from dispatcher.operator.submitters import Submitters

    with opened(rehearsing=dry_run) as dispatcher:
        row = Submitters(dispatcher.database).revoke(login, account, actor=arguments.actor())
    _show(row, dry_run=dry_run, json=json)


@submitters.command("free")
def free(login: Login, dry_run: screen.DryRun = False, json: screen.Json = False) -> None:
    """Forget what a login may: then public holds for it, and without that it may submit for every account."""
    from dispatcher.operator.submitters import Submitters

    with opened(rehearsing=dry_run) as dispatcher:
        Submitters(dispatcher.database).free(login, actor=arguments.actor())
    if json:
        screen.emit({"login": login, "dry_run": dry_run})
    else:
        screen.say(("✓ ", "green"), f"{login} has no row any more.")


def _show(row: "Submitter", *, dry_run: bool, json: bool) -> None:
    if json:
        screen.emit({"submitter": row.as_dict(), "dry_run": dry_run})
    else:
        screen.say(("✓ ", "green"), f"{row.login} may submit by SQL for: {_scope(row)}.")


def _scope(row: "Submitter") -> str:
    said = [
        account if campaigns is None else f"{account}, campaign {', '.join(map(str, campaigns))}"
        for account, campaigns in row.accounts.items()
    ]
    return "; ".join(said) or "nothing"
