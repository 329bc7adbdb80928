"""Whatever is asked of the console, it answers with a page: never a 500, never a traceback, never text that runs."""

from collections.abc import Callable
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.console.app import ROUTES
from dispatcher.console.auth import Role
from dispatcher.console.filters import _READERS
from tests.console.conftest import Seat
from tests.support.fuzzing import TRIED, fuzzed, texts
from tests.support.rows import Rows

PARAMETERS = (*_READERS, "q", "page", "after", "sort", "next", "account", "campaign", "reveal", "kind")
FIELDS = (*PARAMETERS, "filters", "scope", "total", "action", "id", "ids", "start", "note", "limit", "until", "confirm",
          "phone_number", "variables", "campaign_id", "username", "password", "csrf", "seen")  # fmt: skip
pairs = st.lists(st.tuples(st.sampled_from(PARAMETERS), texts), max_size=4)
fields = st.lists(st.tuples(st.sampled_from(FIELDS), texts), max_size=6)
parts = st.one_of(texts, st.sampled_from(["default", "42", "1", "0190", "00000000-0000-7000-8000-000000000000"]))
SCRIPT = "<script>"


def encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def sound(response: object) -> None:
    status, body = response.status_code, response.text  # type: ignore[attr-defined]
    assert status < 500, body[:500]
    assert "Traceback" not in body
    assert SCRIPT not in body.replace('<script src="', "")


@fuzzed(120)
@given(data=st.data(), asked=pairs, sent=fields)
def test_every_route_answers_whatever_it_is_asked(
    make_seat: Callable[..., Seat], data: st.DataObject, asked: list[tuple[str, str]], sent: list[tuple[str, str]]
) -> None:
    TRIED["console routes"] += 1
    seat = SEATS.setdefault(id(make_seat), make_seat())
    route = data.draw(st.sampled_from(ROUTES))
    path = route.path
    for name in ("id", "account", "campaign", "number"):
        path = path.replace(f"{{{name}}}", encoded(data.draw(parts)) or "x")
    query = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in asked)
    browser = seat.browser(data.draw(st.sampled_from([None, *Role])))
    if route.method == "GET":
        sound(browser.get(f"{path}?{query}"))
    else:
        sound(
            browser.post(f"{path}?{query}", [(name, value.encode("utf-8", "replace").decode()) for name, value in sent])
        )


SEATS: dict[int, Seat] = {}
"""The console of a test: one for all its inputs."""


def test_a_lead_with_nasty_words_is_shown(seat: Seat, rows: Rows) -> None:
    rows.failed(message="</script><script>alert(1)</script>\"'")
    for path in ("/failed", "/failed/rows"):
        sound(seat.browser(Role.ADMIN).get(path))
