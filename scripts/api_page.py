"""Write docs/api.md from the docstrings of the package: `python scripts/api_page.py`."""  # noqa: INP001  (a script)

import inspect
import re
from pathlib import Path
from typing import Any

import dispatcher

PAGE = Path(__file__).parent.parent / "docs" / "api.md"

_HEAD = """\
# The Python API

<!-- Generated from the docstrings by scripts/api_page.py; change them there. -->

`import dispatcher` has all of this. The functions are the methods of one `Dispatcher`, which the first call makes from the environment's
settings; `help(dispatcher.submit)` is the same text. [From Python](python.md) shows how they are used.
"""


def page() -> str:
    """The page as it should be."""
    public = {name: getattr(dispatcher, name) for name in dispatcher.__all__}
    functions = {name: one for name, one in public.items() if name.islower()}
    errors = {name: one for name, one in public.items() if inspect.isclass(one) and issubclass(one, Exception)}
    values = {name: one for name, one in public.items() if name not in functions | errors}
    methods = {
        name: one
        for name, one in inspect.getmembers(dispatcher.Dispatcher, inspect.isfunction)
        if name[0] != "_" and name not in functions
    }
    parts = [_HEAD, "\n## Functions\n", *(_entry(name, one, call=True) for name, one in functions.items())]
    parts += ["\n## Classes\n", *(_entry(name, one) for name, one in values.items())]
    parts += ["\n## Further methods of Dispatcher\n", *(_entry(name, one, call=True) for name, one in methods.items())]
    return "".join([*parts, "\n## Errors\n", *(_entry(name, one) for name, one in errors.items())])


def _entry(name: str, one: Any, *, call: bool = False) -> str:  # noqa: ANN401 - whatever is public
    told = inspect.getdoc(one) or ""
    signature = f"({', '.join(_parameters(one))})" if call else ""
    return f"\n### `{name}{signature}`\n\n{_markdown(told)}\n"


def _parameters(function: Any) -> list[str]:  # noqa: ANN401 - as above
    found: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in found and not any(one[0] == "*" for one in found):
            found.append("*")
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={_shown(parameter.default)}"
        found.append(f"{prefix}{parameter.name}{default}")
    return found


def _shown(default: object) -> str:
    return "…" if " at 0x" in repr(default) else repr(default)


def _markdown(text: str) -> str:
    """Google's sections as lists, and the example as code."""
    lines: list[str] = []
    section = ""
    for line in text.splitlines():
        if found := re.fullmatch(r"(Args|Returns|Yields|Raises|Example|Examples|Attributes):", line):
            section = found[1]
            lines += ["```pycon"] if section.startswith("Example") else [f"**{_TITLES.get(section, section)}**", ""]
        elif section.startswith("Example") and line.startswith("    "):
            lines.append(line[4:])
        elif section in {"Args", "Raises", "Attributes"} and (item := re.fullmatch(r"    ([\w*]+): (.*)", line)):
            lines.append(f"- `{item[1]}`: {item[2]}")
        elif section and line.startswith("    "):
            lines.append(f"  {line.strip()}" if section in {"Args", "Raises", "Attributes"} else line.strip())
        else:
            if section.startswith("Example") and line:
                lines.append("```")
                section = ""
            lines.append(line)
    return "\n".join([*lines, "```"] if section.startswith("Example") else lines).rstrip()


_TITLES = {"Args": "Parameters"}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
