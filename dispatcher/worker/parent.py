"""A child that must not outlive its parent."""

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_CHECK_SECONDS: Final = 0.5
_GRACE_SECONDS: Final = 10.0


def die_with(parent_pid: int) -> None:
    """From now on this process gets SIGTERM when `parent_pid` is gone, and ends 10 s later at the latest.

    On Linux the kernel sends it; a thread checks as well, for other systems and for a parent that died before this.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    threading.Thread(target=_watch, args=(parent_pid,), name="parent-watch", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)
