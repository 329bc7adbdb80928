"""What a stranger wrote is shown, on a terminal or a page, and never obeyed by it."""

import io
import json
import logging

import pytest
from rich.table import Table

from dispatcher.cli import screen
from dispatcher.console.auth import Role
from dispatcher.logs.setup import Formatter
from dispatcher.printable import printable, printable_json
from dispatcher.spreadsheet import safe_cell
from tests.console.conftest import Seat
from tests.support.doubles import Line
from tests.support.rows import Rows

# OSC 52 writes the clipboard, CSI moves and colours, C1 does the same in one byte; marks reorder or hide what is read.
ATTACKS = {
    "osc52": "\x1b]52;c;ZXZpbA==\x07",
    "csi": "\x1b[2J\x1b[31m",
    "c1-csi": "\x9b2J",
    "c1-osc": "\x9d52;c;ZXZpbA==\x9c",
    "overwrite": "good\rbad",
    "backspace": "good\x08\x08",
    "delete": "a\x7fb",
    "bidi": "\u202egnp.exe",
    "isolate": "\u2066x\u2069",
    "zero-width": "a\u200bb\ufeffc\u2060d",
    "separator": "a\u2028b\u2029c",
    "tag": "a\U000e0041b",
    "soft-hyphen": "a\u00adb",
    "interlinear": "a\ufff9b",
}
OBEYED = {one for attack in ATTACKS.values() for one in attack if not one.isprintable()}
LETTERS = "Zoë Łukasz 王小明 علي می\u200cخواهم 👩\u200d👩\u200d👧 a\u00a0b\u202fc\u3000d"


def obeyed(text: str) -> set[str]:
    return OBEYED & set(text)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_one_rule_writes_it_out(attack: str) -> None:
    assert not obeyed(printable(attack))
    assert not obeyed(safe_cell(attack))
    document = json.dumps({attack: [attack]}, ensure_ascii=False)
    assert not obeyed(printable_json(document))
    assert json.loads(printable_json(document)) == {attack: [attack]}


def test_letters_of_every_script_stay() -> None:
    assert printable(LETTERS) == LETTERS
    assert printable_json(f'"{LETTERS}"') == f'"{LETTERS}"'
    assert printable("a\nb\tc", keep="\n\t") == "a\nb\tc"
    assert printable("\n\r\t\x1b\x9b\u202e\U000e0041") == "\\n\\r\\t\\x1b\\u009b\\u202e\\U000e0041"


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_whatever_prints_it_on_a_terminal(attack: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen.say(attack, (attack, "bold"))
    screen.warn(attack)
    screen.indented(attack)
    screen.emit({"name": attack, attack: [attack]})
    table = Table(title=attack)
    table.add_column(attack)
    table.add_row(attack)
    screen.put(table)
    screen.console().print(attack, markup=False)
    printed = capsys.readouterr()
    assert not obeyed(printed.out + printed.err)


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_log_line_obeys_it(attack: str, as_json: bool) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Formatter(json=as_json))
    record = logging.makeLogRecord({"name": "x", "msg": f"event {attack}", "levelno": 30, "levelname": "WARNING"})
    record.said = attack
    handler.emit(record)
    assert not obeyed(stream.getvalue())


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Line:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Line()


EVERYTHING = "".join(attack.replace("\r", "").replace("\x08", "") for attack in ATTACKS.values())


def hostile(rows: Rows) -> str:
    """A failed lead, an import, an operation, a gate and an incident whose every foreign text is an attack."""
    lead = rows.failed(
        phone="+447700900001", message=f"Voicery said {EVERYTHING}.", idempotency_key=f"key{EVERYTHING}",
        variables=json.dumps({f"name{EVERYTHING}": EVERYTHING}),
    )  # fmt: skip
    rows.run("UPDATE dispatcher.failed_leads SET response = :text, note = :text", text=EVERYTHING)
    rows.run("UPDATE dispatcher.leads SET last_error = :text, voicery_status = :text", text=EVERYTHING[:60])
    rows.run(
        "INSERT INTO dispatcher.gates (account, campaign_id, state, reason, note, closed_at)"
        " VALUES ('default', 42, 'closed', 'paused', :text, now())", text=EVERYTHING,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence) VALUES ('possible_match', :lead, :text,"
        " jsonb_build_object(CAST(:text AS text), CAST(:text AS text)))", lead=lead, text=EVERYTHING,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor, rejected)"
        " VALUES (gen_random_uuid(), :text, 'default', 'ada', 1)", text=EVERYTHING[:100],
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)"
        " SELECT id, 2, :text, :text, :text FROM dispatcher.imports", text=EVERYTHING,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.operations (id, kind, actor, total, options) VALUES (gen_random_uuid(), 'look_up',"
        " 'ada', 1, jsonb_build_object('note', CAST(:text AS text)))", text=EVERYTHING,
    )  # fmt: skip
    rows.run(
        "INSERT INTO dispatcher.audit_log (actor, action, subject, detail) VALUES (:text, 'replay', :lead,"
        " jsonb_build_object('note', CAST(:text AS text)))", lead=str(lead), text=EVERYTHING[:60],
    )  # fmt: skip
    return str(lead)


def test_no_command_prints_it(run: Line, rows: Rows) -> None:
    lead = hostile(rows)
    number = str(rows.one("SELECT id FROM dispatcher.imports").id)
    lists = [
        ("failed",), ("list",), ("campaigns",), ("incidents",), ("audit",), ("imports",), ("imports", number),
        ("operations",), ("failed", "--group"),
    ]  # fmt: skip
    for command in lists:
        for flags in ((), ("--json",), ("--csv",), ("--reveal",), ("--csv", "--reveal"), ("--json", "--reveal")):
            printed = run(*command, *flags).output
            assert not obeyed(printed), (command, flags)
    for command in (("show", lead), ("show", lead, "--reveal"), ("explain", lead), ("status",)):
        for flags in ((), ("--json",)):
            assert not obeyed(run(*command, *flags).output), (command, flags)
    assert "52;c" in run.ok("failed", "--csv", "--reveal"), "the test sees no attack at all"


def test_no_page_shows_it(seat: Seat, rows: Rows) -> None:
    lead = hostile(rows)
    number = rows.one("SELECT id FROM dispatcher.imports").id
    operation = rows.one("SELECT id FROM dispatcher.operations").id
    browser = seat.browser(Role.ADMIN)
    assert browser.session is not None
    for revealed in (False, True):
        if revealed:
            seat.console.sessions.reveal(browser.session)
        for path in (
            "/", "/failed", "/failed/rows", f"/leads/{lead}", f"/leads/{lead}/correct", "/campaigns", "/imports",
            f"/imports/{number}", "/operations", f"/operations/{operation}", "/incidents", "/audit",
            "/search?q=%1b%5d52%e2%80%ae", "/failed/rows?text=%c2%9b%e2%80%ae",
        ):  # fmt: skip
            answer = browser.get(path)
            assert answer.status_code == 200, path
            assert not obeyed(answer.text), path
        for kind in ("csv", "json"):
            answer = browser.post("/failed/export", {"format": kind, "filters": ""})
            assert answer.status_code == 200
            assert not obeyed(answer.text.replace("\r\n", "")), kind
        answer = browser.post(f"/imports/{number}/export")
        assert not obeyed(answer.text.replace("\r\n", ""))


def test_a_revealed_correction_gives_back_the_variables_as_they_are(seat: Seat, rows: Rows) -> None:
    hostile_name = {"customer_name": "Ada\u202e\x9b"}
    lead = rows.failed(phone="+447700900001", variables=json.dumps(hostile_name))
    browser = seat.browser(Role.OPERATOR)
    assert browser.session is not None
    seat.console.sessions.reveal(browser.session)
    page = browser.get(f"/leads/{lead}/correct").text
    shown = page.split('name="variables"')[1].split(">", 1)[1].split("</textarea>")[0]
    assert json.loads(shown.replace("&#34;", '"')) == hostile_name
