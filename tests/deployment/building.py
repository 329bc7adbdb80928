"""Build what is published, from a copy of the tree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deployment.files import ROOT

MADE_OF = ("dispatcher", "migrations", "examples", "tests", "locks")


def source(directory: Path, mode: int) -> Path:
    """A copy of what is published, its files with other times and modes than here."""
    for name in MADE_OF:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".pytest_cache")
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md", "pyproject.toml"):
        shutil.copy(ROOT / name, directory / name)
    for number, path in enumerate(sorted(directory.rglob("*"), reverse=mode == 0o600)):
        os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
        if path.is_file():
            path.chmod(mode)
    return directory


def build(where: Path, *targets: str, **environment: str) -> dict[str, bytes]:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(where / "dist")]
    options = [part for target in targets for part in ("--target", target)]
    surroundings = {"PATH": os.environ["PATH"], **environment}
    subprocess.run([*command, *options], check=True, cwd=where, env=surroundings, capture_output=True, timeout=120)
    return {path.name: path.read_bytes() for path in (where / "dist").iterdir()}
