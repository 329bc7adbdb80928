"""What programs rely on: `--json` on every command that reads or writes, errors in one shape, and exit codes."""

import json
import re
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from dispatcher.cli.commands import PANELS, CommandEntry
from tests.cli.test_process import run as run_process
from tests.support.doubles import Line
from tests.support.rows import ADA, Rows

PROCESSES = {"up", "demo", "console", "sandbox", "sweep", "metrics", "intake", "top"}
"""They run until they are stopped, or draw a screen."""

ENTRIES = [(panel, entry) for panel, entries in PANELS.items() for entry in entries]


def parts(panel: str, entry: CommandEntry) -> dict[str, Any]:
    """The commands of an entry by what is typed: one, or those of a group."""
    command = entry.load(panel)
    commands = getattr(command, "commands", None)
    return {f"{entry.name} {name}": one for name, one in commands.items()} if commands else {entry.name: command}


def flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts}


@pytest.mark.parametrize(("panel", "entry"), ENTRIES, ids=lambda one: getattr(one, "name", ""))
def test_every_command_that_reads_or_writes_has_json(panel: str, entry: CommandEntry) -> None:
    for typed, command in parts(panel, entry).items():
        assert ("--json" in flags(command)) is (entry.name not in PROCESSES), typed


def test_every_write_says_in_json_what_it_did(run: Line, rows: Rows) -> None:
    pending, failed = rows.lead("pending", phone=ADA), rows.failed(phone="+447700900001")
    rows.run("INSERT INTO dispatcher.incidents (kind, message) VALUES ('possible_match', 'Look.')")
    incident = rows.one("SELECT id FROM dispatcher.incidents").id
    rows.run(
        "INSERT INTO dispatcher.operations (id, kind, actor, total) VALUES (gen_random_uuid(), 'replay', 'ada', 1)"
    )
    operation = rows.one("SELECT id FROM dispatcher.operations").id
    told = {
        command[0]: json.loads(run.ok(*map(str, command), "--json"))
        for command in (
            ("limit", "30/minute", "--campaign", 42),
            ("pause", "--campaign", 42),
            ("resume", "--campaign", 42),
            ("cancel", pending),
            ("resolve", failed, "--note", "known"),
            ("incidents", "--seen", incident),
            ("operations", operation, "--stop"),
            ("migrate",),
        )
    }
    assert told["limit"] == {"account": "default", "campaign_id": 42, "rate_limit": "30/minute", "dry_run": False}
    assert told["pause"] == {"account": "default", "campaign_id": 42, "on_their_way": 0, "dry_run": False}
    assert [one["reason"] for one in told["resume"]["opened"]] == ["paused"]
    assert told["cancel"] == {"done": [str(pending)], "refused": [], "dry_run": False}
    assert told["resolve"]["done"] == [str(failed)]
    assert told["incidents"]["seen"] == 1
    assert told["operations"]["state"] == "stopped"
    assert told["migrate"]["before"] == told["migrate"]["after"]
    refused = run("cancel", str(pending), "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["refused"][0]["id"] == str(pending)


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (("status",), "failed", 1),
        (("list", "--campaign", "x"), "misused", 2),
        (("resolve",), "misused", 2),
        (("show", "nonsense"), "failed", 1),
    ],
)
def test_an_error_has_one_shape(arguments: tuple[str, ...], kind: str, code: int) -> None:
    environment = {} if arguments == ("status",) else {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    done = run_process(environment, *arguments, "--json")
    told = json.loads(done.stderr)
    assert (done.returncode, done.stdout) == (code, "")
    assert (set(told), told["error"], told["exit_code"]) == ({"error", "message", "exit_code"}, kind, code)


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("command", ["console", "metrics", "sandbox"])
def test_a_taken_port_is_one_line_and_exit_1(taken: int, command: str) -> None:
    done = run_process({"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}, command, "--port", str(taken))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"The \w+ cannot listen on 127\.0\.0\.1:{taken}: another process listens there\. .* another --port\.\n",
        done.stderr,
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_and_cuts_nothing_off(run: Line, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("dispatcher.cli.help._WIDEST", columns)
    for panel, entry in ENTRIES:
        if entry.name == "sandbox":  # it has a help of its own
            continue
        for typed, command in {**parts(panel, entry), entry.name: entry.load(panel)}.items():
            told = run.ok(*typed.split(), "--help")
            assert max(map(len, told.splitlines())) <= columns, typed
            assert not re.search(r"<(?:bool|str|int|float)|\[default", told), typed
            assert all(flag in told for flag in flags(command) if flag.startswith("-")), typed
            assert all(name in told for name in getattr(command, "commands", ())), typed


def test_lists_fit_into_80_columns_with_figures_to_the_right(
    run: Line, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.cli.screen._PIPED_WIDTH", 80)
    for n, state in enumerate(("accepted", "duplicate", "cancelled")):
        rows.lead(state, phone=f"+44770090010{n}", campaign_id=10**n)
    rows.unknown(phone="+447700900110")
    rows.run(
        "INSERT INTO dispatcher.operations (id, kind, actor, total) VALUES (gen_random_uuid(), 'look_up', 'ada', 1234)"
    )
    for command in ("list", "campaigns", "operations", "imports"):
        assert max(map(len, run.ok(command).splitlines())) <= 80, command
    listed = run.ok("list").splitlines()
    end = listed[0].index("campaign") + len("campaign")
    assert {re.split(r"\s", line[:end])[-1] for line in listed[1:]} == {"1", "10", "100", "42"}


def test_a_lead_is_listed_by_any_part_of_its_id_and_by_its_variables(run: Line, rows: Rows) -> None:
    lead = rows.lead("accepted", id=uuid.UUID("fa54fd8e-644c-88e5-aff3-e20000000257"), variables='{"plan": "pro"}')
    rows.lead("pending", phone="+447700900001")
    for options in (("--id", "…e20000000257"), ("--id", "644C"), ("--var", "plan=pro"), ("--ended-since", "today")):
        assert [one["id"] for one in json.loads(run.ok("list", *options, "--json"))["items"]] == [str(lead)], options
    assert len(json.loads(run.ok("list", "--due", "--json"))["items"]) == 1
