"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60.0
"""The least that is waited for anything: what takes a moment takes many times that on a machine with other work."""
Answer = TypeVar("Answer")


def wait_until(
    condition: Callable[[], Answer], timeout_seconds: float = PATIENCE_SECONDS, describe: object = None
) -> Answer:
    """Ask again and again until the answer is truthy; return it. A `timeout_seconds` below `PATIENCE_SECONDS` is that.

    `describe` says what was waited for: a text, or a function that is called for the text at the end.
    """
    timeout_seconds = max(timeout_seconds, PATIENCE_SECONDS)
    until = time.monotonic() + timeout_seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > until:
            described = describe() if callable(describe) else describe
            raise AssertionError(f"Waited {timeout_seconds} s in vain for: {described or condition}")
        time.sleep(POLL_SECONDS)
