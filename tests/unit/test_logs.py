"""One form for every record of our processes, and none of a person in it."""

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dispatcher.config.settings import Settings
from dispatcher.logs import events
from dispatcher.logs import setup as logs

LEAD = "01890b1c-1234-7567-8901-123456789012"
FINISHED = {
    "lead_id": LEAD,
    "attempt_id": LEAD,
    "account": "default",
    "campaign_id": 42,
    "attempt": 1,
    "outcome": "accepted",
    "state": "accepted",
    "http_status": 200,
    "duration_ms": 12.3,
    "retry_in_seconds": None,
    "voicery_lead_id": 1234567890,
}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging belongs to the whole process: leave it as it was."""
    root = logging.getLogger()
    names = [*logs.CHATTY, *logs.NOISY]
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers, sys.excepthook, threading.excepthook = before[0], before[2], before[3]
    root.setLevel(before[1])
    logging.captureWarnings(capture=False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Log(io.StringIO):
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def log() -> Log:
    log = Log()
    logs.configure("json", "INFO", secrets=["the-token-of-an-account"], logfile=log)
    return log


def raised(message: str) -> Exception:
    phone_number = "+12025550177"  # a local variable that no traceback may show

    def fail() -> None:
        raise ValueError(message)

    try:
        fail()
    except ValueError as error:
        assert phone_number
        return error
    raise AssertionError


def test_an_attempt_is_one_line_with_its_fields(log: Log) -> None:
    events.info("attempt.finished", **FINISHED)
    (record,) = log.records()
    assert record.pop("timestamp").endswith("Z")
    assert record.pop("pid")
    assert record == {"level": "info", "event": "attempt.finished", **FINISHED}


def test_records_of_other_libraries_take_the_same_form_and_lose_their_extras(log: Log) -> None:
    logging.getLogger("celery.worker").info("ready %s", "now", extra={"data": {"args": "+12025550101"}})
    (record,) = log.records()
    assert (record["logger"], record["event"], record["level"]) == ("celery.worker", "ready now", "info")
    assert "data" not in record


def test_numbers_tokens_and_controls_are_taken_out_of_texts_fields_and_tracebacks(log: Log) -> None:
    foul = "+1 202 555 0101 Bearer abcdefgh the-token-of-an-account\r\nERROR forged\x1b[31m\u202e"
    logging.getLogger("celery").warning(foul)
    events.warning("odd", why=foul, many=[foul])
    logging.getLogger("dispatcher.tasks").error("failed", exc_info=raised(foul))
    text = log.getvalue()
    assert len(log.records()) == len(text.splitlines()) == 3
    for never in ("555 0101", "5550101", "abcdefgh", "the-token-of", "\x1b", "\u202e", "\r", "\\r", "0177"):
        assert never not in text.replace("\\\\r", "")
    assert "raise ValueError(message)" in log.records()[2]["exception"]


def test_a_record_that_cannot_be_rendered_costs_one_line_and_tells_no_argument(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = Log()
    logs.configure("json", "INFO", logfile=log)  # here: pytest's own handler, which raises, comes before a test
    logging.getLogger("celery").info("%d leads", "+12025550101")
    (record,) = log.records()
    assert (record["event"], record["logger"], record["error"]) == ("log.unreadable", "celery", "TypeError")
    assert capsys.readouterr().err == ""


def test_a_number_too_large_for_json_is_no_lost_line(log: Log) -> None:
    events.info("odd", campaign_id=2**70)
    assert log.records()[0]["event"] == "odd"


@pytest.mark.parametrize("name", ["urllib3.connectionpool", "requests", "sqlalchemy.engine", "psycopg"])
def test_libraries_that_tell_rows_and_addresses_stay_quiet_at_debug(name: str) -> None:
    log = Log()
    logs.configure("json", "DEBUG", logfile=log)
    logging.getLogger(name).debug("GET /leads?phone_number=…")
    logging.getLogger(name).info("Row")
    assert log.getvalue() == ""


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 1), ("INFO", 0)])
@pytest.mark.parametrize("name", ["celery.worker.strategy", "celery.app.trace"])
def test_doorbells_are_news_only_at_debug(name: str, level: str, lines: int) -> None:
    log = Log()
    logs.configure("json", level, logfile=log)
    logging.getLogger(name).info("Task dispatcher.deliver[…] received")
    assert len(log.records()) == lines


def test_a_thread_that_dies_is_a_record(log: Log) -> None:
    def die() -> None:
        raise raised("+12025550101")

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    (record,) = log.records()
    assert record["event"] == "thread.died"
    assert "5550101" not in log.getvalue()


def test_for_a_terminal_it_is_a_readable_line_that_cannot_be_forged() -> None:
    log = Log()
    logs.configure("console", "INFO", logfile=log)
    events.info("attempt.finished", **FINISHED)
    logging.getLogger("celery").error("x\nforged", exc_info=raised("y\nforged"))
    lines = log.getvalue().splitlines()
    assert f"lead_id={LEAD}" in lines[0]
    assert "attempt.finished" in lines[0]
    assert not any(line.startswith("forged") for line in lines)


def test_auto_is_json_where_nobody_looks() -> None:
    log = Log()
    logs.configure("auto", "INFO", logfile=log)
    events.info("x")
    assert log.records()


def test_the_secrets_are_all_tokens_and_passwords() -> None:
    settings = Settings.from_environment(
        {
            "DATABASE_URL": "postgresql://u:pass%2Dword@h/d",
            "DATABASE_READ_URL": "postgresql://u:read-pass@h/d",
            "REDIS_URL": "redis://:redis-pass@h/0",
            "DISPATCHER_PROXY": "http://u:proxy-pass@h:3128",
            "VOICERY_API_TOKEN": "token-one",
            "VOICERY_API_TOKEN_NEXT": "token-next",
            "VOICERY_API_TOKEN__OTHER": "token-two",
            "VOICERY_API_TOKEN_NEXT__OTHER": "token-two-next",
            "DISPATCHER_ALERT_WEBHOOK_URL": "https://h/hook",
            "DISPATCHER_ALERT_WEBHOOK_SECRET": "hook-secret",
            "DISPATCHER_ALERT_WEBHOOK_SECRET_NEXT": "next-hook-secret",
            "DISPATCHER_METRICS_TOKEN": "metrics-token",
            "DISPATCHER_PRIVACY_KEY": "k" * 32,
            "DISPATCHER_ENCRYPTION_KEYS": f"off {'0a' * 32} {'0b' * 32}",
            "DISPATCHER_CONSOLE_USERS": "ada:viewer:hash-of-a-password",
        }
    )
    found = set(logs.secrets_of(settings))
    assert {
        "token-one", "token-two", "token-next", "token-two-next", "pass%2Dword", "pass-word", "read-pass", "redis-pass",
        "proxy-pass", "https://h/hook", "hook-secret", "metrics-token", "next-hook-secret", "k" * 32,
        "0a" * 32, "0b" * 32,
    } <= found  # fmt: skip
    assert "off" not in found, "a word that logs have"
    secret = {name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    given = {name: getattr(settings, name) for name in secret}
    assert {name for name, value in given.items() if value is None} == set(), "this test names each secret setting"
    assert {value.reveal() for value in given.values()} <= found


def test_importing_the_dispatcher_configures_nothing() -> None:
    code = """
import logging, sys, threading
before = sys.excepthook, threading.excepthook, logging.root.level, logging.root.handlers[:]
import dispatcher, dispatcher.logs.events, dispatcher.celery, dispatcher.logs.setup
assert (sys.excepthook, threading.excepthook, logging.root.level, logging.root.handlers[:]) == before
assert logging.getLogger("dispatcher").handlers == [] and logging.getLogger("dispatcher").level == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)
