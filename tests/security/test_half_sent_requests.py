"""Requests that are never finished, and answers that are never taken, keep nobody else out of the console."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from dispatcher.config.urls import networks
from dispatcher.console.guard import reached_at
from dispatcher.metrics.exporter import MetricsServer, Pages
from dispatcher.operator.health import Health
from dispatcher.web.connections import Limits, bounded
from dispatcher.web.server import Server
from tests.console.conftest import Seat
from tests.security.test_small_doors import certificate
from tests.support.waiting import wait_until

SHORT = Limits(head_seconds=0.3, body_seconds=0.3, answer_seconds=0.3, per_source=5)
LONG = Limits(head_seconds=600, body_seconds=600, answer_seconds=600, per_source=5)


@pytest.fixture
def serve(closed_seat: Seat) -> Iterator[Callable[..., int]]:
    with ExitStack() as stack:

        def start(limits: Limits, app: Any = None) -> int:
            listening = stack.enter_context(socket.create_server(("0.0.0.0", 0)))  # noqa: S104 - for 127.0.0.2 as well
            port = int(listening.getsockname()[1])
            closed_seat.app._origin = reached_at("127.0.0.1", port, users=True)
            config = uvicorn.Config(
                app or closed_seat.app, log_level="critical", lifespan="off", http=bounded(limits), ws="none",
                timeout_graceful_shutdown=1,
            )  # fmt: skip
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
            thread.start()
            wait_until(lambda: server.started, 20, "the console to listen")

            def stop() -> None:
                server.should_exit = True
                thread.join(60)

            stack.callback(stop)
            return port

        yield start


@contextmanager
def connected(port: int, source: str = "127.0.0.1", sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0)) as sock:
        sock.sendall(sent)
        yield sock


def is_closed(sock: socket.socket) -> bool:
    """Wait until the server closes; what it sends before is read."""
    try:
        while sock.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def head(port: int, *more: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET /login HTTP/1.1\r\nHost: 127.0.0.1:{port}", *more)).encode()


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "], ids=["nothing", "byte", "header"])
def test_a_head_that_does_not_come_ends_the_connection(serve: Callable[..., int], sent: bytes) -> None:
    with connected(serve(SHORT), sent=sent) as sock:
        assert is_closed(sock)


def test_a_head_that_drips_ends_the_connection(serve: Callable[..., int]) -> None:
    with connected(serve(SHORT), sent=b"GET / HTTP/1.1\r\nX-A: ") as sock:
        sock.settimeout(0.05)
        wait_until(lambda: _reset(sock, b"a"), 20, "the server to give up")


def test_a_body_that_does_not_come_ends_the_connection_and_is_no_error(
    serve: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    port = serve(SHORT)
    request = (
        f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nname="
    )
    with connected(port, sent=request.encode()) as sock:
        assert is_closed(sock)
    assert "console.error" not in caplog.text


def test_a_second_head_on_a_kept_connection_has_its_deadline_too(serve: Callable[..., int]) -> None:
    port = serve(SHORT)
    with connected(port, sent=head(port) + b"\r\n") as sock:
        assert b"200" in sock.recv(65_536)
        sock.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        assert is_closed(sock)


def test_an_answer_that_is_not_taken_ends_the_connection(serve: Callable[..., int]) -> None:
    async def long(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10_000):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})

    port = serve(SHORT, long)
    with connected(port, sent=head(port) + b"\r\n") as sock:
        sock.settimeout(20)
        wait_until(lambda: _reset(sock), 20, "the server to give up")


def _reset(sock: socket.socket, sent: bytes = b"\r\n") -> bool:
    try:
        sock.sendall(sent)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_one_source_takes_its_share_and_no_more(serve: Callable[..., int]) -> None:
    port = serve(LONG)
    with ExitStack() as stack:
        half = [stack.enter_context(connected(port, "127.0.0.2", b"GET / HTTP/1.1\r\nX-A: ")) for _ in range(5)]
        for _ in range(3):
            assert is_closed(stack.enter_context(connected(port, "127.0.0.2")))
        with connected(port, sent=head(port) + b"\r\n") as honest:
            assert b"200" in honest.recv(65_536)
        half[0].close()
        wait_until(lambda: _answers(port, "127.0.0.2"), 20, "the place of a closed connection")


def _answers(port: int, source: str) -> bool:
    with connected(port, source) as sock:
        try:
            sock.sendall(head(port) + b"\r\n")
            return b"200" in sock.recv(65_536)
        except ConnectionResetError:
            return False


def test_a_trusted_proxy_speaks_for_many(serve: Callable[..., int]) -> None:
    port = serve(Limits(per_source=2, proxies=networks("127.0.0.2")))
    with ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(connected(port, "127.0.0.2", head(port) + b"\r\n"))
            assert b"200" in sock.recv(65_536)


def test_half_sent_requests_stop_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.metrics.exporter.CONNECTION_SECONDS", 0.3)
    monkeypatch.setattr("dispatcher.metrics.exporter.CONNECTIONS", 4)
    with MetricsServer("127.0.0.1", 0, Pages(lambda: b"figures 1\n", lambda: Health(None))) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        port = server.server_port
        with ExitStack() as stack:
            half = [stack.enter_context(connected(port, sent=b"GET /metrics HTTP/1.1\r\nX: ")) for _ in range(4)]
            assert is_closed(stack.enter_context(connected(port)))
            for sock in half:
                assert is_closed(sock)
            wait_until(lambda: _scraped(port), 20, "a scrape")
        server.shutdown()


def _scraped(port: int) -> bool:
    with connected(port, sent=b"GET /metrics HTTP/1.0\r\n\r\n") as sock:
        try:
            return b"200" in sock.recv(65_536)
        except ConnectionResetError:
            return False


def test_a_handshake_that_is_never_finished_is_ended(closed_seat: Seat, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, named=True)
    listening = socket.create_server(("127.0.0.1", 0))
    port = int(listening.getsockname()[1])
    config = uvicorn.Config(
        closed_seat.app, log_level="critical", lifespan="off", loop="asyncio", ws="none", http=bounded(LONG),
        ssl_certfile=str(chain), ssl_keyfile=str(key), timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = Server(config, 0.3)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, 20, "the console to listen")
        for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):  # nothing, and the begin of a ClientHello
            with connected(port, sent=begun) as sock:
                assert is_closed(sock)
    finally:
        server.should_exit = True
        thread.join(60)
