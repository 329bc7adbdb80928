"""The sweep dies with rows of the inbox in its hands: each becomes one lead, or is rejected once."""

import json

from tests.faults.conftest import Case
from tests.faults.harness import CAMPAIGN, Harness
from tests.support.waiting import wait_until


def by_sql(harness: Harness, count: int) -> list[str]:
    """Leads of different persons, each submitted twice under its key; the ids of the first calls."""
    given = [{"phone_number": next(harness.phones), "campaign_id": CAMPAIGN} for _ in range(count)]
    call = "SELECT dispatcher.submit_lead('{}'::jsonb, key => 'order-{}')"
    calls = [call.format(json.dumps(lead), number) for number, lead in enumerate(given)]
    ids = [str(harness.query(one)[0][0]) for one in calls]
    for one in calls:
        harness.execute(one)
    harness.submitted += ids
    return ids


COUNTED = """
SELECT (SELECT count(*) FROM dispatcher.leads), (SELECT count(*) FROM dispatcher.inbox WHERE state = 'waiting')
"""


def test_a_sweep_dies_with_rows_of_the_inbox_and_the_next_one_takes_them(case: Case, seed: int) -> None:
    """Before it has stored anything, before its commit, and after it: all of the transaction is there, or nothing."""
    harness = case()
    ids = by_sql(harness, 5)
    harness.execute("""SELECT dispatcher.submit_lead('{"phone_number": "12", "campaign_id": 42}')""")
    for place, expected in (
        ("inbox.taken", (0, 11)),
        ("inbox.before_commit", (0, 11)),
        ("inbox.after_commit", (1, 10)),  # alone: it had met two ends
    ):
        dying = harness.engine(failpoint=f"{place}:1", ready=False)
        assert dying.wait_dead() == 137
        assert harness.query(COUNTED) == [expected], place

    harness.engine()
    wait_until(lambda: harness.query(COUNTED) == [(5, 0)], 60, "the rows to be taken one by one")
    endings = harness.settle(controls=False)

    assert endings == {"accepted": 5}
    assert {str(row[0]) for row in harness.query("SELECT id FROM dispatcher.leads")} == set(ids)
    ends = harness.query("SELECT state, count(*) FROM dispatcher.inbox GROUP BY state ORDER BY state")
    assert ends == [("rejected", 1), ("repeated", 5)]
    harness.assert_sound()
