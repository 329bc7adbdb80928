"""All commands, in the order of their use."""

from typing import Any

import typer
from typer.core import TyperGroup

from dispatcher.cli import (
    acting,
    campaigns,
    doctor,
    importing,
    keeping,
    leads,
    monitoring,
    operations,
    reading,
    records,
    replaying,
    running,
    screen,
    submitting,
    watching,
    web,
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

app.command(rich_help_panel=START)(running.up)
app.command(rich_help_panel=START)(running.demo)
app.command(rich_help_panel=START)(running.migrate)
app.command(rich_help_panel=START)(doctor.doctor)
app.command(rich_help_panel=GIVE)(submitting.submit)
app.command("import", rich_help_panel=GIVE)(importing.import_file)
app.command(rich_help_panel=LOOK)(web.console)
app.command(rich_help_panel=LOOK)(reading.status)
app.command(rich_help_panel=LOOK)(reading.show)
app.command(rich_help_panel=LOOK)(reading.explain)
app.command(rich_help_panel=LOOK)(reading.failed)
app.command("list", rich_help_panel=LOOK)(leads.list_leads)
app.command(rich_help_panel=LOOK)(campaigns.campaigns)
app.command(rich_help_panel=LOOK)(operations.operations)
app.command(rich_help_panel=LOOK)(records.imports)
app.command(rich_help_panel=LOOK)(records.incidents)
app.command(rich_help_panel=LOOK)(records.audit)
app.command(rich_help_panel=LOOK)(watching.tail)
app.command(rich_help_panel=LOOK)(watching.top)
app.command(rich_help_panel=ACT)(replaying.replay)
app.command(rich_help_panel=ACT)(leads.edit)
app.command(rich_help_panel=ACT)(acting.lookup)
app.command(rich_help_panel=ACT)(acting.resolve)
app.command(rich_help_panel=ACT)(acting.cancel)
app.command(rich_help_panel=ACT)(acting.pause)
app.command(rich_help_panel=ACT)(acting.resume)
app.command(rich_help_panel=ACT)(campaigns.limit)
app.command(rich_help_panel=ACT)(keeping.prune)
app.command(rich_help_panel=ACT)(keeping.erase)
app.command(
    rich_help_panel=RUN,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(running.sandbox)
app.command(rich_help_panel=RUN)(running.sweep)
app.command(rich_help_panel=RUN)(monitoring.metrics)
app.command(rich_help_panel=RUN)(monitoring.health)
