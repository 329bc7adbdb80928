"""Workers that are killed, and workers that are asked to leave, in the middle of their work."""

import json
import signal
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartWorker
from tests.process.conftest import StartSandbox
from tests.process.rig import Rig
from tests.support.waiting import wait_until

CONCURRENCY = 8
NARROW = {"DISPATCHER_CONCURRENCY": str(CONCURRENCY)}  # so that 200 leads take several turns
SLOW = pytest.mark.parametrize("sandbox_options", [("--latency", "0.3")], ids=["slow"])


@SLOW
def test_after_kill_9_of_a_worker_every_lead_is_accounted_for(rig: Rig) -> None:
    rig.submit(200)
    first = rig.start_worker("-c", "2", **NARROW)
    wait_until(lambda: rig.sandbox.created() >= 50, 20)
    first.kill()
    assert 0 < rig.states()["sending"] <= 2 * CONCURRENCY

    rig.start_worker("-c", "2")
    rig.wait_settled()
    # What was in flight was created: the look-up finds it.
    rig.assert_accounted(200)


@SLOW
def test_after_kill_9_of_one_process_of_the_pool_the_worker_goes_on_by_itself(rig: Rig) -> None:
    rig.submit(200)
    worker = rig.start_worker("-c", "2", **NARROW)
    wait_until(lambda: rig.sandbox.created() >= 50, 20)
    pool = [child for child in psutil.Process(worker.pid).children() if "sweep" not in " ".join(child.cmdline())]
    pool[-1].kill()
    rig.wait_settled()
    rig.assert_accounted(200)
    assert worker.running


@SLOW
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_sigterm_in_mid_post_leaves_nothing_unknown(rig: Rig, group: bool) -> None:
    rig.submit(200)
    worker = rig.start_worker("-c", "2", **NARROW)
    wait_until(lambda: rig.sandbox.created() >= 30, 20)
    worker.send(signal.SIGTERM, group=group)
    assert worker.wait(60) == 0
    states = rig.states()
    assert set(states) == {"accepted", "pending"}
    assert states["accepted"] == rig.sandbox.created()
    assert states["accepted"] < 200, "it stopped before the end, else this proved nothing"
    assert rig.query("SELECT outcome FROM dispatcher.lead_attempts WHERE outcome IS DISTINCT FROM 'accepted'") == []


@pytest.mark.parametrize(
    "sandbox_options", [("--latency", "0.05", "--chaos", "0.2", "--seed", "11", "--late-seconds", "0.3")], ids=["chaos"]
)
def test_kill_9_while_voicery_misbehaves_loses_nobody_and_calls_nobody_twice(rig: Rig) -> None:
    rig.submit(150)
    first = rig.start_worker("-c", "2")
    wait_until(lambda: rig.sandbox.created() >= 40, 20)
    first.kill()
    rig.start_worker("-c", "2")
    rig.wait_accepted(100)
    rig.submit(30)  # sent later: the controls that let absence be proven
    rig.wait_settled()
    rig.assert_accounted(180, held=15)


@pytest.mark.parametrize(
    "faults",
    [[{"fault": "500", "times": 3}, {"fault": "hang", "method": "GET", "seconds": 60, "times": None}]],
    ids=["hanging list"],
)
def test_leads_whose_look_up_was_killed_are_looked_up_again_soon(
    environment: dict[str, str], start_sandbox: StartSandbox, worker: StartWorker, faults: object, tmp_path: Path
) -> None:
    (tmp_path / "faults.json").write_text(json.dumps(faults))
    sandbox = start_sandbox("--faults", str(tmp_path / "faults.json"))
    rig = Rig(environment, sandbox, worker)
    rig.submit(3)  # fewer than close a gate, whose probes are GETs too
    first = rig.start_worker("-c", "2")
    wait_until(lambda: [entry for entry in sandbox.entries() if entry.method == "GET"], 20)
    first.kill()
    sandbox.forget_faults()
    rig.start_worker("-c", "2", DISPATCHER_UNKNOWN_FOR="60")
    rig.wait_settled()
    rig.assert_accounted(3)
