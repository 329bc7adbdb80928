"""An alert: what it says, what it never says, and how its receiver can trust it."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dispatcher.alerts.alerting import wait_seconds
from dispatcher.alerts.alerts import Alert, AlertKind
from dispatcher.alerts.signing import Signing
from dispatcher.config.setting import Secret
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
        "version", "type", "timestamp",
        "id", "kind", "text", "account", "campaign_id", "reason", "lead_id", "count", "first_at", "last_at",
    }  # fmt: skip
    assert (body["type"], body["timestamp"]) == ("dispatcher.gate_closed", body["last_at"])
    assert (body["id"], body["kind"], body["first_at"]) == ("7", "gate_closed", "2026-01-02T03:04:05+00:00")


KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEXT_KEY = f"whsec_{'A' * 32}"
SIGNED = "v1,9o7UeFkn1GjVbcY4emAJruJCYqgH2EIf8u/slvVRBZI="  # by the specification's own library for the message below


def test_the_headers_are_those_of_standard_webhooks() -> None:
    headers = Signing((Secret(KEY),), former=False).headers("msg_1", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNED,
    }


def test_two_secrets_make_two_signatures_and_either_is_checked_alone() -> None:
    both = Signing((Secret("any text"), Secret(KEY)), former=False).headers(
        "msg_1", 1614265330, b'{"test": 2432232314}'
    )
    alone = Signing((Secret("any text"),), former=False).headers("msg_1", 1614265330, b'{"test": 2432232314}')
    assert both["webhook-signature"] == f"{alone['webhook-signature']} {SIGNED}"


def test_the_former_headers_stay_until_they_are_turned_off() -> None:
    mac = hmac.new(b"secret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    headers = Signing((Secret("secret"), Secret(KEY))).headers("7", 1700000000, b'{"a":1}')
    assert headers["Dispatcher-Signature"] == f"t=1700000000,v1={mac}", "by the current secret alone"
    assert headers["Dispatcher-Alert-Id"] == headers["webhook-id"] == "7"


def test_without_a_secret_nothing_is_signed() -> None:
    assert not [name for name in Signing(()).headers("7", 1700000000, b"{}") if "signature" in name.lower()]


@pytest.mark.parametrize("broken", ["whsec_", "whsec_not base64!", "whsec_abc", "whsec_QQ==", f"whsec_{'A' * 28}QQ=="])
@pytest.mark.parametrize("name", ["DISPATCHER_ALERT_WEBHOOK_SECRET", "DISPATCHER_ALERT_WEBHOOK_SECRET_NEXT"])
def test_a_key_that_is_none_is_refused_by_name_and_not_shown(name: str, broken: str) -> None:
    given = {"DISPATCHER_ALERT_WEBHOOK_URL": "https://h/hook", "DISPATCHER_ALERT_WEBHOOK_SECRET": KEY, name: broken}
    with pytest.raises(NotConfigured, match=f"{name}: begins with whsec_") as caught:
        Settings.from_environment(given)
    assert broken.removeprefix("whsec_") not in str(caught.value) or broken == "whsec_"


def test_the_next_secret_alone_is_refused() -> None:
    given = {"DISPATCHER_ALERT_WEBHOOK_URL": "https://h/hook", "DISPATCHER_ALERT_WEBHOOK_SECRET_NEXT": "x"}
    with pytest.raises(NotConfigured, match="SECRET_NEXT: is set without DISPATCHER_ALERT_WEBHOOK_SECRET"):
        Settings.from_environment(given)


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


def test_the_check_that_the_page_shows_knows_a_forgery_and_an_old_message() -> None:
    page = Path(__file__).parents[2]
    shown = re.search(r"```python\n(def genuine.*?)```", (page / "docs" / "operations.md").read_text(), re.DOTALL)
    assert shown is not None
    scope: dict[str, Any] = {"base64": base64, "hmac": hmac, "time": time, "Mapping": Mapping}
    exec(shown[1], scope)  # noqa: S102 - the code that the page shows
    genuine = scope["genuine"]

    now = int(time.time())
    for secret in ("any text", KEY):
        headers = Signing((Secret(secret), Secret(NEXT_KEY))).headers("7", now, b"{}")
        assert genuine(secret, headers, b"{}")
        assert genuine(NEXT_KEY, headers, b"{}"), "the next secret"
        assert not genuine(secret, headers, b"{ }")
        assert not genuine("another", headers, b"{}")
        assert not genuine(secret, {**headers, "webhook-id": "8"}, b"{}")
        assert not genuine(secret, Signing((Secret(secret),)).headers("7", now - 301, b"{}"), b"{}")
