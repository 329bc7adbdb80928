"""Where a server keeps its data, the lock that says who runs it, and what it remembers between starts."""

import fcntl
import os
import secrets
from pathlib import Path

from dispatcher.embedded.child import StackError
from dispatcher.embedded.system_user import SystemUser, directory_elsewhere


class StoreDirectory:
    """A private directory of one server, at the place asked for or, if its user cannot reach that, elsewhere."""

    def __init__(self, asked_for: Path, user: SystemUser | None) -> None:
        self.user = user
        self.path = self._place(asked_for.absolute())

    def _place(self, asked_for: Path) -> Path:
        if self.user is None:
            asked_for.mkdir(parents=True, exist_ok=True)
            asked_for.chmod(0o700)
            return asked_for
        moved = asked_for / "moved-to"
        if moved.exists():
            elsewhere = Path(moved.read_text().strip())
            if elsewhere.is_dir():
                return elsewhere
        self.user.own(asked_for)
        if self.user.can_enter(asked_for):
            return asked_for
        elsewhere = directory_elsewhere(f"{asked_for.name}.")
        self.user.own(elsewhere)
        moved.write_text(f"{elsewhere}\n")
        return elsewhere

    def lock(self) -> int:
        """Take the lock; it is held as long as any process has the returned descriptor open.

        Raises:
            StackError: another process runs the server of this directory.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StackError(
                f"The server in {self.path} is already running, started by another process; stop that one first "
                "(Ctrl-C where it runs), or work with the URLs it has printed."
            ) from None
        return descriptor

    def password(self) -> str:
        """The password of the server, generated once; the file is for its owner alone."""
        remembered = self.recall("password")
        if remembered is None:
            remembered = secrets.token_urlsafe(24)
            self.remember("password", remembered)
        return remembered

    def recall(self, name: str) -> str | None:
        """What was remembered under this name."""
        path = self.path / name
        return path.read_text().strip() if path.exists() else None

    def remember(self, name: str, value: str) -> Path:
        """Keep a value over restarts, readable by the server's user alone."""
        path, draft = self.path / name, self.path / f"{name}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{value}\n")
        if self.user is not None:
            os.chown(draft, self.user.uid, self.user.gid)
        draft.rename(path)
        return path
