"""Running the sandbox: in a thread for tests, blocking for the command line."""

import asyncio
import contextlib
import signal
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from dispatcher.errors import CannotListen
from dispatcher.sandbox.book import StoredLead
from dispatcher.sandbox.handling import SandboxApp
from dispatcher.sandbox.log import Line, RequestLog, read_log
from dispatcher.sandbox.options import SandboxOptions
from dispatcher.sandbox.plan import FaultPlan

_BACKLOG = 1024
_START_SECONDS = 10.0


@asynccontextmanager
async def running(options: SandboxOptions, plan: FaultPlan, log_path: Path) -> AsyncIterator[tuple[SandboxApp, int]]:
    """The app and the port it listens on. `NotConfigured` if the port or the log is taken."""
    log = RequestLog(log_path)
    try:
        app = SandboxApp(options, log, read_log(log_path), plan)
        # Handlers are cancelled when their client leaves, so that a hang ends with the connection.
        server = web.Server(app.handle, handler_cancellation=True, access_log=None)
        listener = await _listen(options, server)
        try:
            yield app, listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            await app.aclose()
            await server.shutdown(timeout=0.1)
    finally:
        log.close()


async def _listen(options: SandboxOptions, server: web.Server) -> asyncio.Server:
    tls: ssl.SSLContext | None = None
    if options.certificate is not None and not options.tls_stall:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate, options.key)
    protocol: Callable[[], asyncio.BaseProtocol] = asyncio.Protocol if options.tls_stall else server
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(protocol, options.host, options.port, ssl=tls, backlog=_BACKLOG)
    except OSError as error:
        raise CannotListen("The sandbox", options.host, options.port, error) from error


def base_url(options: SandboxOptions, port: int) -> str:
    """The value for `VOICERY_BASE_URL`."""
    scheme = "https" if options.certificate is not None or options.tls_stall else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"{scheme}://{host}:{port}/api"


def serve(options: SandboxOptions, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called once, with the base URL, when requests are taken.

    Call it from the main thread. Without a log in `options` the requests are not kept.
    """

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with running(options, FaultPlan(options.faults), log_path) as (_, port):
            if on_ready is not None:
                on_ready(base_url(options, port))
            await stop.wait()

    if options.log_path is not None:
        log_path = options.log_path
        asyncio.run(main())
        return
    with tempfile.TemporaryDirectory(prefix="sandbox-") as scratch:
        log_path = Path(scratch) / "requests.jsonl"
        asyncio.run(main())


def _call_later(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(act)


class Sandbox:
    """The sandbox in a thread with an event loop of its own.

        with Sandbox(token="secret", faults=(Rule(fault=FaultName.HANG),)) as sandbox:
            post(sandbox.base_url + "/user/lead", ...)
            assert not ledger(sandbox.log).created_twice()

    Takes the fields of `SandboxOptions`. `log` and `leads` can still be read after the end.
    """

    def __init__(self, options: SandboxOptions | None = None, **fields: Any) -> None:  # noqa: ANN401 - `SandboxOptions` checks them
        self.options = replace(options, **fields) if options else SandboxOptions(**fields)
        self.faults = FaultPlan(self.options.faults)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._stop: Callable[[], None] = lambda: None
        self._app: SandboxApp | None = None
        self._last_log: list[Line] = []
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on, known once it has started."""
        return self._port

    @property
    def base_url(self) -> str:
        """The value for `VOICERY_BASE_URL`."""
        return base_url(self.options, self._port)

    @property
    def origin(self) -> str:
        """Scheme, host and port: where the control endpoint lives."""
        return self.base_url.removesuffix("/api")

    @property
    def log(self) -> list[Line]:
        """Every request so far, oldest first."""
        return read_log(self.log_path) if self._thread is not None else self._last_log

    @property
    def leads(self) -> list[StoredLead]:
        """Every lead it holds, oldest first."""
        return [] if self._app is None else self._app.book.all()

    def set_status(self, lead_id: int, status: str) -> None:
        """Give a lead another status, as calling it would: `completed` for one."""
        assert self._app is not None, "the sandbox has not started"  # noqa: S101 - a fault of the caller's
        self._app.book.set_status(lead_id, status)

    def calm(self) -> None:
        """Stop all faults from the next request on, to test recovery."""
        self.faults.clear()
        if self._app is not None:
            self._app.calm()

    def __enter__(self) -> Self:
        self._ready.clear()
        self._failure = None
        if self.options.log_path is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="sandbox-")
            self.log_path = Path(self._scratch.name) / "requests.jsonl"
        else:
            self.log_path = self.options.log_path
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="sandbox", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise TimeoutError(f"The sandbox did not start within {_START_SECONDS:g} seconds.")
        if self._failure is not None:
            self.__exit__(None, None, None)
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        if self._thread is not None:
            self._thread.join(_START_SECONDS)
        self._last_log = read_log(self.log_path)
        self._thread = None
        if self._scratch is not None:
            self._scratch.cleanup()

    async def _main(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = lambda: _call_later(loop, stop.set)
        try:
            async with running(self.options, self.faults, self.log_path) as (
                self._app,
                self._port,
            ):
                self._ready.set()
                await stop.wait()
        except Exception as failure:  # noqa: BLE001 - carried to the thread that started this one, and raised there
            self._failure = failure
        finally:
            self._ready.set()
