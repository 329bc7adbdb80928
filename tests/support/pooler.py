"""A real PgBouncer in transaction mode, if this machine has one: sessions change hands after every transaction."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import LOOPBACK, accepts_connections, free_port
from dispatcher.embedded.system_user import unprivileged_user
from tests.support.waiting import wait_until

SERVER_SESSIONS = 2


def find_pgbouncer() -> str | None:
    """Debian's is in a directory that only root searches."""
    return shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


@contextmanager
def pooled(program: str, database_url: str, directory: Path) -> Iterator[str]:
    """The address of the same database through a pooler with two sessions and no setting for our sake."""
    server = urlsplit(database_url)
    port = free_port()
    target = f"host={server.hostname} port={server.port} user={server.username} password={server.password or ''}"
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = {target}\n[pgbouncer]\nlisten_addr = {LOOPBACK}\nlisten_port = {port}\n"
        f"auth_type = any\nunix_socket_dir =\npool_mode = transaction\ndefault_pool_size = {SERVER_SESSIONS}\n"
    )
    user = unprivileged_user()
    if user is not None:
        user.own(directory)
        os.chown(directory / "pgbouncer.ini", user.uid, user.gid)
    command = Command(argv=(program, str(directory / "pgbouncer.ini")), log_path=directory / "pgbouncer.log", user=user)
    child = Child(command)
    try:
        wait_until(lambda: accepts_connections(port), 20, child.log_tail)
        yield f"postgresql://anybody@{LOOPBACK}:{port}{server.path}"
    finally:
        child.kill()
