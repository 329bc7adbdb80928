"""What a producer of ours does, as processes of its own, like those of the peers."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from sqlalchemy import create_engine, text

from benchmarks.leads import lead
from benchmarks.stopwatch import leave, told
from dispatcher.api import Dispatcher
from dispatcher.broker.doorbell import Doorbell
from dispatcher.config.settings import Settings
from dispatcher.intake.bulk import batch_id_of, summed
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import Channel

_INSERT = text("""
INSERT INTO dispatcher.leads
    (id, account, campaign_id, phone_number, variables, allow_dupplicate, state, priority, due_at, payload_hash)
SELECT CAST(id AS uuid), 'default', campaign_id, phone_number, variables, allow_dupplicate, 'pending', 0, now(), hash
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS row
    (id text, campaign_id bigint, phone_number text, variables jsonb, allow_dupplicate boolean, hash text)
""")

_HEAD_FIRST = text("UPDATE dispatcher.leads SET due_at = now() - interval '1 s' WHERE id = ANY (CAST(:ids AS uuid[]))")
DEAD_FROM: Final = 1_000_000
"""Campaigns from here on are dead, where the stand-in was told so."""


def row(index: int) -> Mapping[str, Any]:
    """A lead as the table wants it, with an id in the order of time as a client makes it."""
    one = lead(index)
    stamp = time.time_ns() // 1_000_000
    return {
        **one,
        "id": f"{stamp >> 16:08x}-{stamp & 0xFFFF:04x}-7{index >> 20 & 0xFFF:03x}-8000-{index:012x}",
        "hash": Lead.parse(one).payload_hash(),
    }


def load(first: int, count: int) -> None:
    """Insert in one transaction, so that all leads appear at once, and ring."""
    settings = Settings.from_environment()
    rows = [row(index) for index in range(first, first + count)]
    engine = create_engine(settings.require_database_url())
    with engine.begin() as connection:
        connection.execute(_INSERT, {"rows": json.dumps(rows)})
    bell = Doorbell(settings.require_redis_url())
    for campaign_id in {one["campaign_id"] for one in rows}:
        bell.ring(Channel("default", campaign_id))


def load_behind(first: int, count: int, dead: int, pile: int) -> None:
    """As `load`, behind one lead in each of `dead` campaigns and `pile` leads of one number, all due before."""
    settings = Settings.from_environment()
    head = [{**row(first), "campaign_id": DEAD_FROM + index} for index in range(dead)]
    head += [{**row(first), "allow_dupplicate": True} for _ in range(pile)]
    for index, one in enumerate(head):
        one["id"] = f"{one['id'][:24]}{index:012x}"
    rows = [row(index) for index in range(first + 1, first + 1 + count)]
    engine = create_engine(settings.require_database_url())
    with engine.begin() as connection:
        connection.execute(_INSERT, {"rows": json.dumps(head + rows)})
        connection.execute(_HEAD_FIRST, {"ids": [one["id"] for one in head]})
    bell = Doorbell(settings.require_redis_url())
    for campaign_id in dict.fromkeys(one["campaign_id"] for one in head + rows):
        bell.ring(Channel("default", campaign_id))


def submit(first: int, count: int) -> None:
    """Print the seconds that `count` calls of `submit` took."""
    dispatcher = Dispatcher(Settings.from_environment())
    dispatcher.submit(lead(first))
    with told():
        for index in range(first + 1, first + 1 + count):
            dispatcher.submit(lead(index))


def asubmit(first: int, count: int, callers: int) -> None:
    """Print the seconds that `count` calls of `asubmit` took, `callers` tasks at once."""

    async def work() -> None:
        dispatcher = Dispatcher(Settings.from_environment())
        await dispatcher.asubmit(lead(first))
        left = iter(range(first + 1, first + 1 + count))

        async def caller() -> None:
            for index in left:
                await dispatcher.asubmit(lead(index))

        with told():
            await asyncio.gather(*(caller() for _ in range(callers)))

    asyncio.run(work())


def submit_threads(first: int, count: int, callers: int) -> None:
    """Print the seconds that `count` calls of `submit` took, by `callers` threads at once."""
    dispatcher = Dispatcher(Settings.from_environment())
    dispatcher.submit(lead(first))
    left = SimpleQueue[int]()
    for index in range(first + 1, first + 1 + count):
        left.put(index)

    def caller() -> None:
        with suppress(Empty):
            while True:
                dispatcher.submit(lead(left.get_nowait()))

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    with told():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def submit_many(first: int, count: int, workers: int) -> None:
    """Print the seconds that one `submit_many` took, with so many processes that validate."""
    dispatcher = Dispatcher(Settings.from_environment())
    items = [lead(index) for index in range(first, first + count)]
    with told():
        batch = batch_id_of(None)
        chunks = dispatcher.bulk.stream(items, account="default", batch_id=batch, workers=workers)
        result = summed(batch, chunks)
    if result.submitted != count:
        sys.exit(f"only {result.submitted} of {count} leads were stored")


def few(campaign_id: int, count: int) -> None:
    """Submit leads of another campaign; print when the first was, by the monotonic clock."""
    dispatcher = Dispatcher(Settings.from_environment())
    print(json.dumps(time.monotonic()))
    for index in range(count):
        dispatcher.submit({**lead(index), "campaign_id": campaign_id})


def campaigns(many: int, each: int) -> None:
    """Fill several campaigns at once."""
    dispatcher = Dispatcher(Settings.from_environment())
    dispatcher.submit_many(
        {**lead(index), "campaign_id": campaign_id} for index in range(each) for campaign_id in range(1, many + 1)
    )


def trickle(first: int, count: int, pause_seconds: float) -> None:
    """Print when each of `count` leads was submitted, by the monotonic clock, one every `pause_seconds`."""
    dispatcher = Dispatcher(Settings.from_environment())
    dispatcher.submit(lead(first))
    times = []
    for index in range(first + 1, first + 1 + count):
        time.sleep(pause_seconds)
        times.append((time.monotonic(), lead(index)["phone_number"]))
        dispatcher.submit(lead(index))
    print(json.dumps(times))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["load", first, count]:
            load(int(first), int(count))
            leave()
        case ["load_behind", first, count, dead, pile]:
            load_behind(int(first), int(count), int(dead), int(pile))
            leave()
        case ["submit", first, count]:
            submit(int(first), int(count))
        case ["asubmit", first, count, callers]:
            asubmit(int(first), int(count), int(callers))
        case ["submit_threads", first, count, callers]:
            submit_threads(int(first), int(count), int(callers))
        case ["submit_many", first, count, workers]:
            submit_many(int(first), int(count), int(workers))
        case ["few", campaign_id, count]:
            few(int(campaign_id), int(count))
        case ["campaigns", many, each]:
            campaigns(int(many), int(each))
        case ["ring", campaign_id]:
            Doorbell(Settings.from_environment().require_redis_url()).ring(Channel("default", int(campaign_id)))
        case ["trickle", first, count, pause]:
            trickle(int(first), int(count), float(pause))
        case _:
            sys.exit(__doc__)
