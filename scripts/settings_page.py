"""Write docs/settings.md from dispatcher/config/settings.py: `python scripts/settings_page.py`."""  # noqa: INP001  (a script)

from pathlib import Path

from dispatcher.config.account import DEFAULT_BASE_URL
from dispatcher.config.environment import variable
from dispatcher.config.secret_files import secrets
from dispatcher.config.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"

_HEAD = f"""\
# Settings

<!-- Generated from dispatcher/config/settings.py by scripts/settings_page.py; change it there. -->

Read once, from the environment. `Settings(...)` takes the same values by attribute and never looks at the environment.
An empty variable counts as not set. Every fault is reported at once, without the value; an unknown `DISPATCHER_*` name
is a warning. `dispatcher doctor` shows both.

Durations are plain numbers of seconds; fractions are allowed.

## Accounts

| Variable | Default | What it is |
|---|---|---|
| `VOICERY_API_TOKEN` | not set | The token of the account `default`. Only workers need one. |
| `VOICERY_API_TOKEN_FILE` | not set | A file with the token, read for each run: rotates without a restart. |
| `VOICERY_API_TOKEN_NEXT` | not set | A second token, used once Voicery refuses the first. |
| `VOICERY_API_TOKEN_NEXT_FILE` | not set | The same in a file, which may be missing or empty. |
| `VOICERY_BASE_URL` | `{DEFAULT_BASE_URL}` | https, or http on this machine. |

A suffix names another account: `VOICERY_API_TOKEN__SALES` is the token of the account `sales`. An account without a
base URL of its own has that of `default`, so that what is pointed at a sandbox stays there.

## Secrets in files

Every secret may come from a file. `NAME_FILE` names it, where `NAME` is the secret's variable; a line end after it does
not count. Where systemd hands credentials to the service (`LoadCredential=DATABASE_URL:/etc/dispatcher/database-url`),
the one that is named like the variable is taken, if the variable is not set. The tokens and the console's users are
read again while a process runs; everything else is read once.

## Everything else
"""


def page() -> str:
    """The page as it should be."""
    return _HEAD + "".join(_entry(name) for name in Settings.expectations())


def _entry(name: str) -> str:
    field = Settings.model_fields[name]
    extra = field.json_schema_extra
    assert isinstance(extra, dict)  # noqa: S101  (expectations() lists only such)
    lines = [
        f"### `{variable(name)}`\n",
        f"{field.description}\n",
        f"- attribute `{name}`, default {_shown(field.default)}",
        f"- {extra['expected']}",
    ]
    if secrets(Settings.model_fields).get(name) is False:
        lines.append(f"- or, in `{variable(name)}_FILE`, the path of a file that holds it")
    if extra["danger"]:
        lines.append(f"- **danger:** {extra['danger']}")
    return "\n" + "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    match default:
        case None:
            return "not set"
        case frozenset() | tuple() if not default:
            return "none"
        case tuple():
            return "`" + "; ".join(map(str, default)) + "`"
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}`"
        case _:
            return f"`{getattr(default, 'pattern', default)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
