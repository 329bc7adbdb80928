"""The console as an ASGI application: who may ask for what, the login, and the answer to a fault."""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from dispatcher.console.auth import Session, Sessions, User
from dispatcher.console.export_limit import TooManyExports
from dispatcher.console.guard import BODY_MOST, ConsoleOrigin, Guard, report
from dispatcher.console.login import Login, LoginRefused
from dispatcher.console.receiving import ReceivedFile, body_most, is_multipart, receive
from dispatcher.console.recent import Recent
from dispatcher.console.rendering import Renderer
from dispatcher.console.request import BadRequest, Form, PageRequest, local
from dispatcher.console.routes import METHODS, ROUTES, ConsoleRoute, allowed
from dispatcher.console.uploads import Uploads
from dispatcher.errors import DispatcherError, LeadNotFound, NotAllowed, NotConfigured, StoreUnavailable
from dispatcher.logs import events
from dispatcher.store import audit
from dispatcher.store.confinement import OutOfReach
from dispatcher.wiring import Services

STATIC: Final = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Console:
    """The parts that all requests share."""

    services: Services
    login: Login
    sessions: Sessions
    origin: ConsoleOrigin
    renderer: Renderer
    uploads: Uploads = field(init=False)
    recent: Recent = field(default_factory=Recent)

    def __post_init__(self) -> None:
        object.__setattr__(self, "uploads", Uploads(self.services))

    @property
    def cookie(self) -> str:
        """The cookie's name; with TLS its prefix makes browsers refuse it from other hosts."""
        return "__Host-dispatcher" if self.origin.secure else "dispatcher_console"


def build(console: Console) -> Guard:
    """Return the application."""
    access = Access(console)
    routes = [
        Route("/login", access.login_page, methods=["GET"]),
        Route("/login", access.login, methods=["POST"]),
        Route("/logout", access.logout, methods=["POST"]),
        Route("/static/{name}", _static, methods=["GET"]),
        *(Route(route.path, access.endpoint_of(route), methods=[route.method]) for route in ROUTES),
        *(
            Route(path, access.wrong_method(of_path), methods=sorted(METHODS - of_path))
            for path, of_path in allowed().items()
        ),
    ]
    # Not `Starlette`: its own answer to an exception comes before that of `Guard`, and has no id.
    router = Router(routes=routes, default=access.not_found, lifespan=console.uploads.lifespan)
    most = body_most(console.services.settings.console_upload_mb)
    return Guard(ExceptionMiddleware(router), console.origin, upload_most=most)


class Access:
    """Checks session, role and CSRF token before every route, and answers requests that are refused."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def endpoint_of(self, route: ConsoleRoute) -> Endpoint:
        """Return the endpoint of a route."""

        async def endpoint(http: Request) -> Response:
            session = self._session(http)
            if session is None:
                return self._turned_away(http)
            if route.takes_file:
                return await self._with_file(http, session, route)
            try:
                form = await self._form(http) if route.method == "POST" else Form()
            except BadRequest as fault:
                return self._fault(http, 400, "Not understood", str(fault))
            if route.method == "POST" and not (self._same_site(http) and session.knows(form.get("csrf"))):
                return self._fault(http, 403, "Not accepted", _FORGED)
            request = self._request(http, session, form)
            if not request.may(route.role):
                return request.page("error.html", status=403, title="Not for you", sentence=_too_little(route))
            return await _answered(route, request)

        return endpoint

    def wrong_method(self, allowed: frozenset[str]) -> Endpoint:
        """Return the endpoint for the other methods of a path, e.g. for a form's address that was reloaded."""

        async def endpoint(http: Request) -> Response:
            response = self._fault(http, 405, "Nothing to see at this address", _WRONG_METHOD)
            response.headers["Allow"] = ", ".join(sorted(allowed))
            return response

        return endpoint

    async def not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer at an address that the console does not have."""
        response = self._fault(Request(scope), 404, "There is no such page", _NO_PAGE)
        await response(scope, receive, send)

    async def login_page(self, http: Request) -> Response:
        """Return the login page. A key in the URL is only copied into the form, because a GET changes nothing."""
        if self._session(http) is not None:
            return RedirectResponse("/", status_code=303)
        return self._login(key=http.query_params.get("key", ""), onwards=http.query_params.get("next", "/"))

    async def login(self, http: Request) -> Response:
        """Begin a session if name and password, or the key, are right."""
        if not self._same_site(http):
            return self._fault(http, 403, "Not accepted", _FORGED)
        try:
            form = await self._form(http)
        except BadRequest as fault:
            return self._fault(http, 400, "Not understood", str(fault))
        source = http.client.host if http.client else "unknown"
        key = form.get("key")
        who = await run_in_threadpool(self._who, form, key, source)
        if isinstance(who, LoginRefused):
            return self._refused(who, onwards=form.get("next", "/"))
        self._console.sessions.end(http.cookies.get(self._console.cookie))
        cookie, _ = self._console.sessions.begin(who, by_key=bool(key))
        response = RedirectResponse(local(form.get("next", "/")), status_code=303)
        response.set_cookie(
            self._console.cookie, cookie, httponly=True, samesite="lax", secure=self._console.origin.secure, path="/"
        )
        return response

    async def logout(self, http: Request) -> Response:
        """End the session on the server, not only in the browser."""
        session = self._session(http)
        if session is None:
            return self._turned_away(http)
        try:
            form = await self._form(http)
        except BadRequest as fault:
            return self._fault(http, 400, "Not understood", str(fault))
        if not (self._same_site(http) and session.knows(form.get("csrf"))):
            return self._fault(http, 403, "Not accepted", _FORGED)
        self._console.sessions.end(http.cookies.get(self._console.cookie))
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(
            self._console.cookie, path="/", httponly=True, samesite="lax", secure=self._console.origin.secure
        )
        return response

    def _who(self, form: Form, key: str, source: str) -> User | LoginRefused:
        console = self._console
        if key:
            who = console.login.by_key(key, source)
        else:
            who = console.login.by_password(form.get("name"), form.get("password"), source)
        if isinstance(who, User):
            console.services.database.again(
                audit.note, f"{who.name}@console", "login", "console", {"role": who.role, "from": source}
            )
        elif who.checked:
            self._note_failure(form.get("name"), who, source)
        return who

    def _note_failure(self, name: str, refused: LoginRefused, source: str) -> None:
        """Write a failed login to the log and the audit log. An unknown name may be a password: it is not written."""
        console = self._console
        known = name if console.login.users.find(name) is not None else "unknown"
        events.warning("console.login_failed", user=known, source=source, locked_seconds=refused.locked_seconds)
        with suppress(StoreUnavailable):  # the log has it
            console.services.database.again(audit.note, f"{known}@console", "login_failed", "console", {"from": source})

    def _session(self, http: Request) -> Session | None:
        """Return the active session. It ends with its user: once removed, or given another role or password."""
        cookie = http.cookies.get(self._console.cookie)
        session = self._console.sessions.find(cookie)
        if session is None or session.by_key:
            return session
        try:
            if self._console.login.users.still(session.person):
                return session
        except NotConfigured as fault:
            events.error("console.users_unreadable", error=str(fault))
            return None
        self._console.sessions.end(cookie)
        return None

    def _same_site(self, http: Request) -> bool:
        """Return whether a page of the console sent this, by headers no script can set (Fetch Metadata; RFC 6454)."""
        site = http.headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin"
        return http.headers.get("origin") in self._console.origin.origins

    async def _form(self, http: Request) -> Form:
        kind = http.headers.get("content-type", "").split(";")[0].strip()
        if kind != "application/x-www-form-urlencoded":
            raise BadRequest("Forms only.")
        body = bytearray()
        try:
            async for chunk in http.stream():
                body += chunk
                if len(body) > BODY_MOST:
                    raise BadRequest("That is too much at once.")
        except ClientDisconnect:
            raise BadRequest("The form did not arrive whole.") from None
        return Form.parse(bytes(body))

    async def _with_file(self, http: Request, session: Session, route: ConsoleRoute) -> Response:
        """Answer a form with a file. Nothing of it is read before role and origin were checked."""
        if not self._same_site(http):
            return self._fault(http, 403, "Not accepted", _FORGED)
        if not session.person.role.includes(route.role):
            return self._fault(http, 403, "Not for you", _too_little(route))
        try:
            if is_multipart(http):
                form, file = await receive(http, self._console.services.settings.console_upload_mb)
            else:
                form, file = await self._form(http), None
        except BadRequest as fault:
            return self._fault(http, 400, "Not understood", str(fault))
        if not session.knows(form.get("csrf")):
            if file is not None:
                file.file.close()
            return self._fault(http, 403, "Not accepted", _FORGED)
        return await _answered(route, self._request(http, session, form, file))

    def _request(self, http: Request, session: Session, form: Form, file: ReceivedFile | None = None) -> PageRequest:
        """Return the request with the parts of the user: of one who is confined, confined to the same accounts."""
        console, accounts = self._console, session.person.accounts
        services = console.services if accounts is None else console.services.confined(accounts)
        shared = console.renderer, console.uploads, console.recent
        return PageRequest(http, session, console.sessions, services, form, *shared, file)

    def _fault(self, http: Request, status: int, title: str, sentence: str) -> Response:
        """Return a page that says what is wrong: in the frame for who is logged in, else alone."""
        session = self._session(http)
        if session is None:
            return self._console.renderer.bare("fault.html", status=status, title=title, sentence=sentence)
        request = self._request(http, session, Form())
        return request.page("error.html", status=status, title=title, sentence=sentence)

    def _turned_away(self, http: Request) -> Response:
        if http.method != "GET":
            return self._login(fault="Your session has ended; nothing was done. Log in again.", status=401)
        here = local(http.url.path + (f"?{http.url.query}" if http.url.query else ""))
        return RedirectResponse("/login" + ("" if here == "/" else f"?{urlencode({'next': here})}"), status_code=303)

    def _refused(self, refused: LoginRefused, *, onwards: str) -> Response:
        """Return the login page with the reason; 429 with `Retry-After` (RFC 6585, section 4) while the delay lasts."""
        response = self._login(onwards=onwards, fault=refused.text, status=429 if refused.wait_seconds else 401)
        if refused.wait_seconds:
            response.headers["Retry-After"] = str(math.ceil(refused.wait_seconds))
        return response

    def _login(self, *, key: str = "", onwards: str = "/", fault: str = "", status: int = 200) -> Response:
        by_key = self._console.login.key is not None
        return self._console.renderer.bare(
            "login.html", status=status, key=key, onwards=local(onwards), fault=fault, by_key=by_key
        )


async def _answered(route: ConsoleRoute, request: PageRequest) -> Response:
    """Return the response of a route, also where it fails by a bug."""
    try:
        return await run_in_threadpool(_answer, route, request)
    except Exception as error:  # noqa: BLE001 - the error goes to the log, never to the page
        return request.page("error.html", status=500, title="Something went wrong", sentence=report(error))


def _answer(route: ConsoleRoute, request: PageRequest) -> Response:
    """Return the response of a route, or an error page."""
    try:
        _check_reach(request)
        return route.answer(request)
    except (LeadNotFound, OutOfReach) as error:
        return request.page("error.html", status=404, title="Not found", sentence=str(error))
    except TooManyExports as error:
        response = request.page("error.html", status=429, title="Too much at once", sentence=str(error))
        response.headers["Retry-After"] = str(math.ceil(error.wait_seconds))
        return response
    except NotAllowed as error:
        return request.page("error.html", status=409, title="Not possible", sentence=str(error))
    except BadRequest as error:
        return request.page("error.html", status=400, title="Not understood", sentence=str(error))
    except StoreUnavailable as error:
        return request.page("error.html", status=503, title="Postgres is away", sentence=str(error))
    except DispatcherError as error:
        return request.page("error.html", status=400, title="Refused", sentence=str(error))
    finally:
        if route.method == "POST":
            request.sessions.note_write(request.session)


_FORGED: Final = "This form is not from this console, or too old; nothing was done. Go back and reload."
_NO_PAGE: Final = "The address is mistyped, or of another version of the console. The screens are in the navigation."
_WRONG_METHOD: Final = (
    "It only takes a form, and nothing was done. Go back to the page with the form, and send it again."
)


def _check_reach(request: PageRequest) -> None:
    """Raise `OutOfReach` if the path names an account that the user may not see, whether it exists or not."""
    account = request.http.path_params.get("account")
    if account is not None and not request.person.reaches(account):
        raise OutOfReach


def _too_little(route: ConsoleRoute) -> str:
    return f"This takes the role {route.role}; ask the administrator of the dispatcher."


async def _static(http: Request) -> Response:
    name = http.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("Not found.\n", status_code=404)
    content = (files("dispatcher.console") / "static" / name).read_bytes()
    return Response(content, media_type=STATIC[name], headers={"Cache-Control": "public, max-age=31536000, immutable"})
