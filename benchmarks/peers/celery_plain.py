"""What most people would write: one Celery task a lead, `requests` with a session, nothing stored.

`python -m celery -A benchmarks.peers.celery_plain worker -c 2`; `load` publishes leads that appear all at once.
"""

import json
import os
import sys
import threading
import time
from typing import Any

import redis
import requests
from celery import Celery

from benchmarks.leads import lead
from benchmarks.stopwatch import leave, told

QUEUE = "celery_plain"
STAGED = "celery_plain_staged"

app = Celery("celery_plain", broker=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, worker_send_task_events=False)

_local = threading.local()


def session() -> requests.Session:
    """This thread's session, so that connections are kept alive."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.headers["Authorization"] = "Bearer benchmark"
    made: requests.Session = _local.session
    return made


@app.task(name="send", autoretry_for=(requests.RequestException,), retry_backoff=True)
def send(one: dict[str, Any]) -> None:
    """POST one lead."""
    session().post(f"{os.environ['VOICERY_BASE_URL']}/user/lead", json=one, timeout=(5, 20)).raise_for_status()


def load(first: int, count: int) -> None:
    """Publish into another queue, and rename it."""
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for index in range(first, first + count):
            send.apply_async((lead(index),), queue=STAGED, producer=producer)
    redis.Redis.from_url(os.environ["REDIS_URL"]).rename(STAGED, QUEUE)


def submit(first: int, count: int) -> None:
    """Print the seconds that `count` calls of `delay` took."""
    send.delay(lead(first))  # connects
    with told():
        for index in range(first + 1, first + 1 + count):
            send.delay(lead(index))


def trickle(first: int, count: int, pause_seconds: float) -> None:
    """Print when each of `count` leads was submitted, by the monotonic clock, one every `pause_seconds`."""
    send.delay(lead(first))
    times = []
    for index in range(first + 1, first + 1 + count):
        time.sleep(pause_seconds)
        times.append((time.monotonic(), lead(index)["phone_number"]))
        send.delay(lead(index))
    print(json.dumps(times))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["load", first, count]:
            load(int(first), int(count))
            leave()
        case ["submit", first, count]:
            submit(int(first), int(count))
        case ["trickle", first, count, pause]:
            trickle(int(first), int(count), float(pause))
        case _:
            sys.exit(__doc__)
