"""A worker behind a transaction-pooling proxy delivers, resolves and leaves, with nothing but the setting."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.process.conftest import StartSandbox
from tests.process.rig import Rig
from tests.support.pooler import find_pgbouncer, pooled
from tests.support.worker_process import WorkerProcess

PGBOUNCER = find_pgbouncer()


@pytest.fixture
def pooled_rig(
    environment: Mapping[str, str],
    server_dir: Path,
    start_sandbox: StartSandbox,
    worker: Callable[..., WorkerProcess],
) -> Iterator[Rig]:
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=server_dir))
    with pooled(str(PGBOUNCER), environment["DATABASE_URL"], directory) as url:
        sandbox = start_sandbox("--latency", "0.05", "--chaos", "0.1")
        yield Rig({**environment, "DATABASE_URL": url, "DISPATCHER_POOLER": "true"}, sandbox, worker)


@pytest.mark.skipif(PGBOUNCER is None, reason="no PgBouncer here (Debian: apt-get install pgbouncer)")
def test_a_backlog_is_delivered_and_resolved_through_a_pooler(pooled_rig: Rig) -> None:
    pooled_rig.submit(100)
    worker = pooled_rig.start_worker("-c", "2")
    pooled_rig.wait_settled(90)

    created = pooled_rig.query("SELECT count(DISTINCT voicery_lead_id) FROM dispatcher.leads WHERE state = 'accepted'")
    assert int(str(created[0][0])) >= 80
    assert worker.stop() == 0
