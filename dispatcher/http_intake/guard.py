"""The outermost part of the intake: how many requests at once, what every answer carries, no traces, and counters."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.errors import DispatcherError
from dispatcher.http_intake.document import STYLE_HASH
from dispatcher.http_intake.problems import BUG, BUSY, Problem, wait
from dispatcher.logs import events
from dispatcher.logs.redaction import where_raised
from dispatcher.store import counters
from dispatcher.store.counters import NO_ACCOUNT, Tally
from dispatcher.store.trouble import StatementRefused
from dispatcher.wiring import Services

REQUESTS: Final = 200
"""Requests that are answered at once; above it they get 503 with `Retry-After`."""

FLUSH_SECONDS: Final = 5.0

HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src '{STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """The application. `secure`: clients reach it by https; `close` is awaited when the server stops."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        secure: bool,
        services: Services,
        close: Callable[[], Awaitable[None]],
        most: int = REQUESTS,
    ) -> None:
        self._app = app
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if secure else {})
        self._services = services
        self._close = close
        self._most = most
        self._open = 0
        self._tally = Tally()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or say that there are too many."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        began, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        self._open += 1
        try:
            if self._open > self._most:
                await wait(BUSY, 1, BUSY.remedy).response()(scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - the error goes to the log, never to the client
            number = secrets.token_hex(4)
            events.error("intake.error", report=number, error=where_raised(error))
            if not status:
                problem = Problem(BUG, f"The operator's log has more under {number}.", {"report": number})
                await problem.response()(scope, receive, sending)
        finally:
            self._open -= 1
            self._tally.request(str(scope.get("route_name", "none")), status, time.monotonic() - began)

    async def flush(self) -> None:
        """Add what was counted to Postgres. Where that cannot be done, for whatever reason, it is counted on."""
        tally, self._tally = self._tally, Tally()
        if not tally:
            return
        try:
            await asyncio.to_thread(self._services.database.again, counters.add, NO_ACCOUNT, tally)
        except Exception as error:  # noqa: BLE001 - the task that adds counters, and the shutdown, go on
            if not isinstance(error, DispatcherError | StatementRefused):
                events.error("intake.counters_not_added", error=where_raised(error))
            for name, label, value in tally:
                self._tally.add(name, label, value)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Add counters now and then, from when the server starts until it stops (ASGI's lifespan)."""
        await receive()
        flushing = asyncio.create_task(self._flush_for_ever())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        flushing.cancel()
        with suppress(asyncio.CancelledError):
            await flushing
        await self.flush()
        await self._close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _flush_for_ever(self) -> Any:  # noqa: ANN401 - never returns
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
