"""Processes that validate do not outlive who started them, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

PARENT = """
import time
from dispatcher.intake.validators import Validators

def none(items, first_index):
    return [], []

if __name__ == "__main__":
    validators = Validators(1, none)
    while not validators.ready:
        time.sleep(0.01)
    print("up", flush=True)
    time.sleep(60)
"""


def test_they_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        children = psutil.Process(parent.pid).children()
        assert any("spawn_main" in " ".join(child.cmdline()) for child in children)
        os.kill(parent.pid, signal.SIGKILL)
        assert psutil.wait_procs(children, timeout=60)[1] == []
