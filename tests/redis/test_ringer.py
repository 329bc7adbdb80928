"""A producer's ring costs it nothing, is not forgotten, and does not cross a fork."""

import subprocess
import sys
import textwrap
import threading

import pytest

from dispatcher.broker.ringer import Ringer
from dispatcher.lead.options import Channel
from tests.support.doubles import Bell


class Held(Bell):
    """Holds each ring back until it may go on."""

    def __init__(self) -> None:
        super().__init__(on_ring=self._hold)
        self.began = threading.Event()
        self.go_on = threading.Event()

    def _hold(self, _: Channel) -> None:
        self.began.set()
        self.go_on.wait(60)


def test_a_ring_returns_while_the_bell_still_hangs() -> None:
    bell = Held()
    ringer = Ringer(bell)

    ringer.ring(Channel("default", 42))

    assert bell.began.wait(60)
    assert bell.rung == []
    assert not ringer.flush(timeout_seconds=0.0), "it is not rung yet"
    bell.go_on.set()
    assert ringer.flush(timeout_seconds=60)
    assert bell.rung == [("default", 42)]


def test_rings_of_one_channel_that_wait_are_one_and_none_is_forgotten() -> None:
    bell = Held()
    ringer = Ringer(bell)
    ringer.ring(Channel("default", 1))
    assert bell.began.wait(60)

    for _ in range(100):
        ringer.ring(Channel("default", 1))
        ringer.ring(Channel("default", 2))
    bell.go_on.set()

    assert ringer.flush(timeout_seconds=60)
    # The first was on its way: a lead stored after it may not be seen by the run that it wakes.
    assert bell.rung == [("default", 1), ("default", 1), ("default", 2)]


def test_a_process_that_ends_at_once_has_rung() -> None:
    code = """
        import time
        from dispatcher.broker.ringer import Ringer
        from dispatcher.lead.options import Channel

        class Bell:
            def ring(self, channel):
                time.sleep(0.2)
                print("rung", *channel, flush=True)
                return True

        ringer = Ringer(Bell())
        ringer.ring(Channel("default", 42))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "rung default 42\n"


def test_a_forked_child_rings_for_itself_and_not_for_its_parent() -> None:
    code = """
        import os, threading
        from dispatcher.broker.ringer import Ringer
        from dispatcher.lead.options import Channel

        parent_may_ring = threading.Event()

        class Bell:
            def ring(self, channel):
                if os.getpid() == parent:
                    parent_may_ring.wait(60)
                os.write(1, f"{'parent' if os.getpid() == parent else 'child'} {channel.campaign_id}\\n".encode())
                return True

        parent = os.getpid()
        ringer = Ringer(Bell())
        ringer.ring(Channel("default", 1))
        child = os.fork()
        if child == 0:
            ringer.ring(Channel("default", 2))
            os._exit(0 if ringer.flush(10) else 1)
        status = os.waitpid(child, 0)[1]
        parent_may_ring.set()
        raise SystemExit(status)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "child 2\nparent 1\n"), done.stderr


def test_where_no_thread_can_be_started_the_ring_is_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit of processes, or Python 3.12 and later while a process ends: `RuntimeError` at the start."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bell = Bell()
    ringer = Ringer(bell)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        ringer.ring(Channel("default", 42))
        ringer.ring(Channel("default", 43))

    assert bell.rung == [("default", 42), ("default", 43)]
    ringer.ring(Channel("default", 44))
    assert ringer.flush(timeout_seconds=60)
    assert bell.rung[2:] == [("default", 44)], "a thread rings as soon as one can be started"
