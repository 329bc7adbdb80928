"""Whatever is asked of the console, it answers with a page: never a 500, never a traceback, never text that runs."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.console.auth import Role
from dispatcher.console.filters import _READERS
from dispatcher.console.routes import ROUTES
from tests.console.conftest import Seat
from tests.support.fuzzing import TRIED, fuzzed, texts
from tests.support.rows import Rows

PARAMETERS = (*_READERS, "q", "page", "after", "sort", "next", "account", "campaign", "reveal", "kind")
FIELDS = (*PARAMETERS, "filters", "scope", "total", "action", "id", "ids", "start", "note", "limit", "until", "confirm",
          "phone_number", "variables", "campaign_id", "username", "password", "seen", "resolution", "pace")  # fmt: skip
PLAUSIBLE = ("42", "1", "0", "all", "selected", "replay", "resolve", "cancel", "look_up", "yes", "no", "exhausted",
             "outcome_unknown", "default", "2h", "tomorrow 09:00", "2026-11-23T14:00Z", "100/minute", "off",
             "+12025550101", "0101", '{"a": "b"}', "class=exhausted", "a=b", "not_called", "called")  # fmt: skip
values = st.one_of(texts, st.sampled_from(PLAUSIBLE))
pairs = st.lists(st.tuples(st.sampled_from(PARAMETERS), values), max_size=4)
fields = st.lists(st.tuples(st.sampled_from(FIELDS), values), max_size=8)
parts = st.one_of(values, st.just("00000000-0000-7000-8000-000000000000"))
SCRIPT = "<script>"


def encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def printable(text: str) -> str:
    """As a browser sends it."""
    return text.encode("utf-8", "replace").decode()


def sound(response: object) -> None:
    status, body = response.status_code, response.text  # type: ignore[attr-defined]
    assert status < 500, body[:500]
    assert "Traceback" not in body
    assert SCRIPT not in body.replace('<script src="', "")


@pytest.fixture
def stored(rows: Rows) -> list[str]:
    """The ids of leads in several states."""
    makers = (rows.failed, rows.unknown, rows.failed_unknown, rows.lead)
    return [str(make(phone=f"+1202555010{number}")) for number, make in enumerate(makers)]


@fuzzed(120)
@given(data=st.data(), asked=pairs, sent=fields)
def test_every_route_answers_whatever_it_is_asked(
    seat: Seat, stored: list[str], data: st.DataObject, asked: list[tuple[str, str]], sent: list[tuple[str, str]]
) -> None:
    TRIED["console routes"] += 1
    ids = st.integers(0, len(stored) - 1).map(stored.__getitem__)
    route = data.draw(st.sampled_from(ROUTES))
    path = route.path
    for name in ("id", "account", "campaign", "number"):
        path = path.replace(f"{{{name}}}", encoded(data.draw(st.one_of(ids, parts) if name == "id" else parts)) or "x")
    query = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in asked)
    browser = seat.browser(data.draw(st.sampled_from([None, *Role])))
    if route.method == "GET":
        sound(browser.get(f"{path}?{query}"))
    else:
        form = [(name, data.draw(ids) if name in ("id", "ids") else printable(value)) for name, value in sent]
        sound(browser.post(f"{path}?{query}", form))


def test_a_lead_with_nasty_words_is_shown(seat: Seat, rows: Rows) -> None:
    rows.failed(message="</script><script>alert(1)</script>\"'")
    for path in ("/failed", "/failed/rows"):
        sound(seat.browser(Role.ADMIN).get(path))
