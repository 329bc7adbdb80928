"""The console as an ASGI application: every way in is a door with a role; everything else is closed."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from dispatcher.console.auth import Lobby, Person, Role, Session, Sessions
from dispatcher.console.guard import BODY_MOST, Guard, Origin
from dispatcher.console.pages import bulk, campaigns, failed, lead, overview, records
from dispatcher.console.rendering import Renderer
from dispatcher.console.visit import BadRequest, Form, Visit, local
from dispatcher.errors import DispatcherError, LeadNotFound, NotAllowed, StoreUnavailable
from dispatcher.store import audit
from dispatcher.wiring import Services


@dataclass(frozen=True, slots=True)
class Door:
    """`role` is the least that opens it."""

    method: Literal["GET", "POST"]
    path: str
    role: Role
    answer: Callable[[Visit], Response]


DOORS: Final = (
    Door("GET", "/", Role.VIEWER, overview.show),
    Door("GET", "/search", Role.VIEWER, overview.search),
    Door("GET", "/failed", Role.VIEWER, failed.causes),
    Door("GET", "/failed/rows", Role.VIEWER, failed.rows),
    Door("POST", "/failed/preview", Role.OPERATOR, bulk.preview),
    Door("POST", "/failed/export", Role.OPERATOR, bulk.export),
    Door("GET", "/leads/{id}", Role.VIEWER, lead.show),
    Door("GET", "/leads/{id}/correct", Role.OPERATOR, lead.correction),
    Door("POST", "/leads/{id}/correct", Role.OPERATOR, lead.correct),
    Door("POST", "/leads/{id}/replay", Role.OPERATOR, lead.replay),
    Door("POST", "/leads/{id}/replay-even-if-called", Role.ADMIN, lead.replay_even_if_called),
    Door("POST", "/leads/{id}/look-up", Role.OPERATOR, lead.look_up),
    Door("POST", "/leads/{id}/resolve", Role.OPERATOR, lead.resolve),
    Door("POST", "/leads/{id}/cancel", Role.OPERATOR, lead.cancel),
    Door("GET", "/campaigns", Role.VIEWER, campaigns.show),
    Door("POST", "/campaigns/{account}/{campaign}/pause", Role.OPERATOR, campaigns.pause),
    Door("POST", "/campaigns/{account}/{campaign}/resume", Role.OPERATOR, campaigns.resume),
    Door("POST", "/campaigns/{account}/{campaign}/limit", Role.ADMIN, campaigns.limit),
    Door("POST", "/accounts/{account}/pause", Role.ADMIN, campaigns.pause_account),
    Door("POST", "/accounts/{account}/resume", Role.ADMIN, campaigns.resume_account),
    Door("GET", "/operations", Role.VIEWER, records.show_all),
    Door("POST", "/operations", Role.OPERATOR, bulk.start),
    Door("GET", "/operations/{id}", Role.VIEWER, records.show),
    Door("POST", "/operations/{id}/stop", Role.OPERATOR, records.stop),
    Door("GET", "/imports", Role.VIEWER, records.imports),
    Door("GET", "/imports/{number}", Role.VIEWER, records.one_import),
    Door("POST", "/imports/{number}/export", Role.OPERATOR, records.export_rejected),
    Door("GET", "/incidents", Role.VIEWER, records.incidents),
    Door("POST", "/incidents/seen", Role.OPERATOR, records.seen),
    Door("GET", "/workers", Role.VIEWER, records.workers),
    Door("GET", "/audit", Role.VIEWER, records.audit),
    Door("POST", "/reveal", Role.OPERATOR, records.reveal),
    Door("POST", "/mask", Role.VIEWER, records.mask),
    Door("POST", "/theme", Role.VIEWER, records.theme),
)


STATIC: Final = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Console:
    """What all requests share."""

    services: Services
    lobby: Lobby
    sessions: Sessions
    origin: Origin
    renderer: Renderer

    @property
    def cookie(self) -> str:
        """With TLS the browser itself keeps others from setting it."""
        return "__Host-dispatcher" if self.origin.secure else "dispatcher_console"


def build(console: Console) -> Guard:
    """The application."""
    entrance = Entrance(console)
    routes = [
        Route("/login", entrance.ask, methods=["GET"]),
        Route("/login", entrance.enter, methods=["POST"]),
        Route("/logout", entrance.leave, methods=["POST"]),
        Route("/static/{name}", _static, methods=["GET"]),
        *(Route(door.path, entrance.behind(door), methods=[door.method]) for door in DOORS),
    ]
    return Guard(Starlette(routes=routes), console.origin)


class Entrance:
    """Stands before every door: session, role, token, and an answer for whatever is refused."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def behind(self, door: Door) -> Endpoint:
        """The endpoint of a door."""

        async def endpoint(request: Request) -> Response:
            session = self._session(request)
            if session is None:
                return self._turned_away(request)
            try:
                form = await self._form(request) if door.method == "POST" else Form()
            except BadRequest as fault:
                return PlainTextResponse(f"{fault}\n", status_code=400)
            if door.method == "POST" and not (self._same_site(request) and session.knows(form.get("csrf"))):
                return PlainTextResponse("This form is not from this console, or too old. Go back and reload.\n", 403)
            console = self._console
            visit = Visit(request, session, console.sessions, console.services, form, console.renderer)
            if not visit.may(door.role):
                return visit.page("error.html", status=403, title="Not for you", sentence=_too_little(door))
            return await run_in_threadpool(_answer, door, visit)

        return endpoint

    async def ask(self, request: Request) -> Response:
        """The login page. A key in the address is only put into its form: no GET ever acts."""
        if self._session(request) is not None:
            return RedirectResponse("/", status_code=303)
        return self._login(key=request.query_params.get("key", ""), onwards=request.query_params.get("next", "/"))

    async def enter(self, request: Request) -> Response:
        """Begin a session, if name and password (or the key) are right."""
        if not self._same_site(request):
            return PlainTextResponse("This form is not from this console. Go back and reload.\n", status_code=403)
        try:
            form = await self._form(request)
        except BadRequest as fault:
            return PlainTextResponse(f"{fault}\n", status_code=400)
        source = request.client.host if request.client else "unknown"
        key = form.get("key")
        who = await run_in_threadpool(self._who, form, key, source)
        if isinstance(who, str):
            return self._login(onwards=form.get("next", "/"), fault=who, status=429 if "Wait" in who else 401)
        self._console.sessions.end(request.cookies.get(self._console.cookie))
        cookie, _ = self._console.sessions.begin(who, by_key=bool(key))
        response = RedirectResponse(local(form.get("next", "/")), status_code=303)
        response.set_cookie(
            self._console.cookie, cookie, httponly=True, samesite="lax", secure=self._console.origin.secure, path="/"
        )
        return response

    async def leave(self, request: Request) -> Response:
        """End the session here, not only in the browser."""
        session = self._session(request)
        if session is None:
            return self._turned_away(request)
        try:
            form = await self._form(request)
        except BadRequest as fault:
            return PlainTextResponse(f"{fault}\n", status_code=400)
        if not (self._same_site(request) and session.knows(form.get("csrf"))):
            return PlainTextResponse("This form is not from this console. Go back and reload.\n", status_code=403)
        self._console.sessions.end(request.cookies.get(self._console.cookie))
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(
            self._console.cookie, path="/", httponly=True, samesite="lax", secure=self._console.origin.secure
        )
        return response

    def _who(self, form: Form, key: str, source: str) -> Person | str:
        console = self._console
        if key:
            who = console.lobby.enter_by_key(key, source)
        else:
            who = console.lobby.enter(form.get("name"), form.get("password"), source)
        if isinstance(who, Person):
            console.services.database.again(
                audit.note, f"{who.name}@console", "login", "console", {"role": who.role, "from": source}
            )
        return who

    def _session(self, request: Request) -> Session | None:
        """The live session, unless its person has been struck off or given another role."""
        session = self._console.sessions.find(request.cookies.get(self._console.cookie))
        if session is None or session.by_key:
            return session
        unchanged = self._console.lobby.people.role_of(session.person.name) is session.person.role
        return session if unchanged else None

    def _same_site(self, request: Request) -> bool:
        """Whether a page of ours sent this. The browser says so, and no page can make it lie."""
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin"
        return request.headers.get("origin") in self._console.origin.origins

    async def _form(self, request: Request) -> Form:
        kind = request.headers.get("content-type", "").split(";")[0].strip()
        if kind != "application/x-www-form-urlencoded":
            raise BadRequest("Forms only.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_MOST:
                raise BadRequest("That is too much at once.")
        return Form.parse(bytes(body))

    def _turned_away(self, request: Request) -> Response:
        if request.method != "GET":
            return self._login(fault="Your session has ended; nothing was done. Log in again.", status=401)
        here = local(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
        return RedirectResponse("/login" + ("" if here == "/" else f"?{urlencode({'next': here})}"), status_code=303)

    def _login(self, *, key: str = "", onwards: str = "/", fault: str = "", status: int = 200) -> Response:
        by_key = self._console.lobby.key is not None
        return self._console.renderer.bare(
            "login.html", status=status, key=key, onwards=local(onwards), fault=fault, by_key=by_key
        )


def _answer(door: Door, visit: Visit) -> Response:
    """What the door's page says, or a page that says why not."""
    try:
        return door.answer(visit)
    except LeadNotFound as error:
        return visit.page("error.html", status=404, title="Not found", sentence=str(error))
    except NotAllowed as error:
        return visit.page("error.html", status=409, title="Not possible", sentence=str(error))
    except BadRequest as error:
        return visit.page("error.html", status=400, title="Not understood", sentence=str(error))
    except StoreUnavailable as error:
        return visit.page("error.html", status=503, title="Postgres is away", sentence=str(error))
    except DispatcherError as error:
        return visit.page("error.html", status=400, title="Refused", sentence=str(error))


def _too_little(door: Door) -> str:
    return f"This takes the role {door.role}; ask whoever runs the dispatcher."


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("Not found.\n", status_code=404)
    content = (files("dispatcher.console") / "static" / name).read_bytes()
    return Response(content, media_type=STATIC[name], headers={"Cache-Control": "public, max-age=31536000, immutable"})
