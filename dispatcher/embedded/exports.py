"""The variables of a local stack as a file: one `source` lets a shell use the stack."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console


def write(path: Path, variables: Mapping[str, str]) -> None:
    """Write `export NAME=value` for each variable; the file is its owner's alone, because URLs hold passwords."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text("".join(f"{line}\n" for line in _lines(variables)), encoding="utf-8")


def show(console: Console, path: Path, variables: Mapping[str, str]) -> None:
    """Print how another terminal gets them, as lines to copy."""
    console.print(f"  source {shlex.quote(str(path))}", soft_wrap=True, highlight=False, markup=False)
    console.print("\nwhich says:\n")
    for line in _lines(variables):
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)


def _lines(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
