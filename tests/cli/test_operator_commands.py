"""The operator's commands on real Postgres: lists and their CSV, corrections, bulk work, limits, pruning, erasing."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import Result

from dispatcher.cli import failed as cli_filters
from dispatcher.console import filters as console_filters
from dispatcher.errors import DispatcherError, NotAllowed
from dispatcher.operator.failure_filter import FailureFilter
from tests.support.doubles import Line
from tests.support.rows import ADA, BOB, Rows


def everything(rows: Rows) -> dict[str, Any]:
    """Every row of every table but those that a look at the queue moves."""
    with rows.database.transaction() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'dispatcher'")).scalars()
        return {
            table: connection.execute(
                text(f"SELECT coalesce(json_agg(t ORDER BY t::text), '[]') FROM dispatcher.{table} AS t")
            ).scalar()
            for table in sorted(tables.all())
        }


def test_leads_are_listed_by_state_and_masked(run: Line, rows: Rows) -> None:
    waiting, accepted = rows.lead("pending", phone=BOB), rows.lead("accepted")

    assert {one["id"] for one in run.json("list")["items"]} == {str(waiting), str(accepted)}
    (only,) = run.json("list", "--state", "accepted", "--since", "yesterday")["items"]
    assert (only["id"], only["phone_number"]) == (str(accepted), "+•••0101")
    assert run.json("list", "--phone", "0102", "--reveal")["items"][0]["phone_number"] == BOB
    assert ADA[-7:] not in run.ok("list")
    assert run.json("list", "--since", "2h", "--campaign", "7")["items"] == []
    assert run.json("list", "--limit", "1")["more"] is True


def test_failed_leads_are_filtered_by_whatever_is_known_of_them(run: Line, rows: Rows) -> None:
    pro = rows.failed(phone=BOB, variables='{"plan": "pro"}')
    free = rows.failed(variables='{"plan": "free"}')

    def found(*filters: str) -> set[str]:
        return {one["lead_id"] for one in run.json("failed", *filters)["items"]}

    assert found("--var", "plan=pro", "--attempts", "3", "--never-replayed", "--submitted-since", "2h") == {str(pro)}
    assert found("--phone", "555 0101") == {str(free)}
    assert found("--replayed-before") == found("--attempts", "4") == found("--submitted-before", "2h") == set()
    assert run.json("replay", "--var", "plan=free", "--dry-run")["items"] == [{"id": str(free), "replayed": True}]


def test_the_filters_are_the_same_here_and_in_the_console() -> None:
    typed = set(cli_filters._OPTIONS) | {"resolved"}

    assert typed == {field for field, _ in console_filters._READERS.values()} == set(FailureFilter.names())


@pytest.mark.parametrize(
    "command", ["list", "failed", "failed --group", "campaigns", "operations", "incidents", "audit", "imports", "inbox"]
)
def test_every_list_is_json_csv_and_text(run: Line, rows: Rows, command: str) -> None:
    rows.failed()
    run.ok("pause", "--campaign", "42", "--reason", "=1+1")
    words = command.split()

    items = run.json(*words)["items"]
    table = run.csv(*words)

    assert len(items) == len(table)
    assert not table or list(table[0]) == list(items[0])
    assert run.ok(*words)
    assert run(*words, "--json", "--csv").exit_code == 2


def test_a_cell_that_begins_like_a_formula_is_none(run: Line, rows: Rows) -> None:
    rows.failed(message="=HYPERLINK()")

    (row,) = run.csv("failed", "--reveal")

    assert (row["message"], row["phone_number"]) == ("'=HYPERLINK()", f"'{ADA}")


def test_a_failed_lead_is_corrected_and_replayed(run: Line, rows: Rows) -> None:
    lead_id = rows.failed()

    told = run.json("edit", str(lead_id), "--phone", "-", "--set", "variables.age:=42", "--replay", stdin=f"{BOB}\n")

    lead = rows.of(lead_id)
    assert (lead.state, lead.phone_number) == ("pending", BOB)
    assert lead.variables == {"customer_name": "Ada Lovelace", "age": 42}
    assert told["changed"] == ["phone_number", "variables"]
    assert rows.one("SELECT phone_number FROM dispatcher.lead_revisions").phone_number == ADA


def test_a_correction_alone_waits_for_its_replay(run: Line, rows: Rows) -> None:
    lead_id = rows.failed()

    run.ok("edit", str(lead_id), "--set", "campaign_id=43", "--unset", "variables.customer_name")

    lead = rows.of(lead_id)
    assert (lead.state, lead.campaign_id, lead.variables) == ("failed", 43, {})


def test_only_a_failed_lead_is_corrected(run: Line, rows: Rows) -> None:
    lead_id = rows.lead("pending")

    with pytest.raises(NotAllowed, match="Only a failed lead can be corrected"):
        _raised(run("edit", str(lead_id), "--set", "campaign_id=43"))

    assert (rows.of(lead_id).campaign_id, rows.audited()) == (42, [])


@pytest.mark.parametrize("wrong", ["name=x", "variables.=x", "variables.x", "campaign_id=x", "variables.x:={"])
def test_an_assignment_that_means_nothing_is_a_misuse(run: Line, rows: Rows, wrong: str) -> None:
    assert run("edit", str(rows.failed()), "--set", wrong).exit_code == 2


def test_a_dry_run_of_every_write_changes_nothing(run: Line, rows: Rows) -> None:
    failed, waiting = rows.failed(), rows.lead("pending", phone=BOB)
    rows.run("INSERT INTO dispatcher.incidents (kind, message) VALUES ('x', 'A sentence.')")
    before = everything(rows)

    for command in (
        ("submit", "--phone", "+12025550109", "--campaign", "42", "--key", "k"),
        ("edit", str(failed), "--set", "variables.x=y", "--replay"),
        ("replay", str(failed)),
        ("resolve", str(failed), "--note", "n"),
        ("cancel", str(waiting)),
        ("pause",),
        ("resume",),
        ("limit", "30/minute", "--campaign", "42"),
        ("lookup", "--unknown"),
        ("prune", "--older-than", "1s", "--failed"),
        ("erase", BOB),
        ("incidents", "--seen", "1"),
        ("replay", "--all", "--background"),
    ):
        run.ok(*command, "--dry-run")

    assert everything(rows) == before


def test_a_dry_run_is_refused_where_the_real_thing_would_be(run: Line, rows: Rows) -> None:
    accepted = rows.lead("accepted")

    result = run("cancel", str(accepted), "--dry-run")

    assert result.exit_code == 1
    assert "withdraw it at Voicery" in result.output


def test_a_replay_in_the_background_is_stored_and_can_be_stopped(run: Line, rows: Rows) -> None:
    rows.failed()

    stored = run.json("replay", "--campaign", "42", "--background", "--per-minute", "60", "--yes")
    listed = run.json("operations")["items"]
    stopped = run.json("operations", stored["id"], "--stop")

    assert (stored["total"], stored["per_minute"], listed[0]["id"]) == (1, 60, stored["id"])
    assert (stopped["state"], stopped["refusals"]) == ("stopped", [])
    with pytest.raises(NotAllowed, match="over already"):
        _raised(run("operations", stored["id"], "--stop"))
    assert run("replay", "--all", "--background").exit_code == 2  # nobody to ask


def test_a_replay_waits_for_its_time(run: Line, rows: Rows) -> None:
    lead_id = rows.failed(expires_at=datetime.now(UTC) + timedelta(hours=3))

    assert run("replay", str(lead_id), "--at", "4h", "--dry-run").exit_code == 1  # it expires before
    told = run.ok("replay", str(lead_id), "--at", "2h")

    assert "1 lead replayed, in 2 h." in " ".join(told.split())
    assert timedelta(minutes=115) < rows.of(lead_id).due_at - datetime.now(UTC) <= timedelta(hours=2)


def test_a_replay_is_spread_and_moved_by_the_workers(run: Line, rows: Rows) -> None:
    lead_id, taken = rows.failed(), rows.failed(phone=BOB)
    rows.lead("pending", phone=BOB, campaign_id=43)

    looked = run("replay", "--all", "--to-campaign", "43", "--dry-run", "--json")
    stored = run.json("replay", "--all", "--to-campaign", "43", "--spread", "1h", "--at", "tomorrow 09:00", "--yes")

    seen = json.loads(looked.stdout)
    assert (looked.exit_code, seen["safe"], seen["refused"], seen["dry_run"]) == (1, 1, 1, True)
    assert (stored["total"], stored["options"]["spread_seconds"], stored["options"]["campaign_id"]) == (2, 3600, 43)
    assert stored["begins_at"].endswith("T09:00:00+00:00")
    assert {rows.of(one).state for one in (lead_id, taken)} == {"failed"}
    assert "begins in" in " ".join(run.ok("operations").split())


@pytest.mark.parametrize(
    "terms", [("--spread", "1h", "--per-minute", "5"), ("--spread", "soon"), ("--at", "soon"), ("--to-campaign", "0")]
)
def test_terms_that_make_no_sense_are_a_misuse(run: Line, rows: Rows, terms: tuple[str, ...]) -> None:
    assert run("replay", str(rows.failed()), *terms).exit_code == 2


def test_a_campaign_has_a_limit_of_its_own_until_it_is_off(run: Line, rows: Rows) -> None:
    run.ok("limit", "--campaign", "42", "30/minute")
    assert run.json("campaigns")["items"][0]["rate_limit"] == "30/minute"

    run.ok("limit", "--campaign", "42", "off")

    assert run.json("campaigns")["items"][0]["rate_limit"] is None
    assert [line[1] for line in rows.audited()] == ["limit", "limit"]


@pytest.mark.parametrize("rate", ["fast", "30", "30/min", "30/week", "30/minute. 5/second"])
def test_what_is_no_rate_is_a_misuse_that_names_the_units_and_the_word_for_none(run: Line, rate: str) -> None:
    refused = run("limit", "--campaign", "42", rate)

    told = " ".join(refused.stderr.replace("│", " ").split())
    assert refused.exit_code == 2
    assert "RATE: is not a rate limit: so many per second, minute, hour or day; write it like 30/minute, or" in told
    assert "100/minute; 20/10 seconds, or off" in told


@pytest.mark.parametrize("command", [("limit", "30/minute"), ("pause",), ("resume",)])
def test_a_campaign_or_an_account_that_cannot_be_is_refused_by_its_name(run: Line, command: tuple[str, ...]) -> None:
    assert run(*command, "--campaign", str(2**63)).exit_code == 2
    with pytest.raises(NotAllowed, match=r"^The account is not a name of an account; use 1 to 40"):
        _raised(run(*command, "--campaign", "42", "--account", "BAD!"))


@pytest.mark.parametrize("age", ["30", "soon", "tomorrow"])
def test_an_age_that_cannot_be_read_names_its_option_and_an_example(run: Line, age: str) -> None:
    refused = run("prune", "--older-than", age)

    assert refused.exit_code == 2
    assert "--older-than: it is not a time; write e.g. 2h, 30d" in " ".join(refused.stderr.replace("│", " ").split())


def test_pruning_counts_first_and_asks(run: Line, rows: Rows) -> None:
    rows.lead("accepted")
    rows.failed(phone=BOB)

    assert run.json("prune", "--older-than", "0.001s", "--dry-run") == {
        "ended": 1, "failed": 0, "failed_open": 0, "dry_run": True, "leads": 1,
    }  # fmt: skip
    assert "called again" in run.ok("prune", "--older-than", "0.001s", "--dry-run")
    asked = run("prune", "--older-than", "0.001s")
    assert (asked.exit_code, "called again" in asked.stderr) == (2, True)  # nobody to ask
    assert run.json("prune", "--older-than", "0.001s", "--yes")["leads"] == 1
    assert run.json("prune", "--older-than", "0.001s", "--failed", "--yes")["leads"] == 1
    assert run.json("list")["items"] == []


def test_erasing_asks_names_what_voicery_keeps_and_prints_no_number(run: Line, rows: Rows) -> None:
    rows.lead("accepted", voicery_lead_id=77)

    assert run("erase", "-", stdin=f"{ADA}\n").exit_code == 2  # nobody to ask
    done = run("erase", "-", "--yes", "--without-proof", "--batch", "1", stdin=f"{ADA}\n")
    shown = done.stdout

    assert (done.exit_code, done.stderr) == (0, "1 of 1 rows\n")
    assert "77" in shown
    assert "DELETE /user/leads/" in shown
    assert ADA[-7:] not in shown
    assert run.json("list")["items"] == []


def test_a_person_is_shown_masked_and_told_whole_for_an_access_request(run: Line, rows: Rows) -> None:
    lead_id = rows.lead("accepted", voicery_lead_id=77)

    shown = run.ok("person", "-", stdin=f"{ADA}\n")
    told = json.loads(run.ok("person", "-", "--json", stdin=f"{ADA}\n"))

    assert str(lead_id) in shown
    assert "+00:00" not in shown, "times are those of the other screens"
    assert ADA[-7:] not in shown
    assert ADA in run.ok("person", ADA, "--reveal")
    assert told["phone_number"] == told["held"]["leads"][0]["phone_number"] == ADA
    assert any("77" in one["what"] for one in told["outside"])
    assert [one["action"] for one in run.json("audit")["items"]] == ["person"] * 3


def test_tail_tells_what_happened_once_and_masked(run: Line, rows: Rows) -> None:
    attempt_id = uuid.uuid4()
    lead_id = rows.lead("accepted", attempt_id=attempt_id)
    rows.run("INSERT INTO dispatcher.incidents (kind, message) VALUES ('x', 'A sentence.')")

    told = [json.loads(line) for line in run.ok("tail", "--no-follow", "--since", "1h", "--json").splitlines()]

    assert [one["what"] for one in told] == ["lead accepted", "incident"]
    assert (told[0]["lead_id"], told[0]["phone_number"]) == (str(lead_id), "+•••0101")
    assert "A sentence." in run.ok("tail", "--no-follow", "--since", "1h")


def test_top_shows_the_queue_once_where_nobody_watches(run: Line, rows: Rows) -> None:
    rows.lead("pending")

    shown = run.ok("top", "--once")

    assert "pending" in shown
    assert "last 5 minutes" in shown


def test_incidents_are_marked_as_seen(run: Line, rows: Rows) -> None:
    rows.run("INSERT INTO dispatcher.incidents (kind, message) VALUES ('x', 'A sentence.')")
    (one,) = run.json("incidents")["items"]

    run.ok("incidents", "--seen", str(one["id"]))

    assert run.json("incidents")["items"][0]["seen_by"]


def _raised(result: Result) -> None:
    """What `__main__` turns into one line."""
    assert isinstance(result.exception, DispatcherError), result.output
    raise result.exception
