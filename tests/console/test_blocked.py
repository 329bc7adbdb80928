"""The page of who must not be called: seen by viewers, changed by operators, masked for everybody who may not see."""

from dispatcher.console.auth import Role
from tests.console.conftest import Seat
from tests.support.rows import ADA, BOB, Rows


def test_a_number_is_blocked_listed_and_unblocked(seat: Seat, rows: Rows) -> None:
    operator = seat.browser(Role.OPERATOR)
    assert "Nobody is blocked" in operator.get("/blocked").text

    operator.post("/blocked", {"phone_number": ADA, "reason": "asked by phone", "until": "365d", "account": "sales"})
    page = operator.get("/blocked").text
    assert "asked by phone" in page
    assert "•••0101" in page
    assert ADA[-7:] not in page
    block = rows.one("SELECT id, account, source, who, until FROM dispatcher.blocks")
    assert (block.account, block.source, block.who) == ("sales", "console", "olga@console")
    assert block.until is not None

    operator.post(f"/blocked/{block.id}/remove")
    assert "Unblocked" in operator.get("/blocked").text
    operator.post(f"/blocked/{block.id}/remove")
    assert "removed meanwhile" in operator.get("/blocked").text
    assert rows.rows("SELECT FROM dispatcher.blocks") == []


def test_what_cannot_be_blocked_is_said_and_not_repeated(seat: Seat, rows: Rows) -> None:
    operator = seat.browser(Role.OPERATOR)
    for fields, words in (
        ({"phone_number": "+1202555"}, "phone_number"),
        ({"phone_number": ADA, "until": "soon"}, "as a time"),
        ({"phone_number": ADA, "account": "No Name"}, "not a name of an account"),
        ({"phone_number": ADA, "hash_only": "yes"}, "DISPATCHER_PRIVACY_KEY"),
    ):
        assert operator.post("/blocked", fields).status_code == 303
        page = operator.get("/blocked").text
        assert words in page
        assert ADA not in page
    assert rows.rows("SELECT FROM dispatcher.blocks") == []
    assert operator.get("/blocked?before=x").status_code == 400


def test_the_person_of_a_lead_is_blocked_and_the_page_says_that_nothing_is_sent(seat: Seat, rows: Rows) -> None:
    lead = rows.failed(phone=BOB)
    operator, viewer = seat.browser(Role.OPERATOR), seat.browser(Role.VIEWER)
    assert "Have nobody call this number" in operator.get(f"/leads/{lead}").text
    assert "Have nobody call this number" not in viewer.get(f"/leads/{lead}").text

    operator.post(f"/leads/{lead}/block", {"reason": "asked"})

    page = operator.get(f"/leads/{lead}").text
    assert "Nothing is sent: the person is on the list" in page
    assert "dispatcher unblock" in page
    operator.post(f"/leads/{lead}/replay")
    assert rows.one("SELECT state FROM dispatcher.leads WHERE id = :id", id=lead).state == "failed"
    assert viewer.post(f"/leads/{lead}/block").status_code == 403
