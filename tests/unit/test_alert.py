"""An alert: what it says, what it never says, and how its receiver can trust it."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from dispatcher.alerts.alerting import wait_seconds
from dispatcher.alerts.alerts import Alert, AlertKind, signature
from dispatcher.config.settings import Settings
from dispatcher.config.urls import check_webhook_url
from dispatcher.errors import NotConfigured

LEAD = UUID("01890b1c-1234-7567-8901-123456789012")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def alert(kind: AlertKind, **more: object) -> Alert:
    given = {"account": "default", "campaign_id": 42, "reason": "outage", "lead_id": LEAD, "count": 1, **more}
    return Alert(id=7, kind=kind, first_at=AT, last_at=AT, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (alert(AlertKind.OUTCOME_UNKNOWN), "1 lead has failed as outcome_unknown in campaign 42 of account default"),
        (alert(AlertKind.OUTCOME_UNKNOWN, count=9), "9 leads have failed as outcome_unknown"),
        (alert(AlertKind.INCIDENT, reason="called_twice", count=2), "Incident called_twice (2 times)."),
        (alert(AlertKind.GATE_CLOSED), "Leads of campaign 42 of account default are held back: outage."),
        (alert(AlertKind.GATE_CLOSED, campaign_id=None), "Leads of account default are held back: outage."),
    ],
)
def test_it_is_one_plain_sentence_that_names_a_command(one: Alert, said: str) -> None:
    assert one.text.startswith(said)
    assert "`dispatcher " in one.text


def test_its_body_is_json_with_fixed_keys() -> None:
    body = json.loads(alert(AlertKind.GATE_CLOSED).body())
    assert body.keys() == {
        "version", "id", "kind", "text", "account", "campaign_id", "reason", "lead_id", "count", "first_at", "last_at",
    }  # fmt: skip
    assert (body["id"], body["kind"], body["first_at"]) == ("7", "gate_closed", "2026-01-02T03:04:05+00:00")


def test_the_signature_is_hmac_sha256_over_time_and_body() -> None:
    mac = hmac.new(b"secret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert signature("secret", 1700000000, b'{"a":1}') == f"t=1700000000,v1={mac}"


def test_tries_wait_longer_and_longer_up_to_an_hour() -> None:
    assert [wait_seconds(tries) for tries in (1, 2, 3, 9, 10, 30)] == [5, 10, 20, 1280, 2560, 3600]


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/services/T/B?token=a%20b", "http://127.0.0.1:8080/hook", "http://[::1]/"]
)
def test_a_webhook_may_be_https_or_this_machine_with_a_query(url: str) -> None:
    assert check_webhook_url(url) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/x",
        "https://user:pass@hooks.example.com/x",
        "https://169.254.169.254/latest/meta-data",
        "https://evil.example.com\\@hooks.example.com/",
        "https://hooks.example.com/#f",
        "https://hooks.example.com/?a#f",
        "https://hooks.example.com/? a",
        "ftp://hooks.example.com/",
        "https://2130706433/",
    ],
)
def test_any_other_address_is_refused_before_a_worker_starts_and_never_repeated(url: str) -> None:
    assert check_webhook_url(url)
    with pytest.raises(NotConfigured) as refused:
        Settings.from_environment({"DISPATCHER_ALERT_WEBHOOK_URL": url})
    assert "DISPATCHER_ALERT_WEBHOOK_URL" in str(refused.value)
    assert url not in str(refused.value)
