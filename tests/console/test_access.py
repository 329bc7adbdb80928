"""Who comes in, through which route, and with which headers."""

from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.config.setting import Secret
from dispatcher.console import login
from dispatcher.console.auth import LONGEST_SECONDS, Role, Users, hash_password
from dispatcher.console.guard import HEADERS, POLICY, reached_at
from dispatcher.console.routes import ROUTES, ConsoleRoute
from dispatcher.errors import NotConfigured
from tests.console.conftest import BASE, PASSWORD, Browser, Seat
from tests.support.rows import Rows

NOBODY = "00000000-0000-4000-8000-000000000000"


def path_of(route: ConsoleRoute, lead_id: object = NOBODY) -> str:
    return (
        route.path.replace("{id}", str(lead_id))
        .replace("{account}", "default")
        .replace("{campaign}", "42")
        .replace("{number}", "1")
    )


def ask(browser: Browser, route: ConsoleRoute, path: str, **more: Any) -> Any:
    return browser.get(path) if route.method == "GET" else browser.post(path, **more)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_door_is_closed_to_strangers(closed_seat: Seat, route: ConsoleRoute) -> None:
    answer = ask(closed_seat.browser(), route, path_of(route))
    assert answer.status_code == (303 if route.method == "GET" else 401)
    if route.method == "GET":
        assert answer.headers["location"].startswith("/login")


@pytest.mark.parametrize("role", list(Role))
def test_a_door_opens_from_its_role_upwards(seat: Seat, rows: Rows, role: Role) -> None:
    browser = seat.browser(role)
    for route in ROUTES:
        answer = ask(browser, route, path_of(route, rows.failed(phone=f"+4477009{len(rows.audited()):05d}")))
        opened = {200, 303, 400, 409} if role.includes(route.role) else {403}
        assert answer.status_code in opened, f"{role} at {route.method} {route.path}: {answer.status_code}"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_the_other_methods_are_refused(closed_seat: Seat, route: ConsoleRoute) -> None:
    allowed = {other.method for other in ROUTES if other.path == route.path}
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - allowed:
        assert closed_seat.browser(Role.ADMIN).client.request(method, path_of(route)).status_code == 405


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("", {}),
        ("forged", {}),
        (None, {"origin": "https://evil.example"}),
        (None, {"origin": None}),
        (None, {"origin": "null"}),
        (None, {"sec-fetch-site": "cross-site"}),
        (None, {"sec-fetch-site": "same-site"}),
        (None, {"sec-fetch-site": "none"}),
        (None, {"origin": "http://127.0.0.1:9999"}),
    ],
)
def test_a_forged_form_is_refused_before_anything_is_asked(
    closed_seat: Seat, token: str | None, headers: dict[str, str | None]
) -> None:
    browser = closed_seat.browser(Role.ADMIN)
    for path in [*(path_of(route) for route in ROUTES if route.method == "POST"), "/logout"]:
        answer = browser.post(path, {"verb": "replay", "note": "x"}, token=token, headers=headers)
        assert answer.status_code == 403, path
    assert browser.session is not None
    assert closed_seat.console.sessions.find(browser.client.cookies[closed_seat.console.cookie])


def test_a_login_from_another_site_is_refused(closed_seat: Seat) -> None:
    given = {"name": "olga", "password": PASSWORD}
    for headers in ({"origin": "https://evil.example"}, {"origin": None}, {"sec-fetch-site": "cross-site"}):
        assert closed_seat.browser().post("/login", given, headers=headers).status_code == 403


def test_a_browser_that_names_its_own_site_needs_no_origin(closed_seat: Seat) -> None:
    answer = closed_seat.browser(Role.VIEWER).post(
        "/theme", {"theme": "dark"}, headers={"origin": "null", "sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 303


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "127.0.0.1", "127.0.0.1:80", "", "127.0.0.1:8321.evil"]
)
def test_other_names_of_this_machine_are_refused(closed_seat: Seat, host: str) -> None:
    for path in ("/", "/login", "/static/console.css"):
        assert closed_seat.browser(Role.ADMIN).get(path, headers={"host": host}).status_code == 400


def test_forwarded_names_are_not_believed(closed_seat: Seat) -> None:
    answer = closed_seat.browser(Role.ADMIN).get(
        "/", headers={"host": "evil.example", "x-forwarded-host": "127.0.0.1:8321"}
    )
    assert answer.status_code == 400


def test_every_answer_has_the_strict_headers(seat: Seat) -> None:
    paths = {path_of(route) for route in ROUTES if route.method == "GET"} | {"/login", "/nothing", "/static/nothing"}
    for browser in (seat.browser(), seat.browser(Role.ADMIN)):
        for path in sorted(paths):
            headers = browser.get(path).headers
            assert {name: headers[name] for name in HEADERS} == HEADERS, path
            assert "server" not in headers
    assert "unsafe" not in POLICY


def test_static_files_may_be_kept_and_say_what_they_are(closed_seat: Seat) -> None:
    for name, kind in (("console.css", "text/css"), ("console.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = closed_seat.browser().get(f"/static/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-security-policy"] == POLICY
    assert closed_seat.browser().get("/static/../app.py").status_code == 404


def test_an_error_shows_a_number_and_nothing_else(closed_seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("+12025550101 and the password")

    monkeypatch.setattr(type(closed_seat.console.services), "overview", fail)
    answer = closed_seat.browser(Role.ADMIN).get("/")
    assert answer.status_code == 500
    assert "5550101" not in answer.text
    assert "password" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


# Logging in -----------------------------------------------------------------------------------------------------------


def test_the_right_password_opens_and_is_written_down(seat: Seat, rows: Rows) -> None:
    browser = seat.browser()
    answer = browser.post("/login", {"name": "olga", "password": PASSWORD, "next": "/failed?campaign=42"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/failed?campaign=42")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    assert browser.get("/").status_code == 200
    assert [(actor, action) for actor, action, _, _ in rows.audited()] == [("olga@console", "login")]


@pytest.mark.parametrize(("name", "password"), [("olga", "wrong"), ("nobody", PASSWORD), ("", ""), ("olga", "")])
def test_anything_else_stays_outside(closed_seat: Seat, name: str, password: str) -> None:
    answer = closed_seat.browser().post("/login", {"name": name, "password": password})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "onwards", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "\\\\evil"]
)
def test_a_login_leads_to_no_other_site(seat: Seat, onwards: str) -> None:
    answer = seat.browser().post("/login", {"name": "olga", "password": PASSWORD, "next": onwards})
    assert answer.headers["location"] == "/"


def test_a_login_begins_a_session_of_its_own(seat: Seat) -> None:
    browser = seat.browser()
    browser.client.cookies.set(seat.console.cookie, "planted", domain="127.0.0.1")
    browser.post("/login", {"name": "olga", "password": PASSWORD})
    assert seat.console.sessions.find("planted") is None
    first = browser.client.cookies.get(seat.console.cookie, domain="127.0.0.1")
    browser.post("/login", {"name": "olga", "password": PASSWORD})
    assert seat.console.sessions.find(first) is None


def test_guessing_is_slowed_down_and_a_right_password_waits_too(seat: Seat) -> None:
    for _ in range(5):
        assert seat.browser().post("/login", {"name": "olga", "password": "wrong"}).status_code == 401
    waiting = seat.browser().post("/login", {"name": "olga", "password": PASSWORD})
    assert (waiting.status_code, waiting.headers["retry-after"]) == (429, "5")
    seat.clock.now += 6
    assert seat.browser().post("/login", {"name": "olga", "password": PASSWORD}).status_code == 303


def test_the_status_of_a_login_does_not_hang_on_its_words(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "WRONG", "Wait: name or password is wrong.")
    monkeypatch.setattr(login, "TOO_MANY", "Later.")
    statuses = [seat.browser().post("/login", {"name": "olga", "password": "x"}).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]


def test_a_session_ends_when_idle_when_old_and_at_log_out(closed_seat: Seat) -> None:
    idle, old, leaving = (closed_seat.browser(Role.VIEWER) for _ in range(3))
    assert leaving.post("/logout").status_code == 303
    assert leaving.get("/").status_code == 303
    closed_seat.clock.now += 1000
    assert old.post("/theme").status_code == 303
    closed_seat.clock.now += 1000
    assert idle.post("/theme").status_code == 401
    until = closed_seat.clock.now + LONGEST_SECONDS
    while closed_seat.clock.now < until and old.post("/theme").status_code == 303:
        closed_seat.clock.now += 1000
    assert closed_seat.clock.now < until, "a busy session never ended"


def test_whoever_is_struck_off_is_out_at_once(closed_seat: Seat) -> None:
    browser = closed_seat.browser(Role.ADMIN)
    closed_seat.console.login.users._known = {}
    assert browser.get("/").status_code == 303


def test_with_tls_the_cookie_is_bound_to_the_host(make_seat: Callable[..., Seat]) -> None:
    origin = reached_at("0.0.0.0", 8321, public="https://leads.example.com", users=True)  # noqa: S104 - what is tested
    seat = make_seat(origin=origin)
    host = {"host": "leads.example.com", "origin": "https://leads.example.com"}
    answer = seat.browser().post("/login", {"name": "ada", "password": PASSWORD}, headers=host)
    assert answer.headers["set-cookie"].startswith("__Host-dispatcher=")
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"]


def test_without_users_the_printed_link_opens_once(make_seat: Callable[..., Seat]) -> None:
    seat = make_seat(with_users=False)
    (key,) = seat.printed
    page = seat.browser().get(f"/login?key={key}")
    assert page.status_code == 200
    assert "set-cookie" not in page.headers, "reading the link must not use it up"
    assert seat.browser().post("/login", {"key": key}).status_code == 303
    assert seat.browser().post("/login", {"key": key}).status_code == 401
    assert len(seat.printed) == 2
    assert seat.printed[1] != key
    assert seat.browser().post("/login", {"name": "ada", "password": PASSWORD}).status_code == 401


# Where it may listen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "public", "users"),
    [
        ("0.0.0.0", None, False),  # noqa: S104 - what is refused
        ("0.0.0.0", "https://leads.example.com", False),  # noqa: S104
        ("10.0.0.5", None, True),
        ("10.0.0.5", "http://leads.example.com", True),
        ("127.0.0.1", "https://leads.example.com", False),
        ("127.0.0.1", "http://leads.example.com", True),
        ("::", None, False),
        ("localhost.evil.example", None, False),
    ],
)
def test_it_refuses_to_be_open_to_strangers(host: str, public: str | None, users: bool) -> None:
    with pytest.raises(NotConfigured):
        reached_at(host, 8321, public=public, users=users)


def test_a_published_port_of_a_container_is_this_machine() -> None:
    origin = reached_at("0.0.0.0", 8321, public="http://localhost:8321", users=True)  # noqa: S104 - what is tested
    assert origin.hosts == {"localhost:8321"}


@pytest.mark.parametrize(
    "line", ["ada", "ada:admin", "ada:root:x", "a b:admin:x", "ada:admin:plaintext", f"ada:admin:{'$' * 9}"]
)
def test_a_broken_user_is_refused_without_being_shown(line: str) -> None:
    with pytest.raises(NotConfigured) as refusal:
        Users(Secret(line), None)
    assert "plaintext" not in str(refusal.value)


def test_passwords_are_salted_slow_and_long_enough() -> None:
    first, second = hash_password(PASSWORD), hash_password(PASSWORD)
    assert first != second
    assert PASSWORD not in first
    assert "$" not in first
    people = Users(Secret(f"ada:admin:{first}"), None)
    assert people.check("ada", PASSWORD) is not None
    assert people.check("ada", PASSWORD + "x") is None
    with pytest.raises(NotConfigured):
        hash_password("short")


def test_a_huge_form_is_refused(closed_seat: Seat) -> None:
    browser = closed_seat.browser(Role.OPERATOR)
    assert browser.post("/theme", {"theme": "x" * 1_100_000}).status_code == 413
    chunked = browser.client.post(
        "/theme",
        content=iter([b"x" * 600_000] * 2),
        headers={"origin": BASE, "content-type": "application/x-www-form-urlencoded"},
    )
    assert chunked.status_code == 400
    assert (
        browser.client.post("/theme", json={"csrf": browser.session.csrf}, headers={"origin": BASE}).status_code == 400
    )
