"""The commands, on real Postgres and Redis: what they print, what they exit with, and what they never show."""

import csv
import json
import stat
import uuid
from pathlib import Path

import pytest
from typer.testing import Result

from dispatcher.errors import DispatcherError
from tests.support.doubles import Line
from tests.support.rows import ADA, BOB, Rows
from tests.support.workbooks import excel, ods

# Giving leads ---------------------------------------------------------------------------------------------------------


def test_a_lead_from_options(run: Line, rows: Rows) -> None:
    given = run.json(
        "submit", "--phone", "+1 202 555 0101", "--campaign", "42", "--var", "name=Ada", "--var", "age:=42",
        "--contact", BOB, "--priority", "3", "--not-before", "2h", "--key", "crm-1",
    )  # fmt: skip

    lead = rows.of(uuid.UUID(given["id"]))
    assert (given["state"], given["created"]) == ("pending", True)
    assert (lead.phone_number, lead.campaign_id, lead.variables, lead.priority) == (
        ADA,
        42,
        {"name": "Ada", "age": 42},
        3,
    )
    assert (lead.due_at - lead.created_at).total_seconds() == 7200


def test_a_lead_from_standard_input_is_in_no_list_of_processes(run: Line, rows: Rows) -> None:
    given = run.json("submit", stdin=json.dumps({"phone_number": ADA, "campaign_id": 42}))

    assert rows.of(uuid.UUID(given["id"])).phone_number == ADA


def test_the_same_again_is_said_to_be(run: Line) -> None:
    once = ("submit", "--phone", ADA, "--campaign", "42")
    first = run.json(*once, "--key", "k")

    assert "was submitted before; nothing was added" in run(*once, "--key", "k").stdout
    assert f"is a duplicate of {first['id']}; nobody is called" in run(*once).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", "--phone", ADA),
        ("submit", "--campaign", "42"),
        ("submit", "--phone", ADA, "--campaign", "forty-two"),
        ("submit", "--phone", ADA, "--campaign", "42", "--var", "x"),
        ("submit", "--phone", ADA, "--campaign", "42", "--var", "x:=nope"),
        ("submit", "--phone", ADA, "--campaign", "42", "--not-before", "soon"),
        ("submit", "--phone", ADA, "--campaign", "42", "--priority", "10"),
        ("replay",),
        ("replay", str(uuid.uuid4()), "--all"),
        ("lookup",),
        ("lookup", str(uuid.uuid4()), "--unknown"),
        ("failed", "--class", "bored"),
        ("failed", "--since", "whenever"),
        ("failed", "--var", "plan"),
        ("failed", "--phone", "x"),
        ("replay", "--submitted-since", "soon"),
        ("resolve", str(uuid.uuid4())),
        ("pause", "--campaign", "0"),
        ("frobnicate",),
    ],
)
def test_a_misuse_exits_with_2_and_does_nothing(run: Line, rows: Rows, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, stdin="")

    assert result.exit_code == 2, result.output
    assert rows.one("SELECT count(*) AS n FROM dispatcher.leads").n == 0


@pytest.mark.parametrize("stdin", ["", "[]", "{", "null", "3"])
def test_what_is_not_a_lead_on_standard_input_is_a_misuse(run: Line, stdin: str) -> None:
    assert run("submit", stdin=stdin).exit_code == 2


# Importing ------------------------------------------------------------------------------------------------------------


def test_a_csv_file_is_imported_and_its_bad_rows_are_kept_with_their_reasons(
    run: Line, rows: Rows, tmp_path: Path
) -> None:
    file = tmp_path / "leads.csv"
    file.write_text(
        "\ufeffphone_number,campaign_id,customer_name,city\n"
        f"{ADA},42,Ada,\n"
        '+12025550102,42,"Bob, Junior",Rome\n'
        "12,42,Short,\n"
        "+12025550103,x,Wrong,\n"
        "\n"
        "+12025550104,42\n"
        f"{ADA},42,Ada again,\n",
        encoding="utf-8",
    )

    result = run("import", str(file), "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (told["submitted"], told["duplicates"], told["rejected"]) == (3, 1, 2)
    assert rows.one("SELECT variables FROM dispatcher.leads WHERE phone_number = :p AND state = 'pending'", p=ADA)[
        0
    ] == {"customer_name": "Ada"}
    refused = tmp_path / "leads.csv.rejected.csv"
    with refused.open(newline="", encoding="utf-8-sig") as opened:
        assert [(row["line"], row["field"]) for row in csv.DictReader(opened)] == [
            ("4", "phone_number"),
            ("5", "campaign_id"),
        ]
    assert stat.S_IMODE(refused.stat().st_mode) == 0o600


def test_json_lines_are_imported_and_repeating_the_batch_adds_nothing(run: Line, rows: Rows, tmp_path: Path) -> None:
    file = tmp_path / "leads.jsonl"
    file.write_text(
        json.dumps({"phone_number": ADA, "campaign_id": 42, "secondary_contacts": [{"phone_number": BOB}]}) + "\n\n"
    )

    first = run.json("import", str(file))
    second = run.json("import", str(file), "--batch", first["batch_id"])

    assert (first["submitted"], second["submitted"], second["repeated"]) == (1, 0, 1)
    assert rows.one("SELECT count(*) AS n FROM dispatcher.lead_contacts").n == 1
    assert not (tmp_path / "leads.jsonl.rejected.csv").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"number,campaign\n1,2\n", "no column phone_number"),
        (b"phone_number,name\n1,2\n", "--campaign"),
        (b"", "is empty"),
        (b"\x1f\x8b\x08\x00", "damaged or cut off"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(run: Line, tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "leads.csv"
    file.write_bytes(content)

    with pytest.raises(DispatcherError, match=words):
        _raised(run("import", str(file)))


def test_a_workbook_is_imported_once_whoever_saved_it(run: Line, rows: Rows, tmp_path: Path) -> None:
    leads = [("phone", "name"), (ADA, "Ada"), (12025550103.0, "float"), (BOB, (' t="e"><v>#REF!</v>',))]
    named = tmp_path / "leads.csv"  # the content tells its kind
    named.write_bytes(excel(leads, [("Notes",)], names=["Leads", "Notes"]))
    with pytest.raises(DispatcherError, match="“Leads”, “Notes”"):
        _raised(run("import", str(named), "--campaign", "42"))

    given = ("import", str(named), "--campaign", "42", "--sheet", "leads", "--country", "US", "--json")
    first = json.loads(run(*given).stdout)
    assert first["form"] == "sheet “Leads” of an Excel workbook"
    assert (first["submitted"], first["rejected"]) == (2, 1)
    by_number = "SELECT variables FROM dispatcher.leads WHERE phone_number = '+12025550103'"
    assert rows.one(by_number)[0] == {"name": "float"}
    with (tmp_path / "leads.csv.rejected.csv").open(newline="", encoding="utf-8-sig") as opened:
        [told] = csv.DictReader(opened)
    assert (told["line"], told["reason"]) == ("4", "is the error #REF!")

    again = tmp_path / "again.ods"
    again.write_bytes(ods([*leads[:3], (BOB, "Bob")]))
    second = run.json("import", str(again), "--campaign", "42", "--country", "US", "--batch", first["batch_id"])
    assert (second["submitted"], second["repeated"]) == (1, 2)


def test_a_plan_guesses_a_missing_column_shows_it_and_says_how_to_confirm_it(run: Line, tmp_path: Path) -> None:
    file = tmp_path / "leads.csv"
    file.write_text(f"Teléfono;Campaña;nombre\n{ADA};42;Ada\n{BOB};42;Bob\n", encoding="utf-8")

    result = run("import", str(file), "--plan")

    assert result.exit_code == 0, result.output
    for told in ("Teléfono → phone_number (a guess)", "nombre → the variable nombre", "deliver 2 leads"):
        assert told in result.stdout
    assert "--map 'phone=Teléfono' --map 'campaign=Campaña'" in " ".join(result.stderr.split())
    assert ADA[-6:] not in result.output
    assert "Ada" not in result.output
    with pytest.raises(DispatcherError, match="--map 'phone=Teléfono'"):
        _raised(run("import", str(file)))
    maps = run.json("import", str(file), "--plan")["map"]
    confirmed = run.json("import", str(file), *(word for one in maps for word in ("--map", one)))
    assert confirmed["submitted"] == 2


def test_failed_leads_are_exported_edited_and_taken_back(run: Line, rows: Rows, tmp_path: Path) -> None:
    one, doubtful = rows.failed(phone=ADA, variables='{"name": "Ada"}'), rows.failed_unknown(phone=BOB)
    file = tmp_path / "failed.csv"
    assert run("failed", "--export", str(file)).exit_code == 2  # not without --reveal
    assert run.json("failed", "--export", str(file), "--reveal")["rows"] == 2
    assert run("failed", "--export", str(file), "--reveal").exit_code == 2  # nothing is overwritten
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text(encoding="utf-8-sig")
    file.write_text(text.replace("Ada", "Zoe").replace(BOB, "+12025550104"), encoding="utf-8")

    planned = run("import", str(file), "--plan", "--json")
    assert json.loads(planned.stdout)["corrected"] == 1
    assert rows.of(one).state == "failed"
    told = run("import", str(file))
    assert told.exit_code == 1
    assert "1 lead corrected and sent again, 0 unchanged, 1 refused" in told.stdout
    assert "may have been called" in told.stderr
    assert (rows.of(one).state, rows.of(one).variables) == ("pending", {"name": "Zoe"})
    assert (rows.of(doubtful).state, rows.of(doubtful).phone_number) == ("failed", BOB)
    again = json.loads(run("import", str(file), "--json").stdout)
    assert (again["corrected"], again["unchanged"], again["refused"]) == (0, 1, 1)

    file.write_text(text.replace("dispatcher_version", "version"), encoding="utf-8")
    with pytest.raises(DispatcherError, match="without its column dispatcher_version"):
        _raised(run("import", str(file)))
    assert rows.one("SELECT count(*) AS n FROM dispatcher.leads").n == 2


@pytest.mark.parametrize(
    "typed", [("list", "--limit"), ("import", "leads.csv", "--workers"), ("keys", "list", "--limit")]
)
def test_what_is_no_number_is_said_so(run: Line, typed: tuple[str, ...]) -> None:
    result = run(*typed, "ten")

    assert result.exit_code == 2
    assert "it is not a whole number" in result.output


def test_a_column_that_is_mapped_twice_is_a_misuse(run: Line, tmp_path: Path) -> None:
    result = run("import", str(tmp_path / "leads.csv"), "--map", "phone=x", "--map", "name= x")

    assert result.exit_code == 2
    assert "the column “x” twice" in result.output


def test_a_column_that_the_file_lacks_is_told_with_those_that_it_has(run: Line, tmp_path: Path) -> None:
    (tmp_path / "leads.csv").write_text("phone,campaign\n+12025550101,42\n")

    with pytest.raises(DispatcherError, match=r"no column “Mobile”\. The first line names: phone, campaign\."):
        _raised(run("import", str(tmp_path / "leads.csv"), "--map", "phone=Mobile", "--plan"))


def test_an_import_says_what_it_guessed_and_what_a_country_completed(run: Line, rows: Rows, tmp_path: Path) -> None:
    file = tmp_path / "leads.csv"
    file.write_bytes("phone,campaign,name\n(202) 555-0151,Sale,Zoë\n".encode("cp1252"))
    command = ("import", str(file), "--country", "US", "--campaign", "42")

    masked, shown = run(*command, "--plan"), run(*command, "--plan", "--reveal")
    assert "as cp1252 it has e.g. “oë”. If that is wrong, name the right one: --encoding" in masked.output
    assert "every lead goes into campaign 42, as --campaign says" in " ".join(masked.output.split())
    assert "--country completed 1 number written without +: 1 as +1" in masked.output
    assert "line 2: •••151 → +•••0151 (+1)" in masked.output
    assert "Zoë" not in masked.output
    assert "5550151" not in masked.output
    assert "“Zoë”" in shown.output
    assert "line 2: (202) 555-0151 → +12025550151 (+1)" in shown.output
    planned = run.json(*command, "--plan")
    assert (planned["encoding_guessed"], planned["encoding_example"], planned["completed"]) == (True, "oë", 1)

    stored = run.json(*command, "--encoding", "latin-1")
    assert (stored["submitted"], stored["encoding"], stored["encoding_guessed"]) == (1, "iso8859-1", False)
    assert rows.one("SELECT variables FROM dispatcher.leads")[0] == {"name": "Zoë", "campaign": "Sale"}
    for options, words in (
        (("--encoding", "rot13"), "is no encoding of text"),
        (("--country", "GER"), "two letters of a country"),
        (("--national",), "needs the country of the numbers"),
    ):
        refused = run("import", str(file), *options)
        assert (refused.exit_code, words in " ".join(refused.output.split())) == (2, True)


# Looking --------------------------------------------------------------------------------------------------------------


def test_status_of_a_quiet_queue(run: Line) -> None:
    shown = run("status").stdout

    assert "all open" in shown
    assert "none has ever been seen" in shown
    assert "\x1b" not in shown


def test_every_read_has_json_with_lists_under_items(run: Line, rows: Rows) -> None:
    lead_id = str(rows.failed())

    assert run.json("status")["leads"]["failed"] == 1
    assert run.json("show", lead_id)["id"] == lead_id
    assert run.json("explain", lead_id)["explanation"].startswith("It failed at")
    assert [one["lead_id"] for one in run.json("failed")["items"]] == [lead_id]
    assert [one["leads"] for one in run.json("failed", "--group")["items"]] == [1]
    checks = json.loads(run("doctor", "--json").stdout)["items"]
    assert {one["name"] for one in checks} >= {"Postgres", "Schema", "Redis", "Token"}


@pytest.mark.parametrize("command", ["show", "explain", "failed", "failed --group", "status", "doctor"])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_nobodys_number_or_name_is_shown(run: Line, rows: Rows, command: str, form: list[str]) -> None:
    lead_id = str(rows.failed_unknown())
    arguments = [*command.split(), *([lead_id] if command in {"show", "explain"} else []), *form]

    result = run(*arguments)

    assert result.exit_code in {0, 1 if command == "doctor" else 0}, result.output
    assert ADA not in result.output
    assert "2025550101" not in result.output
    assert "Lovelace" not in result.output
    if command in {"show", "failed"}:
        assert ADA in run(*arguments, "--reveal").output


def test_what_strangers_wrote_does_not_steer_the_terminal(run: Line, rows: Rows) -> None:
    lead_id = str(rows.failed(message="[red]\x1b[2J\x07 refused [/red]\n✓ 3 leads replayed."))

    for arguments in (["failed"], ["failed", "--group"], ["show", lead_id], ["explain", lead_id]):
        shown = run(*arguments).stdout
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert "[red]" in shown
        assert not any(line.startswith("✓") for line in shown.splitlines())


def test_no_lead_has_this_id(run: Line) -> None:
    with pytest.raises(DispatcherError, match="No lead has the id"):
        _raised(run("show", str(uuid.uuid4())))


def test_a_number_typed_in_place_of_an_id_is_not_repeated(run: Line) -> None:
    with pytest.raises(DispatcherError) as refusal:
        _raised(run("show", ADA))

    assert ADA not in str(refusal.value)


# Acting ---------------------------------------------------------------------------------------------------------------


def test_replaying_ids_exits_with_1_if_one_was_refused_and_says_why(run: Line, rows: Rows) -> None:
    good, doubtful = str(rows.failed()), str(rows.failed_unknown(phone=BOB))

    result = run("replay", good, doubtful)

    assert result.exit_code == 1
    assert "1 lead replayed" in result.stdout
    assert f"{doubtful}: The person may have been called" in result.stderr
    assert rows.of(uuid.UUID(good)).state == "pending"


def test_even_if_called_is_obeyed(run: Line, rows: Rows) -> None:
    lead_id = rows.failed_unknown()

    assert run("replay", str(lead_id), "--even-if-called", "--note", "the client wants it").exit_code == 0
    assert rows.of(lead_id).state == "pending"
    assert rows.audited()[0][3]["even_if_called"] is True


def test_a_bulk_replay_wants_a_yes(run: Line, rows: Rows) -> None:
    lead_id = rows.failed()
    rows.failed("expired", phone=BOB)

    assert run("replay", "--class", "rejected", stdin="").exit_code == 2
    assert rows.of(lead_id).state == "failed"

    dry = run.json("replay", "--class", "rejected", "--dry-run")
    assert dry == {"items": [{"id": str(lead_id), "replayed": True}], "dry_run": True}
    assert rows.of(lead_id).state == "failed"

    assert run("replay", "--class", "rejected", "--yes").exit_code == 0
    assert rows.of(lead_id).state == "pending"


def test_resolve_and_cancel(run: Line, rows: Rows) -> None:
    unknown, failed, pending = rows.unknown(), rows.failed(phone=BOB), rows.lead("pending", phone="+12025550103")

    assert run("resolve", str(unknown), "--as", "accepted", "--note", "seen in the list").exit_code == 0
    assert run("resolve", str(failed), "--note", "test data").exit_code == 0
    assert run("cancel", str(pending)).exit_code == 0

    assert [rows.of(one).state for one in (unknown, failed, pending)] == ["accepted", "failed", "cancelled"]
    again = run("cancel", str(pending), str(unknown))
    assert (again.exit_code, again.stderr.count("Only a pending lead can be cancelled")) == (1, 2)
    assert all("@" in actor for actor, *_ in rows.audited())


def test_pause_and_resume(run: Line, rows: Rows) -> None:
    rows.lead("sending", attempt_id=uuid.uuid4())

    paused = run("pause", "--campaign", "42", "--reason", "wrong script").stdout
    assert "Campaign 42 is paused" in paused
    assert "1 lead still on the way" in paused
    assert "campaign 42 paused" in run("status").stdout
    assert "stays paused" in run("resume").stdout
    assert "flows again" in run("resume", "--campaign", "42").stdout


def test_the_doctor_finds_what_is_missing(run: Line, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.delenv("VOICERY_API_TOKEN")

    result = run("doctor", "--json")

    assert result.exit_code == 1
    found = {one["name"]: one for one in json.loads(result.stdout)["items"]}
    assert (found["Schema"]["verdict"], found["Schema"]["advice"]) == ("bad", "Run `dispatcher migrate`.")
    assert (found["Redis"]["verdict"], found["Token"]["verdict"]) == ("bad", "doubtful")


def test_the_doctor_is_content(run: Line) -> None:
    checks = json.loads(run("doctor", "--json").stdout)["items"]

    # The servers of the tests run with fsync off, which the doctor is right to call bad.
    assert {one["name"]: one["advice"][:16] for one in checks if one["verdict"] == "bad"} in (
        {"Durability": "Set fsync = on: "},
        {},
    )


def test_migrate_is_repeatable(run: Line, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)

    assert "is now at revision" in run("migrate").stdout
    assert "is up to date" in run("migrate").stdout


def test_one_sweep(run: Line, rows: Rows) -> None:
    lead_id = rows.lead("pending", expires_at="2026-01-01T00:00:00Z")

    assert run("sweep", "--once").exit_code == 0
    assert rows.of(lead_id).state == "failed"


def _raised(result: Result) -> None:
    """What `dispatcher.__main__` would turn into one line."""
    if result.exception is not None:
        raise result.exception
