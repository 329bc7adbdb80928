"""Write docs/cli.md from the commands themselves: `python scripts/cli_page.py`."""  # noqa: INP001  (a script)

from pathlib import Path
from typing import Any

import typer

from dispatcher.cli.commands import app
from dispatcher.cli.help import value_of

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"

_HEAD = """\
# The command line

<!-- Generated from dispatcher/cli by scripts/cli_page.py; change it there. -->

`dispatcher`, or `python -m dispatcher`. Settings come from the environment ([settings](settings.md)).

- Exit codes: 0 done, 1 failed or refused (the reason is on standard error), 2 misuse, 130 Ctrl-C. A taken port is 1.
- Every read and every write takes `--json`: one object, lists under `items`; lists take `--csv` too. `tail` writes an
  object a line. With `--json` an error is one object on standard error: `error` (`failed`, `misused` or `bug`),
  `message` and `exit_code`.
- Every write takes `--dry-run`: it is done and undone, so that a refusal is the one that the real thing would get.
  `import` has `--plan` instead, `migrate` and `metrics` change no lead. What acts on many asks first; `--yes` answers.
- No phone number and no variable is printed whole unless `--reveal` is given. What is typed stands in the list of
  processes for others to see: `erase -`, `block -`, `unblock -`, `blocked -` and `edit --phone -` read the number,
  `submit` the lead, from standard input.
- Times: `30m`, `2h`, `1d`, `today`, `yesterday`, `2026-11-23`, `2026-11-23T14:00+01:00`. Without a zone it is UTC.
- Completion of commands and options in the shell: `dispatcher --install-completion`.
- `dispatcher --version` prints the version.
"""


def page() -> str:
    """The page as it should be."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    panels: dict[str, list[str]] = {}
    for name, command in commands.items():
        several = getattr(command, "commands", {name: command})
        for one, found in several.items():
            panels.setdefault(command.rich_help_panel, []).append(
                _entry(name if found is command else f"{name} {one}", found)
            )
    return _HEAD + "".join(f"\n## {panel}\n{''.join(entries)}" for panel, entries in panels.items())


def _entry(name: str, command: Any) -> str:  # noqa: ANN401 - click's own
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join(["dispatcher", name, *(_place(one) for one in arguments)])
    rows = [f"| `{_place(one)}` | {_cell(one.help)} |\n" for one in arguments]
    rows += [f"| {', '.join(f'`{flag}`' for flag in one.opts)}{_value(one)} | {_cell(one.help)} |\n" for one in options]
    table = "\n| | |\n|---|---|\n" + "".join(rows) if rows else ""
    told = "\n".join(line.strip() for line in (command.help or "").strip().splitlines())
    return f"\n### `{usage}`\n\n{told}\n{table}"


def _place(argument: Any) -> str:  # noqa: ANN401 - as above
    name = (argument.metavar or argument.name.upper()).strip("[]")
    return name if argument.required else f"[{name}]"


def _value(option: Any) -> str:  # noqa: ANN401 - as above
    value = value_of(option)
    return f" `{value}`" if value else ""


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
