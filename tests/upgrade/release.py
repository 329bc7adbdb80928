"""An older version of this package, taken from git, whose commands run with the libraries that are installed here."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREVIOUS: Final = "0014"
"""The release before, while no release has a tag: the last commit whose newest revision of the schema was this one."""

ROOT: Final = Path(__file__).parents[2]
_VERSIONS: Final = "migrations/versions"
_PARTS: Final = ("dispatcher", "migrations", "tests")


class NoHistory(Exception):
    """There is no git history here to take an older version from; the message says why."""


@dataclass(frozen=True, slots=True)
class Release:
    """An unpacked older version. `revision` is the schema that it needs, `commit` where it is from."""

    tree: Path
    commit: str
    revision: str

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The variables under which `python -m dispatcher` and `celery -A dispatcher` are of this version."""
        return {**settings, "PYTHONPATH": str(self.tree)}

    def run(self, *arguments: str, settings: Mapping[str, str]) -> str:
        """What a command of this version prints; raise if it fails."""
        command = [sys.executable, "-m", "dispatcher", *arguments]
        environment = {**os.environ, **self.environment(settings)}
        ended = subprocess.run(command, env=environment, cwd=self.tree, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


def previous(directory: Path) -> Release:
    """Unpack the release before this version: the newest tag before this commit, else the last one with `PREVIOUS`.

    Raises `NoHistory` in an unpacked archive and in a shallow clone.
    """
    _check_history()
    tag = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return _unpacked(tag.stdout.strip() if tag.returncode == 0 else _last_commit(PREVIOUS), directory)


def last_with(revision: str, directory: Path) -> Release:
    """Unpack the last version whose newest revision of the schema was `revision`. Raises as `previous` does."""
    _check_history()
    return _unpacked(_last_commit(revision), directory)


def _check_history() -> None:
    missing = "no git checkout: the release before cannot be taken from its history"
    try:
        top, shallow = _git("rev-parse", "--show-toplevel", "--is-shallow-repository").splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoHistory(missing) from error
    if Path(top).resolve() != ROOT.resolve():  # an archive that was unpacked within another repository
        raise NoHistory(missing)
    if shallow == "true":
        raise NoHistory("a shallow clone, without the release before: run `git fetch --unshallow`")


def _last_commit(revision: str) -> str:
    """The commit before the one that added what came after `revision`; HEAD if nothing did."""
    after = "HEAD"
    for commit in _git("log", "--format=%H", "--", _VERSIONS).split():
        if _head(commit) == revision:
            return after
        after = f"{commit}^"
    raise AssertionError(f"no commit has {revision} as its newest revision")


def _head(commit: str) -> str:
    names = _git("ls-tree", "--name-only", commit, f"{_VERSIONS}/").split()
    return max((Path(name).name[:4] for name in names if Path(name).name[:4].isdigit()), default="")


def _unpacked(commit: str, directory: Path) -> Release:
    archive = subprocess.run(["git", "archive", commit, *_PARTS], cwd=ROOT, capture_output=True, check=True).stdout
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "--extract", "--directory", str(directory)], input=archive, check=True)
    return Release(directory, _git("rev-parse", commit).strip(), _head(commit))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
