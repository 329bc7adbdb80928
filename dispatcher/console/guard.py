"""What holds for every request, whatever answers it: known hosts, small bodies, strict headers, no stack traces."""

import logging
import secrets
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.console.origin import Origin

BODY_MOST: Final = 1024 * 1024
"""A form with 1 000 selected leads has 40 KiB; the largest variables 16 KiB."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'"
)

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

_log = logging.getLogger(__name__)


class Guard:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, origin: Origin) -> None:
        self._app = app
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on; add the headers to whatever is answered."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._add_headers(message)
            await send(message)

        try:
            refusal = self._refusal(Headers(scope=scope))
            await (refusal or self._app)(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - what went wrong is for the log, never for the page
            number = secrets.token_hex(4)
            _log.error("console.error %s %s", number, _where(error))
            if not begun:
                await PlainTextResponse(
                    f"Something went wrong here; the console's log has more under {number}.\n", status_code=500
                )(scope, receive, sending)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        if (
            headers.getlist("host") != [headers.get("host")]
            or headers.get("host", "").lower() not in self._origin.hosts
        ):
            return PlainTextResponse(
                "This console does not answer to that name; DISPATCHER_CONSOLE_ORIGIN says which.\n", status_code=400
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_MOST:
            return PlainTextResponse("That is too much at once.\n", status_code=413)
        return None

    def _add_headers(self, message: MutableMapping[str, Any]) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if self._origin.secure:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def _where(error: BaseException) -> str:
    """The kind of error and our innermost line: its text may carry somebody's data."""
    place, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("dispatcher"):
            place = f" in {module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return type(error).__name__ + place
