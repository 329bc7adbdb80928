"""`python -m tests.hosts.worker …`: `celery …` with a clock that is wrong by FAKE_CLOCK_SECONDS.

What asks Python for the time is told wrong. The kernel has one such clock for all hosts, and libfaketime makes
`time.sleep` of Python 3.11 fail.
"""

import os
import sys

from celery.__main__ import main

from tests.faults.engine import shift_clock

if __name__ == "__main__":
    shift_clock(float(os.environ["FAKE_CLOCK_SECONDS"]))
    sys.exit(main())
