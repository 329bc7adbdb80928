"""No number and no token leaves Postgres and the POST: through every failure, at DEBUG, in every pool (I7, S1-S5).

Searched are the log, the process list, Redis, each column of the database, the metrics, and what the commands print
and export unless they are asked to reveal.
"""

import base64
import json
import re
import signal
import urllib.request

import psutil
import pytest
import redis

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.metrics.exporter import scrape
from dispatcher.wiring import Services
from tests.process.rig import CAMPAIGN, Rig
from tests.support.doubles import Line
from tests.support.waiting import wait_until
from tests.support.worker_process import WorkerProcess

TOKEN = "canary-token-that-nobody-may-see"
LOCAL = "2025550"  # of every number of this test: +1 202 555 01xx
CANARY_WORD = "canary-variable"
FAULTS = ("hang", "reset", "close", "garbage", "cut-body", "no-id", "not-json", "wrong-number", "500-html", "503",
          "422", "duplicate", "redirect", "bad-gzip", "401")  # fmt: skip


def numbers(lines: range) -> list[str]:
    return [f"+12025550{line}" for line in lines]


def submit(rig: Rig, phones: list[str]) -> None:
    dispatcher = Dispatcher(Settings.from_environment({**rig.environment, "VOICERY_API_TOKEN": TOKEN}))
    for phone in phones:
        dispatcher.submit(
            {
                "phone_number": phone,
                "campaign_id": CAMPAIGN,
                "variables": {"customer_name": f"{CANARY_WORD}\r\nERROR forged\x1b[31m\u202e {phone}"},
            }
        )
    dispatcher.close()


def misbehave(rig: Rig, phone: str, fault: str) -> None:
    """The first POST of this number meets the fault."""
    body = json.dumps({"fault": fault, "phone": phone[1:], "location": "http://127.0.0.1:9/"}).encode()
    url = rig.sandbox.url.removesuffix("/api") + "/_sandbox/faults"
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5):
        pass


def command_lines(worker: WorkerProcess) -> str:
    family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
    return "\n".join(" ".join(process.cmdline()) for process in family)


def everything_in(url: str) -> str:
    """Every key of Redis with its value, and the bodies of messages decoded too. A Lua script reads them at once."""
    script = """
        local all = {}
        for _, key in ipairs(redis.call('KEYS', '*')) do
            local kind, value = redis.call('TYPE', key).ok, nil
            if kind == 'string' then value = redis.call('GET', key)
            elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
            elseif kind == 'set' then value = redis.call('SMEMBERS', key)
            elseif kind == 'hash' then value = redis.call('HGETALL', key)
            elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1) end
            table.insert(all, {key, value})
        end
        return all"""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        text = str(client.eval(script, 0))
    bodies = re.findall(r'"body": ?"([A-Za-z0-9+/=]+)"', text)
    return "\n".join([text, *(base64.b64decode(body).decode() for body in bodies)])


def assert_silent(text: str, where: str) -> None:
    for secret in (LOCAL, TOKEN, CANARY_WORD):
        assert secret not in text, f"{where}: {text[max(0, text.find(secret) - 300) : text.find(secret) + 100]}"


PERSONAL = {
    "leads.phone_number",
    "leads.variables",
    "lead_attempts.phone_number",
    "lead_attempts.response",
    "failed_leads.phone_number",
    "failed_leads.response",
}
"""The columns that hold what is a person's; docs/privacy.md says for how long."""

COMMANDS = (
    "status", "failed", "failed --group", "list", "campaigns", "operations", "imports", "incidents", "audit",
    "tail --no-follow --since 1h",
)  # fmt: skip


def columns_with(rig: Rig, secret: str) -> set[str]:
    """Every column of the database with this text in it."""
    columns = rig.query(
        "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
        " USING (table_schema, table_name) WHERE table_schema = 'dispatcher' AND table_type = 'BASE TABLE'"
    )
    return {
        f"{table}.{column}"
        for table, column in columns
        if rig.query(f"SELECT FROM dispatcher.{table} WHERE strpos(CAST({column} AS text), '{secret}') > 0 LIMIT 1")
    }


def shown(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The metrics, and what each command prints, as text, JSON and CSV, that is not asked to reveal."""
    for name, value in {**rig.environment, "VOICERY_API_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    services = Services(Settings.from_environment())
    found = {"metrics": scrape(services).text().decode()}
    services.close()
    line = Line()
    some = [str(row[0]) for row in rig.query("SELECT lead_id FROM dispatcher.failed_leads LIMIT 3")]
    for command in (*COMMANDS, *(f"show {one}" for one in some), *(f"explain {one}" for one in some)):
        for form in ("", "--json", "--csv"):
            result = line(*command.split(), *form.split())
            if result.exit_code != 2:  # not every command has every form
                found[f"{command} {form}"] = result.output
    assert "dispatcher_leads" in found["metrics"]
    assert '"items"' in found["failed --json"]
    return found


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_no_failure_makes_anybody_tell(rig: Rig, pool: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    phones = numbers(range(100, 100 + len(FAULTS) + 5))
    for phone, fault in zip(phones, FAULTS, strict=False):
        misbehave(rig, phone, fault)
    submit(rig, phones)
    seen: list[str] = []

    def rung() -> bool:
        seen.append(everything_in(redis_url))
        return "dispatcher.deliver" in seen[-1] and '["default", 42]' in seen[-1]

    wait_until(rung, 10, lambda: f"a doorbell; {seen[-1]}")  # before a worker takes it
    worker = rig.start_worker(
        "-P", pool, "-c", "2", "--loglevel", "DEBUG", VOICERY_API_TOKEN=TOKEN, DISPATCHER_LOG_FORMAT="json"
    )

    def all_tried() -> bool:
        seen.append(everything_in(redis_url))
        attempts = rig.query("SELECT count(DISTINCT lead_id) FROM dispatcher.lead_attempts")
        return attempts == [(len(phones),)]

    wait_until(all_tried, 60, lambda: f"{rig.states()}; {worker.log[-3000:]}")
    # Postgres goes away in mid-work, as far as the worker can tell: its connections are cut.
    rig.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    lines = command_lines(worker)
    worker.send(signal.SIGTERM, group=True)
    worker.wait()

    assert_silent(worker.log, "log")
    assert_silent(lines, "process list")
    assert "\x1b" not in worker.log
    for one in seen:
        assert_silent(one, "Redis")
    assert columns_with(rig, LOCAL) <= PERSONAL
    assert columns_with(rig, CANARY_WORD) <= PERSONAL
    assert columns_with(rig, CANARY_WORD) >= {"leads.variables"}, "the search finds what is there"
    assert columns_with(rig, TOKEN) == set()
    for where, text in shown(rig, monkeypatch).items():
        assert_silent(text, where)
    records = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    finished = [record for record in records if record["event"] == "attempt.finished"]
    assert {record["lead_id"] for record in finished}
    assert {record["outcome"] for record in finished} >= {"unknown", "rejected"}
    assert all(
        record.keys() >= {"attempt_id", "campaign_id", "state", "http_status", "duration_ms"} for record in finished
    )
    assert any(record.get("logger", "").startswith("celery") for record in records), "one path for all"
    assert not [line for line in worker.log.splitlines() if line.startswith("[20")], "a line of Celery's own form"


def test_the_log_of_every_attempt_is_one_line(rig: Rig) -> None:
    rig.submit(12)
    worker = rig.start_worker()
    rig.wait_settled()
    worker.stop()
    events = [json.loads(line)["event"] for line in worker.log.splitlines() if line.startswith("{")]
    assert events.count("attempt.finished") == 12
    assert not [event for event in events if "dispatcher.deliver[" in event], "doorbells are no news"
    figures = rig.query("SELECT label, value FROM dispatcher.tallies WHERE name = 'attempts'")
    assert figures == [("accepted", 12.0)]
