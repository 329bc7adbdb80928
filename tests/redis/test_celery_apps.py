"""Our Celery apps beside somebody else's in one process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_opens_no_socket_reads_no_setting_and_configures_no_logging() -> None:
    run(
        "import logging, socket\n"
        "def refuse(*_, **__): raise AssertionError('a socket')\n"
        "socket.socket.connect = refuse\n"
        "before = logging.root.handlers[:], logging.root.level\n"
        "import dispatcher.celery, dispatcher.broker.doorbell, dispatcher.broker.limiter\n"
        "dispatcher.broker.doorbell.Doorbell('redis://127.0.0.1:1/0')\n"
        "assert (logging.root.handlers, logging.root.level) == before\n"
        "assert not logging.getLogger('dispatcher').handlers\n"
    )


def test_celery_finds_the_app_by_the_packages_name() -> None:
    assert run("from celery.app.utils import find_app; print(type(find_app('dispatcher')).__name__)") == "WorkerApp"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DISPATCHER_LEASE": "5"}, "DISPATCHER_LEASE: is shorter than"),
        ({"REDIS_URL": "redis://127.0.0.1:9/0"}, "DATABASE_URL is not set"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:9/none"}, "REDIS_URL is not set"),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_a_sentence(environment: dict[str, str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "dispatcher", "worker"],
        cwd=ROOT,
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_somebody_elses_app_keeps_its_place_its_broker_and_its_tasks() -> None:
    code = """
from celery import Celery, current_app, shared_task
theirs = Celery("theirs", broker="memory://theirs", backend="cache+memory://")
theirs.conf.task_serializer = "yaml"
@shared_task(name="theirs.shared")
def shared(): ...
import dispatcher.celery
from dispatcher.broker.doorbell import Doorbell
from dispatcher.lead.options import Channel
Doorbell("redis://127.0.0.1:1/0").ring(Channel("default", 1))
ours = dispatcher.celery.WorkerApp(configuration=lambda: {})
ours.finalize(), theirs.finalize()
assert current_app._get_current_object() is theirs
assert theirs.conf.broker_url == "memory://theirs" and theirs.conf.task_serializer == "yaml"
assert not [name for name in theirs.tasks if name.startswith("dispatcher.")], list(theirs.tasks)
assert theirs.conf.task_default_queue == "celery"
from celery import signals
assert not signals.worker_process_init.receivers and not signals.worker_shutting_down.receivers
"""
    run(code)
