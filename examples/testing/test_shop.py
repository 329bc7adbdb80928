"""The tests of the shop, by the fixtures that come with the dispatcher."""

import pytest
from shop import order_paid

import dispatcher

ADA = "+14155550100"


# Without stores


def test_a_paid_order_is_one_lead(captured_leads):
    order_paid(7, ADA)
    order_paid(7, ADA)  # a retried task

    captured = captured_leads.assert_submitted_once(ADA)
    assert captured.lead.variables == {"order": "7"}
    assert captured.options.idempotency_key == "order-7"


def test_a_bad_number_is_refused(captured_leads):
    with pytest.raises(dispatcher.InvalidLead, match="phone_number"):
        order_paid(7, "12")

    captured_leads.assert_none()


# On a real Postgres and a real Redis


def test_the_lead_is_stored(dispatcher_stores):
    order_paid(7, ADA)

    assert dispatcher_stores.dispatcher.overview().counts["pending"].value == 1


# To the sandbox


def test_the_buyer_is_called(voicery_sandbox):
    order_paid(7, ADA)
    order_paid(8, ADA)  # a second lead of this person: a duplicate, not sent

    voicery_sandbox.deliver()

    voicery_sandbox.assert_called_once(ADA)


def test_an_answer_that_is_lost_calls_nobody_twice(voicery_sandbox):
    voicery_sandbox.fail("hang")  # the lead is created, and no answer comes
    order_paid(7, ADA)

    assert voicery_sandbox.settle() == {"accepted": 1}
    voicery_sandbox.assert_called_once(ADA)


def test_a_refusal_is_a_failed_lead(voicery_sandbox):
    voicery_sandbox.fail("422", phone="0100$")
    order_paid(7, ADA)

    voicery_sandbox.settle()

    voicery_sandbox.assert_not_called(ADA)
    (failure,) = dispatcher.failed()
    assert failure.http_status == 422
