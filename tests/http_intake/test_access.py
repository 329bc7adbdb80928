"""Keys: which are taken, how soon a revoked one is not, how guesses and leads are bounded, and what is logged."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from dispatcher.config.account import parse_rate_limit
from dispatcher.http_intake.access import Allowance
from dispatcher.http_intake.keys import Keys
from tests.http_intake.conftest import Served
from tests.support.waiting import wait_until

MADE_UP = "vdk_abcdefghij_" + "A" * 43


@pytest.fixture
def stranger(served: Served) -> Iterator[Served]:
    """Requests from an address of their own, whose failures lock nobody else."""

    class From(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **more: Any) -> None:
            super().init_poolmanager(*args, **more, source_address=("127.0.0.2", 0))

    session = requests.Session()
    session.mount("http://", From())
    served.intake.access._throttle._failures.clear()
    yield Served(served.port, served.intake, served.guard, served.database, served.server, session)
    session.close()
    served.intake.access._throttle._failures.clear()
    served.intake.access._familiar.clear()


@pytest.mark.parametrize("path", ["/v1/leads", "/v1/leads/batch", "/v1/hooks/crm"])
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer x", f"Bearer {MADE_UP}", "Basic eDp4", "Digest x", "Bearer \xff\xfe"]
)
def test_without_a_key_that_is_right_nothing_is_read(stranger: Served, path: str, authorization: str | None) -> None:
    headers = {"Content-Type": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization
    answer = stranger.ask("POST", path, data=b"{", headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (401, "/docs#no-key")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert MADE_UP not in answer.text


def test_a_key_with_another_secret_is_refused_and_so_is_an_ended_one(served: Served, stranger: Served) -> None:
    issued = served.key()
    wrong = issued.secret[:-1] + ("A" if issued.secret[-1] != "A" else "B")
    ended = served.key(expires_at=timedelta(milliseconds=1)).secret

    assert stranger.submit(wrong, {}).status_code == 401
    assert stranger.submit(ended, {}).status_code == 401
    assert stranger.submit(issued.secret, {}).status_code == 422


def test_a_revoked_key_is_refused_within_a_second(stranger: Served) -> None:
    issued = stranger.key()
    assert stranger.submit(issued.secret, {}).status_code == 422
    Keys(stranger.database).revoke(issued.key.prefix, actor="test")
    wait_until(lambda: stranger.submit(issued.secret, {}).status_code == 401, describe="the key to be refused")


def test_a_key_is_read_at_most_twice_a_second(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(served.intake.access, "_clock", lambda: now[0])
    issued = served.key()
    reads: list[Any] = []
    start = served.intake.access._start
    monkeypatch.setattr(served.intake.access, "_start", lambda call: (reads.append(call), start(call))[1])

    for moment in (0.0, 0.1, 0.5, 0.6, 0.7):
        now[0] = 1000.0 + moment
        assert served.submit(issued.secret, {}).status_code == 422

    assert len(reads) == 3, "the key at 0.0 and 0.6, and the note of its use"


def test_after_five_refused_keys_a_source_waits_but_not_its_own_key(stranger: Served, served: Served) -> None:
    known, unknown = served.key().secret, served.key().secret
    assert stranger.submit(known, {}).status_code == 422
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda _: stranger.submit(MADE_UP, {}), range(12)))

    assert sorted({answer.status_code for answer in told}) == [401, 429]
    assert sum(answer.status_code == 401 for answer in told) == 5
    assert all(int(a.headers["Retry-After"]) >= 1 for a in told if a.status_code == 429)
    assert stranger.submit(unknown, {}).status_code == 429, "a right guess is not told either"
    assert stranger.submit(known, {}).status_code == 422
    assert served.submit(unknown, {}).status_code == 422, "another source is free"


def test_of_many_first_requests_at_once_none_counts_as_a_guess(stranger: Served) -> None:
    secret = stranger.key().secret
    with ThreadPoolExecutor(12) as threads:
        told = list(threads.map(lambda _: stranger.submit(secret, {}).status_code, range(24)))

    assert set(told) == {422}


def test_the_last_use_is_noted_and_not_with_each_request(served: Served) -> None:
    issued = served.key()
    for _ in range(3):
        served.submit(issued.secret, {})

    def used() -> Any:
        return served.rows.one("SELECT last_used_at FROM dispatcher.api_keys WHERE id = :id", id=issued.key.id)

    wait_until(lambda: used().last_used_at is not None, 20, "the use to be noted")
    first = used()
    served.submit(issued.secret, {})
    assert used() == first


def test_a_key_submits_as_many_leads_as_its_rate_allows(served: Served, campaign: int) -> None:
    secret = served.key(campaign, rate_limit="3/hour").secret
    told = [served.submit(secret, {}).status_code for _ in range(4)]
    refused = served.submit(secret, {})

    assert told == [422, 422, 422, 429]
    assert 1 < int(refused.headers["Retry-After"]) <= 1200
    batch = served.key(campaign, rate_limit="3/hour").secret
    bad = [{"campaign_id": campaign}] * 2

    def send() -> int:
        return served.ask("POST", "/v1/leads/batch", batch, json=bad).status_code

    assert [send(), send(), send()] == [200, 200, 429], "a batch is taken whole, and what follows waits"


def test_an_allowance_fills_steadily() -> None:
    allowance = Allowance(parse_rate_limit("10/second; 12/minute"), 0.0)

    assert [allowance.take(0.0) for _ in range(10)] == [0.0] * 10
    assert allowance.take(0.0) == pytest.approx(0.1)
    assert allowance.take(1.0) == 0.0
    assert allowance.take(1.0) == 0.0
    assert allowance.take(1.0) > 3
    allowance.owe(12)
    assert allowance.take(61.0) > 0
    assert Allowance((), 0.0).take(0.0) == 0.0


def test_nothing_that_is_logged_holds_a_key_or_a_number(
    stranger: Served, served: Served, caplog: pytest.LogCaptureFixture, lead: dict[str, Any]
) -> None:
    secret = served.key().secret
    with caplog.at_level(logging.DEBUG):
        stranger.submit(MADE_UP, lead)
        served.submit(secret, lead)
        served.ask("POST", f"/v1/hooks/crm/{secret}", json=lead)

    told = "\n".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if "urllib3" not in record.name
    )
    assert "intake.key_refused" in told
    assert secret not in told
    assert MADE_UP not in told
    assert lead["phone_number"] not in told
