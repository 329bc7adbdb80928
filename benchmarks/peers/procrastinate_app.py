"""Procrastinate: jobs in Postgres, a task a lead; async with aiohttp, or sync with `requests` in threads."""

import asyncio
import logging
import os
import sys
import threading
from typing import Any

import aiohttp
import procrastinate
import requests

from benchmarks.leads import lead
from benchmarks.stopwatch import leave, told

QUEUE = "leads"

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))
_local = threading.local()
_client: aiohttp.ClientSession | None = None


def url() -> str:
    """Where leads go."""
    return f"{os.environ['VOICERY_BASE_URL']}/user/lead"


@app.task(queue="async", name="send_async")
async def send_async(one: dict[str, Any]) -> None:
    """POST one lead with aiohttp, over the process's kept connections."""
    global _client  # noqa: PLW0603 - one session a process, made inside its loop
    if _client is None:
        _client = aiohttp.ClientSession(headers={"Authorization": "Bearer benchmark"})
    async with _client.post(url(), json=one) as answer:
        answer.raise_for_status()
        await answer.read()


@app.task(queue="sync", name="send_sync")
def send_sync(one: dict[str, Any]) -> None:
    """POST one lead with requests, with a session a thread."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.headers["Authorization"] = "Bearer benchmark"
    _local.session.post(url(), json=one, timeout=(5, 20)).raise_for_status()


async def work(queue: str, concurrency: int) -> None:
    """Work for ever."""
    async with app.open_async():
        await app.run_worker_async(queues=[queue], concurrency=concurrency, fetch_job_polling_interval=0.5)


async def load(queue: str, first: int, count: int) -> None:
    """One insert, so that all jobs appear at once."""
    task = send_async if queue == "async" else send_sync
    async with app.open_async():
        await task.batch_defer_async(*({"one": lead(index)} for index in range(first, first + count)))


def submit(first: int, count: int) -> None:
    """Print the seconds that `count` calls of `defer` took, in a process without a loop: the sync connector's best."""
    with (
        app.replace_connector(procrastinate.SyncPsycopgConnector(conninfo=os.environ["DATABASE_URL"])) as sync,
        sync.open(),
    ):
        task = sync.tasks["send_async"]
        task.defer(one=lead(first))
        with told():
            for index in range(first + 1, first + 1 + count):
                task.defer(one=lead(index))


def submit_many(first: int, count: int, chunk: int) -> None:
    """Print the seconds that `count` jobs by `batch_defer` took, in chunks."""
    with (
        app.replace_connector(procrastinate.SyncPsycopgConnector(conninfo=os.environ["DATABASE_URL"])) as sync,
        sync.open(),
    ):
        task = sync.tasks["send_async"]
        task.defer(one=lead(first))
        with told():
            for start in range(first + 1, first + 1 + count, chunk):
                task.batch_defer(
                    *({"one": lead(index)} for index in range(start, min(start + chunk, first + 1 + count)))
                )


def setup() -> None:
    """Make its tables."""

    async def apply() -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    asyncio.run(apply())


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    match sys.argv[1:]:
        case ["setup"]:
            setup()
        case ["work", queue, concurrency]:
            import uvloop

            uvloop.run(work(queue, int(concurrency)))
        case ["load", queue, first, count]:
            asyncio.run(load(queue, int(first), int(count)))
            leave()
        case ["submit", first, count]:
            submit(int(first), int(count))
        case ["submit_many", first, count, chunk]:
            submit_many(int(first), int(count), int(chunk))
        case _:
            sys.exit(__doc__)
