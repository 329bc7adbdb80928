"""The Celery app of the workers: what it refuses before it starts."""

import gc

import pytest

from dispatcher.celery import CannotStart, WorkerApp


# Source: eventlet replaces greenlet's hub; a worker with it starts, answers ping, and sends nothing.
@pytest.mark.parametrize("pool", ["eventlet", "gevent", "celery.concurrency.gevent:TaskPool", "someone.pools:Pool"])
def test_a_pool_that_cannot_work_is_refused_by_name(pool: str) -> None:
    app = WorkerApp(configuration=lambda: {"broker_url": "redis://127.0.0.1:9/0"})

    with pytest.raises(CannotStart, match=r"The worker pool .* cannot run.*--pool prefork"):
        app.Worker(pool_cls=pool)


@pytest.mark.parametrize("option", ["queues", "exclude_queues"])
def test_a_choice_of_queues_is_refused(option: str) -> None:
    app = WorkerApp(configuration=lambda: {"broker_url": "redis://127.0.0.1:9/0"})

    with pytest.raises(CannotStart, match=r"two queues by itself; leave out --queues"):
        app.Worker(**{option: ["dispatcher"]})


def test_a_pool_of_the_configuration_is_refused_too() -> None:
    app = WorkerApp(configuration=lambda: {"broker_url": "redis://127.0.0.1:9/0", "worker_pool": "gevent"})

    with pytest.raises(CannotStart, match="worker pool gevent"):
        app.Worker()


def test_what_cannot_be_built_before_the_fork_hinders_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration is given; the variables, by which the parts are built, are not."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    app = WorkerApp(configuration=lambda: {"broker_url": "redis://127.0.0.1:9/0"})

    app._load_before_fork()
    gc.unfreeze()

    assert gc.isenabled()
