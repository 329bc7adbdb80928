"""`dispatcher demo`, as somebody runs it who has just installed it."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.demo import Demo
from dispatcher.embedded.demo_report import Screen
from tests.support.environment import clean_environment
from tests.support.waiting import wait_until

DEMO = (sys.executable, "-m", "dispatcher", "demo")
SURROUNDINGS = {"VOICERY_API_TOKEN": "a-real-one", "DISPATCHER_SETTLE": "nonsense"}


def test_it_ends_with_a_balanced_account_and_leaves_nothing_behind(server_dir: Path) -> None:
    home = server_dir / "demo"
    home.mkdir()
    environment = {**clean_environment(), **SURROUNDINGS, "TMPDIR": str(home)}
    done = subprocess.run(DEMO, check=False, env=environment, timeout=170, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout
    assert printed.splitlines()[-1] == "0 lost, 0 called twice"
    assert "kill -9: the worker dies" in printed
    assert "The worker was started again" in printed
    assert "failed: refused by Voicery" in printed
    endings = [int(rows) for rows in re.findall(r"^  \S.*\s(\d+) *$", printed.split("What became")[1], re.MULTILINE)]
    total = endings.index(200)
    assert sum(endings[:total]) == 200

    assert "\x1b" not in printed, "no colours in a pipe"
    remedy = "+14155550100"  # the example in a refusal's advice
    assert not re.search(r"\+?\d(?:[ ().-]{0,2}\d){6,}", printed.replace(remedy, "").replace("\n", " ")), (
        "no whole number"
    )
    assert "a-real-one" not in printed
    assert [left.name for left in home.iterdir()] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_everything_and_leaves_nothing_behind(server_dir: Path, number: signal.Signals) -> None:
    home = server_dir / f"demo-{number}"
    home.mkdir()
    log = server_dir / f"demo-{number}.log"
    environment = {**clean_environment(), "TMPDIR": str(home), "PYTHONUNBUFFERED": "1"}
    with Child(Command(DEMO, log, environment, grace_seconds=60)) as demo:
        wait_until(lambda: "submitted at once" in demo.log_tail(), 60, demo.log_tail)
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 4
        demo.send(number)
        assert demo.wait(60) == 130
    gone, alive = psutil.wait_procs(children, 10)
    assert (len(gone), alive) == (len(children), [])
    assert [left.name for left in home.iterdir()] == []


def test_a_bad_end_keeps_the_logs_and_says_where(server_dir: Path) -> None:
    home = server_dir / "demo-bad"
    home.mkdir()
    (home / "bin").mkdir()
    (home / "bin" / "redis-server").write_text("#!/bin/sh\nexit 1\n")
    (home / "bin" / "redis-server").chmod(0o755)
    environment = clean_environment()
    environment |= {"TMPDIR": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(DEMO, check=False, env=environment, timeout=60, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Redis did not start" in done.stdout
    [kept] = re.findall(r"Everything is kept in (\S+);", done.stdout)
    assert (Path(kept) / "redis" / "redis.log").exists()


def test_the_kept_scene_runs_until_ctrl_c_and_says_how_to_look_around(tmp_path: Path) -> None:
    class Scene:
        revived = 0

        def urls(self) -> dict[str, str]:
            return {"DATABASE_URL": "postgresql://127.0.0.1/demo"}

        def revive(self) -> list[str]:
            self.revived += 1
            if self.revived == 3:
                raise KeyboardInterrupt
            return []

    printed, scene = io.StringIO(), Scene()
    demo = Demo(scene, tmp_path, Screen(Console(file=printed)), [])  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        demo.wait_for_ctrl_c()

    assert f"source {tmp_path / 'env'}" in printed.getvalue()
    assert "export DATABASE_URL=postgresql://127.0.0.1/demo\n" in (tmp_path / "env").read_text()
    assert "export DISPATCHER_SETTLE=2\n" in (tmp_path / "env").read_text(), "the settings of the demo's worker"
