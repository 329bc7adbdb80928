"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.02
Answer = TypeVar("Answer")


def wait_until(condition: Callable[[], Answer], timeout_seconds: float = 10.0, describe: object = None) -> Answer:
    """Ask again and again until the answer is truthy; return it.

    `describe` says what was waited for: a text, or a function that is called for the text at the end.
    """
    until = time.monotonic() + timeout_seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > until:
            described = describe() if callable(describe) else describe
            raise AssertionError(f"Waited {timeout_seconds} s in vain for: {described or condition}")
        time.sleep(POLL_SECONDS)
