"""`celery -A dispatcher worker`, and nothing else, delivers."""

import contextlib
import itertools
from collections import Counter
from pathlib import Path

import psutil
import pytest

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from tests.process.rig import CAMPAIGN, Rig, SandboxProcess
from tests.support.environment import numbers
from tests.support.waiting import wait_until

SLOW = pytest.mark.parametrize("sandbox_options", [("--latency", "0.3")], ids=["slow"])
NOBODY = "redis://127.0.0.1:9/0"


def most_at_once(at: list[float], seconds: float) -> int:
    """How many requests that took so long were on their way together."""
    return max(sum(begin <= moment < begin + seconds for moment in at) for begin in at)


@SLOW
def test_a_backlog_is_drained_by_all_processes_of_a_worker(rig: Rig) -> None:
    rig.submit(200)
    rig.start_worker("-c", "2")
    rig.wait_settled()
    rig.assert_accounted(200)
    # One delivery run has 8 requests in flight.
    assert most_at_once([entry.at for entry in rig.sandbox.posts()], 0.25) > 8


def test_the_threads_pool_works(rig: Rig) -> None:
    rig.submit(100)
    worker = rig.start_worker("-P", "threads", "-c", "2")
    rig.wait_settled()
    rig.assert_accounted(100)
    assert worker.stop() == 0


@SLOW
def test_two_workers_share_the_work(rig: Rig) -> None:
    workers = [rig.start_worker("-c", "1"), rig.start_worker("-c", "1")]
    rig.submit(200)
    rig.wait_settled()
    rig.assert_accounted(200)
    claims = {
        str(name).split(":")[1]: claims for name, claims in rig.query("SELECT name, claims FROM dispatcher.workers")
    }
    assert {str(worker.pid) for worker in workers} == {pid for pid, count in claims.items() if count}
    assert sum(int(str(count)) for count in claims.values()) == 200


def test_accounts_in_one_worker_share_nothing_but_the_worker(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "sales").mkdir()
    token_file = tmp_path / "sales" / "token"
    token_file.write_text("the-token-of-sales")
    with contextlib.closing(SandboxProcess(tmp_path / "sales", "--token-file", str(token_file))) as sales:
        rig.environment |= {
            "VOICERY_API_TOKEN__SALES": "the-token-of-sales",
            "VOICERY_BASE_URL__SALES": sales.url,
            "VOICERY_API_TOKEN__STRANGER": "a-token-that-nobody-gave",
            "VOICERY_BASE_URL__STRANGER": sales.url,
        }
        people = [{"phone_number": number, "campaign_id": CAMPAIGN} for number in itertools.islice(numbers(), 30)]
        with contextlib.closing(Dispatcher(Settings.from_environment(rig.environment))) as dispatcher:
            for account in ("default", "sales", "stranger"):
                assert dispatcher.submit_many(people, account=account).submitted == 30, "one person in each account"
        rig.start_worker("-c", "1")
        rig.wait_accepted(60)

        called = [Counter(post.body["phone_number"] for post in one.posts() if post.created_id) for one in (
            rig.sandbox, sales,
        )]  # fmt: skip
        assert called == [Counter(person["phone_number"] for person in people)] * 2
        wait_until(lambda: rig.query("SELECT FROM dispatcher.gates WHERE reason = 'unauthorized'"), 20)
    gates = rig.query("SELECT account, reason FROM dispatcher.gates WHERE state <> 'open'")
    assert gates == [("stranger", "unauthorized")]
    assert rig.query("SELECT state, count(*) FROM dispatcher.leads WHERE account = 'stranger' GROUP BY state") == [
        ("pending", 30)
    ]


def test_the_sweep_rings_where_no_doorbell_was_heard(rig: Rig) -> None:
    rig.start_worker()
    rig.submit(20, REDIS_URL=NOBODY)
    rig.wait_settled(20)
    rig.assert_accounted(20)


def test_a_killed_sweep_is_replaced_and_goes_on_ringing(rig: Rig) -> None:
    worker = rig.start_worker()

    def sweeps() -> list[psutil.Process]:
        children = psutil.Process(worker.pid).children()
        return [child for child in children if child.is_running() and "sweep" in " ".join(child.cmdline())]

    def holder() -> str:
        rows = rig.query("SELECT holder FROM dispatcher.sweeps")
        return str(rows[0][0]) if rows else ""

    [first] = wait_until(sweeps, 20)
    wait_until(lambda: holder().endswith(f":{first.pid}"), 20, holder)
    first.kill()
    rig.submit(5, REDIS_URL=NOBODY)
    rig.wait_settled(30)
    rig.assert_accounted(5)
    assert not holder().endswith(f":{first.pid}")
    assert [sweep.pid for sweep in sweeps()] != [first.pid]


def test_without_a_token_the_leads_wait_and_the_gate_says_why(rig: Rig) -> None:
    rig.submit(10)
    token = rig.environment.pop("VOICERY_API_TOKEN")
    tokenless = rig.start_worker()
    gates = "SELECT reason, note FROM dispatcher.gates WHERE state = 'closed'"
    [(reason, note)] = wait_until(lambda: rig.query(gates), 20, lambda: tokenless.log)
    assert reason == "misconfigured"
    assert "VOICERY_API_TOKEN" in str(note)
    tokenless.stop()
    assert rig.query("SELECT state, sum(attempts), count(*) FROM dispatcher.leads GROUP BY state") == [
        ("pending", 0, 10)
    ]
    assert rig.sandbox.entries() == []

    rig.start_worker(VOICERY_API_TOKEN=token)
    rig.wait_settled()
    rig.assert_accounted(10)


def test_a_worker_with_another_base_url_sends_nothing(rig: Rig) -> None:
    right = rig.start_worker()
    rig.submit(1)
    rig.wait_settled()
    right.stop()
    seen = len(rig.sandbox.entries())

    rig.submit(10)
    elsewhere = rig.sandbox.url.replace("127.0.0.1", "localhost")
    wrong = rig.start_worker(VOICERY_BASE_URL=elsewhere)
    gates = "SELECT reason, note FROM dispatcher.gates WHERE state = 'closed'"
    [(reason, note)] = wait_until(lambda: rig.query(gates), 20, lambda: wrong.log)
    assert reason == "misconfigured"
    assert "VOICERY_BASE_URL" in str(note)
    wrong.stop()
    assert rig.states() == {"accepted": 1, "pending": 10}
    assert len(rig.sandbox.entries()) == seen

    rig.start_worker()
    rig.wait_settled()
    rig.assert_accounted(11)


def test_leads_of_several_campaigns_are_all_delivered(rig: Rig) -> None:
    rig.submit(3)
    rig.query("UPDATE dispatcher.leads SET campaign_id = campaign_id + 1 RETURNING id")
    rig.submit(3)
    rig.start_worker()
    rig.wait_settled()
    rig.assert_accounted(6)
