"""The embedded Postgres: as root and as a user, after crashes, and never twice in one directory."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from dispatcher.embedded.child import Child, Command, StackError
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.system_user import SystemUser, reachable_copy, unprivileged_user
from tests.support.waiting import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
AS_A_USER = """
import sys, os
from pathlib import Path
import psycopg
from dispatcher.embedded.postgres import EmbeddedPostgres
assert os.geteuid() != 0
with EmbeddedPostgres(Path(sys.argv[1]), durable=False) as server, psycopg.connect(server.url()) as connection:
    print(connection.execute("SELECT 'answered'").fetchone()[0])
"""


def answer(server: EmbeddedPostgres, question: str) -> object:
    with psycopg.connect(server.url()) as connection:
        row = connection.execute(question).fetchone()
    assert row
    return row[0]


@as_root
def test_root_runs_it_as_somebody_else_even_from_a_directory_that_only_root_can_enter(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    server = EmbeddedPostgres(private / "postgres", durable=False)
    server.start()
    elsewhere = server.directory
    try:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (i int)")
        assert psutil.Process(server.pid).uids().effective != 0
        assert stat.S_IMODE(private.stat().st_mode) == 0o700, "the modes of the user's own directories are not touched"
        server.stop()

        again = EmbeddedPostgres(private / "postgres", durable=False)
        again.start()
        assert again.directory == elsewhere, "the place is remembered"
        assert answer(again, "SELECT count(*) FROM kept") == 0
        again.stop()
    finally:
        shutil.rmtree(elsewhere)


def python_for(user: SystemUser) -> str:
    """A Python of our version that this user can run: ours may lie in root's home."""
    wanted = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for candidate in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            tried = subprocess.run(
                [candidate, "-c", wanted], check=False, user=user.uid, group=user.gid, extra_groups=[], cwd="/"
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return candidate
    pytest.skip("no Python of this version that a normal user can run")


@as_root
def test_a_normal_user_runs_it(server_dir: Path) -> None:
    user = unprivileged_user()
    assert user
    packages = Path(psycopg.__file__).parents[1]
    project = Path(__file__).parents[2]
    if not user.can_enter(packages) or not user.can_enter(project):
        pytest.skip("the environment is in a place that a normal user cannot reach")
    python = python_for(user)
    home = server_dir / "home-of-a-user"
    user.own(home)

    ran = subprocess.run(
        [python, "-c", AS_A_USER, home / "postgres"],
        capture_output=True,
        check=False,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        cwd="/",
        env={"PYTHONPATH": f"{project}:{packages}", "PATH": os.defpath},
        text=True,
        timeout=60,
    )

    assert (ran.stdout, ran.stderr) == ("answered\n", "")


@as_root
def test_programs_that_the_user_cannot_reach_are_copied_to_where_it_can(tmp_path: Path) -> None:
    user = unprivileged_user()
    assert user
    program = tmp_path / "site" / "package" / "bin" / "program"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)

    made = reachable_copy(tmp_path / "site", ("package",), user, f"copied-by-a-test-{os.getpid()}")

    try:
        assert user.can_enter(made / "package" / "bin")
        assert stat.S_IMODE((made / "package" / "bin" / "program").stat().st_mode) == 0o755
    finally:
        shutil.rmtree(made)


def test_a_second_one_in_the_same_directory_is_refused_and_disturbs_nothing(own_postgres: EmbeddedPostgres) -> None:
    with pytest.raises(StackError, match="already running"):
        EmbeddedPostgres(own_postgres.directory).start()

    assert answer(own_postgres, "SELECT 1") == 1


def test_a_pid_file_of_a_dead_server_whose_number_another_process_has_is_no_obstacle(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    own_postgres.stop()
    # Of the same user: Postgres itself sees that a process of another one cannot be its predecessor.
    command = Command(("sleep", "600"), log_path=tmp_path / "stranger.log", user=unprivileged_user())
    with Child(command) as stranger:
        pid_file = own_postgres.directory / "data" / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{own_postgres.directory / 'data'}\n")

        own_postgres.start()

        assert answer(own_postgres, "SELECT 1") == 1
        assert stranger.running, "a stranger is not stopped"


def test_a_server_that_lost_its_guard_leaves_the_directory_free(own_postgres: EmbeddedPostgres) -> None:
    psutil.Process(own_postgres.pid).parent().kill()
    wait_until(lambda: not own_postgres.running)

    own_postgres.start()

    assert answer(own_postgres, "SELECT 1") == 1


def test_the_data_of_a_stopped_server_is_there_again_at_the_same_url(
    own_postgres: EmbeddedPostgres, postgres_bin_dir: Path | None
) -> None:
    before = own_postgres.url()
    own_postgres.stop()
    directory = own_postgres.directory

    with EmbeddedPostgres(directory, durable=False, bin_dir=postgres_bin_dir) as again:
        assert again.url() == before


def test_a_port_that_somebody_else_took_meanwhile_is_replaced(own_postgres: EmbeddedPostgres) -> None:
    taken = psycopg.conninfo.conninfo_to_dict(own_postgres.url())["port"]
    own_postgres.stop()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", int(taken or 0)))
        stranger.listen()

        own_postgres.start()

        assert answer(own_postgres, "SELECT 1") == 1


def test_nobody_gets_in_without_the_password_and_only_its_owner_can_read_it(own_postgres: EmbeddedPostgres) -> None:
    password = own_postgres.directory / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(own_postgres.url().replace(password.read_text().strip(), "guessed"))


def test_it_listens_on_the_loopback_interface_only(own_postgres: EmbeddedPostgres) -> None:
    assert answer(own_postgres, "SHOW listen_addresses") == "127.0.0.1"
    assert answer(own_postgres, "SHOW unix_socket_directories") == ""


def test_it_is_durable_unless_told_otherwise(tmp_path: Path, server_dir: Path, postgres_bin_dir: Path | None) -> None:
    server = EmbeddedPostgres(server_dir / "durable", bin_dir=postgres_bin_dir, options={"max_connections": "17"})
    with server:
        assert answer(server, "SHOW fsync") == "on"
        assert answer(server, "SHOW full_page_writes") == "on"
        assert answer(server, "SHOW synchronous_commit") == "on"
        assert answer(server, "SHOW max_connections") == "17"
    server.remove()


def test_tests_are_fast_but_keep_what_was_confirmed(own_postgres: EmbeddedPostgres) -> None:
    assert answer(own_postgres, "SHOW fsync") == "off"
    assert answer(own_postgres, "SHOW synchronous_commit") == "on"


def test_a_setting_that_postgres_refuses_is_shown_with_its_words(
    server_dir: Path, postgres_bin_dir: Path | None
) -> None:
    server = EmbeddedPostgres(server_dir / "refused", bin_dir=postgres_bin_dir, options={"max_connections": "none"})
    with pytest.raises(StackError, match='invalid value for parameter "max_connections"'):
        server.start()
    server.remove()


def test_an_interrupted_initdb_leaves_no_half_made_cluster(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.stop()
    shutil.rmtree(own_postgres.directory / "data")
    draft = own_postgres.directory / "data.new"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")

    own_postgres.start()

    assert answer(own_postgres, "SELECT 1") == 1


def test_an_immediate_stop_ends_it_by_the_signal_of_a_crash(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.restart("immediate")

    assert "not properly shut down" in own_postgres.log_path.read_text()
