"""How long a lead, or a gate, waits before the next try.

A lead (full jitter with a floor, so that a burst of failures spreads out and never comes back at once):

    delay(n) = uniform(base / 2, min(maximum, base * 2 ** (n - 1)))

With the defaults (base 2 s, maximum 900 s) the upper ends are 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900 … s and the
lower end is always 1 s. `docs/guarantees.md` states the same numbers; keep them in step.

A gate (no jitter: one waiter per gate, and an operator should be able to predict it):

    wait(n) = min(maximum, base * 2 ** (n - 1))

With the defaults (base 5 s, maximum 300 s): 5, 10, 20, 40, 80, 160, 300, 300 … s.
"""

from collections.abc import Callable
from typing import Final

Uniform = Callable[[float, float], float]
"""A source of chance: `uniform(low, high)` as `random.uniform`."""

_DOUBLINGS_MAX: Final = 64  # 2.0 ** 1024 overflows; 64 doublings of a millisecond outlive the sun


def delay_seconds(attempt: int, *, base_seconds: float, max_seconds: float, uniform: Uniform) -> float:
    """The wait after the `attempt`-th (1-based) counted attempt of a lead, in seconds."""
    high = wait_seconds(attempt, base_seconds=base_seconds, max_seconds=max_seconds)
    return uniform(min(base_seconds / 2, high), high)


def wait_seconds(failure: int, *, base_seconds: float, max_seconds: float) -> float:
    """The wait of a gate after its `failure`-th (1-based) closing without an acceptance between, in seconds."""
    if failure < 1:
        raise ValueError("attempts and failures are counted from 1")
    return min(max_seconds, base_seconds * 2.0 ** min(failure - 1, _DOUBLINGS_MAX))
