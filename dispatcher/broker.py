"""Redis as the dispatcher uses it: a client whose every wait is bounded.

Redis is a convenience here (design section 1), so a Redis that is away must cost little time and never an exception
that nobody expects: short timeouts, no retries, and the caller decides.
"""

from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_SECONDS: Final = 0.5
"""For connecting and for each answer. A healthy Redis answers in well under a millisecond."""


def connect(redis_url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> redis.Redis:
    """A client that opens its first connection with its first command. Thread-safe and fork-safe."""
    return redis.Redis.from_url(
        redis_url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )
