"""The two calls that the dispatcher makes to Voicery. Each is one HTTP exchange and comes back as a `Reply`."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast
from urllib.parse import urlsplit

import requests

from dispatcher.config.urls import check_base_url, endpoint
from dispatcher.decisions.reply import BodyFault, Reply, WireFault
from dispatcher.decisions.storable import storable_text
from dispatcher.errors import NotConfigured
from dispatcher.moments import steady_clock
from dispatcher.voicery import body as bodies
from dispatcher.voicery.answer import Answer
from dispatcher.voicery.connection import Origin
from dispatcher.voicery.exchange import Exchange, ExchangeFailed
from dispatcher.voicery.transport import BearerAuth, LeanRequest, OriginAdapter, SecretText

LEAD_BODY_CAP: Final = 256 * 1024
LIST_BODY_CAP: Final = 4 * 1024 * 1024

_HEADER_CAP: Final = 200  # characters of a kept header's value
_KEPT_HEADERS: Final = (
    "content-type",
    "date",
    "retry-after",
    "server",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
)
_FRESH: Final = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
_HEADERS: Final = {
    "User-Agent": "voicery-dispatcher",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}


class VoiceryClient:
    """Makes exchanges with one Voicery account. Every thread may use it; connections are shared between exchanges.

    No call raises an `Exception`: whatever went wrong is in the `Reply`. None retries, follows a redirect, or obeys
    the environment (netrc, proxies, CA bundles).
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: Callable[[], str] | SecretText,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        deadline_seconds: float,
        idle_seconds: float = 4.0,
        proxy: str | None = None,
        ca_bundle: str | None = None,
        allow_http: bool = False,
    ) -> None:
        """Raises `NotConfigured` for a base URL, token, proxy or CA bundle that cannot be used. Opens no connection.

        `connect_timeout_seconds` covers name, TCP, proxy and TLS together; `read_timeout_seconds` is the longest
        silence while sending or receiving; `deadline_seconds` covers the whole exchange, connecting included.
        """
        if faults := check_base_url(base_url, allow_http=allow_http):
            raise NotConfigured(f"The Voicery base URL {'; '.join(faults)} (VOICERY_BASE_URL).")
        self._base_url = base_url
        self._lead_url = endpoint(base_url, "user/lead")
        self._list_url = endpoint(base_url, "user/leads")
        self._auth = BearerAuth(token)
        self._connect_timeout_seconds = connect_timeout_seconds
        self._read_timeout_seconds = read_timeout_seconds
        self._deadline_seconds = deadline_seconds
        self._adapter = OriginAdapter(Origin.of(base_url, proxy=proxy, ca_bundle=ca_bundle), idle_seconds=idle_seconds)
        self._local = threading.local()

    def create_lead(self, body: bytes, *, before_write: Callable[[], bool] | None = None) -> Reply:
        """POST `body` (JSON) to `user/lead`, once.

        `before_write` is called when the connection stands, right before the first byte; if it returns False nothing
        is written and the reply's fault is `LEASE`.
        """

        def prepare(desk: _Desk) -> LeanRequest:
            desk.post.body = body
            desk.post.headers["Content-Length"] = str(len(body))
            return desk.post

        return self._exchange(prepare, self._clocks(LEAD_BODY_CAP, before_write))

    def list_leads(
        self, *, campaign_id: int | None = None, phone_number: str | None = None, page: int = 1, per_page: int = 100
    ) -> Reply:
        """GET one page of `user/leads`, of one campaign or of all.

        `phone_number` matches partially at Voicery; `per_page` is 1 to 100. Each request has an address of its own and
        asks for no cached answer (RFC 9111, 5.2.1.4): an old list proves nothing.
        """

        def prepare(desk: _Desk) -> LeanRequest:
            query: dict[str, str | int] = {"page": page, "per_page": per_page, "_": os.urandom(6).hex()}
            if campaign_id is not None:
                query["campaign_id"] = campaign_id
            if phone_number is not None:
                query["phone_number"] = phone_number
            return _prepare(desk.session, "GET", self._list_url, headers=_FRESH, query=query)

        return self._exchange(prepare, self._clocks(LIST_BODY_CAP, None))

    def close(self) -> None:
        """Close the idle connections. The client stays usable."""
        self._adapter.close()

    def _clocks(self, body_cap: int, before_write: Callable[[], bool] | None) -> Exchange:
        now = steady_clock()
        return Exchange(
            started=now,
            connect_by=now + self._connect_timeout_seconds,
            deadline=now + self._deadline_seconds,
            read_timeout_seconds=self._read_timeout_seconds,
            body_cap=body_cap,
            before_write=before_write,
        )

    def _exchange(self, prepare: "Callable[[_Desk], LeanRequest]", exchange: Exchange) -> Reply:
        answer: Answer | None = None
        try:
            desk = self._desk()
            request = prepare(desk)
            request.exchange = exchange
            self._auth(request)
            # Not `Session.send`: even with redirects off it reads the body of a 3xx without bound, to build a request
            # that it will not send, and it keeps cookies. It costs 0.03-0.07 ms of CPU more as well.
            answer = cast("Answer", desk.session.get_adapter(str(request.url)).send(request).raw)
            return _reply(answer, exchange)
        except ExchangeFailed as failure:
            return _failed(failure.fault, failure.detail, exchange)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller must learn whether we wrote
            if answer is None:
                return _failed(WireFault.BUG, type(error).__name__, exchange)
            return replace(_head(answer, exchange), body_fault=BodyFault.BUG, detail=type(error).__name__)
        finally:
            if answer is not None:
                answer.close()

    def _desk(self) -> "_Desk":
        desk: _Desk | None = getattr(self._local, "desk", None)
        if desk is None:
            session = requests.Session()
            session.trust_env = False  # else a netrc entry replaces our token
            session.headers.clear()
            session.headers.update(_HEADERS)
            session.adapters.clear()  # no other machine can be reached by mistake
            session.mount(self._base_url, self._adapter)
            post = _prepare(session, "POST", self._lead_url, headers={"Content-Type": "application/json"})
            desk = self._local.desk = _Desk(session, post)
        return desk


@dataclass(frozen=True, slots=True)
class _Desk:
    """What one thread works with: its session, and the POST whose constant part is prepared once."""

    session: requests.Session
    post: LeanRequest


def _prepare(
    session: requests.Session,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str | int] | None = None,
) -> LeanRequest:
    lean = LeanRequest()
    lean.prepare(
        method, url, headers={"Host": urlsplit(url).netloc, **session.headers, **(headers or {})}, params=query
    )
    return lean


def _head(answer: Answer, exchange: Exchange) -> Reply:
    headers = {name: storable_text(value[:_HEADER_CAP]) for name in _KEPT_HEADERS if (value := answer.fields.get(name))}
    if location := answer.fields.get("location"):
        headers["location"] = storable_text(_path_of(location)[:_HEADER_CAP])
    return Reply(status=answer.status, headers=headers, written=exchange.written)


def _reply(answer: Answer, exchange: Exchange) -> Reply:
    body = bodies.read(
        answer.read_body(),
        coding=answer.fields.get("content-encoding", ""),
        content_type=answer.fields.get("content-type", ""),
        cap=exchange.body_cap,
        fault=answer.fault,
    )
    return replace(_head(answer, exchange), body=body.value, text=body.text, body_fault=body.fault)


def _failed(fault: WireFault, detail: str, exchange: Exchange) -> Reply:
    return Reply(fault=fault, detail=detail, written=exchange.written)


def _path_of(location: str) -> str:
    """Where a redirect points, without its host and query: enough to see a wrong base URL, too little to leak."""
    try:
        return urlsplit(location).path
    except ValueError:
        return ""
