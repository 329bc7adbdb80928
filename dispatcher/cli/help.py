"""The help of one command: what it does, its arguments and its options, at the width of the terminal."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer import BadParameter
from typer.core import TyperCommand, TyperGroup

_WIDEST: Final = 120
_NAMES_MOST: Final = 30
"""Columns for the names of options; a longer one stands on a line of its own."""

_NO_FIGURE: Final = {
    "Input should be a valid integer, unable to parse string as an integer": "it is not a whole number",
    "Input should be a valid number, unable to parse string as a number": "it is not a number",
}
"""What is said by the reader of options, and what is told instead."""


class HelpfulCommand(TyperCommand):
    """A command whose help shows the name of an option, what it takes, and a sentence; no types, nothing cut off."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - as typer calls it
        """Read the options. A refusal says what is wrong in words for people."""
        try:
            return super().parse_args(ctx, args)
        except BadParameter as misuse:
            misuse.message = _NO_FIGURE.get(misuse.message, misuse.message)
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - as typer calls it
        """Print the help."""
        # Only here: what a command prints needs no help.
        places = [_names(one) for one in self.params if one.param_type_name == "argument"]
        panels = {title: rows_of(found) for title, found in self._panels(ctx)}
        print_help(ctx, self.help or "", [*places, "[OPTIONS]"], panels)

    def _panels(self, ctx: Any) -> Iterator[tuple[str, list[Any]]]:  # noqa: ANN401 - as above
        panels: dict[str, list[Any]] = {}
        for one in self.get_params(ctx):
            if not getattr(one, "hidden", False):
                argument = one.param_type_name == "argument"
                title = "Arguments" if argument else getattr(one, "rich_help_panel", None) or "Options"
                panels.setdefault(title, []).append(one)
        yield from sorted(panels.items(), key=lambda panel: panel[0] != "Arguments")


class HelpfulGroup(TyperGroup):
    """A command that is several, e.g. `keys create`: its help lists them as the help of a command lists its options."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - as typer calls it
        """Print the help."""
        listed = [(name, Text(next(paragraphs(one.help or ""), ""))) for name, one in self.commands.items()]
        options = rows_of(self.get_params(ctx))
        print_help(ctx, self.help or "", ["COMMAND"], {"Commands": listed, "Options": options})


def rows_of(options: Iterable[Any]) -> list[tuple[str, Text | str]]:
    """Return the names of options and what is said of each."""
    return [(_names(one), _said(one)) for one in options]


def print_help(ctx: Any, told: str, places: list[str], panels: Mapping[str, Sequence[tuple[str, Text | str]]]) -> None:  # noqa: ANN401 - as above
    """Print the help: how it is called, what it does, and the titled lists of names with a sentence each."""
    # Only here: what a command prints needs no help.
    from dispatcher.cli import screen

    console = screen.console(min(ctx.terminal_width or _WIDEST, _WIDEST))
    with console.capture() as captured:
        console.print(Text(" ".join(["Usage:", ctx.command_path, *places]), style="bold"))
        for paragraph in paragraphs(told):
            console.print()
            console.print(Text(paragraph))
        for title, rows in panels.items():
            console.print()
            console.print(Text(title, style="bold"))
            _print_rows(console, rows)
    sys.stdout.write("".join(f"{row.rstrip()}\n" for row in captured.get().splitlines()))


def paragraphs(told: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring, each on one line."""
    for paragraph in inspect.cleandoc(told).split("\n\n"):
        yield " ".join(paragraph.split())


def value_of(option: Any) -> str:  # noqa: ANN401 - as above
    """Return the word for what an option takes, e.g. `N` or `FILE`; empty for a flag."""
    if option.is_flag:
        return ""
    if option.metavar:
        return str(option.metavar)
    kind = _kind(option)
    if kind in (int, float):
        return "N"
    if kind is Path:
        return "FILE"
    return str(max(option.opts, key=len)).strip("-").replace("-", "_").upper()


def _kind(parameter: Any) -> Any:  # noqa: ANN401 - an annotation
    kind = parameter.type_descriptor.annotation
    return get_args(kind)[0] if get_origin(kind) is list else kind


def _choices(parameter: Any) -> list[str]:  # noqa: ANN401 - as above
    kind = _kind(parameter)
    if get_origin(kind) is Literal:
        return list(map(str, get_args(kind)))
    return [str(one.value) for one in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _names(one: Any) -> str:  # noqa: ANN401 - as above
    if one.param_type_name == "argument":
        name = str(one.metavar or one.name.upper()).strip("[]{}")
        named = name.upper() if name.islower() else name
        several = "..." if one.nargs == -1 else ""
        return f"{named}{several}" if one.required else f"[{named}]{several}"
    flags = ", ".join([*sorted(one.opts, key=len), *one.secondary_opts])
    value = value_of(one)
    return f"{flags} {value}" if value else flags


def _said(one: Any) -> Text:  # noqa: ANN401 - as above
    told = Text(one.help or "")
    choices = _choices(one)
    if choices and not all(choice in told.plain for choice in choices):
        told.append(f" One of: {', '.join(choices)}.")
    default = one.default
    if one.required:
        told.append(" Required.", style="yellow")
    elif one.show_default and default not in (None, False, (), []) and not callable(default) and not one.multiple:
        shown = one.show_default if isinstance(one.show_default, str) else getattr(default, "value", default)
        told.append(f" Default: {shown}.", style="dim")
    elif isinstance(one.show_default, str):
        told.append(f" Default: {one.show_default}.", style="dim")
    return told


def _print_rows(console: Console, rows: Sequence[tuple[str, Text | str]]) -> None:
    width = min(_NAMES_MOST, max(len(names) for names, _ in rows))
    for names, told in rows:
        if len(names) > width:
            console.print(Text(f"  {names}", style="cyan"))
            console.print(Padding(told, (0, 0, 0, width + 4)))
            continue
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=width, no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(Text(names, style="cyan"), told)
        console.print(Padding(table, (0, 0, 0, 2)))
