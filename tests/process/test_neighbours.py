"""A user's own Celery app: the dispatcher lives in its processes and beside its workers."""

import subprocess
import sys
from pathlib import Path

from dispatcher.embedded.child import Child, Command
from tests.process.rig import Rig
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until

SHOP = """
import os
from celery import Celery, current_app
import dispatcher

app = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])

@app.task
def sell(number):
    submission = dispatcher.submit({"phone_number": number, "campaign_id": 42, "allow_dupplicate": True})
    return [submission.state, current_app.main, sorted(name for name in app.tasks if name.startswith("dispatcher"))]
"""
BUY = "import shop; print(shop.sell.delay('+12025550117').get(timeout=30))"


def test_a_task_of_a_users_own_app_submits_and_both_workers_mind_their_own_business(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    environment = {**clean_environment(), **rig.environment, "PYTHONPATH": str(tmp_path)}
    ours = rig.start_worker()
    argv = (sys.executable, "-m", "celery", "-A", "shop", "worker", "-c", "1", "--loglevel", "INFO", "-n", "shop@test")
    with Child(Command(argv, tmp_path / "shop.log", environment, tmp_path, grace_seconds=30)) as theirs:
        wait_until(lambda: " ready." in theirs.log_tail(), 30, theirs.log_tail)
        bought = subprocess.run(
            (sys.executable, "-c", BUY), check=True, env=environment, timeout=60, capture_output=True, text=True
        )
        assert bought.stdout == "['pending', 'shop', []]\n"
        rig.wait_settled()
        rig.assert_accounted(1)
        assert theirs.running
    assert "dispatcher.deliver" not in (tmp_path / "shop.log").read_text()
    assert "sell" not in ours.log
