"""All commands, in the order of their use.

A command's module is imported when the command is called, completed or asked for its help, and not before: what
`dispatcher --help` and the completion of a command's name need is said here.
"""

import gc
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

import dispatcher


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command: the module of `dispatcher.cli` that has its function, and what the list of commands says of it."""

    name: str
    module: str
    short_help: str
    function: str = ""  # where it is not the command's name
    settings: dict[str, Any] = field(default_factory=dict)

    def load(self, panel: str) -> Any:  # noqa: ANN401 - typer's own command
        """Import the module and make the command of its function, or of the `Typer` that has several."""
        from dispatcher.cli.help import HelpfulCommand, HelpfulGroup

        module = importlib.import_module(f"dispatcher.cli.{self.module}")
        if self.name in _LASTING:
            gc.freeze()  # what is loaded stays to the end
            gc.set_threshold(_GARBAGE_THRESHOLD)
        found = getattr(module, self.function or self.name)
        if isinstance(found, typer.Typer):
            for one in found.registered_commands:
                one.cls = HelpfulCommand
            found.info.cls = HelpfulGroup
            group = typer.main.get_group(found)
            group.name, group.short_help, group.rich_help_panel = self.name, self.short_help, panel
            return group
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
        command = {"cls": HelpfulCommand, "short_help": self.short_help, "rich_help_panel": panel, **self.settings}
        alone.command(self.name, **command)(found)
        return typer.main.get_command(alone)


_GARBAGE_THRESHOLD: Final = 50_000
_LASTING: Final = frozenset({"console", "demo", "import", "intake", "metrics", "sandbox", "sweep", "tail", "top", "up"})
"""Commands that go on: they search for garbage, after so many new objects. A short one ends before that pays."""

_AS_GIVEN: Final = {
    "add_help_option": False,
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
}

PANELS: Final[dict[str, tuple[CommandEntry, ...]]] = {
    "Start": (
        CommandEntry("up", "processes", "Run Postgres, Redis and a worker on this machine"),
        CommandEntry("demo", "processes", "Watch leads go through a misbehaving Voicery"),
        CommandEntry("migrate", "processes", "Bring the database to this version's schema"),
        CommandEntry("doctor", "doctor", "Check settings, stores, token and workers"),
    ),
    "Give leads": (
        CommandEntry("submit", "submit", "Store one lead, from options or JSON"),
        CommandEntry("import", "lead_import", "Store every lead of a file", "import_file"),
        CommandEntry("intake", "intake", "Serve the HTTP API that takes leads"),
        CommandEntry("keys", "keys", "Make, list, replace and revoke keys of that API"),
        CommandEntry("mapping", "mapping", "Say how a CRM's webhook becomes a lead"),
        CommandEntry("submitters", "submitters", "Say for which accounts a login submits by SQL"),
    ),
    "Look": (
        CommandEntry("console", "processes", "Serve the web console"),
        CommandEntry("status", "status", "Show the whole queue"),
        CommandEntry("show", "leads", "Show one lead with its attempts and failures"),
        CommandEntry("explain", "leads", "Explain a lead's state and what happens next"),
        CommandEntry("failed", "failed", "List the leads that failed, or the causes"),
        CommandEntry("list", "leads", "List leads by any filter", "list_leads"),
        CommandEntry("blocked", "do_not_call", "List who must not be called, or ask for one"),
        CommandEntry("campaigns", "gates", "List the campaigns with their limits and gates"),
        CommandEntry("operations", "operations", "List bulk work, show its refusals, or stop it"),
        CommandEntry("inbox", "inbox", "List what came by SQL and waits or was rejected"),
        CommandEntry("imports", "audit", "List the imported files, or the refused rows"),
        CommandEntry("incidents", "audit", "List what must never happen and did"),
        CommandEntry("audit", "audit", "List who did what"),
        CommandEntry("person", "person", "Show all that is held of a person"),
        CommandEntry("tail", "tail", "Follow attempts, leads and incidents"),
        CommandEntry("top", "tail", "Watch the queue live"),
    ),
    "Act": (
        CommandEntry("replay", "replay", "Send failed leads again"),
        CommandEntry("edit", "leads", "Correct a failed lead"),
        CommandEntry("lookup", "resolve", "Ask Voicery whether leads arrived"),
        CommandEntry("resolve", "resolve", "Settle leads by a decision, without sending them"),
        CommandEntry("cancel", "resolve", "Withdraw leads that no worker has claimed"),
        CommandEntry("pause", "gates", "Hold back a campaign or an account"),
        CommandEntry("resume", "gates", "Let a campaign or an account go on"),
        CommandEntry("limit", "gates", "Give a campaign a rate limit of its own"),
        CommandEntry("block", "do_not_call", "Have nobody call a number, or those of a list"),
        CommandEntry("unblock", "do_not_call", "Let a number be called again"),
        CommandEntry("recover", "recovery", "Hold what a restored database may not know"),
        CommandEntry("prune", "retention", "Delete leads that ended long ago"),
        CommandEntry("erase", "person", "Erase a person"),
        CommandEntry("rekey", "rekey", "Encrypt what is stored, or change its key"),
    ),
    "Run by itself": (
        CommandEntry("sandbox", "processes", "Serve a stand-in for the Voicery API", settings=_AS_GIVEN),
        CommandEntry("sweep", "processes", "Repair periodically; every worker runs one"),
        CommandEntry("metrics", "processes", "Serve /metrics, /healthz and /readyz"),
        CommandEntry("health", "processes", "Prove that due leads are taken, for probes"),
    ),
}


_ENTRIES: Final = {entry.name: (entry, panel) for panel, entries in PANELS.items() for entry in entries}


class _Loaded(Mapping[str, Any]):
    """The commands by name; each is loaded when it is first read."""

    def __init__(self) -> None:
        self._commands: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - typer's own command
        if name not in self._commands:
            entry, panel = _ENTRIES[name]
            self._commands[name] = entry.load(panel)
        return self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_ENTRIES)

    def __len__(self) -> int:
        return len(_ENTRIES)


class _Commands(TyperGroup):
    """The group of all commands; a listed command is a name and a sentence until it is used."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - as above
        super().__init__(**attributes)
        self.commands: Any = _Loaded()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - as typer calls it
        """Return the names, in the order of the help."""
        return list(_ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - as above
        """Return what the help and completion list of a command; they do not load it."""
        if cmd_name not in _ENTRIES:
            return None
        entry, panel = _ENTRIES[cmd_name]
        return TyperCommand(cmd_name, short_help=entry.short_help, rich_help_panel=panel)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - as typer calls it
        """Print the list of commands as the help of one command is printed."""
        from dispatcher.cli.help import print_help, rows_of

        panels = {panel: [(one.name, one.short_help) for one in entries] for panel, entries in PANELS.items()}
        print_help(ctx, self.help or "", ["COMMAND", "…"], {**panels, "Options": rows_of(self.get_params(ctx))})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - as above
        """Return the command that is called or completed."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and self.commands[str(name)], rest

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own
        """Run the command that was called. A closed standard output, e.g. by `| head`, is no failure of it."""
        from dispatcher.cli.screen import reader_may_leave

        with reader_may_leave():
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


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"voicery-dispatcher {dispatcher.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Hands leads to Voicery: none is lost, and nobody is called twice because of us."""
