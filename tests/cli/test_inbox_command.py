"""`dispatcher inbox`, and what status, doctor, health and the metrics say of an inbox that stands still."""

import json
import uuid

import pytest

from dispatcher.cli.doctor_checks import judge_inbox
from dispatcher.errors import NotAllowed
from dispatcher.intake.inbox_taking import Taking
from dispatcher.metrics.exporter import read_figures
from dispatcher.metrics.metrics import exposition
from dispatcher.operator.health import judge, read
from dispatcher.operator.inbox_list import InboxCounts
from dispatcher.store import inbox
from dispatcher.store.blocks import NO_KEY
from tests.support.doubles import Bell, Line
from tests.support.rows import Rows


def submit(rows: Rows, key: str, **lead: object) -> uuid.UUID:
    given = {"phone_number": "+12025550101", "campaign_id": 42, "variables": {"name": "Ada"}, **lead}
    with rows.database.transaction() as connection:
        row = connection.exec_driver_sql(
            "SELECT dispatcher.submit_lead(%s::jsonb, key => %s) AS id", (json.dumps(given), key)
        ).one()
    lead_id: uuid.UUID = row.id
    return lead_id


def take(rows: Rows) -> None:
    Taking(rows.database, Bell(), lambda: NO_KEY).step()


def test_it_lists_masked_what_waits_and_what_was_rejected_and_acts_on_the_rejected(run: Line, rows: Rows) -> None:
    assert "Nothing waits" in run.ok("inbox")
    bad = [
        submit(rows, "order +12025550101", allow_dupplicate="no", secondary_contacts=[{"phone_number": "x"}]),
        submit(rows, "k2", campaign_id="Ada", mail="ada@example.com", **{"Ada +12025550101": 1}),
        submit(rows, "k3", phone_number="2025550101"),
    ]
    good = submit(rows, "k4")
    take(rows)
    again, waiting = submit(rows, "k4"), submit(rows, "k5")
    take(rows)
    waiting = submit(rows, "k6")

    listed = run.json("inbox")
    assert (listed["waiting"], listed["rejected"]) == (1, 3)
    assert [one["id"] for one in listed["items"]][:1] == [str(waiting)]
    assert {one["id"] for one in listed["items"][1:]} == set(map(str, bad))
    told = json.dumps(listed) + run.ok("inbox") + run.ok("inbox", "--csv")
    for secret in ("2025550101", "Ada", "example.com"):
        assert secret not in told
    assert "campaign_id: is of type str, not an integer" in told
    assert "+•••0101" in told
    assert "order +•••0101" in told
    revealed = run.ok("inbox", "--reveal", "--json")
    assert "+12025550101" in revealed
    assert "ada@example.com" in revealed
    (repeated,) = run.json("inbox", "--state", "repeated")["items"]
    assert (repeated["id"], repeated["lead_id"], repeated["lead"]) == (str(again), str(good), None)

    for one, told in ((bad[0], "rejected; `dispatcher inbox`"), (waiting, "not validated"), (again, f"lead {good};")):
        assert told in str(run("explain", str(one)).exception)
    assert run.json("inbox", "retry", str(bad[0]), "--dry-run")["rows"] == 1
    refused = run("inbox", "retry", str(bad[0]), str(waiting))
    assert isinstance(refused.exception, NotAllowed)
    assert f"No rejected row of the inbox has the id {waiting}" in str(refused.exception)
    assert run.json("inbox")["rejected"] == 3
    assert run.json("inbox", "retry", str(bad[0]))["rows"] == 1
    assert run.json("inbox")["waiting"] == 2
    take(rows)
    assert run.json("inbox")["rejected"] == 3, "nothing was mended"
    assert run("inbox", "discard", "--all").exit_code == 2, "it asks first"
    assert run.json("inbox", "discard", str(bad[1]))["rows"] == 1
    assert run.json("inbox", "discard", "--all", "--yes")["rows"] == 2
    assert [(action, subject) for _, action, subject, _ in rows.audited()] == [
        ("inbox_retry", str(bad[0])),
        ("inbox_discard", str(bad[1])),
        ("inbox_discard", "inbox"),
    ]


def test_one_round_of_the_sweep_takes_all_that_waits(run: Line, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MOST_ROWS", 2)
    for number in range(5):
        submit(rows, f"k{number}", phone_number=f"+1202555010{number}")

    assert "Swept" in run.ok("sweep", "--once")

    assert run.json("inbox")["waiting"] == 0
    assert run.json("status")["leads"]["pending"] == 5


@pytest.mark.parametrize(
    "arguments", [("retry",), ("discard",), ("list", "--all"), ("retry", "--all", str(uuid.uuid4())), ("mend",)]
)
def test_misuse_is_told(run: Line, arguments: tuple[str, ...]) -> None:
    assert run("inbox", *arguments).exit_code == 2


def test_an_inbox_that_stands_still_is_told_everywhere(run: Line, rows: Rows) -> None:
    submit(rows, "bad", phone_number="12")
    take(rows)
    submit(rows, "k1")
    rows.run("UPDATE dispatcher.inbox SET created_at = now() - interval '10 min' WHERE state = 'waiting'")

    assert "1 waiting, the oldest for 10 min · 1 rejected: `dispatcher inbox`" in " ".join(run.ok("status").split())
    (check,) = [one for one in json.loads(run("doctor", "--json").stdout)["items"] if one["name"] == "Inbox"]
    assert (check["verdict"], "the oldest for 10 min" in check["found"]) == ("doubtful", True)
    with rows.database.transaction() as connection:
        faults = judge(read(connection), within_seconds=60).faults
        metrics = exposition(read_figures(connection)).decode()
    assert any("What was submitted by SQL has waited for 60" in fault for fault in faults)
    assert "dispatcher_inbox_waiting 1.0" in metrics
    assert "dispatcher_inbox_rejected 1.0" in metrics
    assert float(metrics.split("\ndispatcher_inbox_age_seconds ")[1].split("\n")[0]) > 590
    rows.run("UPDATE dispatcher.inbox SET postponed_until = now() + interval '1 s' WHERE state = 'waiting'")
    with rows.database.transaction() as connection:
        assert read(connection).inbox_age is None, "another transaction holds it, not the workers"


@pytest.mark.parametrize(
    ("counts", "verdict", "found"),
    [
        (InboxCounts(), "good", "nothing waits"),
        (InboxCounts(5, 0.2), "good", "leads submitted by SQL that wait: 5"),
        (InboxCounts(0, None, 2), "doubtful", "leads submitted by SQL that were rejected: 2"),
        (InboxCounts(5, 61.0, 2), "doubtful", "the oldest for 61 s"),
    ],
)
def test_what_the_doctor_says(counts: InboxCounts, verdict: str, found: str) -> None:
    check = judge_inbox(counts)

    assert (check.verdict.value, found in check.found) == (verdict, True)


def test_a_login_is_allowed_narrowed_and_freed(run: Line, rows: Rows) -> None:
    login = rows.one("SELECT session_user AS login").login

    row = run.json("submitters", "allow", login, "--account", "crm", "--campaign", "42")["submitter"]
    assert (row["login"], row["accounts"]) == (login, {"crm": [42]})
    assert (
        run.json("submitters", "allow", login, "--account", "shop", "--dry-run")["submitter"]["accounts"]["shop"]
        is None
    )
    (listed,) = run.json("submitters", "list")["items"]
    assert listed["accounts"] == {"crm": [42]}
    assert f"{login} may submit by SQL for: nothing." in run.ok("submitters", "revoke", login)
    assert "every other" in run.ok("submitters", "list")
    run.ok("submitters", "free", login)
    assert run.json("submitters", "list")["items"] == []
    refused = run("submitters", "allow", "nobody_of_this_name", "--account", "crm")
    assert "is no login" in f"{refused.output} {refused.exception}"
