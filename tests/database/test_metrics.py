"""Figures, probes and health on real Postgres: derived from rows, the same whoever serves them."""

import json
import re
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dispatcher.config.setting import Secret
from dispatcher.errors import NotConfigured
from dispatcher.importing import imports
from dispatcher.metrics.exporter import MetricsServer, Pages, Scrape
from dispatcher.operator.health import Health, probe
from dispatcher.operator.overview import RateUse
from dispatcher.store import counters
from dispatcher.store.counters import Tally
from dispatcher.store.database import Database
from dispatcher.store.reading import Reading
from tests.database.queue import Queue

DEPLOY = Path(__file__).parents[2] / "deploy"
NUMBERED = re.compile(r"\b(dispatcher_[a-z_]+)\b")


def scrape(database: Database, *, doorbells: int | None = 3) -> Scrape:
    use = (RateUse("default", 100, 60.0, 7),)
    return Scrape(Reading(database), rate_use=lambda: use, doorbells=lambda: doorbells)


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


def worked(queue: Queue) -> None:
    """As if a worker had just swept and delivered."""
    queue.run("INSERT INTO dispatcher.workers (name) VALUES ('host-a:1')")
    queue.run("UPDATE dispatcher.sweeps SET swept_at = now()")
    queue.run("INSERT INTO dispatcher.channels (account, campaign_id, served_at) VALUES ('default', 42, now())")


def test_leads_gates_ages_and_limits_are_read_from_the_rows(database: Database, queue: Queue) -> None:
    queue.put(0, due_in=-50)
    queue.put(1, due_in=500)
    queue.claimed(2, due_in=-99)
    queue.put(3, "failed", failure_class="rejected")
    queue.gate("closed", "unauthorized", 42)
    queue.run("INSERT INTO dispatcher.incidents (kind, message) VALUES ('called_twice', 'A sentence.')")

    text = scrape(database).text()

    assert value(text, "dispatcher_store_up") == 1
    assert value(text, "dispatcher_leads", state="pending") == 2
    assert value(text, "dispatcher_leads", state="sending") == 1
    assert value(text, "dispatcher_leads_pending", account="default") == 2
    assert value(text, "dispatcher_leads_due", account="default") == 1
    assert 49 < value(text, "dispatcher_oldest_due_age_seconds") < 70
    assert (
        value(text, "dispatcher_gate_closed", account="default", campaign="42", reason="unauthorized", state="closed")
        == 1
    )
    assert value(text, "dispatcher_incidents_unseen", kind="called_twice") == 1
    assert value(text, "dispatcher_alerts_unsent") == 1
    assert value(text, "dispatcher_rate_used", account="default", window_seconds="60") == 7
    assert value(text, "dispatcher_doorbells_waiting") == 3


def test_counters_of_all_processes_add_up_and_survive_them(database: Database) -> None:
    for seconds, outcome in ((0.01, "accepted"), (0.3, "accepted"), (99.0, "unknown")):
        tally = Tally()  # another process each time
        tally.attempt(outcome, seconds)
        with database.transaction() as connection:
            counters.add(connection, "default", tally)
    text = scrape(database).text()

    assert value(text, "dispatcher_attempts_total", account="default", outcome="accepted") == 2
    assert value(text, "dispatcher_attempts_total", account="default", outcome="unknown") == 1
    buckets = {le: value(text, "dispatcher_attempt_duration_seconds_bucket", account="default", le=le) for le in
               ("0.05", "0.25", "0.5", "30.0", "+Inf")}  # fmt: skip
    assert buckets == {"0.05": 1, "0.25": 1, "0.5": 2, "30.0": 2, "+Inf": 3}
    assert value(text, "dispatcher_attempt_duration_seconds_sum", account="default") == pytest.approx(99.31)


def test_rows_of_imports_are_counted_and_outlive_the_record_of_their_import(database: Database, queue: Queue) -> None:
    with database.transaction() as connection:
        for rejected in (0, 2):
            first = imports.begin(connection, uuid.uuid4(), "leads.csv", "default", "ada@test")
            imports.add(connection, first, before=0, submitted=5, duplicates=1, repeated=0, rejected=rejected)
    queue.run("DELETE FROM dispatcher.imports")
    text = scrape(database).text()

    rows = {result: value(text, "dispatcher_import_rows_total", result=result) for result in ("submitted", "rejected")}
    assert rows == {"submitted": 10, "rejected": 2}
    assert value(text, "dispatcher_import_rows_total", result="duplicates") == 2
    assert ("dispatcher_import_rows_total", frozenset({("result", "repeated")})) not in samples(text)


def test_processes_that_count_at_once_lose_nothing(database: Database) -> None:
    def count() -> None:
        for _ in range(20):
            tally = Tally()
            tally.add("runs", "deliver")
            tally.attempt("accepted", 0.1)
            with database.transaction() as connection:
                counters.add(connection, "default", tally)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(scrape(database).text(), "dispatcher_runs_total", account="default", task="deliver") == 120


def test_an_absent_store_is_a_figure_and_an_absent_redis_too(database: Database) -> None:
    gone = Database("postgresql+psycopg://nobody@127.0.0.1:9/none", timeout_seconds=2)
    assert samples(scrape(gone).text()) == {("dispatcher_store_up", frozenset()): 0.0}
    text = scrape(database, doorbells=None).text()
    assert value(text, "dispatcher_redis_up") == 0
    assert ("dispatcher_doorbells_waiting", frozenset()) not in samples(text)


def test_one_reading_serves_all_who_ask_within_seconds(database: Database, queue: Queue) -> None:
    now = [100.0]
    scraping = Scrape(Reading(database), rate_use=tuple, doorbells=lambda: 0, clock=lambda: now[0])
    first = scraping.text()
    queue.put(0)
    now[0] += 4.9
    assert scraping.text() == first
    now[0] += 0.2
    assert value(scraping.text(), "dispatcher_leads", state="pending") == 1


def test_no_figure_names_a_person(database: Database, queue: Queue) -> None:
    queue.put(0)
    queue.run("INSERT INTO dispatcher.incidents (kind, message) VALUES ('called_twice', '+12025550100')")
    assert b"555" not in scrape(database).text()


def known_metrics(database: Database) -> set[str]:
    """Every name that can be asked for: what has a help text, and what such a thing is made of."""
    names: set[str] = {"dispatcher_sweep_age_seconds"}
    for family in text_string_to_metric_families(scrape(database).text().decode()):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names


def test_the_dashboard_and_the_rules_ask_only_for_what_exists(database: Database) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    rules = yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(asked) > 30
    names = {name for expression in asked for name in NUMBERED.findall(expression)}
    assert names - known_metrics(database) == set()


def test_every_figure_is_on_the_dashboard_or_in_a_rule(database: Database) -> None:
    text = (DEPLOY / "grafana-dashboard.json").read_text() + (DEPLOY / "prometheus-alerts.yml").read_text()
    stems = {
        name.removesuffix("_sum").removesuffix("_count").removesuffix("_bucket") for name in known_metrics(database)
    }
    assert {stem for stem in stems if stem not in text} == {"dispatcher_leads_due", "dispatcher_leads_estimated"}


def test_every_rule_says_what_to_do() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text())["groups"][0]["rules"]
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in rules)
    assert {rule["labels"]["severity"] for rule in rules} == {"critical", "warning"}


# Health --------------------------------------------------------------------------------------------------------------


def test_an_idle_queue_with_a_worker_is_healthy(database: Database, queue: Queue) -> None:
    worked(queue)
    queue.run("UPDATE dispatcher.channels SET served_at = now() - interval '1 day'")
    assert probe(database).ok


def test_without_a_worker_and_a_sweep_it_is_not(database: Database) -> None:
    health = probe(database)
    assert not health.ok
    assert [fault.split()[0:2] for fault in health.faults] == [["No", "worker"], ["There", "was"]]


def test_what_is_due_and_lies_untouched_is_unhealthy(database: Database, queue: Queue) -> None:
    worked(queue)
    queue.put(0, due_in=-120)
    assert probe(database).ok, "runs come, so it is only a long queue"
    queue.run("UPDATE dispatcher.channels SET served_at = now() - interval '90 s'")
    (fault,) = probe(database).faults
    assert fault.startswith("A lead has been due for 120 s and no delivery run came for 90 s")
    assert probe(database, within_seconds=200).ok


@pytest.mark.parametrize("reason", ["paused", "outage"])
def test_what_a_gate_holds_back_is_no_fault_of_the_workers(database: Database, queue: Queue, reason: str) -> None:
    worked(queue)
    queue.put(0, due_in=-120)
    queue.run("UPDATE dispatcher.channels SET served_at = now() - interval '90 s'")
    queue.gate("closed", reason, 42)
    assert probe(database).ok


def test_what_is_scheduled_or_just_came_is_no_fault(database: Database, queue: Queue) -> None:
    worked(queue)
    queue.run("UPDATE dispatcher.channels SET served_at = NULL")
    queue.put(0, due_in=-1)
    queue.put(1, due_in=999)
    assert probe(database).ok


def test_a_lead_on_its_way_is_a_sign_of_life(database: Database, queue: Queue) -> None:
    worked(queue)
    queue.claimed(1)
    queue.put(0, due_in=-120)
    queue.run("UPDATE dispatcher.channels SET served_at = now() - interval '90 s'")
    assert probe(database).ok


def test_a_probe_of_one_machine_wants_a_worker_of_that_machine(database: Database, queue: Queue) -> None:
    worked(queue)
    assert probe(database, host="host-a").ok
    assert "No worker of host-" in probe(database, host="host-").faults[0]
    queue.run("UPDATE dispatcher.workers SET seen_at = now() - interval '2 min'")
    assert "No worker of host-a has been seen for 120 s" in probe(database, host="host-a").faults[0]


def test_a_store_that_is_away_is_unhealthy_and_no_exception() -> None:
    gone = Database("postgresql+psycopg://nobody@127.0.0.1:9/none", timeout_seconds=2)
    health = probe(gone)
    assert not health.ok
    assert health.as_dict()["ok"] is False


# Over HTTP -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[MetricsServer] = []

    def start(health: Health, token: str | None = None, host: str = "127.0.0.1") -> str:
        pages = Pages(lambda: b"figures 1\n", lambda: health)
        server = MetricsServer(host, 0, pages, None if token is None else Secret(token))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_three_pages_answer(serve: Any) -> None:
    base = serve(Health(None))
    assert get(f"{base}/metrics") == (200, b"figures 1\n")
    assert get(f"{base}/healthz") == (200, b"ok\n")
    assert get(f"{base}/readyz")[0] == 200
    assert get(f"{base}/")[0] == 404


def test_readiness_says_what_is_wrong(serve: Any) -> None:
    status, body = get(serve(Health(None, ("No worker.",))) + "/readyz")
    assert (status, json.loads(body)["faults"]) == (503, ["No worker."])


def test_figures_beyond_this_machine_need_a_token(serve: Any) -> None:
    with pytest.raises(NotConfigured, match="DISPATCHER_METRICS_TOKEN"):
        serve(Health(None), host="0.0.0.0")  # noqa: S104
    base = serve(Health(None), token="scrape-me", host="0.0.0.0")  # noqa: S104
    assert get(f"{base}/metrics")[0] == 401
    assert get(f"{base}/metrics", {"Authorization": "Bearer scrape-mex"})[0] == 401
    assert get(f"{base}/metrics", {"Authorization": "Bearer scrape-me"})[0] == 200
    assert get(f"{base}/healthz")[0] == 200, "probes carry no token"
