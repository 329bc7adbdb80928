"""One open connection: what was sent, whether it can be trusted for another request, and how old its silence is."""

import base64
import errno
import http.client
import queue
import select
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from dispatcher.decisions.reply import WireFault
from dispatcher.errors import NotConfigured
from dispatcher.failpoint import reach
from dispatcher.voicery.answer import Answer, OnClose, TooManyBytes, WireReader
from dispatcher.voicery.exchange import DeadlinePassed, Exchange, ExchangeFailed, receive_failure

_ABORT: Final = struct.pack("ii", 1, 0)
_FINISH: Final = struct.pack("ii", 0, 0)


class Connection:
    """A connected socket and its reading buffer. Used by one exchange at a time.

    The socket is set to close abortively (SO_LINGER 0) from the beginning: whenever it is given up, also by the death
    of the process, the kernel drops what it has not delivered yet instead of sending it later.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # from here on the exchange does the waiting
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._sock = sock
        self._reader = WireReader(sock)
        self._idle_since = time.monotonic()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLPRI)

    def exchange(self, exchange: Exchange, method: str, request: bytes, on_close: OnClose) -> Answer:
        """Write `request` and read the head of its answer. Raises `ExchangeFailed` if no status line arrives."""
        try:
            self._send(exchange, request)
            if method == "POST":
                reach("post.written")
        except (BrokenPipeError, ConnectionResetError) as error:
            # A server may answer and close before it has read everything (413, 401): what it said counts.
            # The connection is dead, so that `is_usable` refuses it later.
            try:
                return Answer(self._reader, exchange, on_close)
            except ExchangeFailed:
                raise receive_failure(error) from error
        except OSError as error:
            raise receive_failure(error) from error
        return Answer(self._reader, exchange, on_close)

    def _send(self, exchange: Exchange, request: bytes) -> None:
        rest = memoryview(request)
        while rest:
            rest = rest[exchange.send(self._sock, rest) :]

    def rest(self) -> None:
        """The answer was read to its end: the idle time starts."""
        self._idle_since = time.monotonic()

    def is_usable(self, idle_seconds: float) -> bool:
        """Whether another request may go out here: idle for less than `idle_seconds`, and the peer is silent.

        Anything readable on an idle connection is a close, or bytes that belong to no request of ours.
        """
        if time.monotonic() - self._idle_since > idle_seconds or self._poll.poll(0):
            return False
        return not (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending())

    def abort(self) -> None:
        """Close the socket with a reset: nothing that the kernel still holds is delivered."""
        self._sock.close()

    def close(self) -> None:
        """Close the socket of a finished exchange in order."""
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FINISH)
        self._sock.close()


_UNREACHABLE: Final = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that tunnels TLS by CONNECT (RFC 9110, 9.3.6). It sees the host's name and nothing else."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> "Proxy":
        """From `http://[user:password@]host:port`. Raises `NotConfigured`, without the URL: it may hold a password."""
        parts = urlsplit("")
        port = None
        with suppress(ValueError):
            parts = urlsplit(url)
            port = parts.port
        if port is None or parts.scheme != "http" or not parts.hostname or not (url.isascii() and url.isprintable()):
            raise NotConfigured(
                "The proxy is not usable; write it as http://host:port or http://user:password@host:port."
            )
        authorization = None
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
        return cls(parts.hostname, port, authorization)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of the base URL; `tls` is None for plain http, which the base URL's check confines."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    proxy: Proxy | None = None

    @classmethod
    def of(cls, url: str, *, proxy: str | None = None, ca_bundle: str | None = None) -> "Origin":
        """Return the origin of a checked URL. Raises `NotConfigured` for a proxy or CA bundle that cannot be used."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        if proxy is not None and not tls:
            raise NotConfigured("A proxy is used only for an https base URL; unset one of the two.")
        return cls(
            host=parts.hostname or "",
            port=parts.port or (443 if tls else 80),
            tls=tls_context(ca_bundle) if tls else None,
            proxy=Proxy.parse(proxy) if proxy is not None else None,
        )

    def connect(self, exchange: Exchange) -> socket.socket:
        """A socket that is ready for the first byte of a request. Blocks. Raises `ExchangeFailed` naming the stage."""
        first = self.proxy or self
        sock = _connect_tcp(_resolve(first.host, first.port, exchange), exchange)
        try:
            with suppress(OSError):  # a peer that is gone already shows itself at the next step
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _bound_delivery(sock, exchange.deadline - exchange.started)
            if self.proxy is not None:
                _tunnel(sock, self.proxy, self.host, self.port, exchange)
            return sock if self.tls is None else _handshake(sock, self.tls, self.host, exchange)
        except BaseException:
            sock.close()
            raise


def tls_context(ca_bundle: str | None = None) -> ssl.SSLContext:
    """Verified TLS 1.2 or newer against `ca_bundle` (a file or a directory), by default the bundle of `requests`.

    Not `ssl.create_default_context`: that one obeys SSLKEYLOGFILE, SSL_CERT_FILE and SSL_CERT_DIR of the environment.
    Raises `NotConfigured` if the bundle cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # RFC 9110, 4.3.4: only a subjectAltName names a host
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(ca_bundle or DEFAULT_CA_BUNDLE_PATH)
    except IsADirectoryError:
        context.load_verify_locations(capath=ca_bundle)
    except OSError as error:
        raise NotConfigured("The CA bundle cannot be read; name a PEM file or a directory of hashed ones.") from error
    return context


def _bound_delivery(sock: socket.socket, seconds: float) -> None:
    """Let the kernel drop what the peer has not taken for `seconds`, also while this process is frozen (RFC 5482)."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


def _resolve(host: str, port: int, exchange: Exchange) -> list[Any]:
    """The addresses of `host`. `getaddrinfo` has no timeout and may take half a minute, hence the thread."""
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - handed over to the waiting thread, whatever it is
            answers.put(error)

    threading.Thread(target=ask, name="voicery-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, exchange.connect_seconds_left()))
    except queue.Empty:
        raise ExchangeFailed(WireFault.DNS, "the name was not resolved in time") from None
    match answer:
        case socket.gaierror():
            raise ExchangeFailed(WireFault.DNS, answer.strerror or "the name did not resolve") from answer
        case UnicodeError() | OSError():
            raise ExchangeFailed(WireFault.DNS, "the name cannot be resolved") from answer
        case Exception():
            raise answer
        case _:
            return answer


def _connect_tcp(addresses: list[Any], exchange: Exchange) -> socket.socket:
    """The first of `addresses` that answers; each gets an equal share of what time is left."""
    failure = ExchangeFailed(WireFault.DNS, "the name has no address")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        share = exchange.connect_seconds_left() / (len(addresses) - position)
        if share <= 0:
            raise ExchangeFailed(WireFault.CONNECT_TIMEOUT, "no connection within the connect timeout")
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(share)
            sock.connect(address)
        except TimeoutError:
            failure = ExchangeFailed(WireFault.CONNECT_TIMEOUT, "no connection within the connect timeout")
        except OSError as error:
            fault = WireFault.REFUSED if error.errno in _UNREACHABLE else WireFault.CONNECTION
            failure = ExchangeFailed(fault, error_name(error))
        else:
            return sock
        if sock is not None:
            sock.close()
    raise failure


def _handshake(sock: socket.socket, context: ssl.SSLContext, host: str, exchange: Exchange) -> ssl.SSLSocket:
    try:
        exchange.arm_connect(sock)
        return context.wrap_socket(sock, server_hostname=host)
    except TimeoutError as error:
        raise ExchangeFailed(WireFault.TLS, "the handshake was not finished within the connect timeout") from error
    except ssl.SSLCertVerificationError as error:
        # A mismatch is reported as "Hostname mismatch, certificate is not valid for '<the host>'".
        reason = error.verify_message.partition(",")[0].rstrip(".")
        raise ExchangeFailed(WireFault.TLS, f"certificate verify failed: {reason}") from error
    except ssl.SSLError as error:
        raise ExchangeFailed(WireFault.TLS, (error.reason or "handshake failed").lower().replace("_", " ")) from error
    except OSError as error:
        raise ExchangeFailed(WireFault.TLS, f"handshake failed: {error_name(error)}") from error


def _tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int, exchange: Exchange) -> None:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    reader = WireReader(sock)
    reader.raw.begin(exchange.receive_connecting, body_cap=0)
    response = http.client.HTTPResponse(reader, method="CONNECT")  # type: ignore[arg-type]  # needs only `makefile`
    try:
        exchange.arm_connect(sock)
        sock.sendall("\r\n".join([*lines, "\r\n"]).encode("ascii"))
        response.begin()
    except DeadlinePassed as error:
        raise ExchangeFailed(WireFault.CONNECT_TIMEOUT, "the proxy did not connect in time") from error
    except (OSError, http.client.HTTPException, TooManyBytes) as error:
        raise ExchangeFailed(WireFault.CONNECTION, f"the proxy failed: {type(error).__name__}") from error
    finally:
        response.fp = None  # type: ignore[assignment]  # else, when freed, it flushes a reader that is closed
    reader.raw.end()
    if response.status != http.HTTPStatus.OK or reader.unread():
        raise ExchangeFailed(WireFault.CONNECTION, f"the proxy answered {response.status}")


def error_name(error: OSError) -> str:
    """What an OSError is called, without the address that its text may hold."""
    return errno.errorcode.get(error.errno, type(error).__name__) if error.errno else type(error).__name__
