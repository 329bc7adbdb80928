"""A real worker on a real Redis: what it is told, what it is not to believe, and how it ends."""

import base64
import json
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dispatcher.broker.connection import connect
from dispatcher.broker.doorbell import Doorbell
from dispatcher.lead.options import Channel

from .conftest import RedisServer, eventually
from .worker_process import WorkerProcess

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def start_worker(tmp_path: Path, server_dir: Path) -> Iterator[StartWorker]:
    started: list[WorkerProcess] = []

    def start(server: RedisServer, **options: str) -> WorkerProcess:
        started.append(WorkerProcess(server, tmp_path, TMPDIR=str(server_dir), **options))
        return started[-1]

    yield start
    for worker in started:
        worker.end()


def envelope(content: object = ([], {}, {}), *, task: object = "dispatcher.deliver", **changes: object) -> str:
    message = {
        "body": base64.b64encode(json.dumps(content).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": "forged", "retries": 0, "timelimit": [None, None]},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": "dispatcher"},
        },
    }
    return json.dumps({**message, **changes})


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (Path("pickle-was-executed"), "")  # type: ignore[return-value]


FORGERIES: dict[str, str | bytes] = {
    "no JSON": "junk",
    "no text": b"\xff\xfe\x00",
    "null": "null",
    "a string": '"deliver"',
    "a number": "5",
    "a list": "[]",
    "an empty object": "{}",
    "a megabyte": "x" * 2**20,
    "a megabyte of body": envelope(["x" * 2**20]),
    "too deep": "[" * 100_000,
    "body null": envelope(None),
    "body a string": envelope("text"),
    "body missing": envelope().replace('"body"', '"bodies"'),
    "body no base64": envelope(body="!!!"),
    "headers null": envelope(headers=None),
    "headers a string": envelope(headers="dispatcher.deliver"),
    "another task": envelope([[], {}, {}], task="celery.backend_cleanup"),
    "a task that is a list": envelope(task=["dispatcher.deliver"]),
    "no arguments": envelope([[], {}, {}]),
    "too many arguments": envelope([["default", 1, 2], {}, {}]),
    "keywords of another shape": envelope([["default", 1], None, {}]),
    "an account that is a path": envelope([["../../etc", 1], {}, {}]),
    "an account that is a list": envelope([[["default"], 1], {}, {}]),
    "a campaign that is text": envelope([["default", "1; DROP TABLE"], {}, {}]),
    "a campaign that is true": envelope([["default", True], {}, {}]),
    "a campaign out of range": envelope([["default", 2**63], {}, {}]),
    "a campaign that is zero": envelope([["default", 0], {}, {}]),
    "look-up with a campaign": envelope([["default", 1], {}, {}], task="dispatcher.lookup"),
    "protocol 1": json.dumps({**json.loads(envelope()), "headers": {}, "body": "e30="}),
    "pickle": envelope(
        **{"content-type": "application/x-python-serialize", "content-encoding": "binary"},
        body=base64.b64encode(pickle.dumps(Exploit())).decode(),
    ),
}


def test_forged_messages_neither_kill_nor_loop_the_worker(server: RedisServer, start_worker: StartWorker) -> None:
    worker = start_worker(server)
    worker.await_ready()
    with server.client() as client:
        for forgery in FORGERIES.values():
            client.lpush("dispatcher:dispatcher", forgery)
        Doorbell(server.url).ring(Channel("default", 1))
        worker.await_note("deliver:default:1")

        assert client.llen("dispatcher:dispatcher") == 0
        assert client.hlen("dispatcher:unacked") == 0
    assert worker.process.poll() is None
    assert [note for note in worker.notes() if note.startswith(("deliver", "lookup"))] == ["deliver:default:1"]
    assert worker.output().count("message.dropped") == len(FORGERIES)
    assert not (Path(__file__).parents[2] / "pickle-was-executed").exists()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_one_of_many_other_campaigns_comes_between_two_runs_of_an_accepting_one(
    server: RedisServer, start_worker: StartWorker, pool: str
) -> None:
    """Issue: dead campaigns whose messages came first held a healthy one up until each had been tried."""
    bell = Doorbell(server.url)
    for number in range(101, 121):
        bell.ring(Channel("default", number))
    for number in range(1, 6):
        bell.served(Channel("default", number), accepted=True)
        bell.ring(Channel("default", number))

    worker = start_worker(server, pool=pool)
    eventually(lambda: sum(note.startswith("deliver") for note in worker.notes()) == 25, 20)

    delivered = [note for note in worker.notes() if note.startswith("deliver")]
    last = max(place for place, note in enumerate(delivered) if int(note.split(":")[2]) < 100)
    assert last < 13, "five of them, five others between, and two processes that write as they come"


def test_a_unix_socket_is_no_back_door(server: RedisServer, start_worker: StartWorker) -> None:
    url = f"unix://{server.socket}?db=3"
    worker, doorbell = start_worker(server, url=url), Doorbell(url)
    worker.await_ready()
    with connect(url) as client:
        client.lpush("dispatcher:dispatcher", "null")
        doorbell.ring(Channel("default", 1))
        worker.await_note("deliver:default:1")
    assert "message.dropped" in worker.output()


def test_of_a_forged_message_only_the_channel_is_believed(server: RedisServer, start_worker: StartWorker) -> None:
    """A time limit would kill a POST in flight, an eta would hoard, a callback would run more."""
    worker = start_worker(server)
    worker.await_ready()
    signature = {"task": "dispatcher.lookup", "args": ["default"], "kwargs": {}, "options": {}}
    forged = json.loads(envelope([["busy", 1], {}, {"callbacks": [signature], "chain": [signature]}]))
    forged["headers"] |= {"timelimit": [0.2, 0.1], "eta": "2099-01-01T00:00:00", "expires": "2001-01-01T00:00:00"}
    with server.client() as client:
        client.lpush("dispatcher:dispatcher", json.dumps(forged))
        worker.await_note("deliver:busy:1")
        Doorbell(server.url).ring(Channel("default", 2))
        worker.await_note("deliver:default:2")
        worker.signal_group(signal.SIGTERM)
        assert worker.process.wait(60) == 0
        assert "finished" in worker.notes()
        assert "lookup:default" not in worker.notes()
        assert client.llen("dispatcher:dispatcher") == 0


def test_a_task_that_raises_is_logged_and_the_next_one_runs(server: RedisServer, start_worker: StartWorker) -> None:
    worker, doorbell = start_worker(server), Doorbell(server.url)
    doorbell.ring(Channel("broken", 1))
    doorbell.ring_lookup("default")
    worker.await_note("lookup:default")
    eventually(lambda: "task.failed" in worker.output())


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_lets_what_is_in_flight_finish(
    server: RedisServer, start_worker: StartWorker, pool: str, signum: signal.Signals
) -> None:
    worker = start_worker(server, pool=pool)
    Doorbell(server.url).ring(Channel("busy", 1))
    worker.await_note("deliver:busy:1")
    worker.signal_group(signum)
    # Celery calls a Ctrl-C a failure, however warm.
    assert worker.process.wait(60) == (0 if signum == signal.SIGTERM else 1)
    assert worker.notes()[-3:] == ["stopping", "finished", "closed"]


@pytest.mark.parametrize("group", [True, False])
def test_sigquit_stays_cold(server: RedisServer, start_worker: StartWorker, group: bool) -> None:
    worker = start_worker(server)
    Doorbell(server.url).ring(Channel("stuck", 1))
    worker.await_note("deliver:stuck:1")
    if group:
        worker.signal_group(signal.SIGQUIT)
    else:
        worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(60)
    assert "finished" not in worker.notes()


def test_it_consumes_again_after_each_kill_of_redis(own_server: RedisServer, start_worker: StartWorker) -> None:
    own_server.start()
    worker = start_worker(own_server)
    worker.await_ready()
    doorbell = Doorbell(own_server.url, pause_seconds=0.0)
    for n in range(1, 5):
        own_server.kill()
        own_server.start()
        eventually(lambda n=n: doorbell.ring(Channel("default", n)))  # type: ignore[misc]
        worker.await_note(f"deliver:default:{n}", within_seconds=30)


def test_it_starts_without_redis_and_begins_when_redis_comes(
    own_server: RedisServer, start_worker: StartWorker
) -> None:
    worker = start_worker(own_server)
    eventually(lambda: "Trying again in" in worker.output(), 20)
    own_server.start()
    eventually(lambda: Doorbell(own_server.url).ring(Channel("default", 1)))
    worker.await_note("deliver:default:1", within_seconds=30)


def test_neither_celery_variables_of_the_environment_nor_a_config_module_reach_the_worker(
    server: RedisServer, start_worker: StartWorker
) -> None:
    elsewhere = "redis://127.0.0.1:1/0"
    worker = start_worker(
        server,
        CELERY_BROKER_URL=elsewhere,
        CELERY_BROKER_READ_URL=elsewhere,
        CELERY_BROKER_WRITE_URL=elsewhere,
        CELERY_RESULT_BACKEND=elsewhere,
        CELERY_CONFIG_MODULE="no_such_module",
        CELERY_LOADER="no_such_loader",
        DJANGO_SETTINGS_MODULE="no_such_settings",
    )
    Doorbell(server.url).ring(Channel("default", 1))
    worker.await_note("deliver:default:1")
    with server.client() as client:
        assert all(key.startswith(b"dispatcher:") for key in client.scan_iter("*"))


def test_a_worker_has_one_sweep_restarts_it_and_takes_it_along(server: RedisServer, start_worker: StartWorker) -> None:
    worker = start_worker(server)
    [first] = eventually(worker.sweeps)
    first.kill()
    [second] = eventually(lambda: [sweep for sweep in worker.sweeps() if sweep.pid != first.pid])
    assert worker.notes().count("sweep-started") == 2
    worker.await_ready()
    worker.process.terminate()
    assert worker.process.wait(60) == 0
    eventually(lambda: not psutil.pid_exists(second.pid))


def test_a_sweep_does_not_outlive_a_killed_worker(server: RedisServer, start_worker: StartWorker) -> None:
    worker = start_worker(server)
    [sweep] = eventually(worker.sweeps)
    # Its main line runs, so it has asked to die with its parent.
    eventually(lambda: sweep.num_threads() == 2)
    worker.process.kill()
    worker.process.wait(60)
    eventually(lambda: not sweep.is_running() or sweep.status() == psutil.STATUS_ZOMBIE)
