"""The settings that decide about evidence: stored for each account when a worker starts, and compared by every process.

A shell without a deployment's settings would look leads up by the defaults and send again what the workers hold. A
process that disagrees with what is stored uses, of each setting, the value that calls fewer people again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.config.environment import variable
from dispatcher.config.settings import Settings

_STRICTNESS: Final = ("resend", "auto", "hold")
_LONGER: Final = ("settle_seconds", "unknown_for_seconds")
_SHORTER: Final = ("proof_for_seconds",)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Matches a text that every one of its patterns matches, as a pattern's `search` does."""

    patterns: tuple[re.Pattern[str], ...]

    def search(self, text: str) -> re.Match[str] | None:
        """Return a match if all patterns match."""
        found = [pattern.search(text) for pattern in self.patterns]
        return found[0] if all(found) else None


def terms_of(settings: Settings) -> dict[str, Any]:
    """Return the settings that decide about evidence, as JSON."""
    return {
        "on_unknown": str(settings.on_unknown),
        "settle_seconds": settings.settle_seconds,
        "unknown_for_seconds": settings.unknown_for_seconds,
        "proof_for_seconds": settings.proof_for_seconds,
        "reference_variable": settings.reference_variable,
        "safe_statuses": sorted(settings.safe_statuses),
        "duplicate_rule": settings.duplicate_rule.pattern,
    }


def drift(settings: Settings, stored: Mapping[str, Any] | None) -> list[str]:
    """Return the variables of the settings that differ from what is stored; none where nothing is stored."""
    own = terms_of(settings)
    return [variable(name) for name, value in (stored or {}).items() if name in own and own[name] != value]


def to_state(settings: Settings, stored: Mapping[str, Any] | None, *, in_use: bool) -> dict[str, Any] | None:
    """Return what a worker that starts stores of its settings; None while it must leave what is stored.

    in_use   another worker that is alive stored what is there: of each setting the stricter value stays
    """
    if stored is None or not in_use:
        return terms_of(settings)
    alike = {name: value for name, value in stored.items() if name != "duplicate_rule"}
    both = terms_of(stricter(settings, alike))
    return None if both == stored else both


def stricter(settings: Settings, stored: Mapping[str, Any] | None) -> Settings:
    """Return the settings with the stricter value of each that differs from what is stored.

    `hold` before `auto` before `resend`; the longer settle time and patience; the shorter life of a proof; the statuses
    that both declare safe; what both rules call a duplicate. The reference is sent as configured here: look-ups go by
    what each attempt carried.
    """
    if not drift(settings, stored) or stored is None:
        return settings
    changed: dict[str, Any] = {}
    if (theirs := stored.get("on_unknown")) in _STRICTNESS:
        changed["on_unknown"] = max(str(settings.on_unknown), str(theirs), key=_STRICTNESS.index)
    for names, choose in ((_LONGER, max), (_SHORTER, min)):
        for name in names:
            if isinstance(stored.get(name), int | float):
                changed[name] = choose(getattr(settings, name), float(stored[name]))
    if isinstance(stored.get("safe_statuses"), list):
        changed["safe_statuses"] = settings.safe_statuses & frozenset(stored["safe_statuses"])
    rule = stored.get("duplicate_rule")
    if isinstance(rule, str) and rule != settings.duplicate_rule.pattern:
        changed["duplicate_rule"] = AllOf((settings.duplicate_rule, re.compile(rule)))
    return settings.model_copy(update=changed)
