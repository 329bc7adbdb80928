"""What is wrong with settings: each fault by the name of its variable, with the way out, and without the value."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dispatcher.config.environment import variable
from dispatcher.errors import FieldError, NotConfigured

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
    """The faults of single settings; `expectations` says how each known setting is written."""
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
        ("alert_webhook_secret", "alert_webhook_url"),
        lambda secret, url: secret is None or url is not None,
        "is set without DISPATCHER_ALERT_WEBHOOK_URL",
        "set the address too, or unset it",
    ),
)


def contradictions(values: Mapping[str, Any], broken: Collection[str]) -> list[FieldError]:
    """The faults of settings that are fine alone and wrong together; what involves a `broken` one is left out."""
    return [
        FieldError(variable(rule.settings[0]), rule.fault, rule.remedy)
        for rule in _RULES
        if not set(rule.settings) & set(broken) and not rule.holds(*(values[name] for name in rule.settings))
    ]
