"""A primary and its streaming standby, made by `pg_basebackup`: real servers that a test may kill and promote."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil
import psycopg

from dispatcher.embedded.postgres import DATABASE, ROLE, EmbeddedPostgres
from dispatcher.embedded.system_user import server_environment, unprivileged_user
from tests.support.waiting import wait_until

NAME = "standby"
DEBIANS = Path("/usr/lib/postgresql/15/bin")


class NoTools(Exception):
    """The programs of Postgres here lack `pg_basebackup`, as the wheel's do."""


def tools(bin_dir: Path | None) -> Path:
    """Return the directory of a Postgres with all its programs. Raises `NoTools`."""
    for directory in (bin_dir, DEBIANS):
        if directory is not None and (directory / "pg_basebackup").exists():
            return directory
    raise NoTools("pg_basebackup is missing: `make test-pg15` installs Debian's Postgres 15, which has it")


class Pair:
    """Two servers in `directory`, the second a base backup of the first that streams from it.

    seed         a stopped cluster, made by the same version, that the primary is a copy of
    synchronous  commits of the primary wait until the standby has them
    """

    def __init__(self, directory: Path, seed: Path, bin_dir: Path, *, synchronous: bool) -> None:
        self._bin_dir = bin_dir
        self._synchronous = synchronous
        self._directory = directory
        place = self._place("primary-")
        subprocess.run(["cp", "-a", f"{seed}/.", place], check=True)
        self.primary = self._server(place)
        self.standby: EmbeddedPostgres

    def __enter__(self) -> Self:
        self.primary.start()
        self.standby = self._server(self.backup("standby-", streaming=True))
        self.standby.start()
        if self._synchronous:
            self.execute(self.primary, f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
            self.execute(self.primary, "SELECT pg_reload_conf()")
        wait_until(self.streams, describe="the standby streams")
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.primary, self.standby):
            with contextlib.suppress(psutil.Error):
                self.thaw(server)
            server.remove()

    def _place(self, prefix: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self._directory))

    def _server(self, place: Path) -> EmbeddedPostgres:
        return EmbeddedPostgres(place, durable=False, bin_dir=self._bin_dir)

    @property
    def _source(self) -> str:
        password = (self.primary.directory / "password").read_text().strip()
        return f"host=127.0.0.1 port={self.primary.port} user={ROLE} password={password} application_name={NAME}"

    @property
    def url(self) -> str:
        """Both hosts, the primary first, as a `DATABASE_URL`."""
        return self.url_of(self.primary, self.standby)

    @staticmethod
    def url_of(*servers: EmbeddedPostgres) -> str:
        user = servers[0].url().partition("//")[2].partition("@")[0]
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        return f"postgresql://{user}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def backup(self, prefix: str = "backup-", *, streaming: bool = False) -> Path:
        """Take a base backup of the primary. `streaming`: it starts as a standby of it."""
        place = self._place(prefix)
        user = unprivileged_user()
        if user is not None:
            user.own(place)
        subprocess.run(["cp", "-a", self.primary.directory / "password", place], check=True)
        command = [self._bin_dir / "pg_basebackup", "--dbname", self._source, "--pgdata", place / "data"]
        command += ["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-manifest"]
        subprocess.run(
            [*command, *(["--write-recovery-conf"] if streaming else [])],
            check=True,
            cwd="/",
            env=server_environment(),
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        return place

    def restored(self, backup: Path, *, recovered: bool = False) -> EmbeddedPostgres:
        """Start a server on a backup. `recovered`: by archive recovery, which begins another timeline."""
        if recovered:
            with (backup / "data" / "postgresql.auto.conf").open("a") as settings:
                settings.write("restore_command = 'false'\n")
            signal_file = backup / "data" / "recovery.signal"
            signal_file.touch()
            owner = (backup / "data").stat()
            os.chown(signal_file, owner.st_uid, owner.st_gid)
        server = self._server(backup)
        server.start()
        return server

    def execute(self, server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
        """Run a statement and wait for no standby."""
        with psycopg.connect(server.url(), autocommit=True, connect_timeout=5) as connection:
            connection.execute("SET synchronous_commit = local")
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def streams(self) -> bool:
        """Whether the standby has all that the primary has, and is what commits wait for if they are to."""
        wanted = "sync" if self._synchronous else "async"
        asked = (
            "SELECT sync_state, replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication WHERE state = 'streaming'"
        )
        return self.execute(self.primary, asked) == [(wanted, True)]

    def kill(self, server: EmbeddedPostgres, how: str) -> None:
        """End a server: `kill` (SIGKILL of every process), `immediate`, or `freeze`, so that it answers no more."""
        match how:
            case "immediate":
                server.stop("immediate")
            case "kill":
                for process in self._processes(server):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                server.stop("immediate")
            case "freeze":
                for process in self._processes(server):
                    process.send_signal(signal.SIGSTOP)

    def thaw(self, server: EmbeddedPostgres) -> None:
        """Let a frozen server go on as if nothing had happened."""
        for process in self._processes(server):
            process.send_signal(signal.SIGCONT)

    @staticmethod
    def _processes(server: EmbeddedPostgres) -> list[psutil.Process]:
        file = server.directory / "data" / "postmaster.pid"
        if not file.exists():
            return []
        postmaster = psutil.Process(int(file.read_text().split("\n", 1)[0]))
        return [postmaster, *postmaster.children()]

    def promote(self) -> None:
        """Promote the standby; return when it takes writes."""
        (done,) = self.execute(self.standby, "SELECT pg_promote(true, 30)")
        assert done == (True,)

    @contextmanager
    def claims_held(self) -> Iterator[None]:
        """Let nothing be claimed on the primary in the block, by a lock, which no standby and no backup has."""
        with psycopg.connect(self.primary.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(hashtextextended('dispatcher.pause:default', 0))")
            yield

    def wait_for_no_standby(self) -> None:
        """Have commits of the primary wait no more, as an operator does who has lost the standby."""
        self._synchronous = False
        self.execute(self.primary, "ALTER SYSTEM RESET synchronous_standby_names")
        self.execute(self.primary, "SELECT pg_reload_conf()")

    def stop_streaming(self) -> None:
        """Have the standby receive nothing more; it can be promoted to what it has."""
        self._connect_to("")
        wait_until(lambda: self._senders() == [], describe="the standby has let go")

    def stream_again(self) -> None:
        """Have the standby catch up."""
        self._connect_to(self._source)
        wait_until(self.streams, describe="the standby streams again")

    def _connect_to(self, source: str) -> None:
        self.execute(self.standby, f"ALTER SYSTEM SET primary_conninfo = '{source}'")
        self.execute(self.standby, "SELECT pg_reload_conf()")

    def _senders(self) -> list[tuple[object, ...]]:
        return self.execute(self.primary, "SELECT pid FROM pg_stat_replication")
