"""Lists that lie: one lost answer each, and nobody is called twice, whatever the list shows.

Where a list can lie so is a fact of `voicery-api.md` ("Not known") or was seen at a copy of the platform; the lies are
those of `dispatcher/sandbox/lies.py`.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from dispatcher.decisions import window
from dispatcher.sandbox.fault import FaultName, Rule
from dispatcher.sandbox.options import DuplicateForm
from tests.database.queue import Queue, phone
from tests.world.doubtful import ADA, CAMPAIGN, SETTLE, Doubtful, Terms, doubtful

BEFORE, AFTER = (20, 21, 22), (30, 31, 32)

LIES = {
    "numbers in national form": Rule(fault=FaultName.OTHER_FORM, body="national", times=None),
    "numbers with a mobile prefix after the country": Rule(fault=FaultName.OTHER_FORM, body="mobile", times=None),
    "numbers with spaces": Rule(fault=FaultName.OTHER_FORM, body="spaced", times=None),
    "numbers whose end is masked": Rule(fault=FaultName.MASKED_NUMBERS, times=None),
    "completed leads hidden": Rule(fault=FaultName.HIDDEN_STATUS, times=None),
    "the phone filter ignored": Rule(fault=FaultName.FILTER_IGNORED, times=None),
    "the campaign filter ignored": Rule(fault=FaultName.FILTER_IGNORED, body="campaign_id", times=None),
    "no counts": Rule(fault=FaultName.BARE_LIST, times=None),
    "stale": Rule(fault=FaultName.STALE, seconds=3600, times=None),
    "cached": Rule(fault=FaultName.CACHED_LIST, times=None),
    "another token's view": Rule(fault=FaultName.OWN_TOKEN, times=None),
    "every second lead missing": Rule(fault=FaultName.HOLES, times=None),
    "every third lead missing": Rule(fault=FaultName.HOLES, rows=2, times=None),
    "only the newest three": Rule(fault=FaultName.CUT_LIST, rows=3, times=None),
    "only the newest one": Rule(fault=FaultName.CUT_LIST, rows=1, times=None),
    "the oldest first": Rule(fault=FaultName.OLDEST_FIRST, times=None),
    "in no order": Rule(fault=FaultName.SHUFFLED_LIST, times=None),
    "each row twice": Rule(fault=FaultName.DOUBLED_ROWS, times=None),
    "rows missing at the end of a page": Rule(fault=FaultName.SHORT_PAGES, times=None),
    "more counted than shown": Rule(fault=FaultName.WRONG_TOTAL, times=None),
    "the first page whatever is asked": Rule(fault=FaultName.FIRST_PAGE_ONLY, times=None),
    "pages that skip rows": Rule(fault=FaultName.SHIFTING_PAGES, rows=3, times=None),
    "pages that repeat rows": Rule(fault=FaultName.SHIFTING_PAGES, rows=-3, times=None),
    "answered leads missing": Rule(fault=FaultName.MISSING_CONTROLS, times=None),
    "variables not echoed": Rule(fault=FaultName.NO_VARIABLES, times=None),
}
CASES = list(itertools.product(LIES, (False, True), (False, True)))


@pytest.fixture
def world(queue: Queue) -> Iterator[Doubtful]:
    with doubtful(queue) as world:
        yield world


@pytest.mark.parametrize(("lie", "flag", "created"), CASES)
def test_a_list_that_lies_calls_nobody_twice(queue: Queue, lie: str, *, flag: bool, created: bool) -> None:
    """With the flag true our own reference is sent: without one such a lead is never sent again at all."""
    with doubtful(queue, Terms(reference_variable="ref" if flag else None)) as world:
        world.accept(*BEFORE)
        lead_id = world.lose(created=created, flag=flag)
        world.accept(*AFTER)
        if created:
            ours = next(lead for lead in world.sandbox.leads if lead.phone_number == phone(ADA))
            world.sandbox.set_status(ours.id, "completed")
        for lead in world.sandbox.leads[: len(BEFORE)]:
            world.sandbox.set_status(lead.id, "completed")
        world.sandbox.faults.add(LIES[lie])
        world.look_twice()
        world.deliver()
        assert world.created() <= 1
        if created:
            assert world.sent_to() == 1
            assert queue.lead(lead_id).state in ("accepted", "unknown", "failed")


@pytest.mark.parametrize("flag", [False, True])
def test_an_honest_list_resolves_both_without_a_person(queue: Queue, *, flag: bool) -> None:
    with doubtful(queue, Terms(reference_variable="ref" if flag else None)) as world:
        world.accept(*BEFORE)
        there = world.lose(created=True, number=8, flag=flag)
        absent = world.lose(created=False, flag=flag)
        world.accept(*AFTER)
        world.look_twice()
        world.deliver()
        assert [queue.lead(one).state for one in (there, absent)] == ["accepted", "accepted"]
        assert (world.created(8), world.created()) == (1, 1)


def test_a_stale_list_is_not_vouched_for_by_an_old_lead_that_was_handed_back(queue: Queue) -> None:
    """A 200 with an id from before says nothing about the list of now."""
    with doubtful(queue, duplicate_form=DuplicateForm.EXISTING) as world:
        by_hand = {"phone_number": phone(60), "campaign_id": CAMPAIGN, "variables": {}, "allow_dupplicate": True}
        assert world.client.create_lead(orjson.dumps(by_hand)).status == 200
        world.accept(*BEFORE)
        world.sandbox.faults.add(Rule(fault=FaultName.CACHED_LIST, times=None))
        world.client.list_leads()  # from now on the list is as it is now
        lead_id = world.lose(created=True)
        assert world.accept(60) == [1]
        world.look_twice()
        world.deliver()
        assert world.sent_to() == 1
        assert queue.lead(lead_id).state == "unknown"
        assert world.missing(lead_id) == "No lead of this campaign has been accepted since"


def test_a_lead_filed_in_another_campaign_is_possible(world: Doubtful) -> None:
    world.accept(*BEFORE)
    misfiled = Rule(fault=FaultName.MISFILED, answer=FaultName.CLOSE)
    lead_id = world.lose(created=True, rule=misfiled)
    world.accept(*AFTER)
    world.look_twice()
    world.deliver()
    assert (world.sent_to(), world.queue.lead(lead_id).state) == (1, "failed")


def test_a_list_read_with_another_token_proves_nothing(world: Doubtful) -> None:
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    world.use_token("token-of-another-workspace")
    world.accept(*AFTER)
    world.look_twice()
    assert world.queue.lead(lead_id).state == "unknown"
    assert "token" in world.missing(lead_id)


def test_a_lead_accepted_with_another_token_counts_for_nothing(world: Doubtful) -> None:
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    ours = world.token
    world.use_token("token-of-another-workspace")
    world.accept(*AFTER)
    world.use_token(ours)
    world.look_twice()
    assert world.queue.lead(lead_id).state == "unknown"
    assert world.missing(lead_id) == "No lead of this campaign has been accepted since"


MISSING = {
    "nothing before": ((), AFTER, "No lead was accepted before it"),
    "nothing since": (BEFORE, (), "No lead of this campaign has been accepted since"),
}


@pytest.mark.parametrize(("before", "after", "missing"), MISSING.values(), ids=MISSING)
def test_too_little_traffic_is_said(
    world: Doubtful, before: tuple[int, ...], after: tuple[int, ...], missing: str
) -> None:
    world.accept(*before)
    lead_id = world.lose(created=False)
    world.accept(*after)
    world.look_twice()
    assert world.queue.lead(lead_id).state == "unknown"
    assert world.missing(lead_id).startswith(missing)


def test_later_leads_of_other_campaigns_vouch_for_nothing(world: Doubtful) -> None:
    world.accept(*BEFORE, campaign_id=43)
    lead_id = world.lose(created=False)
    world.accept(*AFTER, campaign_id=43)
    world.look_twice()
    assert world.queue.lead(lead_id).state == "unknown"
    assert world.missing(lead_id) == "No lead of this campaign has been accepted since"


def test_the_first_lead_of_a_campaign_is_proven_absent_by_the_list_of_the_account(world: Doubtful) -> None:
    world.accept(*BEFORE, campaign_id=43)
    lead_id = world.lose(created=False)
    world.accept(40, campaign_id=43)
    world.accept(*AFTER)
    world.look_twice()
    assert world.queue.lead(lead_id).state == "pending"
    world.deliver()
    assert (world.queue.lead(lead_id).state, world.sent_to(), world.created()) == ("accepted", 2, 1)


def test_the_first_leads_of_a_campaign_and_later_ones_are_proven_absent_in_one_pass(world: Doubtful) -> None:
    world.accept(*BEFORE, campaign_id=43)
    first = world.lose(created=False, number=8)
    world.accept(20, 21)
    later = world.lose(created=False)
    world.accept(*AFTER)
    world.look_twice()
    assert [world.queue.lead(one).state for one in (first, later)] == ["pending", "pending"]


@pytest.mark.parametrize("lie", LIES)
def test_a_list_that_lies_about_the_first_lead_of_a_campaign_calls_nobody_twice(world: Doubtful, lie: str) -> None:
    world.accept(*BEFORE, campaign_id=43)
    lead_id = world.lose(created=True)
    world.accept(40, campaign_id=43)
    world.accept(*AFTER)
    for lead in world.sandbox.leads[: len(BEFORE) + 1]:
        world.sandbox.set_status(lead.id, "completed")
    world.sandbox.faults.add(LIES[lie])
    world.look_twice()
    world.deliver()
    assert (world.created(), world.sent_to()) == (1, 1)
    assert world.queue.lead(lead_id).state in ("accepted", "unknown", "failed")


def test_an_account_list_that_hides_a_campaign_is_not_believed(world: Doubtful) -> None:
    """Each lead that we know of in between must be there, of every campaign."""
    world.accept(*BEFORE, campaign_id=43)
    lead_id = world.lose(created=False)
    (hidden,) = world.accept(40, campaign_id=44)
    world.accept(*AFTER)
    world.sandbox.set_status(hidden, "completed")
    world.sandbox.faults.add(LIES["completed leads hidden"])
    world.look_twice()
    assert world.queue.lead(lead_id).state == "unknown"
    assert world.missing(lead_id) == f"The list does not show lead {hidden}, which Voicery accepted"


def test_one_window_serves_every_doubt_of_a_campaign(world: Doubtful) -> None:
    world.accept(*BEFORE)
    lost = [world.lose(created=False, number=number) for number in (1, 2, 3)]
    world.accept(*AFTER)
    world.later(SETTLE)
    world.look()
    world.later(SETTLE)
    asked = len(world.sandbox.log)
    world.look()
    windows = [one for one in world.sandbox.log[asked:] if one.method == "GET" and "phone_number" not in one.path]
    assert len(windows) == 1
    assert {world.queue.lead(one).state for one in lost} == {"pending"}


def test_a_window_of_several_pages_is_read_to_its_end(world: Doubtful) -> None:
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    world.accept(40)
    _fill(world, 230)
    world.look_twice()
    assert world.queue.lead(lead_id).state == "pending"
    window = world.queue.rows(
        "SELECT evidence -> 'lookups' -> -1 -> 'window' AS window FROM dispatcher.lead_attempts"
        " WHERE lead_id = :id ORDER BY started_at",
        id=lead_id,
    )[0].window
    assert (window["pages"], window["rows"]) == (3, 235 - 1)


@pytest.mark.parametrize("rows", [1, -1, 3])
def test_pages_that_shift_while_they_are_read_prove_nothing(world: Doubtful, rows: int) -> None:
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    world.accept(40)
    _fill(world, 150)
    world.sandbox.faults.add(Rule(fault=FaultName.SHIFTING_PAGES, rows=rows, times=None))
    world.look_twice()
    assert world.queue.lead(lead_id).state == "unknown"
    assert world.missing(lead_id)


@pytest.mark.parametrize(("most", "state"), [(15, "pending"), (12, "unknown")])
def test_a_window_of_many_pages_is_read_up_to_the_most(
    world: Doubtful, monkeypatch: pytest.MonkeyPatch, most: int, state: str
) -> None:
    """A campaign of thousands of leads an hour: each page overlaps the one before it by few rows."""
    monkeypatch.setattr(window, "PAGES_MOST", most)
    monkeypatch.setattr(window, "PER_PAGE", 10)
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    world.accept(40)
    _fill(world, 83)
    world.look_twice()
    assert world.queue.lead(lead_id).state == state
    assert ("pages" in world.missing(lead_id)) is (state == "unknown")


def test_a_window_that_would_be_too_long_is_not_read(world: Doubtful, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "PAGES_MOST", 2)
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    world.accept(40)
    _fill(world, 205)
    world.later(SETTLE)
    world.look()
    world.later(SETTLE)
    asked = len(world.sandbox.log)
    world.look()
    assert len(world.sandbox.log) - asked == 1 + 2
    assert world.queue.lead(lead_id).state == "unknown"
    assert "pages" in world.missing(lead_id)


def test_no_look_up_can_be_answered_by_a_cache(world: Doubtful) -> None:
    world.lose(created=False)
    world.look_twice()
    asked = [one.path for one in world.sandbox.log if one.method == "GET"]
    assert len(set(asked)) == len(asked) == 2


@pytest.mark.parametrize("created", [True, False])
def test_ids_of_contacts_that_are_those_of_leads_hide_no_lead(world: Doubtful, *, created: bool) -> None:
    """Voicery's page shows contacts and leads with ids of one kind, but does not say that they never meet."""
    first, *_ = world.accept(*BEFORE)
    lead_id = world.lose(created=created)
    world.accept(*AFTER)
    world.queue.run(
        """
        INSERT INTO dispatcher.lead_contacts (lead_id, position, phone_number, variables, account, voicery_lead_id)
        SELECT id, 0, :number, '{}', account, :taken FROM dispatcher.leads WHERE voicery_lead_id = :first
        """,
        number=phone(61),
        taken=len(BEFORE) + 1,
        first=first,
    )
    world.look_twice()
    world.deliver()
    assert (world.queue.lead(lead_id).state, world.created()) == ("accepted", 1)
    assert world.sent_to() == (1 if created else 2)


@pytest.mark.parametrize("flag", [False, True])
def test_a_lead_that_only_the_window_shows_is_found(queue: Queue, *, flag: bool) -> None:
    """A list that compares whole numbers finds none by digits alone."""

    def nothing_by_number(body: Any, *, phone_number: str | None, **_query: Any) -> Any:
        return body if phone_number is None else {**body, "data": [], "total": 0, "last_page": 1}

    with doubtful(queue, Terms(reference_variable="ref" if flag else None)) as world:
        world.accept(*BEFORE)
        there = world.lose(created=True, number=8, flag=flag)
        absent = world.lose(created=False, flag=flag)
        world.accept(*AFTER)
        world.show_list_as(nothing_by_number)
        world.look_twice()
        world.deliver()
        assert [queue.lead(one).state for one in (there, absent)] == ["accepted", "accepted"]
        assert (world.sent_to(8), world.sent_to(), world.created()) == (1, 2, 1)


UNUSABLE = {
    "rows under another name": (lambda body, **_query: {"leads": body["data"]}, "could not be had"),
    "rows by place": (
        lambda body, **_query: {**body, "data": dict(enumerate(body["data"]))},
        "could not be had",
    ),
    "counts that are about": (lambda body, **_query: {**body, "total": 10_000}, "all leads of the number"),
    "no counts but a cursor": (lambda body, **_query: {"data": body["data"], "next_cursor": None}, "all leads of the"),
}


@pytest.mark.parametrize(("change", "missing"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_a_list_lacks_is_said_where_it_cannot_be_used_at_all(
    world: Doubtful, change: Callable[..., Any], missing: str
) -> None:
    world.accept(*BEFORE)
    lead_id = world.lose(created=False)
    world.accept(*AFTER)
    world.show_list_as(change)
    world.look_twice()
    assert (world.queue.lead(lead_id).state, world.sent_to()) == ("unknown", 1)
    assert missing in world.missing(lead_id)


def test_ids_written_as_floats_are_ids(world: Doubtful) -> None:
    def floats(body: Any, **_query: Any) -> Any:
        return {**body, "data": [{**row, "id": float(row["id"])} for row in body["data"]]}

    world.accept(*BEFORE)
    there, absent = world.lose(created=True, number=8), world.lose(created=False)
    world.accept(*AFTER)
    world.show_list_as(floats)
    world.look_twice()
    world.deliver()
    assert [world.queue.lead(one).state for one in (there, absent)] == ["accepted", "accepted"]
    assert (world.created(8), world.created()) == (1, 1)


def _fill(world: Doubtful, count: int) -> None:
    """Leads of another program in the same campaign: theirs are the numbers +44…"""
    for number in range(count):
        body = {"phone_number": f"+4420{number:08d}", "campaign_id": CAMPAIGN, "variables": {"n": str(number)}}
        assert world.client.create_lead(orjson.dumps(body)).status == 200
