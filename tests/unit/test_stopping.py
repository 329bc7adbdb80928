"""The wish to stop, and what signals do to a child while it works."""

import os
import signal

import pytest

from dispatcher.worker.stopping import Stopping, finishing_gently


class Ended(BaseException):
    pass


def end(*_: object) -> None:
    raise Ended


@pytest.fixture(autouse=True)
def like_a_pool_child(monkeypatch: pytest.MonkeyPatch) -> object:
    """SIGTERM ends the process by an exception, SIGINT is ignored; nobody leaves a test run."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)}
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr("dispatcher.worker.stopping._LEAVE_SECONDS", 3600.0)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_work_only_asks_however_often_it_comes(signum: signal.Signals) -> None:
    stopping, finished = Stopping(), False
    with finishing_gently(stopping):
        assert not stopping()
        os.kill(os.getpid(), signum)
        os.kill(os.getpid(), signum)
        finished = True
    assert finished
    assert stopping()


def test_a_cold_shutdown_still_ends_it_at_once() -> None:
    with pytest.raises(Ended), finishing_gently(Stopping()):
        os.kill(os.getpid(), signal.SIGQUIT)


def test_outside_of_work_signals_do_what_they_did() -> None:
    quit_before = signal.getsignal(signal.SIGQUIT)
    with finishing_gently(Stopping()):
        pass
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGQUIT) == quit_before
    with pytest.raises(Ended):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_child_that_was_asked_leaves_after_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = Stopping()
    with finishing_gently(stopping):
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr("dispatcher.worker.stopping._LEAVE_SECONDS", 0.1)
    with pytest.raises(Ended):
        signal.pause()
