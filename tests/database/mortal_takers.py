"""Processes that take rows of the inbox, one after the other; what a row's variables ask for happens to its process.

`python -m tests.database.mortal_takers URL` prints how each process ended, until one has found nothing more to take.
"""

import os
import signal
import sys
import time
from typing import Any, Final

from dispatcher.intake import inbox_taking
from dispatcher.intake.inbox_taking import Taking
from dispatcher.store import inbox
from dispatcher.store.blocks import NO_KEY
from dispatcher.store.database import Database
from dispatcher.store.encryption import KeyRing
from tests.support.doubles import Bell

PATIENCE_SECONDS: Final = 2.0
_MOST_LIVES: Final = 20
_valid = inbox_taking._item


def _item(ring: KeyRing, row: inbox.Waiting) -> Any:
    """Validate a row, but for one that takes its process with it, as too little memory or a crash in C would."""
    if '"kill"' in row.lead:
        os.kill(os.getpid(), signal.SIGKILL)
    if '"hang"' in row.lead:
        time.sleep(3600)
    return _valid(ring, row)


def _live(url: str) -> None:
    inbox_taking._item = _item
    taking = Taking(Database(url), Bell(), lambda: NO_KEY, patience_seconds=PATIENCE_SECONDS)
    while taking.waits():
        taking.step()


if __name__ == "__main__":
    for _ in range(_MOST_LIVES):
        child = os.fork()
        if not child:
            _live(sys.argv[1])
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()
        if not status:
            break
