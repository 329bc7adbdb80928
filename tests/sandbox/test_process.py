"""As a process: `python -m dispatcher.sandbox`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from dispatcher.sandbox.__main__ import main
from dispatcher.sandbox.log import read_log
from tests.sandbox.client import PATIENCE_SECONDS, lead

Launch = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start the process with arguments; yields it and the URL it announced."""
    processes: list[subprocess.Popen[str]] = []

    def launched(*arguments: object) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "dispatcher.sandbox", *map(str, arguments)]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}  # what is killed clears nothing away
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield launched
    for process in processes:
        process.kill()
        process.communicate()


def post(url: str, token: str = "t") -> requests.Response:  # noqa: S107 - made up
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(url + "/user/lead", json=lead(allow_dupplicate=True), headers=headers, timeout=5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_announces_its_url_and_ends_cleanly_when_told_to(launch: Launch, number: signal.Signals) -> None:
    process, url = launch()
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/api")
    assert post(url).status_code == 200
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, output, errors) == (0, "", "")


def test_after_a_kill_nothing_that_was_answered_is_missing(launch: Launch, tmp_path: Path) -> None:
    process, url = launch("--state-dir", tmp_path)
    answered = [post(url).json()["data"]["id"] for _ in range(20)]
    process.kill()
    process.wait()
    assert [line.lead_id for line in read_log(tmp_path / "requests.jsonl")] == answered
    _, url = launch("--state-dir", tmp_path)
    assert post(url).json()["data"]["id"] == 21


def test_the_options_reach_the_sandbox(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("right\n")
    (tmp_path / "faults.json").write_text(json.dumps([{"fault": "503"}]))
    log = tmp_path / "log.jsonl"
    options = ("--token-file", tmp_path / "token", "--faults", tmp_path / "faults.json", "--log", log)
    _, url = launch("--port", 0, "--rate-limit", "2/minute", *options)
    assert [post(url, token).status_code for token in ("wrong", "right", "right", "right")] == [401, 503, 200, 429]
    assert len(read_log(log)) == 4


@pytest.mark.parametrize(
    "arguments",
    [["--chaos", "2"], ["--rate-limit", "soon"], ["--faults", "missing.json"], ["--port", "99999"]],
)
def test_a_setting_that_cannot_be_used_is_one_sentence_and_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_port_that_is_taken_is_said_so(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    _, url = launch()
    assert main(["--port", url.split(":")[2].split("/")[0]]) == 1
    assert "cannot listen" in capsys.readouterr().err
