"""Choosing the fault of a request: by rule, then by phone suffix, then by chance."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from dispatcher.sandbox.fault import Call, FaultName, Rule, When


class FaultSource(Protocol):
    """A source of faults."""

    def pick(self, call: Call) -> Rule | None:
        """Return the rule for this request, if any. Each call counts one request."""


@dataclass(slots=True)
class _Armed:
    rule: Rule
    seen: int = 0
    fired: int = 0


class FaultPlan:
    """The rules in force; the first that is due wins. Safe to change from another thread while requests run."""

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._armed = [_Armed(rule) for rule in rules]

    def add(self, *rules: Rule) -> None:
        """Append rules."""
        with self._lock:
            self._armed.extend(_Armed(rule) for rule in rules)

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._armed.clear()

    def snapshot(self) -> list[tuple[Rule, int]]:
        """Every rule in force and how often it has fired."""
        with self._lock:
            return [(armed.rule, armed.fired) for armed in self._armed]

    def pick(self, call: Call) -> Rule | None:
        """The first due rule; every matching rule counts the request."""
        if not self._armed:  # the common case costs no lock
            return None
        chosen: Rule | None = None
        with self._lock:
            for armed in self._armed:
                if not armed.rule.matches(call):
                    continue
                armed.seen += 1  # counted even if an earlier rule wins, so that nth means the nth request
                used_up = armed.rule.times is not None and armed.fired >= armed.rule.times
                if chosen is None and armed.seen >= armed.rule.nth and not used_up:
                    armed.fired += 1
                    chosen = armed.rule
        return chosen


# Last four digits → fault, within the reserved range 555-0100…0199. Keep in step with docs/sandbox.md.
SUFFIX_FAULTS: Mapping[str, Rule] = {
    "0180": Rule(fault=FaultName.LATE),
    "0181": Rule(fault=FaultName.HANG, when=When.AFTER),
    "0182": Rule(fault=FaultName.HANG, when=When.BEFORE),
    "0183": Rule(fault=FaultName.INTERNAL_ERROR, when=When.AFTER),
    "0184": Rule(fault=FaultName.INTERNAL_ERROR, when=When.BEFORE),
    "0185": Rule(fault=FaultName.RESET, when=When.AFTER),
    "0186": Rule(fault=FaultName.CLOSE, when=When.AFTER),
    "0187": Rule(fault=FaultName.CUT_BODY),
    "0188": Rule(fault=FaultName.THROTTLED, retry_after="3"),
    "0189": Rule(fault=FaultName.NO_ID),
    "0190": Rule(fault=FaultName.UNAUTHORIZED),
    "0191": Rule(fault=FaultName.NO_BALANCE),
    "0192": Rule(fault=FaultName.UNPROCESSABLE, times=None),
    "0193": Rule(fault=FaultName.FORBIDDEN),
    "0194": Rule(fault=FaultName.NOT_FOUND),
    "0195": Rule(fault=FaultName.DUPLICATE, times=None),
    "0196": Rule(fault=FaultName.UNAVAILABLE, when=When.BEFORE, retry_after="3"),
    "0197": Rule(fault=FaultName.SLOW_BODY),
    "0198": Rule(fault=FaultName.HUGE_BODY),
    "0199": Rule(fault=FaultName.NOT_JSON),
}


class SuffixFaults:
    """Faults chosen by the last four digits of the phone number, for manual trials.

    Each applies to the first POST of a campaign and number and not to the next, so that recovery can be watched;
    those with `times` None apply always.
    """

    def __init__(self) -> None:
        self._struck: set[tuple[int | None, str]] = set()

    def pick(self, call: Call) -> Rule | None:
        """Return the fault of the number's last four digits."""
        if call.method != "POST" or call.phone_number is None:
            return None
        rule = SUFFIX_FAULTS.get(call.phone_number[-4:])
        if rule is None or rule.times is None:
            return rule
        who = (call.campaign_id, call.phone_number)
        if who in self._struck:
            return None
        self._struck.add(who)
        return rule


class Chaos:
    """Each request meets a fault with the given probability.

    Only faults that a correct client survives without losing or doubling a lead: no refusal that is final, no 2xx
    for a lead that was not created, no list that lies.
    """

    def __init__(self, probability: float, seed: int | None, late_seconds: float) -> None:
        self._probability = probability
        self._dice = random.Random(seed)  # noqa: S311 - dice of a test, no secret
        broken = (
            FaultName.HANG,
            FaultName.RESET,
            FaultName.CLOSE,
            FaultName.GARBAGE,
            FaultName.INTERNAL_ERROR,
            FaultName.INTERNAL_ERROR_HTML,
            FaultName.BAD_GATEWAY,
            FaultName.UNAVAILABLE,
            FaultName.GATEWAY_TIMEOUT,
        )
        spoiled = (
            FaultName.CUT_BODY,
            FaultName.NO_ID,
            FaultName.NOT_JSON,
            FaultName.BAD_GZIP,
        )
        self._create = (
            *(Rule(fault=fault, when=when) for fault in broken for when in When),
            *(Rule(fault=fault, when=When.AFTER) for fault in spoiled),
            Rule(fault=FaultName.LATE, seconds=late_seconds, answer=FaultName.CLOSE),
            Rule(fault=FaultName.THROTTLED),
        )
        self._list = tuple(Rule(fault=fault, method="GET") for fault in broken)

    def pick(self, call: Call) -> Rule | None:
        """Draw once."""
        if self._dice.random() >= self._probability:
            return None
        return self._dice.choice(self._create if call.method == "POST" else self._list)
