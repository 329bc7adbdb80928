"""The composition root: parts are built once, whichever thread is first, and belong to one process."""

import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import event

from dispatcher.api import Dispatcher
from dispatcher.broker.doorbell import NullDoorbell
from dispatcher.config.account import AccountSettings
from dispatcher.config.setting import Secret
from dispatcher.config.settings import Settings
from dispatcher.errors import LeadNotFound, NotConfigured
from dispatcher.operator import overview
from dispatcher.part import LazyPart
from dispatcher.store import databases
from dispatcher.store.database import Database
from dispatcher.wiring import Services
from tests.database.queue import Queue, accepted, ids, phone
from tests.support.waiting import PATIENCE_SECONDS, wait_until

LEAD = {"phone_number": phone(1), "campaign_id": 42}


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return Settings(database_url=database_url, redis_url=redis_url)


@pytest.fixture
def dispatcher(settings: Settings) -> Iterator[Dispatcher]:
    with closing(Dispatcher(settings)) as dispatcher:
        yield dispatcher


def connections(queue: Queue, name: str) -> int:
    return len(queue.rows("SELECT FROM pg_stat_activity WHERE application_name = :name", name=name))


def test_threads_whose_first_call_is_submit_share_one_database_which_close_closes(
    settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Database):
        """Lets every thread reach the building before the first has finished."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            time.sleep(0.2)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(databases, "Database", Slow)
    dispatcher = Dispatcher(settings)
    begin = threading.Barrier(4)
    created: list[bool] = []

    def submit(number: int) -> None:
        begin.wait(60)
        created.append(dispatcher.submit({**LEAD, "phone_number": phone(number)}).created)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert created == [True] * 4
    assert connections(queue, "dispatcher-producer") > 0
    dispatcher.close()
    wait_until(lambda: connections(queue, "dispatcher-producer") == 0, describe="no pool to be left that close missed")


def test_close_closes_what_reads_for_some_accounts_too(settings: Settings, queue: Queue) -> None:
    services = Services(settings, name="closing")
    confined = services.confined(frozenset({"default"}))
    services.database.read(overview.gates)
    confined.database.read(overview.gates)
    assert connections(queue, "closing") == 2

    services.close()

    wait_until(lambda: connections(queue, "closing") == 0, describe="no pool to be left that close missed")


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
def test_a_fork_while_a_thread_builds_leaves_the_child_able_to_submit(settings: Settings, queue: Queue) -> None:
    building, go_on = threading.Event(), threading.Event()

    class Held(Services):
        @LazyPart
        def reads(self) -> Any:
            building.set()
            go_on.wait(60)

    services = Held(settings)
    thread = threading.Thread(target=lambda: services.reads)
    thread.start()
    assert building.wait(60)
    child = os.fork()
    if child == 0:
        try:
            created = services.intake.submit(LEAD, {}, account="default").created
        except BaseException:  # noqa: BLE001 - a child of a fork must not go on as the test runner
            os._exit(2)
        os._exit(0 if created else 3)
    until = time.monotonic() + PATIENCE_SECONDS
    ended, status = 0, 0
    while not ended and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.02)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    go_on.set()
    thread.join(60)

    assert (ended, status) == (child, 0)
    assert queue.states() == {"pending": 1}


def test_making_services_needs_nothing_and_a_part_names_the_setting_that_it_lacks() -> None:
    services = Services(Settings())
    for part in ("intake", "bulk", "limiter", "database", "failures"):
        with pytest.raises(NotConfigured, match=r"DATABASE_URL|REDIS_URL"):
            getattr(services, part)
    assert isinstance(services.bell, NullDoorbell), "replaying needs no Redis: the sweep rings"
    services.close()


def test_a_dry_run_stores_nothing_and_rings_nobody(settings: Settings, queue: Queue) -> None:
    with closing(Services(settings, dry_run=True)) as services:
        assert services.intake.submit(LEAD, {}, account="default").created
        assert services.bulk.submit_many([LEAD], account="default").submitted == 1
        assert isinstance(services.bell, NullDoorbell)
    assert queue.states() == {}


# Looking up -----------------------------------------------------------------------------------------------------------


def test_look_up_learns_the_accounts_of_many_leads_by_one_statement(settings: Settings, queue: Queue) -> None:
    tokens = {name: AccountSettings(token=Secret("t")) for name in ("default", "eu")}
    known = []
    for number, account in enumerate(("default", "eu", "default")):
        known.append(queue.put(number, account=account))
    queue.run("UPDATE dispatcher.leads SET state = 'cancelled', finished_at = now()")
    seen: list[str] = []
    with closing(Dispatcher(settings.model_copy(update={"accounts": tokens}))) as dispatcher:
        engine = dispatcher.database._of_this_process().autocommit
        event.listen(engine, "before_cursor_execute", lambda *said: seen.append(said[2]))
        assert dispatcher.look_up(known) == []

    assert len([one for one in seen if one.startswith("SELECT id, account FROM dispatcher.leads")]) == 1
    assert not [one for one in seen if "failed_leads" in one], "a whole record was read"


def test_look_up_of_an_id_that_no_lead_has_says_so_and_asks_nothing(dispatcher: Dispatcher, queue: Queue) -> None:
    claimed = queue.claimed()
    queue.record(accepted(claimed))
    (unknown,) = ids(1)
    with pytest.raises(LeadNotFound, match=str(unknown)):
        dispatcher.look_up([claimed.lead_id, unknown])


@pytest.mark.parametrize("own_process", [False, True])
def test_only_a_process_of_its_own_is_ended_where_a_row_of_the_inbox_hangs(
    settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch, own_process: bool
) -> None:
    """An application's tests run a sweep too, and must not end because a debugger holds them for a minute."""
    armed: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **_: armed.append(seconds))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: armed.append(0.0))
    queue.rows("SELECT dispatcher.submit_lead(CAST(:lead AS jsonb))", lead=json.dumps(LEAD))
    services = Services(settings, bell=NullDoorbell())

    sweep = services.sweep("worker:1", own_process=own_process)
    sweep.once()
    sweep.finish()
    services.close()

    assert queue.states() == {"pending": 1}
    assert bool(armed) is own_process
