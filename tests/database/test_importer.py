"""An import may be planned, cut short and repeated; every row of the file is accounted for."""

import csv
import errno
import itertools
import json
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from dispatcher.config.account import parse_rate_limit
from dispatcher.errors import StoreUnavailable
from dispatcher.importing import imports
from dispatcher.importing.columns import ImportOptions
from dispatcher.importing.importer import Importer, ImportResult
from dispatcher.importing.plan import Plan
from dispatcher.importing.rejects import Rejects
from dispatcher.importing.source import ImportStopped, UnreadableFile, UnwritableRejects, open_source
from dispatcher.intake import copying
from dispatcher.intake.bulk import Bulk
from dispatcher.lead.phone import Country
from dispatcher.operator.campaigns import Campaigns
from dispatcher.operator.pause import GateKeeper
from dispatcher.store.database import Database
from tests.database.queue import phone
from tests.support.doubles import Bell

HEADER = "phone_number,campaign_id,name\n"


class Files:
    """Imports texts, in chunks of two rows."""

    def __init__(self, database: Database, directory: Path, name: str = "leads.csv") -> None:
        self.rejected = directory / f"{name}.rejected.csv"
        self._path = directory / name
        self.database = database
        ticks = itertools.count()
        patience: Any = {"clock": lambda: float(next(ticks)), "wait": lambda _: None}
        bulk = Bulk(database, Bell(), chunk_items=2, **patience)
        self._importer = Importer(bulk, database, parse_rate_limit("100/minute; 20/10 seconds"), **patience)

    def run(
        self,
        content: str,
        progress: Callable[[ImportResult], None] = lambda _: None,
        batch_id: uuid.UUID | None = None,
        stopping: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> Any:
        self._path.write_text(content)
        of_ada = ImportOptions(actor="ada@test", **options)
        with open_source(str(self._path)) as source:
            return self._importer.run(source, of_ada, self.rejected, progress, batch_id, stopping)

    def plan(self, content: str, batch_id: uuid.UUID | None = None, **options: Any) -> Plan:
        self._path.write_text(content)
        with open_source(str(self._path)) as source:
            return self._importer.plan(source, ImportOptions(**options), batch_id)

    def rejections(self) -> list[list[str]]:
        with self.rejected.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file))[1:]

    def all(self, statement: str) -> list[tuple[Any, ...]]:
        with self.database.transaction() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]


@pytest.fixture
def files(database: Database, tmp_path: Path) -> Files:
    return Files(database, tmp_path)


def lines(*numbers: int) -> str:
    return "".join(f"{phone(number)},42,Nr {number}\n" for number in numbers)


def test_every_row_is_accounted_for(files: Files) -> None:
    content = HEADER + lines(1, 2, 1) + "12,42,=HYPERLINK(1)\n" + lines(3) + "+1,x,Eve\n"
    seen: list[int] = []
    result = files.run(content, lambda done: seen.append(done.rows))
    assert (result.rows, result.submitted, result.duplicates, result.rejected) == (6, 3, 1, 2)
    assert seen == [0, 2, 4, 6]
    rejections = files.rejections()
    assert [row[:2] for row in rejections] == [["5", "phone_number"], ["7", "phone_number"], ["7", "campaign_id"]]
    assert rejections[0][4] == "12,42,=HYPERLINK(1)"
    assert rejections[1][4] == "'+1,x,Eve"
    assert stat.S_IMODE(files.rejected.stat().st_mode) == 0o600


def test_an_import_is_on_record_with_its_refused_rows(files: Files) -> None:
    files.run(HEADER + lines(1, 2, 1) + "12,42,\0x\n")
    [record] = files.all(
        "SELECT file_name, account, actor, submitted, duplicates, repeated, rejected, finished_at IS NOT NULL,"
        " batch_id = (SELECT min(batch_id::text)::uuid FROM dispatcher.leads) FROM dispatcher.imports"
    )
    assert record == ("leads.csv", "default", "ada@test", 2, 1, 0, 1, True, True)
    assert files.all("SELECT line, field, original FROM dispatcher.import_rejections") == [
        (5, "phone_number", "12,42,\ufffdx"),
        (5, "variables.name", ""),  # once a row
    ]
    with files.database.transaction() as connection:
        [import_id] = connection.execute(text("SELECT id FROM dispatcher.imports")).scalars()
        read = imports.rejections(connection, import_id, most=9)
    assert [(row.field, row.original) for row in read] == [
        ("phone_number", "12,42,\ufffdx"),
        ("variables.name", "12,42,\ufffdx"),
    ]


def test_a_plan_counts_the_numbers_that_a_country_completed_and_shows_some(files: Files, tmp_path: Path) -> None:
    content = (
        "phone_number,campaign_id,contact1_phone\n"
        f"(202) 555-0151,42,(202) 555-0152\n{phone(1)},42,\n47 92 34 56 78,7,\n4792345678,7,\n"
    )
    plan = files.plan(content, country=Country("US"))

    assert (plan.completed, plan.campaigns, plan.rejected) == ({1: 2, 47: 1}, {42: 2, 7: 1}, 1)
    assert [one.as_dict() for one in plan.completions][1:] == [
        {"line": 2, "written": "•••152", "phone_number": "+•••0152", "country_code": 1},
        {"line": 4, "written": "•••678", "phone_number": "+•••678", "country_code": 47},
    ]
    assert plan.completions[0].as_dict(reveal=True)["written"] == "(202) 555-0151"
    assert plan.completions[0].as_dict(reveal=True)["phone_number"] == "+12025550151"
    assert "0151" not in repr(plan.completions)
    assert "--national where no number of the file has lost its +" in str(plan.refusals)
    assert files.plan(content, country=Country("US", national=True)).rejected == 0
    line = (
        '{"phone_number": "(202) 555-0151", "campaign_id": 42, "secondary_contacts": [{"phone_number": "2025550152"}]}'
    )
    lines = Files(files.database, tmp_path, "leads.jsonl")
    assert lines.plan(line, country=Country("US")).completed == {1: 2}


def test_the_same_file_again_changes_nothing_unless_told(files: Files) -> None:
    content = HEADER + lines(1, 2, 3)
    files.run(content)
    again = files.run(content)
    assert (again.submitted, again.repeated) == (0, 3)
    assert files.run(content, again=True).duplicates == 3
    assert not files.rejected.exists()


def test_an_import_that_was_cut_short_goes_on(files: Files) -> None:
    content = HEADER + lines(*range(9))

    def stop(done: ImportResult) -> None:
        if done.rows == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.run(content, stop)
    [(stored,)] = files.all("SELECT count(*) FROM dispatcher.leads")
    assert 4 <= stored < 9
    result = files.run(content)
    assert (result.submitted, result.repeated) == (9 - stored, stored)
    assert files.all("SELECT count(*) FROM dispatcher.leads") == [(9,)]
    assert files.all("SELECT finished_at IS NULL FROM dispatcher.imports ORDER BY id") == [(True,), (False,)]


def twice(*numbers: int) -> str:
    """Rows whose people may be called twice: nothing but their ids keeps them from it."""
    header = "phone_number,campaign_id,name,allow_dupplicate\n"
    return header + "".join(f"{phone(number)},42,Nr {number},true\n" if number else "12,42,x,\n" for number in numbers)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        pytest.param((9, 1, 2, 3, 4, 5), 2, id="a row on top"),
        pytest.param((1, 2, 3, 9, 4, 5), 5, id="a row in between"),
        pytest.param((2, 3, 4, 5), 2, id="the first left out"),
        pytest.param((1, 2, 9, 4, 5, 6), 4, id="a row that is another"),
        pytest.param((1, 2, 0, 4, 5, 6), 4, id="a row that was good"),
    ],
)
def test_a_batch_does_not_go_on_with_a_file_whose_stored_rows_moved(
    files: Files, changed: tuple[int, ...], line: int
) -> None:
    batch = files.run(twice(1, 2, 3, 4, 5)).batch_id
    for act in (files.run, files.plan):
        with pytest.raises(UnreadableFile, match=f"line {line} .*at the end.*file of their own") as refusal:
            act(twice(*changed), batch_id=batch)
    assert phone(changed[line - 2]) not in str(refusal.value)
    assert files.all(STORED) == [(5,)]


@pytest.mark.parametrize("shorter", [(1, 2, 3, 4), (1, 2, 3, 5), ()], ids=["the end", "a refused row", "all"])
def test_a_batch_does_not_go_on_with_a_file_that_lost_rows(files: Files, shorter: tuple[int, ...]) -> None:
    batch = files.run(twice(1, 2, 3, 0, 5)).batch_id
    with pytest.raises(UnreadableFile, match="has fewer rows"):
        files.run(twice(*shorter), batch_id=batch)
    assert files.all(STORED) == [(4,)]


def test_rows_at_the_end_and_rows_that_were_refused_go_on_in_their_batch(files: Files) -> None:
    batch = files.run(twice(1, 2, 0, 4)).batch_id
    result = files.run(twice(1, 2, 3, 4, 5, 6), batch_id=batch)
    assert (result.submitted, result.repeated) == (3, 3)


def test_a_batch_goes_on_after_one_of_its_leads_was_corrected(files: Files) -> None:
    batch = files.run(twice(1, 2)).batch_id
    files.all("""
        WITH kept AS (
            INSERT INTO dispatcher.lead_revisions
                (lead_id, revision, campaign_id, phone_number, variables, payload_hash, replaced_by)
            SELECT id, 1, campaign_id, phone_number, variables, payload_hash, 'ada' FROM dispatcher.leads
        )
        UPDATE dispatcher.leads SET payload_hash = 'another' RETURNING id
    """)
    assert files.run(twice(1, 2, 3), batch_id=batch).submitted == 1


def test_rows_that_took_the_default_campaign_must_not_move_either(files: Files) -> None:
    def content(*numbers: int) -> str:
        return OWN + "".join(f"{phone(number)},,x,true\n" for number in numbers)

    batch = files.run(content(1, 2, 3), campaign_id=7).batch_id
    with pytest.raises(UnreadableFile, match="line 2 "):
        files.run(content(9, 1, 2, 3), campaign_id=7, batch_id=batch)
    with pytest.raises(UnreadableFile, match="line 3 "):
        files.run(content(1, 3, 2), campaign_id=7, batch_id=batch)
    with pytest.raises(UnreadableFile, match="line 2 "):
        files.run(content(1, 2, 3), campaign_id=8, batch_id=batch)
    with pytest.raises(UnreadableFile, match="fewer rows"):
        files.run(content(1, 2), campaign_id=7, batch_id=batch)
    assert files.run(content(1, 2, 3, 4), campaign_id=7, batch_id=batch).submitted == 1


COUNTED = "SELECT submitted + duplicates + repeated + rejected FROM dispatcher.imports ORDER BY id DESC LIMIT 1"
STORED = "SELECT count(*) FROM dispatcher.leads"


def test_a_stopped_import_counts_all_that_it_stored_and_says_how_to_go_on(files: Files) -> None:
    done: list[ImportResult] = []
    with pytest.raises(ImportStopped, match="the same command") as stopped:
        files.run(HEADER + lines(*range(20)), done.append, stopping=lambda: done[-1].rows >= 4)
    assert files.all(STORED) == files.all(COUNTED) == [(done[-1].rows,)]
    assert f"first {done[-1].rows} rows are done" in str(stopped.value)
    assert str(done[-1].batch_id) not in str(stopped.value)


def test_an_import_of_rows_once_more_names_its_batch_at_once_and_goes_on_in_it(files: Files) -> None:
    content = "phone_number,campaign_id,allow_dupplicate\n" + "".join(f"{phone(n)},42,true\n" for n in range(9))
    files.run(content)
    done: list[ImportResult] = []
    with pytest.raises(ImportStopped) as stopped:
        files.run(content, done.append, stopping=lambda: done[-1].rows >= 4, again=True)
    result = files.run(content, batch_id=done[0].batch_id)

    assert done[0].rows == 0
    assert f"with --batch {done[0].batch_id} instead of --again" in str(stopped.value)
    assert (result.submitted, result.repeated) == (9 - done[-1].rows, done[-1].rows)


def test_what_was_stored_before_a_row_that_cannot_be_read_is_counted(files: Files) -> None:
    with pytest.raises(UnreadableFile):
        files.run(HEADER + lines(*range(20)) + f'{phone(20)},42,"Nr 20\n')
    assert files.all(STORED) == files.all(COUNTED)


@pytest.mark.parametrize("committed", [False, True])
def test_a_note_of_progress_outlasts_a_blip_and_counts_once(
    files: Files, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    add, blips = imports.add, iter([True])

    def failing(connection: Any, *arguments: Any, **counts: Any) -> None:
        add(connection, *arguments, **counts)
        if next(blips, False):
            if committed:
                connection.commit()
            raise StoreUnavailable("Postgres is away.")

    monkeypatch.setattr(imports, "add", failing)
    files.run(HEADER + lines(1, 2, 3, 1) + "12,42,x\n")
    assert files.all("SELECT submitted, duplicates, rejected FROM dispatcher.imports") == [(3, 1, 1)]
    assert files.all("SELECT count(*) FROM dispatcher.import_rejections") == [(1,)]
    assert files.all("SELECT sum(value)::int FROM dispatcher.tallies WHERE name = 'import_rows'") == [(5,)]


def test_a_store_that_gives_up_says_how_many_rows_are_done_in_words_of_the_command(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = copying.insert

    def away(connection: Any, account: Any, batch_id: Any, now: Any, new_leads: Any, *more: Any) -> None:
        insert(connection, account, batch_id, now, new_leads, *more)
        if new_leads[0].candidate.index >= 4:
            raise StoreUnavailable("Postgres is away.")

    monkeypatch.setattr(copying, "insert", away)
    with pytest.raises(StoreUnavailable) as given_up:
        files.run(HEADER + lines(*range(20)))
    assert str(given_up.value) == "Postgres is away. The first 4 rows are done; to go on, run the same command."
    assert files.all(STORED) == files.all(COUNTED) == [(4,)]


def test_a_file_that_is_mended_goes_on_in_its_batch_and_the_plan_knows(files: Files) -> None:
    with pytest.raises(UnreadableFile) as refusal:
        files.run(HEADER + lines(*range(20)) + f'{phone(20)},42,"Nr 20\n')
    found = re.search(r"line 22 has no end.*The first \d+ rows are done.*--batch (\S+)\.", str(refusal.value))
    assert found is not None
    [(stored,)] = files.all("SELECT count(*) FROM dispatcher.leads")
    mended, batch = HEADER + lines(*range(21)), uuid.UUID(found[1])
    planned = files.plan(mended, batch_id=batch)
    result = files.run(mended, batch_id=batch)

    assert 0 < stored < 21
    assert (planned.submitted, planned.repeated) == (21 - stored, stored)
    assert (result.submitted, result.repeated) == (21 - stored, stored)


def test_rows_that_lacked_their_country_are_taken_in_by_the_next_run(files: Files) -> None:
    content = f"{HEADER}{lines(1)}(202) 555-0155,42,x\n"
    assert (files.run(content).submitted, files.run(content, country=Country("US")).submitted) == (1, 1)
    assert files.all("SELECT count(*) FROM dispatcher.leads WHERE state = 'pending'") == [(2,)]


def test_a_changed_mapping_calls_nobody_twice(files: Files) -> None:
    content = "phone_number,campaign_id,name,allow_dupplicate\n" + f"{phone(1)},42,Ada,true\n"
    files.run(content)
    planned = files.plan(content, columns={"name": "customer_name"})
    changed = files.run(content, columns={"name": "customer_name"})
    assert (changed.submitted, changed.rejected) == (0, 1)
    [[line, field, reason, remedy, _]] = files.rejections()
    assert [line, field] == ["2", "row"]
    assert reason == "was imported before, with other values: it, the mapping or a default has changed since"
    assert remedy.startswith("import it as a batch of its own with --again, or under another id")
    assert [(str(line), [fault.field, fault.fault]) for line, [fault] in planned.refusals] == [("2", ["row", reason])]
    [(told,)] = files.all("SELECT reason FROM dispatcher.import_rejections")
    assert told == f"{reason}; {remedy}"


def test_a_row_goes_when_its_columns_say_so(files: Files) -> None:
    header = "phone_number,campaign_id,not_before,expires_at\n"
    files.run(f"{header}{phone(1)},42,2040-01-01T10:00+01:00,2041-01-01T10:00Z\n{phone(2)},42,2040-01-01 10:00,\n")

    assert files.all("SELECT due_at = '2040-01-01T09:00Z', expires_at = '2041-01-01T10:00Z' FROM dispatcher.leads") == [
        (True, True)
    ]
    assert [row[:2] for row in files.rejections()] == [["3", "not_before"]]


OWN = "phone_number,campaign_id,name,allow_dupplicate\n"


@pytest.mark.parametrize("campaigns", [(None, 42), (42, None), (7, 42)])
def test_a_default_campaign_that_no_row_uses_calls_nobody_twice(files: Files, campaigns: Any) -> None:
    content = f"{OWN}{phone(1)},42,Ada,true\n{phone(2)},42,Bob,true\n"
    first, second = (files.run(content, campaign_id=campaign) for campaign in campaigns)
    assert (first.submitted, second.submitted, second.repeated) == (2, 0, 2)
    assert first.batch_id == second.batch_id


def test_of_a_mixed_file_only_the_rows_without_a_campaign_go_into_another(files: Files) -> None:
    content = f"{OWN}{phone(1)},42,Ada,true\n{phone(2)},,Bob,true\n"
    runs = [files.run(content, campaign_id=campaign) for campaign in (None, 7, 7, 8)]
    assert [(run.submitted, run.repeated, run.rejected) for run in runs] == [(1, 0, 1), (1, 1, 0), (0, 2, 0), (1, 1, 0)]
    assert files.all("SELECT campaign_id FROM dispatcher.leads ORDER BY 1") == [(7,), (8,), (42,)]


def test_a_changed_row_that_takes_the_default_campaign_is_refused_in_the_same_words(files: Files) -> None:
    content = f"{OWN}{phone(1)},,Ada,true\n"
    files.run(content, campaign_id=7)
    changed = files.run(content, campaign_id=7, columns={"name": "customer_name"})
    assert (changed.submitted, changed.rejected) == (0, 1)
    [[_, field, reason, remedy, _]] = files.rejections()
    assert (field, reason.split(",")[0]) == ("row", "was imported before")
    assert "--again" in remedy


@pytest.mark.parametrize("name", ["leads.csv", "leads.jsonl"])
def test_a_bad_row_that_takes_the_default_campaign_is_not_told_that_it_lacks_one(
    database: Database, tmp_path: Path, name: str
) -> None:
    bad = '{"phone_number": "12"}\n' if name.endswith("l") else "phone_number,campaign_id\n12,\n"
    files = Files(database, tmp_path, name)
    assert files.run(bad, campaign_id=7).rejected == 1
    assert [row[1] for row in files.rejections()] == ["phone_number"]


def test_json_lines_obey_the_same_rule(database: Database, tmp_path: Path) -> None:
    files = Files(database, tmp_path, "leads.jsonl")
    own = f'{{"phone_number": "{phone(1)}", "campaign_id": 42, "allow_dupplicate": true}}\n'
    lacking = f'{{"phone_number": "{phone(2)}", "allow_dupplicate": true}}\n'
    runs = [files.run(own + lacking, campaign_id=campaign) for campaign in (7, 8, 7)]
    assert [(run.submitted, run.repeated) for run in runs] == [(2, 0), (1, 1), (0, 2)]


def test_a_file_without_a_column_of_campaigns_is_a_new_batch_in_another_campaign(files: Files) -> None:
    content = f"phone_number,name\n{phone(1)},Ada\n"
    first, other, again = (files.run(content, campaign_id=campaign) for campaign in (7, 8, 7))
    assert (first.submitted, other.submitted, again.repeated) == (1, 1, 1)


@pytest.mark.parametrize("campaigns", [1, 20, 21, 60])
def test_a_file_of_many_campaigns_is_found_stored_when_it_is_repeated(files: Files, campaigns: int) -> None:
    content = OWN + "".join(f"{phone(number)},{1 + number % campaigns},x,true\n" for number in range(120))
    assert [(run.submitted, run.repeated) for run in (files.run(content), files.run(content))] == [(120, 0), (0, 120)]


MAPPED = {"Kampagne": "campaign_id"}


@pytest.mark.parametrize("name", ["leads.csv", "leads.jsonl"])
@pytest.mark.parametrize("cell", ["", "7", "8"])
def test_a_column_of_campaigns_that_is_mapped_later_calls_nobody_twice_in_a_campaign(
    database: Database, tmp_path: Path, name: str, cell: str
) -> None:
    """Whoever finds that the campaigns of a file were overlooked repeats the import with --map."""
    if name.endswith("l"):
        content = json.dumps(
            {"phone_number": phone(1), "allow_dupplicate": True, **({"Kampagne": int(cell)} if cell else {})}
        )
        overlooked: dict[str, str] = {"Kampagne": "list"}
    else:
        content = f"phone_number,Kampagne,allow_dupplicate\n{phone(1)},{cell},true\n"
        overlooked = {}
    files = Files(database, tmp_path, name)
    assert files.run(content, campaign_id=7, columns=overlooked).submitted == 1

    later = files.run(content, campaign_id=7, columns=MAPPED)

    met = {"": (0, 1, 0), "7": (0, 0, 1), "8": (1, 0, 0)}  # the same row; another payload; another campaign
    assert (later.submitted, later.repeated, later.rejected) == met[cell]
    with database.transaction() as connection:
        campaigns = connection.execute(text("SELECT campaign_id FROM dispatcher.leads ORDER BY 1")).scalars().all()
    assert campaigns == ([7, 8] if cell == "8" else [7])


def test_a_plan_stores_nothing_and_shows_nobodys_number(files: Files) -> None:
    content = f"phone_number,campaign_id,name,contact1_phone\n{phone(1)},42,Ada,{phone(2)}\n"
    plan = files.plan(content)
    assert files.all("SELECT count(*) FROM dispatcher.leads") == [(0,)]
    assert files.all("SELECT count(*) FROM dispatcher.imports") == [(0,)]
    [sample] = plan.samples
    assert sample.as_dict(reveal=True)["secondary_contacts"][0]["phone_number"] == phone(2)
    shown = f"{plan!r} {sample.as_dict()}"
    assert not any(secret in shown for secret in (phone(1), phone(2), "Ada"))


def test_a_plan_shows_no_number_that_stands_in_the_header(files: Files) -> None:
    content = f"phone_number,campaign_id,{phone(8)},{phone(9)}\n{phone(1)},42,Ada,Bob\n"

    [sample] = files.plan(content).samples

    assert sample.as_dict()["variables"] == {"‹key 1›": "•••", "‹key 2›": "•••"}
    assert sample.as_dict(reveal=True)["variables"] == {phone(8): "Ada", phone(9): "Bob"}


def test_a_plan_tells_duplicates_of_the_file_from_those_of_the_store(files: Files) -> None:
    files.run(HEADER + lines(1))
    plan = files.plan(HEADER + lines(1, 2, 3, 2) + "12,42,x\n")
    assert (plan.rows, plan.submitted, plan.duplicates_in_file, plan.duplicates_in_store) == (5, 2, 1, 1)
    assert [(line, fault.field) for line, (fault,) in plan.refusals] == [(6, "phone_number")]
    assert plan.forecast.waiting == 1


def test_a_plan_reads_what_waits_and_what_slows_each_campaign(files: Files, database: Database) -> None:
    def finish(content: str) -> float:
        return files.plan(content).forecast.finish_in_seconds or 0.0

    files.run(HEADER + "".join(f"{phone(number)},7,x\n" for number in range(50)))
    files.run(HEADER + f"{phone(1)},42,x\n")
    files.all("UPDATE dispatcher.leads SET due_at = now() + interval '1 day' WHERE campaign_id = 42 RETURNING id")
    assert finish(HEADER + lines(2)) == pytest.approx(2 * 0.612)  # a turn of the other and ours
    Campaigns(database).limit(42, "default", "2/minute", actor="ada")
    assert finish(HEADER + lines(*range(2, 42))) == pytest.approx(20 * 61.2)

    GateKeeper(database).pause(7, "default", reason=None, actor="ada")
    plan = files.plan(HEADER + lines(2) + f"{phone(99)},7,x\n")
    assert plan.forecast.paused == ("campaign 7",)
    assert files.plan(HEADER + lines(2)).forecast.waiting == 0
    GateKeeper(database).pause(None, "default", reason=None, actor="ada")
    assert files.plan(HEADER + lines(2)).forecast.paused == ("account",)


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from(["", "", "a", "b"]), st.sampled_from(["", "x"])),
    max_size=9,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(before=ROWS, drawn=ROWS)
def test_a_plan_foretells_the_import(database: Database, tmp_path: Path, before: list[Any], drawn: list[Any]) -> None:
    files = Files(database, tmp_path)
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE dispatcher.leads, dispatcher.idempotency_keys CASCADE"))
    files.run(_content(before))
    with small_chunks():
        plan = files.plan(_content(drawn))
    result = files.run(_content(drawn))
    assert (plan.rows, plan.submitted, plan.repeated, plan.rejected) == (
        result.rows,
        result.submitted,
        result.repeated,
        result.rejected,
    )
    assert plan.duplicates_in_file + plan.duplicates_in_store == result.duplicates


@contextmanager
def small_chunks() -> Iterator[None]:
    """Plans of two rows a chunk, so that chunks meet each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dispatcher.importing.plan._CHUNK_ITEMS", 2)
        yield


def _content(drawn: list[Any]) -> str:
    header = "phone_number,campaign_id,allow_dupplicate,idempotency_key,name\n"
    return header + "".join(f"{phone(number)},42,{flag},{key},{name}\n" for number, flag, key, name in drawn)


def test_the_refusals_of_an_earlier_import_do_not_outlive_a_corrected_one(files: Files) -> None:
    files.run(HEADER + "123,42,Ada\n")
    assert files.rejected.exists()

    files.run(HEADER + "+14155550100,42,Ada\n")

    assert not files.rejected.exists()


NOTES = "do not lose this\n"
CLEAN, REFUSED = HEADER + "+14155550100,42,Ada\n", HEADER + "123,42,Ada\n"


@pytest.mark.parametrize("content", [CLEAN, REFUSED])
def test_a_file_that_is_no_account_of_refused_rows_is_left_alone(files: Files, content: str) -> None:
    files.rejected.write_text(NOTES)

    with pytest.raises(UnreadableFile, match=r"leads.csv.rejected.csv: it is another file; .* --rejected"):
        files.run(content)

    assert files.rejected.read_text() == NOTES
    assert files.all("SELECT count(*) FROM dispatcher.leads, dispatcher.imports") == [(0,)]


@pytest.mark.parametrize("content", [CLEAN, REFUSED, "line,field,reason,remedy,original,phone\n,,,,,+14155550100\n"])
def test_the_file_to_import_never_takes_the_refused_rows(files: Files, tmp_path: Path, content: str) -> None:
    (tmp_path / "leads.csv").touch()
    for path in (tmp_path / "leads.csv", tmp_path / "linked.csv"):
        if not path.exists():
            path.hardlink_to(tmp_path / "leads.csv")
        files.rejected = path
        with pytest.raises(UnreadableFile, match=r"it is the file to import; .* --rejected"):
            files.run("\ufeff" + content, campaign_id=42)

    assert (tmp_path / "leads.csv").read_text().endswith(content)
    assert files.all("SELECT count(*) FROM dispatcher.imports") == [(0,)]


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/null")], ids=["folder", "pipe", "link"]
)
def test_what_is_no_regular_file_takes_no_refused_rows(files: Files, make: Callable[[Path], None]) -> None:
    make(files.rejected)
    before = files.rejected.lstat()

    with pytest.raises(UnreadableFile, match="it is no regular file"):
        files.run(CLEAN)

    assert files.rejected.lstat() == before


def test_a_place_where_nothing_can_be_written_is_noticed_before_anything_is_stored(
    files: Files, tmp_path: Path
) -> None:
    files.rejected = tmp_path / "no" / "such" / "folder.csv"
    with pytest.raises(UnreadableFile, match=r"folder.csv: No such file or directory; .* --rejected"):
        files.run(CLEAN)
    files.rejected = tmp_path / ("x" * 300)
    with pytest.raises(UnreadableFile, match="File name too long"):
        files.run(CLEAN)
    assert files.all("SELECT count(*) FROM dispatcher.imports") == [(0,)]


def full_at_once(_: Rejects) -> TextIO:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_at_the_end(_: Rejects) -> TextIO:
    return Path("/dev/full").open("w")  # what is written waits in memory first


@pytest.mark.parametrize("opens", [full_at_once, full_at_the_end])
def test_a_disk_that_is_full_blames_the_account_and_says_what_is_stored(
    files: Files, monkeypatch: pytest.MonkeyPatch, opens: Callable[[Rejects], TextIO]
) -> None:
    monkeypatch.setattr(Rejects, "_open", opens)
    with pytest.raises(UnwritableRejects) as refusal:
        files.run(HEADER + lines(1) + "123,42,Ada\n")

    assert re.search(r"rejected.csv cannot be written: No space left on device\. The first 2 rows", str(refusal.value))
    assert str(refusal.value).endswith("run the same command, with another place for refused rows (--rejected).")
    assert files.all("SELECT count(*) FROM dispatcher.leads") == [(1,)]
    with pytest.raises(UnwritableRejects, match=r"with --batch \S+ instead of --again, with another place"):
        files.run(HEADER + lines(1) + "123,42,Ada\n", again=True)


def test_an_empty_file_may_take_the_refused_rows(files: Files) -> None:
    files.rejected.touch()
    files.run(CLEAN)
    assert files.rejected.exists()
    files.run(REFUSED)
    assert [row[0] for row in files.rejections()] == ["2"]
