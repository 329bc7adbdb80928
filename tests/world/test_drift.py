"""Processes whose settings about evidence differ: a shell without the deployment's, a worker of an older release.

Each test first looks a lead up, whose absence the laxer settings would take for proven, and send again.
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing

import pytest
from typer.testing import CliRunner

from dispatcher.api import Dispatcher
from dispatcher.cli.commands import app
from dispatcher.config.settings import Settings
from dispatcher.wiring import Services
from dispatcher.worker.deliverer import Deliverer
from tests.database.queue import Queue
from tests.world.doubtful import CAMPAIGN, Doubtful, Terms, doubtful

STRICT = {"DISPATCHER_ON_UNKNOWN": "hold", "DISPATCHER_SETTLE": "3"}
LAX = {"DISPATCHER_ON_UNKNOWN": "auto", "DISPATCHER_SETTLE": "0.8"}

Start = Callable[..., Deliverer]


@pytest.fixture
def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "DISPATCHER_RATE_LIMIT": "off"}


@pytest.fixture
def world(queue: Queue, surroundings: dict[str, str]) -> Iterator[Doubtful]:
    with doubtful(queue, Terms(token=surroundings["VOICERY_API_TOKEN"])) as world:
        surroundings["VOICERY_BASE_URL"] = world.sandbox.base_url
        world.token = Services(Settings.from_environment(surroundings)).clients.tokens("default").current().fingerprint
        yield world


@pytest.fixture
def start(surroundings: Mapping[str, str], world: Doubtful) -> Iterator[Start]:
    """Starts a worker with these settings: it serves a channel once, by which it has been seen."""
    with ExitStack() as running:

        def start(name: str, settings: Mapping[str, str]) -> Deliverer:
            services = Services(Settings.from_environment({**surroundings, **settings}), connections=4)
            worker = Deliverer(services, stopping=lambda: False, worker=name, states_terms=True)
            running.enter_context(closing(worker))
            worker.deliver("default", CAMPAIGN)
            return worker

        yield start


@pytest.fixture
def lost(world: Doubtful) -> uuid.UUID:
    """A lead that never arrived, between two that Voicery accepted."""
    world.accept(20, 21)
    lead_id = world.lose(created=False)
    world.accept(30, 31)
    return lead_id


def look_twice(
    world: Doubtful, look_up: Callable[[list[uuid.UUID]], object], lead_id: uuid.UUID, seconds: float = 1
) -> None:
    """Two look-ups so many seconds apart. By `LAX` one second is enough for a proof, by `STRICT` it is not."""
    for _ in range(2):
        world.later(seconds)
        look_up([lead_id])


def by(worker: Deliverer) -> Callable[[list[uuid.UUID]], object]:
    return lambda ids: worker.look_up("default", ids)


@pytest.fixture
def shell(surroundings: Mapping[str, str], world: Doubtful) -> Iterator[Dispatcher]:
    """A process with the laxer settings that is no worker."""
    with closing(Dispatcher(Settings.from_environment({**surroundings, **LAX}))) as shell:
        yield shell


def proven(world: Doubtful, lead_id: uuid.UUID) -> bool:
    (row,) = world.queue.rows(
        "SELECT evidence -> 'proof' = 'true' AS proof FROM dispatcher.lead_attempts WHERE lead_id = :id", id=lead_id
    )
    return bool(row.proof)


def test_where_all_agree_a_shell_proves_the_lead_absent_and_it_is_sent_again(
    world: Doubtful, start: Start, shell: Dispatcher, lost: uuid.UUID
) -> None:
    worker = start("host:1", LAX)
    look_twice(world, shell.look_up, lost)
    assert world.queue.lead(lost).state == "pending"
    worker.deliver("default", CAMPAIGN)
    assert (world.sent_to(), world.created()) == (2, 1)


def test_a_shell_with_laxer_settings_goes_by_those_of_the_worker_and_says_so(
    world: Doubtful, start: Start, shell: Dispatcher, lost: uuid.UUID, caplog: pytest.LogCaptureFixture
) -> None:
    worker = start("host:1", STRICT)
    with caplog.at_level(logging.WARNING):
        look_twice(world, shell.look_up, lost)
    assert not proven(world, lost), "by the settle time of the worker it is too early"
    look_twice(world, shell.look_up, lost, seconds=3.5)
    assert proven(world, lost)
    assert world.queue.lead(lost).state == "unknown", "the worker holds"
    worker.deliver("default", CAMPAIGN)
    assert world.sent_to() == 1
    told = [vars(record) for record in caplog.records if record.getMessage() == "settings.drift"]
    assert told
    assert (set(told[0]["settings"]), told[0]["stored_by"]) == (set(STRICT), "host:1")


def test_a_worker_with_laxer_settings_that_starts_beside_a_stricter_one_goes_by_that(
    world: Doubtful, start: Start, lost: uuid.UUID
) -> None:
    start("host:1", STRICT)
    laxer = start("host:2", LAX)
    look_twice(world, by(laxer), lost)
    laxer.deliver("default", CAMPAIGN)
    assert (world.queue.lead(lost).state, world.sent_to()) == ("unknown", 1)


def test_a_worker_with_stricter_settings_binds_the_laxer_ones_that_run_already(
    world: Doubtful, start: Start, lost: uuid.UUID
) -> None:
    laxer = start("host:1", LAX)
    start("host:2", STRICT)
    look_twice(world, by(laxer), lost)
    laxer.deliver("default", CAMPAIGN)
    assert (world.queue.lead(lost).state, world.sent_to()) == ("unknown", 1)


def test_when_the_stricter_worker_has_gone_the_others_settings_hold(
    world: Doubtful, start: Start, lost: uuid.UUID
) -> None:
    start("host:1", STRICT)
    world.queue.run("UPDATE dispatcher.workers SET seen_at = now() - interval '61 seconds'")
    laxer = start("host:2", LAX)
    look_twice(world, by(laxer), lost)
    laxer.deliver("default", CAMPAIGN)
    assert (world.queue.lead(lost).state, world.sent_to(), world.created()) == ("accepted", 2, 1)


def test_the_doctor_and_the_lookup_command_name_what_differs(
    world: Doubtful, start: Start, lost: uuid.UUID, surroundings: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start("host:1", STRICT)
    for name, value in (surroundings | LAX).items():
        monkeypatch.setenv(name, value)
    checks = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["items"]
    (found,) = [check for check in checks if check["name"] == "Evidence"]
    assert found["verdict"] == "doubtful"
    assert all(name in found["found"] for name in (*STRICT, "host:1"))
    assert found["advice"]
    said = CliRunner().invoke(app, ["lookup", str(lost)])
    assert said.exit_code == 0
    assert "DISPATCHER_ON_UNKNOWN" in said.stderr
