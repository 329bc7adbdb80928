"""The naive durable way: a row for each lead, and a Celery task for each row that reads, sends and writes it.

`python -m celery -A benchmarks.peers.celery_rows worker -c 2`
"""

import json
import os
import sys

import psycopg
import redis
import requests
from celery import Celery

from benchmarks.leads import lead
from benchmarks.stopwatch import leave

QUEUE = "celery_rows"
STAGED = "celery_rows_staged"
TABLE = """
CREATE TABLE naive_leads (
    id bigint PRIMARY KEY, payload jsonb NOT NULL, status text NOT NULL DEFAULT 'pending', voicery_id bigint,
    response text, updated_at timestamptz NOT NULL DEFAULT now()
)
"""

app = Celery("celery_rows", broker=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, task_acks_late=True, worker_send_task_events=False)

_session: requests.Session | None = None
_connection: psycopg.Connection | None = None


def wires() -> tuple[requests.Session, psycopg.Connection]:
    """This process's session and connection, both kept open."""
    global _session, _connection  # noqa: PLW0603 - how it is done in a Celery module
    if _session is None or _connection is None:
        _session = requests.Session()
        _session.headers["Authorization"] = "Bearer benchmark"
        _connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    return _session, _connection


@app.task(name="send_row")
def send(lead_id: int) -> None:
    """Mark one row as taken, POST it, and write what came of it."""
    session, connection = wires()
    row = connection.execute(
        "UPDATE naive_leads SET status = 'sending' WHERE id = %s AND status = 'pending' RETURNING payload", (lead_id,)
    ).fetchone()
    if row is None:
        return
    answer = session.post(f"{os.environ['VOICERY_BASE_URL']}/user/lead", json=row[0], timeout=(5, 20))
    answer.raise_for_status()
    connection.execute(
        "UPDATE naive_leads SET status = 'sent', voicery_id = %s, response = %s, updated_at = now() WHERE id = %s",
        (answer.json()["data"]["id"], answer.text, lead_id),
    )


def setup() -> None:
    """Make the table."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(TABLE)


def load(first: int, count: int) -> None:
    """Insert the rows, publish into another queue, and rename it."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        with connection.cursor().copy("COPY naive_leads (id, payload) FROM STDIN") as copy:
            for index in range(first, first + count):
                copy.write_row((index, json.dumps(lead(index))))
        connection.commit()
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for index in range(first, first + count):
            send.apply_async((index,), queue=STAGED, producer=producer)
    redis.Redis.from_url(os.environ["REDIS_URL"]).rename(STAGED, QUEUE)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["setup"]:
            setup()
        case ["load", first, count]:
            load(int(first), int(count))
            leave()
        case _:
            sys.exit(__doc__)
