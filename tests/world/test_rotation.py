"""The token is rotated under load: nothing is lost, no gate closes, and no proof is drawn from two tokens' answers."""

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from dispatcher.config.account import Token
from dispatcher.config.settings import Settings
from dispatcher.wiring import Services
from dispatcher.worker.deliverer import Deliverer
from tests.database.queue import Queue
from tests.world.doubtful import CAMPAIGN, SETTLE, Doubtful, Terms, doubtful

OLD, NEW, NEWEST = "the-old-token", "the-new-token", "the-newest-token"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "first").write_text(OLD)
    return {"VOICERY_API_TOKEN_FILE": tmp_path / "first", "VOICERY_API_TOKEN_NEXT_FILE": tmp_path / "second"}


@pytest.fixture
def first(files: Mapping[str, Path]) -> Path:
    return files["VOICERY_API_TOKEN_FILE"]


@pytest.fixture
def second(files: Mapping[str, Path]) -> Path:
    return files["VOICERY_API_TOKEN_NEXT_FILE"]


@pytest.fixture
def world(queue: Queue) -> Iterator[Doubtful]:
    with doubtful(queue, Terms(token=OLD)) as world:
        world.token = Token.of(OLD).fingerprint
        yield world


@pytest.fixture
def worker(world: Doubtful, environment: Mapping[str, str], files: Mapping[str, Path]) -> Iterator[Deliverer]:
    ours = {name: value for name, value in environment.items() if name != "VOICERY_API_TOKEN"}
    quick = {"DISPATCHER_RATE_LIMIT": "off", "DISPATCHER_GATE_WAIT": "0.1"}
    where = {"VOICERY_BASE_URL": world.sandbox.base_url, **{name: str(path) for name, path in files.items()}}
    services = Services(Settings.from_environment({**ours, **quick, **where}), connections=4)
    with closing(Deliverer(services, stopping=lambda: False, worker="test:1")) as worker:
        yield worker


def only(world: Doubtful, token: str) -> None:
    """From now on Voicery takes this token alone."""
    app = world.sandbox._app
    assert app is not None
    app._options = dataclasses.replace(app._options, token=token)


def deliver_all(world: Doubtful, worker: Deliverer) -> None:
    for _ in range(5):
        worker.deliver("default", CAMPAIGN)
        world.later(2)


def gates(world: Doubtful) -> set[str]:
    return {row.state for row in world.queue.rows("SELECT state FROM dispatcher.gates")} or {"open"}


def test_the_second_token_takes_over_before_a_gate_closes(world: Doubtful, worker: Deliverer, second: Path) -> None:
    leads = [world.submit(number) for number in range(20, 26)]
    second.write_text(NEW)
    only(world, NEW)

    worker.deliver("default", CAMPAIGN)
    assert gates(world) == {"open"}
    deliver_all(world, worker)

    assert {world.queue.lead(lead).state for lead in leads} == {"accepted"}
    assert {world.queue.lead(lead).attempts for lead in leads} == {1}, "a refusal of the token counts as no attempt"
    assert gates(world) == {"open"}
    assert [world.created(number) for number in range(20, 26)] == [1] * 6
    by_token = {Token.of(OLD).fingerprint: "unauthorized", Token.of(NEW).fingerprint: "accepted"}
    made = world.queue.rows("SELECT DISTINCT token, outcome FROM dispatcher.lead_attempts")
    assert {row.token: row.outcome for row in made} == by_token, "each attempt names the token it was made with"


def test_without_a_second_token_the_gate_closes_and_the_file_opens_it(
    world: Doubtful, worker: Deliverer, first: Path
) -> None:
    lead = world.submit(20)
    only(world, NEW)
    worker.deliver("default", CAMPAIGN)
    assert gates(world) == {"closed", "open"}
    assert world.queue.lead(lead).state == "pending"

    first.write_text(NEW)
    world.later(30)
    worker.lookup("default")
    deliver_all(world, worker)
    assert world.queue.lead(lead).state == "accepted"
    assert gates(world) == {"open"}


def test_both_refused_close_the_gate_and_a_third_opens_it(
    world: Doubtful, worker: Deliverer, first: Path, second: Path
) -> None:
    second.write_text(NEW)
    only(world, NEWEST)
    lead = world.submit(20)
    deliver_all(world, worker)
    assert gates(world) == {"closed", "open"}

    first.write_text(NEWEST)
    world.later(30)
    worker.lookup("default")
    deliver_all(world, worker)
    assert world.queue.lead(lead).state == "accepted"


def test_a_token_file_is_read_anew_by_the_next_run(world: Doubtful, worker: Deliverer, first: Path) -> None:
    world.submit(20)
    worker.deliver("default", CAMPAIGN)
    first.write_text(NEW)
    only(world, NEW)
    lead = world.submit(21)
    worker.deliver("default", CAMPAIGN)
    assert world.queue.lead(lead).state == "accepted"
    assert [row.outcome for row in world.queue.rows("SELECT outcome FROM dispatcher.lead_attempts")] == ["accepted"] * 2


def lost(world: Doubtful) -> uuid.UUID:
    """A lead whose POST, with the old token, had no effect; between leads of the old token."""
    world.accept(18, 19)
    lead = world.lose(created=False)
    world.accept(30, 31)
    return lead


def look_twice(world: Doubtful, worker: Deliverer) -> None:
    for _ in range(2):
        world.later(SETTLE)
        worker.lookup("default")


def test_while_the_old_token_is_valid_its_leads_are_proven_absent(
    world: Doubtful, worker: Deliverer, second: Path
) -> None:
    lead = lost(world)
    second.write_text(NEW)
    look_twice(world, worker)
    assert world.queue.lead(lead).state == "pending"
    worker.deliver("default", CAMPAIGN)
    assert world.queue.lead(lead).state == "accepted"


def test_what_was_sent_with_the_old_token_is_held_once_only_the_new_one_reads_the_list(
    world: Doubtful, worker: Deliverer, second: Path
) -> None:
    lead = lost(world)
    second.write_text(NEW)
    only(world, NEW)
    look_twice(world, worker)
    assert world.queue.lead(lead).state == "unknown"
    assert "token" in world.missing(lead)
    worker.deliver("default", CAMPAIGN)
    assert world.created() == 0


def test_a_list_that_changes_hands_within_a_pass_proves_nothing(
    world: Doubtful, worker: Deliverer, second: Path
) -> None:
    """The first pages are read with the old token, the last with the new one."""
    lead = lost(world)
    second.write_text(NEW)
    world.later(SETTLE)
    worker.lookup("default")  # the first look-up
    world.later(SETTLE)
    client = worker._services.clients.client("default")
    ask, asked = client.list_leads, []

    def revoked_meanwhile(**query: object) -> object:
        asked.append(query)
        reply = ask(**query)  # type: ignore[arg-type]
        only(world, NEW)
        return reply

    client.list_leads = revoked_meanwhile  # type: ignore[method-assign, assignment]
    worker.lookup("default")
    assert len(asked) == 2, "one page with the old token, and the refusal"
    assert world.queue.lead(lead).state == "unknown"
    assert "another token" in world.missing(lead)


def test_what_voicery_shows_is_found_with_either_token(world: Doubtful, worker: Deliverer, second: Path) -> None:
    world.accept(18)
    lead = world.lose(created=True)
    second.write_text(NEW)
    only(world, NEW)
    look_twice(world, worker)
    assert world.queue.lead(lead).state == "accepted"
    assert world.created() == 1


def test_doctor_asks_with_the_second_token_where_the_first_is_refused(
    world: Doubtful, worker: Deliverer, second: Path
) -> None:
    only(world, NEW)
    assert worker.greet("default").status == 401
    second.write_text(NEW)
    assert worker.greet("default").status == 200


def test_no_token_reaches_the_database(world: Doubtful, worker: Deliverer, second: Path) -> None:
    leads = [world.submit(number) for number in range(20, 23)]
    second.write_text(NEW)
    only(world, NEW)
    deliver_all(world, worker)
    assert {world.queue.lead(lead).state for lead in leads} == {"accepted"}
    tables = world.queue.rows("SELECT tablename AS table_name FROM pg_tables WHERE schemaname = 'dispatcher'")
    stored = "".join(
        str(world.queue.rows(f"SELECT to_jsonb(one) AS row FROM dispatcher.{table.table_name} AS one"))
        for table in tables
    )
    assert Token.of(NEW).fingerprint in stored
    assert [token for token in (OLD, NEW) if token in stored] == []
