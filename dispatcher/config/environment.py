"""The environment variables of the settings: their names, and what a process' environment says.

An empty variable counts as not set, as compose files and charts write it.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from dispatcher.config.account import DEFAULT_BASE_URL, AccountSettings
from dispatcher.config.secret import Secret
from dispatcher.errors import FieldError
from dispatcher.leads.options import ACCOUNT_NAME, DEFAULT_ACCOUNT

PREFIX: Final = "DISPATCHER_"
ACCOUNT_VARIABLES: Final = {
    "VOICERY_API_TOKEN": "token",
    "VOICERY_API_TOKEN_FILE": "token_file",
    "VOICERY_BASE_URL": "base_url",
}

_STORES: Final = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL"}
_ACCOUNT_SEPARATOR: Final = "__"


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A `DISPATCHER_*` variable that is no setting: a typo, or one of those that Kubernetes injects for a service."""

    name: str
    nearest: str | None

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name} is not a setting of the dispatcher and is ignored{hint}"


def variable(setting: str) -> str:
    """`lease_seconds` → `DISPATCHER_LEASE`: durations are seconds, so their variables do not say it."""
    return _STORES.get(setting) or PREFIX + setting.removesuffix("_seconds").upper()


def read_settings(environ: Mapping[str, str], settings: Collection[str]) -> dict[str, str]:
    """The text of each setting that is set, by setting."""
    return {name: text for name in settings if (text := environ.get(variable(name), "").strip())}


def read_accounts(environ: Mapping[str, str], faults: list[FieldError]) -> dict[str, AccountSettings]:
    """The accounts by name; `default` always exists. An account without a base URL has that of `default`."""
    texts: dict[str, dict[str, str]] = defaultdict(dict, {DEFAULT_ACCOUNT: {}})
    for variable_name, text in environ.items():
        base, _, suffix = variable_name.partition(_ACCOUNT_SEPARATOR)
        if base not in ACCOUNT_VARIABLES or not text.strip():
            continue
        account = suffix.lower() if base != variable_name else DEFAULT_ACCOUNT
        if ACCOUNT_NAME.fullmatch(account) is None:
            faults.append(FieldError(variable_name, "does not end in a name of an account", "use a-z, 0-9 and _"))
            continue
        if texts[account].setdefault(ACCOUNT_VARIABLES[base], text.strip()) != text.strip():
            faults.append(FieldError(variable_name, "is set twice, with different values", "unset one of the two"))
    shared_base_url = texts[DEFAULT_ACCOUNT].get("base_url", DEFAULT_BASE_URL)
    return {
        name: AccountSettings(
            name=name,
            token=Secret(parts["token"]) if "token" in parts else None,
            token_file=Path(parts["token_file"]) if "token_file" in parts else None,
            base_url=parts.get("base_url", shared_base_url),
        )
        for name, parts in texts.items()
    }


def unknown_names(environ: Mapping[str, str], settings: Collection[str]) -> tuple[UnknownName, ...]:
    """Every `DISPATCHER_*` variable, however capitalised, that is no setting."""
    known = [variable(name) for name in settings]
    strangers = sorted(name for name in environ if name.upper().startswith(PREFIX) and name not in known)
    return tuple(UnknownName(name, _nearest(name.upper(), known)) for name in strangers)


def _nearest(name: str, known: Collection[str]) -> str | None:
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.75)), None)
