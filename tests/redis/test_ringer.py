"""A producer's ring costs it nothing, is not forgotten, and does not cross a fork."""

import subprocess
import sys
import textwrap
import threading

from dispatcher.broker.doorbell import Ringer


class Bell:
    """Notes its rings; holds each back until it may go on."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.began = threading.Event()
        self.go_on = threading.Event()

    def ring(self, account: str, campaign_id: int) -> bool:
        self.began.set()
        self.go_on.wait(10)
        self.heard.append((account, campaign_id))
        return True


def test_a_ring_returns_while_the_bell_still_hangs() -> None:
    bell = Bell()
    ringer = Ringer(bell)

    ringer.ring("default", 42)

    assert bell.began.wait(10)
    assert bell.heard == []
    assert not ringer.flush(timeout_seconds=0.0), "it is not rung yet"
    bell.go_on.set()
    assert ringer.flush(timeout_seconds=10)
    assert bell.heard == [("default", 42)]


def test_rings_of_one_channel_that_wait_are_one_and_none_is_forgotten() -> None:
    bell = Bell()
    ringer = Ringer(bell)
    ringer.ring("default", 1)
    assert bell.began.wait(10)

    for _ in range(100):
        ringer.ring("default", 1)
        ringer.ring("default", 2)
    bell.go_on.set()

    assert ringer.flush(timeout_seconds=10)
    # The first was on its way: a lead stored after it may not be seen by the run that it wakes.
    assert bell.heard == [("default", 1), ("default", 1), ("default", 2)]


def test_a_process_that_ends_at_once_has_rung() -> None:
    code = """
        import time
        from dispatcher.broker.doorbell import Ringer

        class Bell:
            def ring(self, account, campaign_id):
                time.sleep(0.2)
                print("rung", account, campaign_id, flush=True)
                return True

        ringer = Ringer(Bell())
        ringer.ring("default", 42)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "rung default 42\n"


def test_a_forked_child_rings_for_itself_and_not_for_its_parent() -> None:
    code = """
        import os, threading
        from dispatcher.broker.doorbell import Ringer

        parent_may_ring = threading.Event()

        class Bell:
            def ring(self, account, campaign_id):
                if os.getpid() == parent:
                    parent_may_ring.wait(10)
                os.write(1, f"{'parent' if os.getpid() == parent else 'child'} {campaign_id}\\n".encode())
                return True

        parent = os.getpid()
        ringer = Ringer(Bell())
        ringer.ring("default", 1)
        child = os.fork()
        if child == 0:
            ringer.ring("default", 2)
            os._exit(0 if ringer.flush(10) else 1)
        status = os.waitpid(child, 0)[1]
        parent_may_ring.set()
        raise SystemExit(status)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "child 2\nparent 1\n"), done.stderr
