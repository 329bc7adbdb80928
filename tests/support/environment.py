"""What a process of a test may inherit."""

import os
from collections.abc import Iterator
from typing import Final


def clean_environment() -> dict[str, str]:
    """The environment without anything that the dispatcher or Celery reads."""
    ours = ("DISPATCHER_", "VOICERY_", "DATABASE_URL", "REDIS_URL", "CELERY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


QUICK: Final = {
    "DISPATCHER_RATE_LIMIT": "off",
    "DISPATCHER_LEASE": "4",
    "DISPATCHER_CONNECT_TIMEOUT": "0.5",
    "DISPATCHER_READ_TIMEOUT": "1.5",
    "DISPATCHER_DEADLINE": "2",
    "DISPATCHER_SETTLE": "1",
    "DISPATCHER_UNKNOWN_FOR": "8",
    "DISPATCHER_GATE_WAIT": "0.2",
    "DISPATCHER_GATE_WAIT_MAX": "1",
    "DISPATCHER_BACKOFF_BASE": "0.2",
    "DISPATCHER_BACKOFF_MAX": "1",
    "DISPATCHER_SWEEP_INTERVAL": "0.2",
    "DISPATCHER_REFERENCE_VARIABLE": "lead_id",
}
"""Settings with which a lead goes through everything within seconds."""

AREAS: Final = (202, 206, 212, 214, 303, 305, 312, 404, 415, 503, 512, 602, 617, 702, 713, 858, 201, 203, 205, 207)


def numbers() -> Iterator[str]:
    """Yield the phone numbers that are reserved for fiction in these areas, each once: 2000."""
    return (f"+1{area}555{line:04d}" for area in AREAS for line in range(100, 200))
