"""PgQueuer with aiohttp and uvloop: jobs in Postgres, fetched and finished in batches, deleted when done."""

import json
import os
import sys

import aiohttp
import asyncpg
from pgqueuer import AsyncpgPoolDriver, PgQueuer, Queries
from pgqueuer.models import Job

from benchmarks.leads import lead
from benchmarks.stopwatch import leave


async def pool(size: int) -> asyncpg.Pool:
    """Connections of this process."""
    return await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=2, max_size=size)


async def work(batch_size: int) -> None:
    """Work for ever."""
    queuer = PgQueuer(AsyncpgPoolDriver(await pool(8)))
    client = aiohttp.ClientSession(headers={"Authorization": "Bearer benchmark"})
    url = f"{os.environ['VOICERY_BASE_URL']}/user/lead"

    @queuer.entrypoint("send")
    async def send(job: Job) -> None:
        async with client.post(url, data=job.payload, headers={"Content-Type": "application/json"}) as answer:
            answer.raise_for_status()
            await answer.read()

    await queuer.run(batch_size=batch_size)


async def load(first: int, count: int) -> None:
    """One insert, so that all jobs appear at once."""
    connections = await pool(2)
    payloads = [json.dumps(lead(index)).encode() for index in range(first, first + count)]
    await Queries(AsyncpgPoolDriver(connections)).enqueue(["send"] * count, payloads, [0] * count)
    await connections.close()


async def setup() -> None:
    """Make its tables."""
    connections = await pool(2)
    await Queries(AsyncpgPoolDriver(connections)).install()
    await connections.close()


if __name__ == "__main__":
    import uvloop

    match sys.argv[1:]:
        case ["setup"]:
            uvloop.run(setup())
        case ["work", batch_size]:
            uvloop.run(work(int(batch_size)))
        case ["load", first, count]:
            uvloop.run(load(int(first), int(count)))
            leave()
        case _:
            sys.exit(__doc__)
