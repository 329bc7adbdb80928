"""What a monitoring system asks, wired: Postgres and Redis as the settings name them."""

import redis

from dispatcher.broker.connection import PREFIX, QUEUE, connect
from dispatcher.config.settings import Settings
from dispatcher.monitoring.scrape import Scrape
from dispatcher.runtime import Dispatcher


def scrape(dispatcher: Dispatcher, settings: Settings) -> Scrape:
    """The figures of everything that these settings lead to."""
    return Scrape(dispatcher.database, rate_use=dispatcher.rate_use, doorbells=lambda: doorbells_waiting(settings))


def doorbells_waiting(settings: Settings) -> int | None:
    """How many messages wait for a worker; None if Redis cannot be asked."""
    if settings.redis_url is None:
        return None
    try:
        with connect(settings.redis_url.reveal()) as client:
            return int(client.llen(PREFIX + QUEUE))
    except redis.RedisError:
        return None
