"""Sending answers: regular ones through aiohttp, wire faults directly on the transport."""

import asyncio
import socket
import struct
from http import HTTPStatus

from aiohttp import web

from dispatcher.sandbox.answer import SandboxAnswer
from dispatcher.sandbox.fault import FaultName, Rule

_GARBAGE = b"\x16\x03\x01 220 smtp.example.com ESMTP ready\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds
_CHUNK_BYTES = 64 * 1024


async def deliver(request: web.BaseRequest, answer: SandboxAnswer, rule: Rule | None) -> web.StreamResponse:
    """A client that goes away cancels this, whatever it is waiting for."""
    if rule is None:
        return whole(answer)
    match rule.fault:
        case FaultName.HANG:
            await asyncio.sleep(rule.seconds_or(3600.0))
            return _hung_up(request)
        case FaultName.RESET:
            return _reset(request)
        case FaultName.CLOSE:
            return _hung_up(request)
        case FaultName.GARBAGE:
            return _hung_up(request, _GARBAGE)
        case FaultName.CUT_BODY:
            return _hung_up(request, _head(answer) + answer.body[: len(answer.body) // 2])
        case FaultName.SLOW_HEADERS:
            return await _dripped(request, b"", _head(answer) + answer.body, rule.interval_seconds)
        case FaultName.SLOW_BODY:
            return await _dripped(request, _head(answer), answer.body, rule.interval_seconds)
        case FaultName.HUGE_BODY:
            return await _padded(request, answer, rule.size_bytes)
        case FaultName.DELAY:
            await asyncio.sleep(rule.seconds_or(5.0))
            return whole(answer)
        case _:  # the others live in the answer itself
            return whole(answer)


def whole(answer: SandboxAnswer) -> web.Response:
    """Send one regular response with its length and keep the connection."""
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers or None)
    # set by hand: aiohttp's own parameter would add a charset that Laravel does not send
    response.headers.setdefault("Content-Type", answer.content_type)
    return response


def _head(answer: SandboxAnswer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _hung_up(request: web.BaseRequest, last_words: bytes = b"") -> web.Response:
    """Return a response for aiohttp, which requires one and drops it, because the transport is closed."""
    if request.transport is not None:
        if last_words:
            request.transport.write(last_words)
        request.transport.close()
    return web.Response()


def _reset(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        request.transport.abort()
    return web.Response()


async def _dripped(request: web.BaseRequest, first: bytes, slowly: bytes, interval_seconds: float) -> web.Response:
    if request.transport is not None:
        request.transport.write(first)
    for byte in slowly:
        if request.transport is None or request.transport.is_closing():
            break
        request.transport.write(bytes((byte,)))
        await asyncio.sleep(interval_seconds)
    return _hung_up(request)


async def _padded(request: web.BaseRequest, answer: SandboxAnswer, size_bytes: int) -> web.StreamResponse:
    """JSON may end in any number of spaces, so the answer stays valid."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers or None)
    response.content_type = answer.content_type
    padding = max(0, size_bytes - len(answer.body))
    response.content_length = len(answer.body) + padding
    await response.prepare(request)
    await response.write(answer.body)
    while padding:
        chunk = min(padding, _CHUNK_BYTES)
        await response.write(b" " * chunk)
        padding -= chunk
    await response.write_eof()
    return response
