"""Middleware for every request: known hosts, a limit of body size, security headers, and no stack traces."""

import secrets
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.config.urls import is_loopback
from dispatcher.errors import NotConfigured
from dispatcher.logs import events
from dispatcher.logs.redaction import where_raised
from dispatcher.web.server import Certificate


@dataclass(frozen=True, slots=True)
class ConsoleOrigin:
    """`origins` as browsers send them; `hosts` are their `Host` headers; `secure` means TLS on every address."""

    origins: frozenset[str]
    hosts: frozenset[str]
    secure: bool
    public: str
    """The origin to print."""


def reached_at(
    host: str, port: int, *, public: str | None = None, certificate: Certificate | None = None, users: bool
) -> ConsoleOrigin:
    """Return the origin. Raises `NotConfigured` for a setup without authentication, or with cookies in plain text."""
    scheme = "https" if certificate is not None else "http"
    if not is_loopback(host) and not users:
        raise NotConfigured(
            f"The console does not listen on {host} without a login: set DISPATCHER_CONSOLE_USERS or "
            "DISPATCHER_CONSOLE_USERS_FILE (`dispatcher console --hash NAME:ROLE` writes a line), or use 127.0.0.1."
        )
    if public is None and not is_loopback(host):
        raise NotConfigured(
            f"Listening on {host} the console has to know its own name: set DISPATCHER_CONSOLE_ORIGIN to where "
            "browsers reach it, e.g. https://leads.example.com."
        )
    if public is None:
        names = ["127.0.0.1", "localhost", "[::1]"]
        shown = f"[{host}]" if ":" in host else host
        origins = [f"{scheme}://{name}:{port}" for name in dict.fromkeys([shown, *names])]
        return ConsoleOrigin(frozenset(origins), frozenset(map(_host, origins)), scheme == "https", origins[0])
    origin = _normal(public)
    if not origin.startswith("https://") and not is_loopback(urlsplit(origin).hostname or ""):
        raise NotConfigured(
            "DISPATCHER_CONSOLE_ORIGIN must be https, or http on this machine: "
            "passwords and numbers would travel readable."
        )
    if not users and not is_loopback(urlsplit(origin).hostname or ""):
        raise NotConfigured("A console that others reach needs users: set DISPATCHER_CONSOLE_USERS.")
    return ConsoleOrigin(frozenset({origin}), frozenset({_host(origin)}), origin.startswith("https://"), origin)


def _normal(origin: str) -> str:
    parts = urlsplit(origin)
    standard = {"https": 443, "http": 80}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, standard) else f":{parts.port}")


def _host(origin: str) -> str:
    return origin.split("://", 1)[1]


BODY_MOST: Final = 1024 * 1024
"""The largest body in bytes, but for that of an upload.

A form with 1 000 selected leads has 40 KiB; the largest variables 16 KiB.
"""

UPLOAD_PATH: Final = "/imports/upload"
"""Where a form may bring a file."""

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


class Guard:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, origin: ConsoleOrigin, *, upload_most: int = BODY_MOST) -> None:
        self._app = app
        self._origin = origin
        self._upload_most = upload_most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or pass it on, and add the headers to every answer."""
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
            refusal = self._refusal(Headers(scope=scope), scope["path"])
            await (refusal or self._app)(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - the error goes to the log, never to the page
            sentence = report(error)
            if not begun:
                await PlainTextResponse(f"{sentence}\n", status_code=500)(scope, receive, sending)

    def _refusal(self, headers: Headers, path: str) -> PlainTextResponse | None:
        most = self._upload_most if path == UPLOAD_PATH else BODY_MOST
        if (
            headers.getlist("host") != [headers.get("host")]
            or headers.get("host", "").lower() not in self._origin.hosts
        ):
            return PlainTextResponse(
                "This console does not answer to that name; DISPATCHER_CONSOLE_ORIGIN says which.\n", status_code=400
            )
        length = headers.get("content-length", "0")
        # Checked for its length first: Python refuses to read very long numbers.
        if not length.isdecimal() or len(length) > 20 or int(length) > most:
            return PlainTextResponse("That is too much at once.\n", status_code=413)
        return None

    def _add_headers(self, message: MutableMapping[str, Any]) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if self._origin.secure:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def report(error: Exception) -> str:
    """Write an error to the log, and return the sentence that tells the user under which number it is there."""
    number = secrets.token_hex(4)
    events.error("console.error", report=number, error=where_raised(error))
    return f"Something went wrong here; the console's log has more under {number}."
