"""Metrics in Prometheus' text format.

All values come from Postgres and Redis, none from this process: every server shows the numbers of all workers together,
and restarts lose none.

Needs the extra `metrics`. No label holds a phone number; campaigns appear only where a gate is not open.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dispatcher.decisions.states import FailureClass, State
from dispatcher.operator.overview import Overview
from dispatcher.store.counters import (
    ALERTS,
    ATTEMPT_SECONDS,
    ATTEMPT_SECONDS_SUM,
    ATTEMPTS,
    BUCKETS,
    IMPORT_ROWS,
    LOOKUPS,
    REQUEST_BUCKETS,
    REQUEST_SECONDS,
    REQUEST_SECONDS_SUM,
    REQUESTS,
    RINGS,
    RUNS,
    SWEEPS,
    Counted,
    bucket_of,
)
from dispatcher.store.reading import Place


@dataclass(frozen=True, slots=True)
class Figures:
    """One reading. Ages are seconds by the database's clock, 0 where there is nothing.

    unknown_age_seconds   since the end of the attempt whose outcome has been unknown for longest
    incidents             unseen ones by kind
    alerts_unsent         alerts that no receiver has taken yet; `alert_age_seconds` of the oldest
    doorbells             messages that wait for a worker; None if Redis cannot be asked
    blocks                rows of the list of who must not be called; of a long one the planner's estimate
    replica               whether and how late the replica is; None: there is none
    """

    overview: Overview
    counted: tuple[Counted, ...] = ()
    unknown_age_seconds: float = 0.0
    incidents: Mapping[str, int] = field(default_factory=dict)
    alerts_unsent: int = 0
    alert_age_seconds: float = 0.0
    doorbells: int | None = None
    blocks: int = 0
    replica: Place | None = None


CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_WORKER_SEEN_SECONDS: Final = 60.0

_COUNTERS: Final = (
    # name, metric, what it says, label names
    (ATTEMPTS, "dispatcher_attempts", "POSTs to Voicery, by what they turned out to be", ("account", "outcome")),
    (LOOKUPS, "dispatcher_lookups", "Look-ups of unknown outcomes, by verdict", ("account", "verdict")),
    (RUNS, "dispatcher_runs", "Runs of the Celery tasks", ("account", "task")),
    (RINGS, "dispatcher_doorbells_rung", "Doorbells rung by the sweep", ("task",)),
    (SWEEPS, "dispatcher_sweeps", "Rounds of the sweep", ()),
    (ALERTS, "dispatcher_alerts", "Alerts posted to the webhook, by result", ("result",)),
    (IMPORT_ROWS, "dispatcher_import_rows", "Rows of imported files, by result", ("result",)),
)


def exposition(figures: Figures | None) -> bytes:
    """Return the exposition; for None, which means that Postgres is unreachable, only `dispatcher_store_up 0`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reading(figures))
    return generate_latest(registry)


class _Reading(Collector):
    """A collector of the client library over one reading."""

    def __init__(self, figures: Figures | None) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Yield every metric with its help text."""
        yield _gauge("dispatcher_store_up", "Whether Postgres could be asked", float(self._figures is not None))
        if self._figures is not None:
            yield from _leads(self._figures)
            yield from _inbox(self._figures)
            yield from _held_back(self._figures)
            yield from _at_work(self._figures)
            yield from _trouble(self._figures)
            yield from _counters(self._figures.counted)
            yield _durations(self._figures.counted)
            yield from _requests(self._figures.counted)
            yield from _replica(self._figures.replica)


def _leads(figures: Figures) -> Iterator[Metric]:
    overview = figures.overview
    leads = GaugeMetricFamily("dispatcher_leads", "Leads by state; failed: not resolved yet", labels=["state"])
    rough = GaugeMetricFamily(
        "dispatcher_leads_estimated", "1 where dispatcher_leads is the planner's estimate", labels=["state"]
    )
    for state in State:
        count = overview.counts.get(state)
        if count is not None:
            leads.add_metric([state.value], count.value)
            rough.add_metric([state.value], float(not count.exact))
    yield leads
    yield rough
    failed = GaugeMetricFamily("dispatcher_failed_leads", "Open failures by class", labels=["failure_class"])
    for failure_class in FailureClass:
        failed.add_metric([failure_class.value], overview.failures.get(failure_class, 0))
    yield failed
    waiting: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for channel in overview.channels:
        waiting[channel.account][0] += channel.waiting
        waiting[channel.account][1] += channel.due
    pending = GaugeMetricFamily("dispatcher_leads_pending", "Leads that wait, by account", labels=["account"])
    due = GaugeMetricFamily("dispatcher_leads_due", "Of these, how many could go now", labels=["account"])
    for account, (all_of_them, due_now) in sorted(waiting.items()):
        pending.add_metric([account], all_of_them)
        due.add_metric([account], due_now)
    yield pending
    yield due
    yield _gauge(
        "dispatcher_oldest_due_age_seconds",
        "How long the longest waiting lead could have gone by now",
        overview.oldest_waiting_seconds or 0.0,
    )
    yield _gauge(
        "dispatcher_unknown_age_seconds", "Age of the oldest outcome that is unknown", figures.unknown_age_seconds
    )


def _inbox(figures: Figures) -> Iterator[Metric]:
    counts = figures.overview.inbox
    yield _gauge("dispatcher_inbox_waiting", "Leads submitted by SQL that are not validated yet", counts.waiting)
    yield _gauge("dispatcher_inbox_age_seconds", "Age of the oldest of these", counts.oldest_seconds or 0.0)
    yield _gauge("dispatcher_inbox_rejected", "Leads submitted by SQL that were rejected", counts.rejected)


def _held_back(figures: Figures) -> Iterator[Metric]:
    gates = GaugeMetricFamily(
        "dispatcher_gate_closed",
        "1 for each gate that is closed or probing; an empty campaign is the whole account",
        labels=["account", "campaign", "reason", "state"],
    )
    for gate in figures.overview.gates:
        campaign = "" if gate.campaign_id is None else str(gate.campaign_id)
        gates.add_metric([gate.account, campaign, gate.reason.value, gate.state.value], 1)
    yield gates
    yield _gauge("dispatcher_blocks", "Rows of the list of who must not be called", figures.blocks)
    labels = ["account", "window_seconds"]
    permits = GaugeMetricFamily("dispatcher_rate_permits", "Requests that the rate limit allows", labels=labels)
    used = GaugeMetricFamily("dispatcher_rate_used", "Requests that were sent within the window", labels=labels)
    for use in figures.overview.rate or ():
        permits.add_metric([use.account, f"{use.seconds:g}"], use.permits)
        used.add_metric([use.account, f"{use.seconds:g}"], use.used)
    yield permits
    yield used
    yield _gauge("dispatcher_redis_up", "Whether Redis could be asked", float(figures.doorbells is not None))
    if figures.doorbells is not None:
        yield _gauge("dispatcher_doorbells_waiting", "Messages that wait for a worker", figures.doorbells)


def _at_work(figures: Figures) -> Iterator[Metric]:
    overview = figures.overview
    ages = [(overview.at - worker.seen_at).total_seconds() for worker in overview.workers]
    yield _gauge(
        "dispatcher_workers", "Workers seen in the last minute", sum(age <= _WORKER_SEEN_SECONDS for age in ages)
    )
    if overview.swept_at is not None:
        age = max(0.0, (overview.at - overview.swept_at).total_seconds())
        yield _gauge("dispatcher_sweep_age_seconds", "Since the last sweep", age)


def _trouble(figures: Figures) -> Iterator[Metric]:
    incidents = GaugeMetricFamily("dispatcher_incidents_unseen", "Incidents that nobody has seen", labels=["kind"])
    for kind, unseen in sorted(figures.incidents.items()):
        incidents.add_metric([kind], unseen)
    yield incidents
    yield _gauge("dispatcher_alerts_unsent", "Alerts that no receiver has taken yet", figures.alerts_unsent)
    yield _gauge("dispatcher_alert_age_seconds", "Age of the oldest of these", figures.alert_age_seconds)


def _replica(place: Place | None) -> Iterator[Metric]:
    if place is None:
        return
    yield _gauge("dispatcher_replica_used", "Whether lists and metrics are read from the replica", float(place.replica))
    if place.lag_seconds is not None:
        yield _gauge("dispatcher_replica_lag_seconds", "How far the replica is behind", place.lag_seconds)


def _counters(counted: Iterable[Counted]) -> Iterator[Metric]:
    values: dict[str, list[Counted]] = defaultdict(list)
    for one in counted:
        values[one.name].append(one)
    for name, metric, help_text, labels in _COUNTERS:
        family = CounterMetricFamily(metric, help_text, labels=labels)
        for one in values[name]:
            family.add_metric([one.account if label == "account" else one.label for label in labels], one.value)
        yield family


def _durations(counted: Iterable[Counted]) -> Metric:
    family = HistogramMetricFamily(
        "dispatcher_attempt_duration_seconds", "How long the exchanges with Voicery took", labels=["account"]
    )
    buckets: dict[str, dict[str, float]] = defaultdict(dict)
    sums: dict[str, float] = {}
    for one in counted:
        if one.name == ATTEMPT_SECONDS:
            buckets[one.account][one.label] = one.value
        elif one.name == ATTEMPT_SECONDS_SUM:
            sums[one.account] = one.value
    for account, counts in sorted(buckets.items()):
        family.add_metric([account], _cumulated(counts, BUCKETS), sums.get(account, 0.0))
    return family


def _requests(counted: Iterable[Counted]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "dispatcher_intake_requests", "Requests to the HTTP intake, by path and status", labels=["path", "status"]
    )
    buckets: dict[str, dict[str, float]] = defaultdict(dict)
    sums: dict[str, float] = {}
    for one in counted:
        path, _, last = one.label.rpartition(" ")
        if one.name == REQUESTS:
            requests.add_metric([path, last], one.value)
        elif one.name == REQUEST_SECONDS:
            buckets[path][last] = one.value
        elif one.name == REQUEST_SECONDS_SUM:
            sums[one.label] = one.value
    yield requests
    family = HistogramMetricFamily(
        "dispatcher_intake_request_duration_seconds", "How long requests to the HTTP intake took", labels=["path"]
    )
    for path, counts in sorted(buckets.items()):
        family.add_metric([path], _cumulated(counts, REQUEST_BUCKETS), sums.get(path, 0.0))
    yield family


def _cumulated(counts: Mapping[str, float], bounds: Sequence[float]) -> list[tuple[str, float]]:
    below, cumulated = 0.0, []
    for bound in (bucket_of(bound, bounds) for bound in bounds):
        below += counts.get(bound, 0.0)
        cumulated.append((bound, below))
    return cumulated


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=value)
