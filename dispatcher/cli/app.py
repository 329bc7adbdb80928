"""All commands, in the order of their use."""

from typing import Any

import typer
from typer.core import TyperGroup

from dispatcher.cli import (
    audit,
    campaigns,
    decide,
    doctor,
    lead_import,
    leads,
    operations,
    replay,
    retention,
    screen,
    serve,
    status,
    submit,
    tail,
)


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own
        """Run the command that was called; typer would end it with 1 where its output is not wanted any more."""
        with screen.reader_may_leave():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    help="Hands leads to Voicery: none is lost, and nobody is called twice because of us.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)

START, GIVE, LOOK, ACT, RUN = "Start", "Give leads", "Look", "Act", "Run by itself"

app.command(rich_help_panel=START)(serve.up)
app.command(rich_help_panel=START)(serve.demo)
app.command(rich_help_panel=START)(serve.migrate)
app.command(rich_help_panel=START)(doctor.doctor)
app.command(rich_help_panel=GIVE)(submit.submit)
app.command("import", rich_help_panel=GIVE)(lead_import.import_file)
app.command(rich_help_panel=LOOK)(serve.console)
app.command(rich_help_panel=LOOK)(status.status)
app.command(rich_help_panel=LOOK)(status.show)
app.command(rich_help_panel=LOOK)(status.explain)
app.command(rich_help_panel=LOOK)(status.failed)
app.command("list", rich_help_panel=LOOK)(leads.list_leads)
app.command(rich_help_panel=LOOK)(campaigns.campaigns)
app.command(rich_help_panel=LOOK)(operations.operations)
app.command(rich_help_panel=LOOK)(audit.imports)
app.command(rich_help_panel=LOOK)(audit.incidents)
app.command(rich_help_panel=LOOK)(audit.audit)
app.command(rich_help_panel=LOOK)(tail.tail)
app.command(rich_help_panel=LOOK)(tail.top)
app.command(rich_help_panel=ACT)(replay.replay)
app.command(rich_help_panel=ACT)(leads.edit)
app.command(rich_help_panel=ACT)(decide.lookup)
app.command(rich_help_panel=ACT)(decide.resolve)
app.command(rich_help_panel=ACT)(decide.cancel)
app.command(rich_help_panel=ACT)(decide.pause)
app.command(rich_help_panel=ACT)(decide.resume)
app.command(rich_help_panel=ACT)(campaigns.limit)
app.command(rich_help_panel=ACT)(retention.prune)
app.command(rich_help_panel=ACT)(retention.erase)
app.command(
    rich_help_panel=RUN,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(serve.sandbox)
app.command(rich_help_panel=RUN)(serve.sweep)
app.command(rich_help_panel=RUN)(serve.metrics)
app.command(rich_help_panel=RUN)(serve.health)
