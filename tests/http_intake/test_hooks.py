"""`POST /v1/hooks/…`: the bodies of CRMs, read by a mapping, and the three ways to send the key."""

from base64 import b64encode
from typing import Any

import pytest

from dispatcher.http_intake.mappings import Mappings, WebhookMapping, at, pointer_of
from tests.http_intake.conftest import Served
from tests.support.rows import ADA
from tests.support.waiting import wait_until

FACEBOOK = {
    "leadgen_id": 991,
    "field_data": [
        {"name": "phone_number", "values": [ADA]},
        {"name": "full_name", "values": ["Ada"]},
    ],
}


def store(served: Served, name: str, campaign: int | None, fields: dict[str, str], **more: Any) -> None:
    fixed = {} if campaign is None else {"campaign_id": campaign}
    Mappings(served.database).put(WebhookMapping("default", name, fields, fixed, **more), actor="test")


def test_json_with_lists_becomes_a_lead_and_its_repetition_the_same(served: Served, key: str, campaign: int) -> None:
    fields = {
        "phone_number": "field_data[name=phone_number].values[0]",
        "variables.customer_name": "field_data[name=full_name].values[0]",
        "variables.city": "field_data[name=city].values[0]",
        "idempotency_key": "leadgen_id",
    }
    store(served, "facebook", campaign, fields)
    first, again = (served.ask("POST", "/v1/hooks/facebook", key, json=FACEBOOK) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 200)
    row = served.rows.one(
        "SELECT variables, idempotency_key FROM dispatcher.leads WHERE campaign_id = :id", id=campaign
    )
    assert (row.variables, row.idempotency_key) == ({"customer_name": "Ada"}, "991")


def test_a_form_becomes_a_lead(served: Served, key: str, campaign: int) -> None:
    fields = {
        "phone_number": '"contact[phone]"', "campaign_id": "campaign", "allow_dupplicate": "again",
        "priority": "priority", "variables.name": "contact.name", "not_before": "from",
    }  # fmt: skip
    store(served, "form", None, fields, country="US")
    form = {
        "contact[phone]": "(202) 555-0101", "campaign": str(campaign), "again": "TRUE", "priority": "3",
        "contact.name": "Äda", "from": "2030-01-01T00:00Z", "empty": "",
    }  # fmt: skip
    answer = served.ask("POST", "/v1/hooks/form", key, data=form)

    assert answer.status_code == 201, answer.text
    row = served.rows.one(
        "SELECT phone_number, allow_dupplicate, priority, variables FROM dispatcher.leads WHERE campaign_id = :id",
        id=campaign,
    )
    assert (row.phone_number, row.allow_dupplicate, row.priority, row.variables) == (ADA, True, 3, {"name": "Äda"})


def test_the_key_of_a_webhook_may_stand_in_its_url_and_opens_nothing_else(
    served: Served, campaign: int, lead: dict[str, Any]
) -> None:
    store(served, "crm", campaign, {"phone_number": "phone_number"})
    store(served, "other", campaign, {"phone_number": "phone_number"})
    hook, general = served.key(campaign, mapping="crm").secret, served.key(campaign).secret
    body = {"phone_number": ADA}

    def status(path: str, bearer: str | None = None, password: str | None = None) -> int:
        headers = {} if password is None else {"Authorization": f"Basic {b64encode(f'x:{password}'.encode()).decode()}"}
        return served.ask("POST", path, bearer, json=body, headers=headers).status_code

    assert status(f"/v1/hooks/crm/{hook}") == 201
    assert status("/v1/hooks/crm", hook) == status("/v1/hooks/crm", password=hook) == 201
    assert status("/v1/hooks/crm", general) == status("/v1/hooks/crm", password=general) == 201
    assert status(f"/v1/hooks/crm/{general}") == 403, "a key of more than a webhook does not belong into a URL"
    assert status(f"/v1/hooks/other/{hook}") == status("/v1/hooks/other", hook) == 403
    assert served.submit(hook, lead).status_code == 403
    assert served.ask("GET", "/v1/leads/x", hook).status_code == 403
    assert status("/v1/leads", password=general) == 401


def test_faults_point_into_the_webhooks_body(served: Served, key: str, campaign: int) -> None:
    store(served, "faulty", campaign, {"phone_number": "p.phone", "priority": "p.list[1]", "variables.x": "p.x"})
    answer = served.ask("POST", "/v1/hooks/faulty", key, json={"p": {"phone": "12", "list": [0, "high"]}})
    missing = served.ask("POST", "/v1/hooks/faulty", key, json={})

    assert answer.status_code == 422
    assert {(one["field"], one["pointer"]) for one in answer.json()["errors"]} == {
        ("phone_number", "/p/phone"),
        ("priority", "/p/list/1"),
    }
    assert [(one["pointer"], one["fault"]) for one in missing.json()["errors"]] == [("/p/phone", "is missing")]


def test_what_is_no_form_no_mapping_or_no_object_is_refused(served: Served, key: str, campaign: int) -> None:
    store(served, "strict", campaign, {"phone_number": "phone"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = [
        served.ask("POST", "/v1/hooks/strict", key, data=b"phone=%ff", headers=form),
        served.ask("POST", "/v1/hooks/strict", key, data=b"&".join([b"a=1"] * 201), headers=form),
        served.ask("POST", "/v1/hooks/strict", key, json=[{"phone": ADA}]),
        served.ask("POST", "/v1/hooks/strict", key, data=b"phone=1&phone=2", headers=form),
        served.ask("POST", "/v1/hooks/nothing", key, json={}),
    ]

    assert [answer.status_code for answer in refused] == [400, 400, 400, 422, 404]
    assert "phone" in refused[3].json()["errors"][0]["pointer"]


def test_a_mapping_that_was_changed_or_removed_counts_within_a_second(served: Served, key: str, campaign: int) -> None:
    store(served, "moving", campaign, {"phone_number": "a"})
    assert served.ask("POST", "/v1/hooks/moving", key, json={"a": ADA}).status_code == 201
    store(served, "moving", campaign, {"phone_number": "b"})
    wait_until(
        lambda: served.ask("POST", "/v1/hooks/moving", key, json={"b": ADA}).status_code == 201, 20, "the new one"
    )
    Mappings(served.database).remove("default", "moving", actor="test")
    wait_until(lambda: served.ask("POST", "/v1/hooks/moving", key, json={"b": ADA}).status_code == 404, 20, "its end")


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("a.b", 1, "/a/b"),
        ("a.none", None, "/a/none"),
        ("list[0].x", 2, "/list/0/x"),
        ("list[9]", None, "/list/9"),
        ("list[x=2].y", 3, "/list/0/y"),
        ("list[x=7].y", None, "/list"),
        ('"d.o"', 4, "/d.o"),
        ("d.o", 4, "/d.o"),
        ('a."b/c"', 5, "/a/b~1c"),
        ("a.b.c", None, "/a/b/c"),
    ],
)
def test_a_path_leads_to_a_value(path: str, value: object, pointer: str) -> None:
    body = {"a": {"b": 1, "b/c": 5}, "list": [{"x": 2, "y": 3}], "d.o": 4}

    assert at(body, path) == value
    assert pointer_of(path, body) == pointer
