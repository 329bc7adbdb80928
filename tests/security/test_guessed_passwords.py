"""Passwords are guessed one after the other at most, by whoever tries, and nobody locks a stranger's name."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.config.setting import Secret
from dispatcher.config.urls import networks
from dispatcher.console.auth import Role, Sessions, User, Users, hash_password
from dispatcher.console.login import Login, LoginRefused
from dispatcher.errors import NotConfigured
from dispatcher.web.server import behind
from dispatcher.web.throttle import NAME, SOURCE, Throttle, source_of
from tests.console.conftest import PASSWORD, Seat
from tests.support.doubles import Clock
from tests.support.rows import Rows


class Checked(Users):
    """Users whose checks are counted, and which all wait until every thread has asked."""

    def __init__(self, together: threading.Barrier | None = None) -> None:
        super().__init__(None, None)
        self.checks: list[str] = []
        self._together = together

    def check(self, name: str, password: str) -> User | None:
        self.checks.append(password)
        return User(name, Role.VIEWER) if password == PASSWORD else None


def guess_in_parallel(login: Login, guesses: int, source: Callable[[int], str]) -> list[User | LoginRefused]:
    answers: list[User | LoginRefused] = []
    begin = threading.Barrier(guesses)

    def guess(number: int) -> None:
        begin.wait()
        answers.append(login.by_password("olga", f"guess {number}", source(number)))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(guesses)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_of_120_parallel_guesses_of_one_source_no_more_are_checked_than_one_after_the_other() -> None:
    people = Checked()
    answers = guess_in_parallel(Login(people, None, Throttle(Clock())), 120, lambda _: "198.51.100.7")
    assert len(people.checks) == SOURCE.free
    assert sum(isinstance(one, LoginRefused) and one.wait_seconds > 0 for one in answers) == 120 - SOURCE.free


def test_of_120_parallel_guesses_of_120_sources_no_more_are_checked_than_the_name_admits() -> None:
    people = Checked()
    guess_in_parallel(Login(people, None, Throttle(Clock())), 120, lambda number: f"198.51.100.{number}")
    assert len(people.checks) == NAME.free


def test_a_guesser_locks_its_own_address_and_not_the_owner_of_the_name() -> None:
    clock, people = Clock(), Checked()
    login = Login(people, None, Throttle(clock))
    for _ in range(200):
        login.by_password("olga", "guess", "198.51.100.7")
        clock.now += 1
    assert isinstance(login.by_password("olga", PASSWORD, "203.0.113.9"), User)


def test_a_name_that_many_sources_guess_at_is_delayed_by_half_a_minute_at_the_most() -> None:
    clock = Clock()
    login = Login(Checked(), None, Throttle(clock))
    assert isinstance(login.by_password("olga", PASSWORD, "203.0.113.9"), User)
    for number in range(400):
        login.by_password("olga", "guess", f"198.51.100.{number % 256}")
        clock.now += 0.1
    refused = login.by_password("olga", PASSWORD, "203.0.113.10")
    assert isinstance(refused, LoginRefused)
    assert 0 < refused.wait_seconds <= NAME.longest_seconds
    assert isinstance(login.by_password("olga", PASSWORD, "203.0.113.9"), User), "her usual address is exempt"
    clock.now += NAME.longest_seconds
    assert isinstance(login.by_password("olga", PASSWORD, "203.0.113.10"), User)


def test_a_login_of_ones_own_between_two_guesses_frees_no_source() -> None:
    people = Checked()
    login = Login(people, None, Throttle(Clock()))
    for _ in range(20):
        login.by_password("olga", "guess", "198.51.100.7")
        login.by_password("mallory", PASSWORD, "198.51.100.7")
    assert people.checks.count("guess") == SOURCE.free


def test_many_right_logins_of_one_address_lock_nobody() -> None:
    login = Login(Checked(), None, Throttle(Clock()))
    for number in range(50):
        assert isinstance(login.by_password(f"user{number}", PASSWORD, "198.51.100.7"), User)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:198.51.100.7", "198.51.100.7", True),
        ("198.51.100.7", "198.51.100.8", False),
    ],
)
def test_a_source_is_an_address_or_the_network_that_one_host_has_whole(one: str, other: str, same: bool) -> None:
    assert (source_of(one) == source_of(other)) is same


def test_what_is_remembered_of_guesses_is_bounded() -> None:
    throttle = Throttle(Clock())
    for number in range(25_000):
        throttle.admit(f"source{number}", f"name{number}")
    assert len(throttle._failures) <= 10_001


def test_behind_a_trusted_proxy_the_client_is_locked_and_not_the_proxy(seat: Seat) -> None:
    app = behind(seat.app, networks("10.0.0.0/24, 2001:db8::5"))
    seat.app = app  # type: ignore[assignment]  # what a browser reaches

    def status(forwarded: str, password: str, source: str = "10.0.0.5") -> int:
        answer = seat.browser(source=source).post(
            "/login", {"name": "olga", "password": password}, headers={"x-forwarded-for": forwarded}
        )
        return int(answer.status_code)

    for number in range(6):
        # What the client writes itself stands left of what the proxy has added, and changes nothing.
        status(f"203.0.113.{number}, 198.51.100.7", "wrong")
    assert status("198.51.100.7", PASSWORD) == 429
    assert status("203.0.113.9", PASSWORD) == 303
    for number in range(6):
        status(f"203.0.113.{number}", "wrong", source="192.0.2.1")
    assert status("203.0.113.77", PASSWORD, source="192.0.2.1") == 429, "a stranger's header was believed"


def test_no_proxy_is_trusted_unless_it_is_named(seat: Seat) -> None:
    assert behind(seat.app, ()) is seat.app
    with pytest.raises(ValueError, match="no address"):
        networks("10.0.0.0/24 proxy.example.com")


def test_failed_logins_are_in_the_log_and_in_the_audit_log_without_what_was_typed(
    seat: Seat, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("olga", "my secret passphrase"):
        seat.browser(source="198.51.100.7").post("/login", {"name": name, "password": "another secret passphrase"})
    noted = [(actor, action, detail) for actor, action, _, detail in rows.audited()]
    assert noted == [
        ("olga@console", "login_failed", {"from": "198.51.100.7"}),
        ("unknown@console", "login_failed", {"from": "198.51.100.7"}),
    ]
    logged = [record for record in caplog.records if record.getMessage() == "console.login_failed"]
    assert [(record.user, record.source) for record in logged] == [  # type: ignore[attr-defined]
        ("olga", "198.51.100.7"),
        ("unknown", "198.51.100.7"),
    ]
    assert "passphrase" not in caplog.text


@pytest.fixture(scope="module")
def lines() -> dict[str, str]:
    return {
        "olga": f"olga:operator:{hash_password(PASSWORD)}",
        "demoted": f"olga:viewer:{hash_password(PASSWORD)}",
        "changed": f"olga:operator:{hash_password('another password')}",
        "ada": f"ada:admin:{hash_password(PASSWORD)}",
    }


@pytest.mark.parametrize("change", ["ada", "demoted", "changed"])
def test_a_session_ends_with_its_user_without_any_login(
    closed_seat: Seat, lines: dict[str, str], tmp_path: Path, change: str
) -> None:
    file = tmp_path / "users"
    file.write_text(f"{lines['olga']}\n")
    people = closed_seat.console.login.users = Users(None, file)
    olga = people.find("olga")
    assert olga is not None
    browser = closed_seat.browser()
    cookie, _ = closed_seat.console.sessions.begin(olga)
    browser.client.cookies.set(closed_seat.console.cookie, cookie)
    assert browser.get("/login").status_code == 303, "she is logged in"

    times = file.stat()
    file.write_text(f"{lines[change]}\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert browser.get("/").headers["location"].startswith("/login")
    file.write_text(f"{lines['olga']}\n")
    assert browser.get("/").headers["location"].startswith("/login"), "the session came back with its user"


def test_while_the_users_cannot_be_read_nobody_acts_and_nobody_logs_in(
    closed_seat: Seat, lines: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "users"
    file.write_text(f"{lines['olga']}\n")
    people = closed_seat.console.login.users = Users(None, file)
    browser = closed_seat.browser()
    cookie, session = closed_seat.console.sessions.begin(people.find("olga") or User("", Role.VIEWER))
    browser.client.cookies.set(closed_seat.console.cookie, cookie)
    browser.session = session
    file.write_text("olga:operator\n")
    assert browser.post("/theme", {"theme": "dark"}).status_code == 401
    answer = browser.post("/login", {"name": "olga", "password": PASSWORD})
    assert answer.status_code == 401
    assert "cannot be read" in answer.text
    file.write_text(f"{lines['olga']}\n")
    assert browser.post("/theme", {"theme": "dark"}).status_code == 303


def test_a_stamp_tells_passwords_apart_and_shows_nothing(lines: dict[str, str]) -> None:
    (olga,) = [Users(Secret(lines["olga"]), None).find("olga")]
    assert olga is not None
    assert olga.stamp not in repr(olga)
    assert olga.stamp not in lines["olga"]
    with pytest.raises(NotConfigured):
        Users(None, Path("/nonexistent/users"))
    assert Sessions(60).find(None) is None
