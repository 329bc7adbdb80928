"""The wheel and the sdist, built once."""

import pytest

from tests.deployment.building import build, source


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The published files and their bytes."""
    pytest.importorskip("hatchling", reason="the environment is older than locks/dev.txt: `make setup`")
    return build(source(tmp_path_factory.mktemp("first") / "src", 0o644), "sdist", "wheel")
