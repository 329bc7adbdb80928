"""A child process never outlives its owner, and ends as its owner says."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dispatcher.embedded.child import Child, Command, StackError
from tests.support.waiting import wait_until

SLEEPER = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("I am deaf", flush=True)
time.sleep(600)
"""
STUBBORN = (sys.executable, "-S", "-c", DEAF)
PARENT_OF_A_SLEEPER = (
    sys.executable,
    "-S",
    "-c",
    "import os, time; print(os.fork(), flush=True); time.sleep(600)",
)
OWNER = """
import sys, time
from pathlib import Path
from dispatcher.embedded.child import Child, Command
child = Child(Command(argv=(sys.executable, "-S", "-c", "import time; time.sleep(600)"), log_path=Path(sys.argv[1])))
print(child.pid, flush=True)
time.sleep(600)
"""


def started(tmp_path: Path, argv: tuple[str, ...] = SLEEPER, grace_seconds: float = 10.0) -> Child:
    return Child(Command(argv=argv, log_path=tmp_path / "child.log", grace_seconds=grace_seconds))


def guard_of(child: Child) -> psutil.Process:
    return psutil.Process(child.pid).parent()


def test_a_child_is_gone_after_its_owner_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path / "child.log"], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        child = psutil.Process(int(owner.stdout.readline()))
        assert child.is_running()

        owner.kill()

    wait_until(lambda: not psutil.pid_exists(child.pid), describe="the child of a killed owner to be gone")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux sees to it")
def test_a_child_is_gone_after_its_guard_was_killed(tmp_path: Path) -> None:
    child = started(tmp_path)

    guard_of(child).kill()

    wait_until(lambda: not psutil.pid_exists(child.pid), describe="the child of a killed guard to be gone")
    assert not child.running
    child.close()


def test_the_exit_code_is_the_childs_own(tmp_path: Path) -> None:
    with started(tmp_path, (sys.executable, "-S", "-c", "raise SystemExit(3)")) as child:
        assert child.wait(60) == 3


def test_a_killed_child_reports_the_signal(tmp_path: Path) -> None:
    with started(tmp_path) as child:
        child.send(signal.SIGKILL)

        assert child.wait(60) == -signal.SIGKILL


def test_a_child_that_is_deaf_to_its_stop_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    child = started(tmp_path, STUBBORN, grace_seconds=0.2)
    wait_until(lambda: "I am deaf" in child.log_tail())

    assert child.stop() == -signal.SIGKILL


def test_killing_a_child_kills_its_children_too(tmp_path: Path) -> None:
    child = started(tmp_path, PARENT_OF_A_SLEEPER)
    grandchild = wait_until(lambda: [int(line) for line in child.log_tail().splitlines()[1:] if line.isdigit()])[0]

    child.kill()

    wait_until(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == "zombie")


def test_a_frozen_child_is_alive_and_thaws(tmp_path: Path) -> None:
    with started(tmp_path) as child:
        child.send(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        assert child.running

        child.send(signal.SIGCONT)

        wait_until(lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)


def test_a_program_that_does_not_exist_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="No such file or directory: /nowhere/redis-server"):
        started(tmp_path, ("/nowhere/redis-server",))


def test_a_ctrl_c_in_the_terminal_is_for_the_owner_alone(tmp_path: Path) -> None:
    with started(tmp_path) as child:
        assert os.getsid(child.pid) != os.getsid(0)
        assert os.getsid(guard_of(child).pid) != os.getsid(0)
