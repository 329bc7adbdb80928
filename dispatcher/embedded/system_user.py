"""The system user that Postgres runs as, and access to its files: Postgres refuses to run as root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatcher.errors import NotConfigured

_OF_SERVERS: Final = frozenset({"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"})


def server_environment() -> dict[str, str]:
    """Return what a server may know of this process's environment: where programs are, the language, the time zone.

    Not the rest, which holds the token: who can read files as the server can read the environment it was started with.
    """
    return {name: value for name, value in os.environ.items() if name in _OF_SERVERS}


_CANDIDATES: Final = ("postgres", "nobody")
_ELSEWHERE: Final = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  only a directory that root owns is used
_SHELTER: Final = "voicery-dispatcher"


@dataclass(frozen=True, slots=True)
class SystemUser:
    """A user of the operating system."""

    uid: int
    gid: int

    def can_enter(self, directory: Path) -> bool:
        """Return whether this user can work in the directory, by trying: modes alone do not tell."""
        asked = subprocess.run(
            ["/bin/sh", "-c", 'cd "$1" && test -r .', "sh", str(directory)],
            check=False,
            cwd="/",
            env=server_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
        )
        return asked.returncode == 0

    def own(self, directory: Path) -> None:
        """Create the directory, private to this user; missing parents are traversable by everyone."""
        directory.mkdir(parents=True, exist_ok=True)
        os.chown(directory, self.uid, self.gid)
        directory.chmod(0o700)


def unprivileged_user() -> SystemUser | None:
    """Return the user for Postgres if this process is root, else None: Postgres then runs as this process's user.

    An existing user is taken: starting a demo must not add users to a machine.

    Raises:
        NotConfigured: we are root on a system without `postgres` and `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemUser(entry.pw_uid, entry.pw_gid)
    raise NotConfigured("Postgres does not run as root, and here is no user `postgres` or `nobody` to run it as.")


def directory_elsewhere(prefix: str) -> Path:
    """Create a directory, owned by root, that every user can reach, for files below a private home such as /root."""
    for parent in _ELSEWHERE:
        shelter = parent / _SHELTER
        try:
            shelter.mkdir(mode=0o755, exist_ok=True)
            status = shelter.lstat()
            if status.st_uid != 0 or shelter.is_symlink():
                continue  # not root's, or a link
            shelter.chmod(0o755)
            return Path(tempfile.mkdtemp(prefix=prefix, dir=shelter))
        except OSError:
            continue
    raise NotConfigured("No directory for Postgres that an unprivileged user can reach; run as a normal user.")


def reachable_copy(site: Path, parts: Sequence[str], user: SystemUser, name: str) -> Path:
    """Return the directory if the user can enter the first part, else a directory with copies of all parts.

    Made once per name: a copy of the programs is bound to their version, not to a store.
    """
    if user.can_enter(site / parts[0]):
        return site
    for parent in _ELSEWHERE:
        made = parent / _SHELTER / name
        if made.is_dir() and made.stat().st_uid == 0:
            return made
    draft = directory_elsewhere(f"{name}.")
    for part in parts:
        if (site / part).exists():
            shutil.copytree(site / part, draft / part)
    for path in (draft, *draft.rglob("*")):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044))
    made = draft.parent / name
    try:
        draft.rename(made)
    except OSError:
        shutil.rmtree(draft)
        if not made.is_dir():
            raise  # another process made it meanwhile
    return made
