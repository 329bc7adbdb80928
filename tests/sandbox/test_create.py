"""Creating leads: the documented answer, its known variations, validation, duplicates."""

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.sandbox.client import NUMBER, Start, lead

CONTACT = "+12025550101"


def test_the_answer_is_the_documented_one(start: Start) -> None:
    """Same fields, same nesting as on Voicery's page."""
    api = start()
    contacts = [{"phone_number": CONTACT, "variables": {"customer_name": "Bob"}}]
    body = lead(variables={"customer_name": "Ada"}, allow_dupplicate=True, secondary_contacts=contacts)

    answer = api.post(body)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    data = answer.json()["data"]
    at = data["created_at"]
    assert answer.json() == {
        "message": "Lead created successfully",
        "data": {
            "id": 1,
            "campaign_id": 42,
            "phone_number": NUMBER,
            "variables": {"customer_name": "Ada"},
            "status": "created",
            "created_at": at,
            "updated_at": at,
            "campaign": {"id": 42, "name": "Campaign 42"},
            "secondary_contacts": [
                {
                    "id": 2,
                    "phone_number": CONTACT,
                    "variables": {"customer_name": "Bob"},
                    "status": "created",
                    "created_at": at,
                    "updated_at": at,
                }
            ],
        },
    }
    created = dt.datetime.strptime(at, "%Y-%m-%d %H:%M:%S").replace(tzinfo=dt.UTC)
    assert abs(dt.datetime.now(dt.UTC) - created) < dt.timedelta(minutes=1)


def test_ids_of_leads_and_contacts_are_never_shared(start: Start) -> None:
    api = start()
    api.post(lead(secondary_contacts=[{"phone_number": CONTACT}]))
    assert api.post(lead(campaign_id=43)).json()["data"]["id"] == 3


@pytest.mark.parametrize(
    ("options", "look", "expected"),
    [
        ({"ids_as_strings": True}, lambda r: r.json()["data"]["id"], "1"),
        ({"wrap_in_list": True}, lambda r: r.json()[0]["data"]["id"], 1),
        ({"created_status": 201}, lambda r: r.status_code, 201),
        ({"known_variables": frozenset({"a"})}, lambda r: r.json()["data"]["variables"], {"a": 1}),
        ({"campaigns": {42: "Spring"}}, lambda r: r.json()["data"]["campaign"]["name"], "Spring"),
    ],
)
def test_known_variations_can_be_asked_for(
    start: Start, options: dict[str, Any], look: Callable[[Any], Any], expected: Any
) -> None:
    assert expected == look(start(**options).post(lead(variables={"a": 1, "b": 2})))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"campaign_id": 42}, "phone_number"),
        (lead("12"), "phone_number"),
        (lead("not a number"), "phone_number"),
        ({"phone_number": NUMBER}, "campaign_id"),
        (lead(campaign_id="x"), "campaign_id"),
        (lead(campaign_id=0), "campaign_id"),
        (lead(campaign_id=True), "campaign_id"),
        (lead(variables="x"), "variables"),
        (lead(allow_dupplicate="yes"), "allow_dupplicate"),
        (lead(secondary_contacts=[{}]), "secondary_contacts.0.phone_number"),
        ([1], "phone_number"),
    ],
)
def test_an_invalid_body_is_refused_as_laravel_does_and_creates_nothing(start: Start, body: Any, field: str) -> None:
    api = start()
    answer = api.post(body)
    assert answer.status_code == 422
    assert field in answer.json()["errors"]
    assert answer.json()["message"].startswith(next(iter(answer.json()["errors"].values()))[0])
    assert api.sandbox.leads == []


def test_a_campaign_outside_the_configured_ones_does_not_exist(start: Start) -> None:
    assert start(campaigns={7: "Only"}).post(lead(campaign_id=8)).status_code == 422


def test_an_empty_php_array_is_an_empty_object(start: Start) -> None:
    assert start().post(lead(variables=[])).json()["data"]["variables"] == {}


@pytest.mark.parametrize(("form", "status"), [("409", 409), ("422", 422)])
def test_a_duplicate_is_refused_in_the_configured_form(start: Start, form: str, status: int) -> None:
    from dispatcher.sandbox.options import DuplicateForm

    api = start(duplicate_form=DuplicateForm(form))
    api.post()
    again = api.post(lead(NUMBER.lstrip("+")))
    assert again.status_code == status
    assert "already exists" in again.text
    assert len(api.sandbox.leads) == 1
    assert [entry.effect for entry in api.sandbox.log] == ["created", "refused"]


def test_a_duplicate_can_be_answered_with_the_existing_lead(start: Start) -> None:
    from dispatcher.sandbox.options import DuplicateForm

    api = start(duplicate_form=DuplicateForm.EXISTING)
    first = api.post().json()["data"]["id"]
    again = api.post()
    assert (again.status_code, again.json()["data"]["id"]) == (200, first)
    assert api.sandbox.log[-1].effect == "found"


def test_a_duplicate_is_created_when_allowed_or_in_another_campaign(start: Start) -> None:
    api = start()
    api.post()
    assert api.post(lead(allow_dupplicate=True)).status_code == 200
    assert api.post(lead(campaign_id=43)).status_code == 200
    assert len(api.sandbox.leads) == 3


@pytest.mark.parametrize("token", ["", "wrong"])
def test_only_the_given_token_is_let_in(start: Start, token: str) -> None:
    api = start(token="right")
    answer = api.post(token=token)
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthenticated."})
    assert api.post(token="right").status_code == 200


def test_without_a_given_token_any_but_none_is_let_in(start: Start) -> None:
    api = start()
    assert api.post(token="").status_code == 401
    assert api.post(token="whatever").status_code == 200


def test_other_routes_and_methods_are_refused(start: Start) -> None:
    api = start()
    assert api._call("POST", "/user/else", "t").status_code == 404
    assert api._call("GET", "/user/lead", "t").status_code == 405
    assert api._call("POST", "/user/leads", "t").status_code == 405


def test_of_many_posts_of_one_number_at_once_one_creates(start: Start) -> None:
    api = start()
    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(answer.status_code for answer in pool.map(lambda _: api.post(), range(32)))
    assert statuses == [200] + [409] * 31
    assert len(api.sandbox.leads) == 1


def test_many_posts_at_once_all_get_ids_of_their_own(start: Start) -> None:
    api = start(latency_seconds=0.01)
    bodies = [lead(f"+1202555{n:04d}") for n in range(100, 200)]
    with ThreadPoolExecutor(16) as pool:
        ids = {answer.json()["data"]["id"] for answer in pool.map(api.post, bodies)}
    assert ids == set(range(1, 101))
    assert {entry.lead_id for entry in api.sandbox.log} == ids
