"""`captured_leads` answers as the database does, and its assertions name no whole number."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import dispatcher
from dispatcher.config.settings import Settings
from dispatcher.testing.captured import CapturedLeads, capturing
from tests.database.queue import phone

SECOND_ID = "018f0000-0000-7000-8000-000000000002"


def lead(number: int = 0, **fields: Any) -> dict[str, Any]:
    return {"phone_number": phone(number), "campaign_id": 42, **fields}


def answers(submit: Callable[..., Any], submit_many: Callable[..., Any]) -> list[object]:
    """What a producer is told of submissions that meet each other in every way."""
    told: list[object] = []

    def one(*arguments: Any, **options: Any) -> None:
        try:
            done = submit(*arguments, **options)
            told.append((done.state, done.created, done.duplicate_of is not None))
        except dispatcher.DispatcherError as refusal:
            told.append(type(refusal).__name__)

    one(lead(), idempotency_key="order-1")
    one(lead(), idempotency_key="order-1")
    one(lead(1), idempotency_key="order-1")
    one(lead(), idempotency_key="order-1", account="sales")
    one(lead())
    one(lead(allow_dupplicate=True))
    one(lead(2, allow_dupplicate=True))
    one(lead(3), id=SECOND_ID)
    one(lead(3), id=SECOND_ID)
    one(lead(4), id=SECOND_ID)
    one({"phone_number": "12"})
    one(lead(5), priority=11)
    batch = "018f0000-0000-7000-8000-000000000003"
    items = [lead(6), lead(6), (lead(7), {"idempotency_key": "order-7"}), {"phone_number": "1"}, lead(0)]
    for _ in range(2):
        done = submit_many(items, batch_id=batch)
        told.append((done.submitted, done.duplicates, done.repeated, [index for index, _ in done.rejected]))
    return told


def test_it_answers_as_the_database_does(settings: Settings) -> None:
    real = dispatcher.Dispatcher(settings)
    expected = answers(real.submit, real.submit_many)
    real.close()

    with capturing() as captured:
        assert answers(dispatcher.submit, dispatcher.submit_many) == expected
    assert len(captured) == 10


def test_coroutines_are_captured_and_the_default_is_given_back() -> None:
    before = dispatcher._default

    async def act() -> None:
        await dispatcher.asubmit(lead())
        await dispatcher.asubmit_many([lead(1)])

    with capturing() as captured:
        dispatcher.warm_up()
        asyncio.run(act())
        with pytest.raises(dispatcher.NotConfigured):
            dispatcher.failed()

    assert [one.phone_number for one in captured] == [phone(0), phone(1)]
    assert dispatcher._default is before


def test_an_assertion_says_how_many_and_names_no_whole_number() -> None:
    with capturing() as captured:
        dispatcher.submit(lead())
        dispatcher.submit(lead(campaign_id=43))

    with pytest.raises(AssertionError, match=r"2 leads were submitted for .* not one; 2 were submitted") as failure:
        captured.assert_submitted_once(phone(0))
    assert phone(0) not in str(failure.value)
    with pytest.raises(AssertionError, match="2 leads were submitted, none was expected"):
        captured.assert_none()
    CapturedLeads().assert_none()
