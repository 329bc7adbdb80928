"""Processes that validate do not outlive who started them, however it ends."""

import os
import signal
import subprocess
import sys

import psutil

PARENT = """
import os, time
from dispatcher.intake.validators import Validators

if __name__ == "__main__":
    validators = Validators(1)
    print(validators.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_they_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        child.wait(10)
