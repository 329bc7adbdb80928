"""No queue, no database: processes (or threads) that POST from a list in memory, as fast as `requests` lets them.

`serve SHARE SHARES THREADS` waits for `load` to say go through Redis, and sends its share.
"""

import json
import os
import sys
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

import redis
import requests

from benchmarks.leads import lead
from benchmarks.stopwatch import leave

GO = "bare_loop_go"


def post_all(leads: "SimpleQueue[dict[str, Any]]") -> None:
    """Send until nothing is left."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = "Bearer benchmark"
        while True:
            try:
                one = leads.get_nowait()
            except Empty:
                return
            session.post(f"{os.environ['VOICERY_BASE_URL']}/user/lead", json=one, timeout=(5, 20)).raise_for_status()


def serve(share: int, shares: int, threads: int) -> None:
    """Wait for the word, send, wait again."""
    wire = redis.Redis.from_url(os.environ["REDIS_URL"])
    while True:
        _, word = wire.brpop(f"{GO}:{share}")
        first, count = json.loads(word)
        leads: SimpleQueue[dict[str, Any]] = SimpleQueue()
        for index in range(first + share, first + count, shares):
            leads.put(lead(index))
        together(threads, leads)


def together(threads: int, leads: "SimpleQueue[dict[str, Any]]") -> None:
    """`post_all` in so many threads; one thread is this one."""
    others: Sequence[threading.Thread] = [threading.Thread(target=post_all, args=(leads,)) for _ in range(threads - 1)]
    for other in others:
        other.start()
    post_all(leads)
    for other in others:
        other.join()


def load(first: int, count: int, shares: int) -> None:
    """Say go."""
    wire = redis.Redis.from_url(os.environ["REDIS_URL"])
    with wire.pipeline(transaction=True) as pipe:
        for share in range(shares):
            pipe.lpush(f"{GO}:{share}", json.dumps([first, count]))
        pipe.execute()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", share, shares, threads]:
            serve(int(share), int(shares), int(threads))
        case ["load", first, count]:
            load(int(first), int(count), 2)
            leave()
        case _:
            sys.exit(__doc__)
