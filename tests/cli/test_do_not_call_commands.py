"""`block`, `unblock` and `blocked` on real Postgres, and what `import` says of blocked persons."""

import json
from pathlib import Path

import pytest

from tests.support.doubles import Line
from tests.support.rows import ADA, BOB, Rows
from tests.support.workbooks import excel

KEY = "0123456789abcdef0123456789abcdef"


def test_a_number_is_blocked_asked_for_and_unblocked(run: Line, rows: Rows) -> None:
    said = run.ok("block", ADA, "--reason", "asked by phone", "--source", "crm", "--until", "365d")
    assert "no lead to this number is claimed any more" in said
    assert "already" in run.ok("block", ADA, "--until", "30d")

    asked = run.json("blocked", ADA)
    assert asked["blocked"] is True
    (item,) = asked["items"]
    assert (item["number"], item["reason"], item["source"]) == ("+•••0101", "asked by phone", "crm")
    assert ADA[-7:] not in run.ok("blocked") + run.ok("blocked", ADA)
    assert ADA in run.ok("blocked", "--reveal")
    assert run.json("blocked", BOB) == {"items": [], "blocked": False}

    assert "removed" in run.ok("unblock", ADA)
    assert run.json("blocked")["in_force"] == 0
    assert [row.action for row in rows.rows("SELECT action FROM dispatcher.audit_log ORDER BY id")] == [
        "block",
        "unblock",
    ]


def test_a_number_from_standard_input_is_in_no_list_of_processes(run: Line) -> None:
    run.ok("block", "-", stdin=f"{ADA}\n")
    assert run.json("blocked", "-", stdin=f"{ADA}\n")["blocked"] is True
    run.ok("unblock", "-", stdin=f"{ADA}\n")
    assert run.json("blocked", "-", stdin=f"{ADA}\n")["blocked"] is False


def test_a_list_is_blocked_but_for_its_bad_lines_which_are_told_by_their_place(
    run: Line, rows: Rows, tmp_path: Path
) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f'\ufeffPhone;Name\r\n{ADA};Ada\r\n\r\n# a comment\r\nnobody-12;x\r\n"+1 (202) 555-0102",Bob\r\n')

    first = run("block", "--file", str(file))
    again = run("block", "--file", str(file), "--json")

    assert (first.exit_code, again.exit_code) == (1, 1), first.exception
    assert "2 numbers blocked" in first.stdout
    assert "line 5: phone_number" in first.stderr
    assert "nobody" not in first.output
    told = json.loads(again.stdout)
    assert (told["added"], told["known"], [one["line"] for one in told["rejected"]]) == (0, 2, [5])
    assert {row.number for row in rows.rows("SELECT number FROM dispatcher.blocks")} == {ADA, BOB}


@pytest.mark.parametrize("header", [True, False])
def test_a_list_may_be_a_workbook(run: Line, rows: Rows, tmp_path: Path, *, header: bool) -> None:
    file = tmp_path / "list.xlsx"
    file.write_bytes(excel([*([("Phone", "Name")] if header else []), (ADA, "Ada"), ("nobody-12", "x"), (BOB,)]))

    told = json.loads(run("block", "--file", str(file), "--json").stdout)

    assert (told["added"], [one["line"] for one in told["rejected"]]) == (2, [3 if header else 2])
    assert {row.number for row in rows.rows("SELECT number FROM dispatcher.blocks")} == {ADA, BOB}


def test_hash_only_keeps_no_number_and_needs_a_key(run: Line, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("block", ADA, "--hash-only")
    assert refused.exit_code == 1
    assert "openssl rand -hex 32" in str(refused.exception)

    monkeypatch.setenv("DISPATCHER_PRIVACY_KEY", KEY)
    run.ok("block", ADA, "--hash-only")
    assert "hash only" in run.ok("blocked", "--reveal")
    assert rows.one("SELECT number FROM dispatcher.blocks").number is None
    assert run.json("blocked", ADA)["blocked"] is True

    monkeypatch.delenv("DISPATCHER_PRIVACY_KEY")
    for command in (("blocked", ADA), ("unblock", ADA)):
        unsure = run(*command)
        assert unsure.exit_code == 1
        assert "DISPATCHER_PRIVACY_KEY" in str(unsure.exception)


def test_a_dry_run_blocks_nobody(run: Line, rows: Rows) -> None:
    run.ok("block", ADA, "--dry-run")
    assert rows.rows("SELECT FROM dispatcher.blocks") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("block",),
        ("block", ADA, "--file", "x"),
        ("block", "--file", "/nowhere/list"),
        ("block", ADA, "--until", "soon"),
    ],
)
def test_a_misuse_exits_with_2_and_blocks_nobody(run: Line, rows: Rows, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
    assert rows.rows("SELECT FROM dispatcher.blocks") == []


def test_an_import_counts_who_must_not_be_called(run: Line, rows: Rows, tmp_path: Path) -> None:
    file = tmp_path / "leads.csv"
    file.write_text(f"phone_number\n{ADA}\n{BOB}\n")
    run.ok("block", ADA)

    plan = run.json("import", str(file), "--campaign", "42", "--plan")
    assert (plan["submitted"], plan["blocked"]) == (1, 1)
    assert "not call 1 lead" in run.ok("import", str(file), "--campaign", "42", "--plan")
    done = run.json("import", str(file), "--campaign", "42")
    assert (done["submitted"], done["blocked"], done["rejected"]) == (1, 1, 0)
    assert run.json("import", str(file), "--campaign", "42")["repeated"] == 2
    (record,) = rows.rows("SELECT blocked FROM dispatcher.imports WHERE blocked > 0")
    assert record.blocked == 1
    (failed,) = run.json("failed", "--class", "blocked")["items"]
    assert "must not be called" in failed["message"]
    refused = run("replay", failed["lead_id"], "--even-if-called")
    assert refused.exit_code == 1
    assert "dispatcher unblock" in f"{refused.output}{refused.exception}"
