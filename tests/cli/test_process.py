"""`python -m dispatcher` as a process: exit codes, one line for an error, never a traceback."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.store.database import Database
from tests.support.environment import clean_environment
from tests.support.rows import Rows
from tests.support.waiting import wait_until

COMMAND = (sys.executable, "-m", "dispatcher")


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**clean_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ctrl_c_while_a_command_loads_its_code_is_exit_130(tmp_path: Path) -> None:
    """A dataclass is made by `exec`; an interrupt there made the interpreter end itself by SIGINT, exit code or not."""
    (tmp_path / "interrupted.py").write_text(
        "import dispatcher.cli.commands\n"
        "from dispatcher.__main__ import main\n"
        "def app(**_):\n"
        "    exec('import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)')\n"
        "dispatcher.cli.commands.app = app\n"
        "main()\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    assert subprocess.run(command, cwd=tmp_path, check=False, timeout=30).returncode == 130


def test_a_missing_setting_is_one_line_and_exit_1() -> None:
    done = run({}, "status")

    assert (done.returncode, done.stdout) == (1, "")
    way = "`dispatcher up` starts a local one; then `source .dispatcher/sandbox/env`."
    assert done.stderr == f"DATABASE_URL is not set; {way}\n"


def test_an_absent_postgres_is_one_line_and_exit_1() -> None:
    done = run({"DATABASE_URL": "postgresql://nobody:s3cret@127.0.0.1:9/none"}, "status")

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Postgres cannot be reached" in done.stderr
    assert "s3cret" not in done.stderr


def test_a_missing_schema_says_what_to_do(empty_database_url: str) -> None:
    done = run({"DATABASE_URL": empty_database_url}, "status")

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "dispatcher migrate" in done.stderr


def test_a_refused_lead_names_every_fault_and_not_the_number(environment: dict[str, str]) -> None:
    done = run(environment, "submit", "--phone", "+1202555010100000000", "--campaign", "42", "--key", " ")

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "phone_number" in done.stderr
    assert "idempotency_key" in done.stderr
    assert "202555" not in done.stderr


def test_a_bug_is_one_line_that_says_where() -> None:
    script = (
        "import dispatcher.cli.status as reading\n"
        "def bad(): raise ZeroDivisionError('+12025550101')\n"
        "reading.opened = bad\n"
        "from dispatcher.__main__ import main\nimport sys\nsys.argv = ['dispatcher', 'status']\nmain()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(), capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "bug of the dispatcher: ZeroDivisionError in dispatcher.cli.status:" in done.stderr
    assert "2025550101" not in done.stderr


def test_the_driver_adds_nothing_to_what_is_said_of_a_lost_connection(environment: dict[str, str]) -> None:
    script = (
        "import logging\nfrom dispatcher.cli.arguments import opened\n"
        "with opened():\n    logging.getLogger('psycopg').warning('error ignored')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_was_closed_before_goes_nowhere_and_a_full_disk_is_named() -> None:
    closed = subprocess.run(
        ["sh", "-c", f"{shlex.join(COMMAND)} campaigns >&-"], env=clean_environment(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr.split(";")[0]) == (1, "DATABASE_URL is not set")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--help"], env=clean_environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "The output cannot be written: No space left on device.\n")


def unread(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """How a command ends, and what it says on standard error, when nobody reads its output."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env={**clean_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
        return process.wait(timeout=60), told


def test_a_reader_that_has_seen_enough_is_no_error(environment: dict[str, str], database_url: str) -> None:
    database = Database(normal_database_url(database_url))
    for number in range(100, 120):
        Rows(database).failed(phone=f"+12025550{number}")
    database.close()
    assert unread(environment, "failed", "--json") == (0, "")


@pytest.mark.parametrize(
    ("last", "code", "complaint"), [("+12025550102", 0, ""), ("12", 1, "1 row refused: .*rejected.csv has each")]
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_import_whose_reader_has_gone_says_what_was_refused_and_blames_no_file(
    environment: dict[str, str], tmp_path: Path, last: str, code: int, complaint: str, form: tuple[str, ...]
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"phone_number,campaign_id\n+12025550101,42\n{last},42\n")
    ended, told = unread(environment, "import", str(file), *form)
    assert ended == code
    assert re.search(complaint, told) if complaint and not form else told == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sweep_ends_cleanly_when_it_is_told(
    environment: dict[str, str], database_url: str, number: signal.Signals
) -> None:
    database = Database(normal_database_url(database_url))
    rows = Rows(database)
    with subprocess.Popen(
        [*COMMAND, "sweep"], env={**clean_environment(), **environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: rows.one("SELECT holder FROM dispatcher.sweeps").holder, 30, "the sweep to begin")
            process.send_signal(number)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    database.close()


@pytest.fixture
def imported(environment: dict[str, str], database_url: str, tmp_path: Path) -> Iterator["Imported"]:
    database = Database(normal_database_url(database_url))
    yield Imported(environment, Rows(database), tmp_path / "leads.csv")
    database.close()


class Imported:
    """An import of many rows, in a process group of its own, as a terminal gives it."""

    COUNTED = "SELECT coalesce(max(submitted + duplicates + repeated), -1) AS rows FROM dispatcher.imports"

    def __init__(self, environment: Mapping[str, str], rows: Rows, file: Path) -> None:
        self.rows = rows
        self._environment = {**clean_environment(), **environment}
        self._file = file
        with file.open("w") as out:
            out.write("phone_number,campaign_id,allow_dupplicate\n")
            out.writelines(f"+1202555{number % 100:04d},42,true\n" for number in range(101, 200_101))

    def interrupted(self, after: int, *arguments: str) -> tuple[int, str, float]:
        """Ctrl-C after so many rows: the exit code, what was said, and in how many seconds it ended."""
        command = [*COMMAND, "import", str(self._file), *arguments]
        with subprocess.Popen(
            command, env=self._environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                wait_until(lambda: self.rows.one(self.COUNTED).rows >= after, 30, "the import to get so far")
                asked = time.monotonic()
                os.killpg(process.pid, signal.SIGINT)
                _, said = process.communicate(timeout=60)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, said, time.monotonic() - asked


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "with processes"])
@pytest.mark.parametrize("after", [0, 2000])
def test_ctrl_c_ends_an_import_at_once_and_says_how_to_go_on(
    imported: Imported, arguments: tuple[str, ...], after: int
) -> None:
    code, said, seconds = imported.interrupted(after, *arguments)
    counted = imported.rows.one(Imported.COUNTED).rows
    stored = imported.rows.one("SELECT count(*) AS n FROM dispatcher.leads").n

    assert code == 130
    assert said.count("\n") == 1
    assert "to go on, run the same command." in said
    assert after <= counted == stored < 200_000
    assert (f"{counted:,} rows are done" if counted else "No row was done") in said
    assert seconds < 10  # one or two, on a machine that has nothing else to do


def test_ctrl_c_in_an_import_once_more_names_the_batch_to_go_on_with(imported: Imported) -> None:
    code, said, _ = imported.interrupted(2000, "--again")
    [first, last] = said.splitlines()
    batch = imported.rows.one("SELECT batch_id FROM dispatcher.imports").batch_id

    assert code == 130
    assert str(batch) in first
    assert f"--batch {batch}" in last


def test_ctrl_c_while_standard_input_is_awaited_says_that_no_row_was_done(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "import", "-"],
        env={**clean_environment(), **environment},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(bytes(1 << 20))  # more than a pipe holds: once it is taken, somebody is reading
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()

    assert (process.returncode, said) == (130, b"Stopped. No row was done.\n")


def test_a_sweep_does_not_outlive_its_parent(environment: dict[str, str], database_url: str) -> None:
    database = Database(normal_database_url(database_url))
    rows = Rows(database)
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'dispatcher', 'sweep', '--parent', str(os.getpid())])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**clean_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_until(lambda: rows.one("SELECT holder FROM dispatcher.sweeps").holder, 30, "the sweep to begin")
        parent.kill()
    wait_until(lambda: not _lives(child), 20, "the sweep to be gone")
    database.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
