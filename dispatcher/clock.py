"""The clock that leases are measured on, in seconds from an arbitrary start."""

import time
from typing import Final

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_clock() -> float:
    """Seconds on a clock that goes on while the machine is suspended, and that nobody sets."""
    return time.clock_gettime(_STEADY)
