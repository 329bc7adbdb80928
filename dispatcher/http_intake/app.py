"""The intake as an ASGI application: its routes, and how each request becomes a call of `submit`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from dispatcher.asynchronous import AsyncProducer, Threads
from dispatcher.errors import DispatcherError, FieldError, InvalidLead
from dispatcher.http_intake import answers, mappings
from dispatcher.http_intake.access import Access
from dispatcher.http_intake.batch import BatchRequest, batch_id_of
from dispatcher.http_intake.bodies import FORM, JSON, LINES, lead_of, object_of
from dispatcher.http_intake.document import document, page
from dispatcher.http_intake.guard import Guard
from dispatcher.http_intake.keys import ApiKey
from dispatcher.http_intake.mappings import Mapped, WebhookMapping, mapped, pointer_of
from dispatcher.http_intake.problems import (
    AWAY_SECONDS,
    BAD_REQUEST,
    BUSY,
    METHOD,
    NOT_FOUND,
    Problem,
    invalid,
    problem_of,
    wait,
)
from dispatcher.http_intake.reading import (
    BATCH_BYTES,
    BATCH_ITEMS,
    BATCH_SECONDS,
    CHUNK_ITEMS,
    BodyBounds,
    check_accept,
    media_type,
    whole,
)
from dispatcher.http_intake.scope import valid
from dispatcher.lead.options import Submission, SubmitOptions
from dispatcher.store.migration import check
from dispatcher.wiring import Services

T = TypeVar("T")

BATCHES: Final = 8
"""Batches that are read at once: each holds some MiB."""

_READY_SECONDS: Final = 1.0
_FRESH_SECONDS: Final = 0.5
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of bodies; tests make them smaller."""

    lead: BodyBounds = field(default_factory=BodyBounds)
    batch: BodyBounds = field(default_factory=lambda: BodyBounds(BATCH_BYTES, BATCH_SECONDS))
    items: int = BATCH_ITEMS
    chunk: int = CHUNK_ITEMS


class Intake(AsyncProducer):
    """The endpoints, over the services of one process."""

    def __init__(self, services: Services, bounds: Bounds = Bounds()) -> None:
        self._services = services
        self._threads = Threads()
        self._bounds = bounds
        self.access = Access(lambda: services.database, self._threads.start)
        self._batches = asyncio.Semaphore(BATCHES)
        self._ready: tuple[float, str | None] = (float("-inf"), None)
        self._mappings: dict[tuple[str, str], tuple[float, WebhookMapping | None]] = {}

    async def submit_one(self, request: Request) -> Response:
        """`POST /v1/leads`."""
        key = await self.access.key_of(request)
        media_type(request, (JSON,))
        idempotency_key = _idempotency_key(request)
        body = object_of(await whole(request, self._bounds.lead), JSON)
        submission = await self._submitted(key, lead_of(body), idempotency_key, body)
        return _created(submission)

    async def submit_batch(self, request: Request) -> Response:
        """`POST /v1/leads/batch`."""
        key = await self.access.key_of(request)
        kind = media_type(request, (JSON, *LINES))
        batch_id = batch_id_of(_idempotency_key(request))
        if self._batches.locked():
            raise wait(BUSY, 1, f"{BATCHES} batches are being read; send this one again.")
        async with self._batches:
            bounds = self._bounds
            batch = BatchRequest(
                self._services.bulk, self.access, self._threads.start, key, batch_id,
                most_items=bounds.items, chunk_items=bounds.chunk,
            )  # fmt: skip
            return await batch.run(request, kind, bounds.batch)

    async def submit_hook(self, request: Request) -> Response:
        """`POST /v1/hooks/{name}` and `POST /v1/hooks/{name}/{secret}`."""
        name = str(request.path_params["name"])
        key = await self.access.key_of(request, mapping=name, secret=request.path_params.get("secret"))
        mapping = await self._mapping(key.account, name)
        if mapping is None:
            raise Problem(NOT_FOUND, "The key's account has no mapping of this name.")
        kind = media_type(request, (JSON, FORM))
        idempotency_key = _idempotency_key(request)
        body = object_of(await whole(request, self._bounds.lead), kind)
        submission = await self._submitted(key, mapped(mapping, body), idempotency_key, body, mapping)
        return _created(submission)

    async def show(self, request: Request) -> Response:
        """`GET /v1/leads/{id}`: 404 also for a lead of another account or campaign."""
        key = await self.access.key_of(request)
        try:
            lead_id = UUID(str(request.path_params["id"]))
        except ValueError:
            raise Problem(NOT_FOUND, "That is not the id of a lead.") from None
        row = await self._in_thread(lambda: self._services.database.read(answers.read, lead_id))
        if row is None or row["account"] != key.account or not key.may_use(row["campaign_id"]):
            raise Problem(NOT_FOUND, "This key may read no lead with this id.")
        return _json(answers.state_of(row))

    async def alive(self, _request: Request) -> Response:
        """`GET /healthz`: the process answers."""
        return _json({"ok": True})

    async def ready(self, _request: Request) -> Response:
        """`GET /readyz`: leads can be stored now. Postgres is asked once a second at most."""
        now = asyncio.get_running_loop().time()
        if now - self._ready[0] > _READY_SECONDS:
            self._ready = (now, self._ready[1])  # those who ask meanwhile get the last answer
            self._ready = (now, await self._in_thread(self._why_not_ready))
        why = self._ready[1]
        if why is None:
            return _json({"ok": True})
        return _json({"ok": False, "why": why}, 503, {"Retry-After": str(AWAY_SECONDS)})

    async def close(self) -> None:
        """Let what was begun end, and close the connections."""
        await asyncio.to_thread(self._threads.close)
        await asyncio.to_thread(self._services.close)

    async def _submitted(
        self,
        key: ApiKey,
        found: Mapped,
        idempotency_key: str | None,
        body: Mapping[str, Any],
        mapping: WebhookMapping | None = None,
    ) -> Submission:
        """Submit a lead that was read from a body. Raises `Problem` with every fault."""
        faults = list(found.faults)
        if idempotency_key is not None:
            if found.options.get("idempotency_key", idempotency_key) != idempotency_key and mapping is None:
                remedy = "give it once, in the field Idempotency-Key"
                faults.append(FieldError("idempotency_key", "differs from the field Idempotency-Key", remedy))
            found.options["idempotency_key"] = idempotency_key
        try:
            lead, options = valid(Mapped(found.lead, found.options, faults), key)
        except InvalidLead as refusal:
            problem = invalid(refusal.errors, body)
            if mapping is not None:
                _point_into(body, mapping, problem.more["errors"])
            raise problem from None
        return await self.asubmit(
            lead,
            account=key.account,
            idempotency_key=options.idempotency_key,
            priority=options.priority,
            not_before=options.not_before,
            expires_at=options.expires_at,
        )

    async def _mapping(self, account: str, name: str) -> WebhookMapping | None:
        now = asyncio.get_running_loop().time()
        read_at, found = self._mappings.get((account, name), (float("-inf"), None))
        if now - read_at > _FRESH_SECONDS:
            found = await self._in_thread(lambda: self._services.database.read(mappings.find, account, name))
            if found is None:
                self._mappings.pop((account, name), None)
            else:
                self._mappings[account, name] = (now, found)
        return found

    def _why_not_ready(self) -> str | None:
        try:
            with self._services.database.autocommit() as connection:
                check(connection, newer=True)
        except DispatcherError as error:
            return type(error).__name__
        return None

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._threads.start(call))


def build(intake: Intake, *, secure: bool = False) -> Guard:
    """Return the application. `secure`: clients reach it by https."""
    routes: dict[str, dict[str, Endpoint]] = {
        "/v1/leads": {"POST": intake.submit_one},
        "/v1/leads/batch": {"POST": intake.submit_batch},
        "/v1/leads/{id}": {"GET": intake.show},
        "/v1/hooks/{name}": {"POST": intake.submit_hook},
        "/v1/hooks/{name}/{secret}": {"POST": intake.submit_hook},
        "/healthz": {"GET": intake.alive},
        "/readyz": {"GET": intake.ready},
        "/openapi.json": {"GET": _openapi},
        "/docs": {"GET": _docs},
    }
    router = Router(
        [Route(path, _ByMethod(path, by_method)) for path, by_method in routes.items()],
        redirect_slashes=False,
        default=_nothing_here,
    )
    return Guard(router, secure=secure, services=intake._services, close=intake.close)  # noqa: SLF001 - made of one another


class _ByMethod:
    """Answers a path: by the method, or that it has no such method (RFC 9110, section 15.5.6)."""

    def __init__(self, path: str, by_method: Mapping[str, Endpoint]) -> None:
        self._path = path
        self._by_method = by_method

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own
        scope["route_name"] = self._path  # never the path itself: it may hold a secret
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = self._by_method.get(method, self._no_such_method)
        try:
            if self._path.startswith("/v1/leads"):
                check_accept(request)
            response = await endpoint(request)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            response = problem.response()
        await response(scope, receive, send)

    async def _no_such_method(self, _request: Request) -> Response:
        allowed = [*self._by_method, *(["HEAD"] if "GET" in self._by_method else [])]
        raise Problem(METHOD, "", {}, {"Allow": ", ".join(allowed)})


async def _nothing_here(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own
    await Problem(NOT_FOUND, "There is nothing at this path; /docs lists the paths.").response()(scope, receive, send)


def _point_into(body: Mapping[str, Any], mapping: WebhookMapping, errors: list[dict[str, str]]) -> None:
    """Let faults point to where the webhook's body has the field."""
    for error in errors:
        path = mapping.fields.get(error["field"])
        error["pointer"] = "" if path is None else pointer_of(path, body)


def _idempotency_key(request: Request) -> str | None:
    """Return the field `Idempotency-Key`: a string in quotation marks, as the draft of the IETF has it, or bare."""
    given = request.headers.getlist("idempotency-key")
    if len(given) > 1:
        raise Problem(BAD_REQUEST, "Send one field Idempotency-Key.")
    if not given:
        return None
    key = given[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    try:
        return SubmitOptions.parse({"idempotency_key": key}).idempotency_key
    except InvalidLead as refusal:
        raise Problem(BAD_REQUEST, f"Idempotency-Key {refusal.errors[0].fault}.") from None


def _created(submission: Submission) -> Response:
    """Return 201 for a lead that this request stored, else 200. Both come after the commit."""
    location = {"Location": f"/v1/leads/{submission.id}"}
    return _json(answers.submitted(submission), 201 if submission.created else 200, location)


def _json(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, dict(headers or {}), JSON)


async def _openapi(_request: Request) -> Response:
    return Response(orjson.dumps(document()), 200, None, JSON)


async def _docs(_request: Request) -> Response:
    return Response(page(), 200, None, "text/html")
