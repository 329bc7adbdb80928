"""Pairs of a primary and its standby, where the tools for it are."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.standby import NoTools, Pair, tools

MakePair = Callable[..., Pair]


@pytest.fixture
def make_pair(server_dir: Path, postgres_seed: Path, postgres_bin_dir: Path | None) -> Iterator[MakePair]:
    """Makes a running pair: `make_pair(synchronous=True)`."""
    if postgres_bin_dir is None:
        pytest.skip("the Postgres of the wheel has no pg_basebackup: `make test-pg15` runs this on Debian's")
    try:
        bin_dir = tools(postgres_bin_dir)
    except NoTools as error:
        pytest.skip(str(error))
    with ExitStack() as ending:
        yield lambda *, synchronous: ending.enter_context(
            Pair(server_dir, postgres_seed, bin_dir, synchronous=synchronous)
        )
