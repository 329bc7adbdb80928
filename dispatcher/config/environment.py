"""The environment variables of the settings: their names, and how they are read.

An empty variable counts as not set, as compose files and charts write it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dispatcher.config.account import DEFAULT_BASE_URL, AccountSettings
from dispatcher.config.setting import Secret
from dispatcher.errors import FieldError, NotConfigured
from dispatcher.lead.options import ACCOUNT_NAME, DEFAULT_ACCOUNT

LEASE_MARGIN: Final = 1.1
"""A lease outlives the longest exchange by a tenth: a slow answer is then recorded by the worker that waited for it."""


class UnusableSettings(NotConfigured):
    """Settings that cannot be used; `errors` lists every fault."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors: tuple[FieldError, ...] = tuple(errors)
        super().__init__("The settings cannot be used:" + "".join(f"\n- {error}" for error in self.errors))

    def __reduce__(self) -> tuple[type, tuple[tuple[FieldError, ...]]]:
        return type(self), (self.errors,)


def explain(error: ValidationError, expectations: Mapping[str, str]) -> list[FieldError]:
    """Return the faults of single settings; `expectations` says how each known setting is written."""
    return [_explained(detail, expectations) for detail in error.errors(include_url=False, include_input=False)]


def _explained(detail: ErrorDetails, expectations: Mapping[str, str]) -> FieldError:
    setting, *inner = (str(part) for part in detail["loc"])
    if setting == "accounts":
        return FieldError(".".join((setting, *inner)), _fault(detail), "give a mapping of names to AccountSettings")
    if setting not in expectations:
        nearest = get_close_matches(setting, expectations, n=1, cutoff=0.5)
        return FieldError(setting, "is not a setting", f"did you mean {nearest[0]}?" if nearest else "remove it")
    return FieldError(variable(setting), _fault(detail), f"give {expectations[setting]}")


def _fault(detail: ErrorDetails) -> str:
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    message = detail["msg"].removeprefix("Input ").removeprefix("String ")
    return message[:1].lower() + message[1:]


@dataclass(frozen=True, slots=True)
class _Rule:
    """Settings that fit each other only if `holds`; the fault is reported at the first of them."""

    settings: tuple[str, ...]
    holds: Callable[..., bool]
    fault: str
    remedy: str


_RULES: Final = (
    _Rule(
        ("lease_seconds", "connect_timeout_seconds", "deadline_seconds"),
        lambda lease, connect, deadline: lease >= (connect + deadline) * LEASE_MARGIN,
        f"is shorter than {LEASE_MARGIN} x (DISPATCHER_CONNECT_TIMEOUT + DISPATCHER_DEADLINE)",
        "lengthen it, or shorten those: a lead whose lease runs out during its POST is in doubt",
    ),
    _Rule(
        ("connect_timeout_seconds", "deadline_seconds"),
        lambda connect, deadline: connect <= deadline,
        "is longer than DISPATCHER_DEADLINE, which ends the whole exchange",
        "shorten it, or lengthen the deadline",
    ),
    _Rule(
        ("read_timeout_seconds", "deadline_seconds"),
        lambda read, deadline: read <= deadline,
        "is longer than DISPATCHER_DEADLINE, which ends the whole exchange",
        "shorten it, or lengthen the deadline",
    ),
    _Rule(
        ("backoff_max_seconds", "backoff_base_seconds"),
        lambda longest, base: longest >= base,
        "is shorter than DISPATCHER_BACKOFF_BASE",
        "lengthen it, or shorten the base",
    ),
    _Rule(
        ("gate_wait_max_seconds", "gate_wait_seconds"),
        lambda longest, first: longest >= first,
        "is shorter than DISPATCHER_GATE_WAIT",
        "lengthen it, or shorten the first wait",
    ),
    _Rule(
        ("unknown_for_seconds", "settle_seconds"),
        lambda patience, settle: patience >= 2 * settle,
        "is shorter than 2 x DISPATCHER_SETTLE, so that no lead could be proven absent",
        "lengthen it: two look-ups one settle time apart must fit",
    ),
    _Rule(
        ("key_retention_days", "retention_days"),
        lambda keys, leads: keys >= leads,
        "is shorter than DISPATCHER_RETENTION_DAYS",
        "lengthen it: a key must outlive its lead",
    ),
    _Rule(
        ("privacy_key", "privacy_key_file"),
        lambda key, file: key is None or file is None,
        "is set beside DISPATCHER_PRIVACY_KEY_FILE",
        "set one of the two",
    ),
    _Rule(
        ("alert_webhook_secret", "alert_webhook_url"),
        lambda secret, url: secret is None or url is not None,
        "is set without DISPATCHER_ALERT_WEBHOOK_URL",
        "set the address too, or unset it",
    ),
    _Rule(
        ("alert_webhook_secret_next", "alert_webhook_secret"),
        lambda coming, secret: coming is None or secret is not None,
        "is set without DISPATCHER_ALERT_WEBHOOK_SECRET",
        "set it as DISPATCHER_ALERT_WEBHOOK_SECRET",
    ),
)


def contradictions(values: Mapping[str, Any], broken: Collection[str]) -> list[FieldError]:
    """Return the faults of settings that contradict each other; rules that involve a `broken` one are left out."""
    return [
        FieldError(variable(rule.settings[0]), rule.fault, rule.remedy)
        for rule in _RULES
        if not set(rule.settings) & set(broken) and not rule.holds(*(values[name] for name in rule.settings))
    ]


PREFIX: Final = "DISPATCHER_"
ACCOUNT_VARIABLES: Final = {
    "VOICERY_API_TOKEN": "token",
    "VOICERY_API_TOKEN_FILE": "token_file",
    "VOICERY_API_TOKEN_NEXT": "next_token",
    "VOICERY_API_TOKEN_NEXT_FILE": "next_token_file",
    "VOICERY_BASE_URL": "base_url",
}

TOKENS: Final = ("VOICERY_API_TOKEN", "VOICERY_API_TOKEN_NEXT")
"""The variables of an account's tokens: the one that is used, and the one that is tried once that is refused."""

_STORES: Final = {
    "database_url": "DATABASE_URL",
    "database_read_url": "DATABASE_READ_URL",
    "redis_url": "REDIS_URL",
}
_ACCOUNT_SEPARATOR: Final = "__"


@dataclass(frozen=True, slots=True)
class UnknownName:
    """An unknown `DISPATCHER_*` variable: a typo, or one of those that Kubernetes injects for a service."""

    name: str
    nearest: str | None

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name} is not a setting of the dispatcher and is ignored{hint}"


def variable(setting: str) -> str:
    """`lease_seconds` → `DISPATCHER_LEASE`: durations are seconds, so their variables do not say it."""
    return _STORES.get(setting) or PREFIX + setting.removesuffix("_seconds").upper()


def read_settings(environ: Mapping[str, str], settings: Collection[str]) -> dict[str, str]:
    """Return the text of each setting that is set, by the name of the setting."""
    return {name: text for name in settings if (text := environ.get(variable(name), "").strip())}


def read_accounts(environ: Mapping[str, str], faults: list[FieldError]) -> dict[str, AccountSettings]:
    """Return the accounts by name; `default` always exists. An account without a base URL has that of `default`."""
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
            next_token=Secret(parts["next_token"]) if "next_token" in parts else None,
            next_token_file=Path(parts["next_token_file"]) if "next_token_file" in parts else None,
            base_url=parts.get("base_url", shared_base_url),
        )
        for name, parts in texts.items()
    }


def unknown_names(environ: Mapping[str, str], settings: Collection[str]) -> tuple[UnknownName, ...]:
    """Return every unknown `DISPATCHER_*` variable, in upper or lower case."""
    known = [variable(name) for name in settings]
    strangers = sorted(name for name in environ if name.upper().startswith(PREFIX) and name not in known)
    return tuple(UnknownName(name, _nearest(name.upper(), known)) for name in strangers)


def _nearest(name: str, known: Collection[str]) -> str | None:
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.75)), None)
