"""`POST /v1/leads` and `GET /v1/leads/{id}`: what is stored, what is answered, and what is refused."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.intake.submit import Intake as Submitting
from tests.http_intake.conftest import CAMPAIGNS, Served
from tests.support.rows import ADA, BOB


def leads_of(served: Served, campaign: int) -> int:
    return int(
        served.rows.one("SELECT count(*) AS n FROM dispatcher.leads WHERE campaign_id = :campaign", campaign=campaign).n
    )


def test_a_lead_is_committed_before_201_and_can_be_asked_for(served: Served, key: str, lead: dict[str, Any]) -> None:
    answer = served.submit(key, {**lead, "priority": 5, "not_before": "2030-01-01T09:00+01:00"})

    assert answer.status_code == 201
    told = answer.json()
    assert (told["state"], told["created"], told["duplicate_of"]) == ("pending", True, None)
    row = served.rows.one(
        "SELECT state, priority, due_at, variables, account FROM dispatcher.leads WHERE id = :id", id=told["id"]
    )
    assert (row.state, row.priority, row.due_at.isoformat()) == ("pending", 5, "2030-01-01T08:00:00+00:00")
    assert (row.variables, row.account) == ({"customer_name": "Ada"}, "default")
    assert answer.headers["Location"] == f"/v1/leads/{told['id']}"
    shown = served.ask("GET", answer.headers["Location"], key)
    assert shown.status_code == 200
    assert (shown.json()["state"], shown.json()["phone_number"]) == ("pending", "+•••0101")
    assert shown.json()["meaning"] == told["meaning"]
    assert ADA not in answer.text + shown.text


def test_a_second_lead_of_the_number_is_a_duplicate_and_a_blocked_person_fails(
    served: Served, key: str, lead: dict[str, Any]
) -> None:
    first = served.submit(key, lead).json()
    second = served.submit(key, lead)
    served.rows.run("INSERT INTO dispatcher.blocks (number, account, who) VALUES (:number, NULL, 'test')", number=BOB)
    blocked = served.submit(key, {**lead, "phone_number": BOB})
    served.rows.run("DELETE FROM dispatcher.blocks")

    assert (second.status_code, second.json()["state"], second.json()["duplicate_of"]) == (
        201,
        "duplicate",
        first["id"],
    )
    assert (blocked.status_code, blocked.json()["state"]) == (201, "failed")
    assert "must not be called" in blocked.json()["meaning"]
    assert "must not be called" in served.ask("GET", f"/v1/leads/{blocked.json()['id']}", key).json()["meaning"]


def test_the_same_key_and_payload_is_the_same_lead_and_another_payload_is_refused(
    served: Served, key: str, lead: dict[str, Any], campaign: int
) -> None:
    name = f"order-{campaign}"
    first = served.submit(key, lead, name)
    again = served.submit(key, lead, f'"{name}"')  # as the draft of the IETF writes it
    other = served.submit(key, {**lead, "variables": {}}, name)
    both = served.submit(key, {**lead, "idempotency_key": "another"}, name)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert again.json()["created"] is False
    assert (other.status_code, other.json()["type"]) == (422, "/docs#idempotency-conflict")
    assert [one["field"] for one in both.json()["errors"]] == ["idempotency_key"]
    assert leads_of(served, campaign) == 1


def test_doubled_calls_at_once_are_one_lead(served: Served, key: str, lead: dict[str, Any], campaign: int) -> None:
    start = threading.Barrier(8)

    def call(number: int) -> Any:
        start.wait(60)
        answer = served.ask(
            "POST", "/v1/leads", key, json=lead, headers={"Idempotency-Key": f"twice-{campaign}-{number // 4}"}
        )
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(call, range(8)))

    for group in (told[:4], told[4:]):
        assert sorted(status for status, _ in group) == [200, 200, 200, 201]
        assert len({lead_id for _, lead_id in group}) == 1
    states = served.rows.rows("SELECT state FROM dispatcher.leads WHERE campaign_id = :id", id=campaign)
    assert sorted(row.state for row in states) == ["duplicate", "pending"]


def test_without_a_confirmed_commit_there_is_no_201_and_the_repetition_is_one_lead(
    served: Served, key: str, lead: dict[str, Any], campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Submitting._store_durably

    def answer_lost(self: Submitting, entry: Any, **how: Any) -> Any:
        stored(self, entry, **how)
        raise StoreUnavailable("The connection was lost.", entry.id)

    with monkeypatch.context() as patched:
        patched.setattr(Submitting, "_store_durably", answer_lost)
        unsure = served.submit(key, lead, f"unsure-{campaign}")
    again = served.submit(key, lead, f"unsure-{campaign}")

    assert (unsure.status_code, unsure.json()["type"]) == (503, "/docs#unavailable")
    assert int(unsure.headers["Retry-After"]) >= 1
    assert "Location" not in unsure.headers
    assert again.status_code == 200
    assert leads_of(served, campaign) == 1


def test_every_fault_is_told_at_once_with_its_place_and_never_the_value(served: Served, key: str) -> None:
    answer = served.submit(
        key,
        {
            "phone_number": "+999 123456789",
            "campaign_id": "42",
            "variables": {"a.b": 1e300, "deep": [[[[[1]]]]], "x/y": 10**30},
            "allow_dupplicate": "yes",
            "secondary_contacts": [{"phone_number": ADA}, {"phone_number": "12"}],
            "priority": 11,
            "not_before": "tomorrow",
            "phone": ADA,
        },
    )

    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    told = answer.json()
    assert (told["type"], told["status"]) == ("/docs#invalid-lead", 422)
    assert {one["pointer"] for one in told["errors"]} == {
        "/phone", "/phone_number", "/campaign_id", "/variables/deep/0/0/0/0", "/variables/x~1y", "/allow_dupplicate",
        "/secondary_contacts/1/phone_number", "/priority", "/not_before",
    }  # fmt: skip
    assert all(one["fault"] and one["remedy"] for one in told["errors"])
    faults = {one["field"]: one["fault"] for one in told["errors"]}
    assert faults["campaign_id"] == "is a string, not an integer"
    assert faults["allow_dupplicate"] == "is a string, not a boolean"
    assert "123456789" not in answer.text
    assert ADA not in answer.text


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"[]", 400, "an array, not an object"),
        (b"null", 400, "null, not an object"),
        (b'{"phone_number": "+12025550101", "phone_number": "+12025550102"}', 400, "phone_number twice"),
        (b'{"variables": {"a": 1, "a": 2}}', 400, "the name a twice"),
        (b'{"a": NaN}', 400, "NaN"),
        (b'{"a": -Infinity}', 400, "Infinity"),
        (b'{"a": "\xff"}', 400, "not UTF-8"),
        (b"\xef\xbb\xbf{}", 400, "byte order mark"),
        ('{"a": "ü"}'.encode("utf-16"), 400, "UTF-8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", 400, "too long"),
        (b'{"campaign_id": 1e999, "phone_number": "+12025550101"}', 422, "campaign_id"),
        (b'{"campaign_id": 9223372036854775808, "phone_number": "+12025550101"}', 422, "campaign_id"),
        (b'{"campaign_id": 42.0, "phone_number": "+12025550101"}', 422, "campaign_id"),
        (b'{"a": "\\ud800"}', 422, "is not a known field"),
        (b'{"variables": {"a": "\\ud800"}}', 422, "surrogate"),
        (b'{"\\ud800": 1}', 422, "key 1"),
        (b'{"a": 1} x', 400, "extra data"),
    ],
)
def test_json_is_read_strictly(served: Served, key: str, raw: bytes, status: int, said: str) -> None:
    answer = served.ask("POST", "/v1/leads", key, data=raw, headers={"Content-Type": "application/json"})

    assert answer.status_code == status
    assert said in answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "field"),
    [
        ("GET", "/v1/leads", {}, 405, ("Allow", "POST")),
        ("DELETE", "/v1/leads/x", {}, 405, ("Allow", "GET, HEAD")),
        ("POST", "/v1/leads", {"Content-Type": "text/plain"}, 415, ("Accept-Post", "application/json")),
        ("POST", "/v1/leads", {}, 415, ("Accept-Post", "application/json")),
        ("POST", "/v1/leads", {"Content-Type": "application/json; charset=latin-1"}, 415, ("Accept-Post", None)),
        ("POST", "/v1/leads", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415,
            ("Accept-Encoding", "identity")),
        ("POST", "/v1/leads", {"Accept": "text/html"}, 406, None),
        ("POST", "/v1/leads", {"Accept": "application/json;q=0"}, 406, None),
        ("GET", "/nothing", {}, 404, None),
        ("GET", "/v1/leads/not-an-id", {}, 404, None),
        ("POST", "/v1/leads", {"Idempotency-Key": "", "Content-Type": "application/json"}, 400, None),
        ("POST", "/v1/leads", {"Idempotency-Key": "x" * 201, "Content-Type": "application/json"}, 400, None),
        ("POST", "/v1/leads", {"Content-Type": "application/json", "Content-Length": "999999999"}, 413, None),
        ("POST", "/v1/leads/batch", {"Content-Type": "application/json", "Content-Length": "9" * 15}, 413, None),
    ],
)  # fmt: skip
def test_a_request_of_another_form_is_refused_with_what_would_do(
    served: Served,
    key: str,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    field: tuple[str, str] | None,
) -> None:
    answer = served.ask(method, path, key, data=b"", headers=headers)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status
    if field is not None:
        assert field[1] is None or answer.headers[field[0]] == field[1]
        assert field[0] in answer.headers


def test_a_lead_is_shown_only_to_keys_of_its_account_and_campaign(
    served: Served, key: str, lead: dict[str, Any], campaign: int
) -> None:
    path = served.submit(key, lead).headers["Location"]
    missing = served.ask("GET", f"/v1/leads/{uuid.uuid4()}", key)
    allowed = [served.key().secret, served.key(campaign, next(CAMPAIGNS)).secret]
    refused = [
        served.key(next(CAMPAIGNS)).secret,
        served.key(campaign, account="other").secret,
        served.key(account="other").secret,
    ]

    assert [served.ask("GET", path, one).status_code for one in allowed] == [200, 200]
    for one in refused:
        answer = served.ask("GET", path, one)
        assert (answer.status_code, answer.text) == (404, missing.text)


def test_a_key_submits_to_its_campaigns_and_its_account_only(
    served: Served, lead: dict[str, Any], campaign: int
) -> None:
    elsewhere = served.key(next(CAMPAIGNS)).secret
    other = served.key(account="other").secret

    refused = served.submit(elsewhere, lead)
    faulty = served.submit(elsewhere, {**lead, "phone_number": "12"})
    taken = served.submit(other, lead)

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (403, "/campaign_id")
    assert {one["pointer"] for one in faulty.json()["errors"]} == {"/campaign_id", "/phone_number"}
    assert taken.status_code == 201
    row = served.rows.one("SELECT account FROM dispatcher.leads WHERE campaign_id = :id", id=campaign)
    assert row.account == "other"
