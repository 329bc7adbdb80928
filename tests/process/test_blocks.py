"""A block works at the next claim of a real worker: after its commit no POST of the number leaves."""

import contextlib
import itertools
import time

import pytest

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from tests.process.rig import CAMPAIGN, Rig
from tests.support.environment import numbers
from tests.support.waiting import wait_until

CAMPAIGNS = 10


@pytest.mark.parametrize("sandbox_options", [("--latency", "0.1")], ids=["slow"])
def test_no_post_of_a_number_is_claimed_after_the_commit_of_its_block(rig: Rig) -> None:
    blocked, other = itertools.islice(numbers(), 2)
    with contextlib.closing(Dispatcher(Settings.from_environment(rig.environment))) as dispatcher:
        for campaign in range(CAMPAIGNS):
            for number in (blocked, other):
                dispatcher.submit({"phone_number": number, "campaign_id": CAMPAIGN + campaign})
        rig.start_worker("-c", "1")
        wait_until(lambda: any(post.body["phone_number"] == blocked for post in rig.sandbox.posts()), 20)
        dispatcher.block(blocked, actor="ada")
        committed = time.time()
        rig.wait_settled()

    rows = rig.query(
        "SELECT lead.phone_number, lead.state, extract(epoch FROM max(attempt.started_at))::float8"
        " FROM dispatcher.leads AS lead LEFT JOIN dispatcher.lead_attempts AS attempt ON attempt.lead_id = lead.id"
        " GROUP BY lead.id"
    )
    ended = {state for number, state, _ in rows if number == blocked}
    assert ended == {"accepted", "failed"}, "the block met some of them, and some were on their way before"
    claimed = [float(str(at)) for number, _, at in rows if number == blocked and at is not None]
    assert max(claimed) <= committed
    posts = [post for post in rig.sandbox.posts() if post.body["phone_number"] == blocked]
    assert len(posts) == len(claimed), "each POST is of a claim from before"
    assert {state for number, state, _ in rows if number == other} == {"accepted"}
