"""After an exchange was given up, nothing of its request arrives any more: the server never has it whole."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dispatcher.decisions.reply import WireFault
from tests.support.waiting import wait_until
from tests.voicery.conftest import Authority, MakeClient
from tests.voicery.peer import BOUND_SECONDS, Call, Peer

BETWEEN = b"x" * 150_000  # more than the server's window, less than the client's kernel takes at once
HUGE = b"x" * 30_000_000  # more than both


class SlowReader:
    """A server whose kernel takes a few kilobytes, and which reads only when it is `woken`, and then everything."""

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.ended = threading.Event()
        self.received = bytearray()

    def script(self, call: Call) -> None:
        self.woken.wait(BOUND_SECONDS)
        try:
            while piece := call.sock.recv(65536):
                self.received += piece
        except OSError:
            pass
        finally:
            self.ended.set()

    def whole(self, body: bytes) -> bool:
        """Whether the whole request came, now that everything was read that ever comes."""
        self.woken.set()
        assert self.ended.wait(BOUND_SECONDS)
        return self.received.endswith(b"\r\n\r\n" + body)


@contextmanager
def small_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers made meanwhile have the smallest buffer for what they have not read yet."""
    create = socket.create_server

    def small(*arguments: object, **named: object) -> socket.socket:
        listener = create(*arguments, **named)  # type: ignore[arg-type]
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return listener

    with monkeypatch.context() as patch:
        patch.setattr(socket, "create_server", small)
        yield


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    ("body", "clocks", "fault", "written"),
    [
        (HUGE, {"read_timeout_seconds": 0.4}, WireFault.READ_TIMEOUT, False),
        (HUGE, {"deadline_seconds": 0.4}, WireFault.DEADLINE, False),
        (BETWEEN, {"read_timeout_seconds": 0.4}, WireFault.READ_TIMEOUT, True),
        (BETWEEN, {"deadline_seconds": 0.4}, WireFault.DEADLINE, True),
    ],
    ids=["silence in mid-write", "deadline in mid-write", "silence after it", "deadline after it"],
)
def test_what_was_given_up_never_arrives_whole(
    make_client: MakeClient,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tls: bool,
    body: bytes,
    clocks: dict[str, float],
    fault: WireFault,
    written: bool,
) -> None:
    reader = SlowReader()
    context = authority.issue("127.0.0.1") if tls else None
    with small_windows(monkeypatch), Peer(reader.script, tls=context) as peer:
        reply = make_client(peer.url, ca_bundle=str(authority.bundle), **clocks).create_lead(body)

        assert (reply.fault, reply.written) == (fault, written)
        assert not reader.whole(body)


def test_an_exchange_whose_deadline_passed_while_it_connected_writes_nothing(make_client: MakeClient) -> None:
    reader = SlowReader()
    reader.woken.set()

    def late() -> bool:
        time.sleep(0.3)  # frozen, after the lease was looked at
        return True

    with Peer(reader.script) as peer:
        reply = make_client(peer.url, deadline_seconds=0.2).create_lead(b"{}", before_write=late)
        assert (reply.fault, reply.written) == (WireFault.DEADLINE, False)
        assert reader.ended.wait(BOUND_SECONDS)

    assert reader.received == b""


DEADLINE_SECONDS = 1.5
POSTS = f"""
import sys
from dispatcher.voicery.client import VoiceryClient
clocks = {{"connect_timeout_seconds": 5.0, "read_timeout_seconds": 20.0, "deadline_seconds": {DEADLINE_SECONDS}}}
client = VoiceryClient(base_url=sys.argv[1], token=lambda: "t", **clocks)
reply = client.create_lead(b"x" * int(sys.argv[2]))
print(reply.fault, reply.written)
"""


@pytest.mark.parametrize("body", [BETWEEN, HUGE], ids=["after the last write", "in mid-write"])
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_is_frozen_or_killed_sends_nothing_later(
    monkeypatch: pytest.MonkeyPatch, body: bytes, how: signal.Signals
) -> None:
    """A worker that was frozen in mid-write sent the rest six seconds past its deadline."""
    reader = SlowReader()
    with (
        small_windows(monkeypatch),
        Peer(reader.script) as peer,
        subprocess.Popen(
            [sys.executable, "-c", POSTS, peer.url, str(len(body))], stdout=subprocess.PIPE, text=True
        ) as posting,
    ):
        try:
            wait_until(lambda: _stuck(peer.port), describe="the client to wait for the server's window")
            posting.send_signal(how)
            time.sleep(2 * DEADLINE_SECONDS)  # the kernel looks for its own time-out now and then only
            if how is signal.SIGSTOP:
                posting.send_signal(signal.SIGCONT)
                said, _ = posting.communicate(timeout=BOUND_SECONDS)
                assert said.split()[1] == str(body is BETWEEN)
            assert not reader.whole(body)
        finally:
            posting.kill()


def _stuck(port: int) -> bool:
    """Whether a connection to `port` has bytes in its sending queue (/proc/net/tcp, proc(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and int(row[4].partition(":")[0], 16) > 0 for row in rows)


def test_a_finished_exchange_ends_in_order(make_client: MakeClient) -> None:
    """A reset is for what was given up; a server that answered in full sees an ordinary end."""
    ends: list[bytes | str] = []
    seen = threading.Event()

    def script(call: Call) -> None:
        call.read_request()
        call.send(b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        try:
            ends.append(call.sock.recv(1))
        except OSError as error:
            ends.append(type(error).__name__)
        seen.set()

    with Peer(script) as peer:
        assert make_client(peer.url).create_lead(b"{}").status == 201
        assert seen.wait(BOUND_SECONDS)

    assert ends == [b""]
