"""Uploading a file of leads in the console: planned, mapped, imported, and kept no longer than needed."""

import csv
import io
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest

from dispatcher.console.auth import Role
from dispatcher.console.guard import BODY_MOST
from dispatcher.console.pages.upload import show
from dispatcher.console.uploads import Stage, Upload, Uploads, Wanted
from dispatcher.importing.importer import Importer, ImportOptions
from tests.console.conftest import BASE, Browser, Seat, hidden
from tests.support.rows import ADA, BOB, Rows
from tests.support.waiting import wait_until
from tests.support.workbooks import excel

LEADS = [("Telefon", "Kampagne", "name"), (ADA, 42, "Ada"), (BOB, 42, "Bob"), ("12", 42, "short")]


def upload(
    browser: Browser,
    content: bytes,
    name: str = "leads.xlsx",
    *,
    token: str | None = None,
    origin: str = BASE,
    **fields: str,
) -> Any:
    """Send the form as a browser does, and return the answer."""
    csrf = token if token is not None else (browser.session.csrf if browser.session else "")
    return browser.client.post(
        "/imports/upload", data={"csrf": csrf, **fields}, files={"file": (name, content)}, headers={"origin": origin}
    )


def planned(browser: Browser, path: str) -> str:
    """The page of an upload once it is not busy."""

    def text() -> str:
        page = browser.get(path)
        return page.text if page.status_code == 200 and "data-busy" not in page.text else ""

    return wait_until(text, 30, "the file to be read")


def test_a_workbook_is_planned_mapped_and_imported(operator: Browser, seat: Seat, rows: Rows) -> None:
    sent = upload(operator, excel(LEADS))
    path = sent.headers["location"]
    page = planned(operator, path)

    assert "sheet “Leads” of an Excel workbook" in page
    assert page.count("a guess") == 2
    assert ADA[-6:] not in page
    assert "Ada" not in page
    assert "Import 2 leads" in page
    assert rows.one("SELECT count(*) AS n FROM dispatcher.leads").n == 0

    stale = hidden(page, "version")
    operator.post(f"{path}/plan", {"column-0": "phone_number", "column-1": "", "column-2": "", "campaign_id": "7"})
    page = planned(operator, path)
    assert "a guess" not in page
    assert operator.post(f"{path}/import", {"version": stale}).status_code == 409
    operator.post(f"{path}/import", {"version": hidden(page, "version")})
    page = planned(operator, path)

    assert "The import is done." in page
    leads = {row.phone_number: row for row in rows.rows("SELECT * FROM dispatcher.leads")}
    assert leads[ADA].variables == {"Kampagne": "42", "name": "Ada"}
    assert leads[BOB].campaign_id == 7
    number = re.search(r'href="/imports/(\d+)"', page)
    assert number
    assert "phone_number" in operator.post(f"/imports/{number[1]}/export").text
    audited = [row.action for row in rows.rows("SELECT action FROM dispatcher.audit_log ORDER BY id")]
    assert audited[:2] == ["upload", "import"]
    assert rows.one("SELECT actor FROM dispatcher.imports").actor == "olga@console"
    [kept] = seat.console.uploads.of("olga")
    assert kept.file.closed  # nothing of a file that is done is kept


def test_a_file_that_cannot_be_used_says_why_and_what_is_missing_can_be_said(operator: Browser, rows: Rows) -> None:
    path = upload(operator, excel(LEADS, [("x",)], names=["Leads", "Notes"])).headers["location"]
    page = planned(operator, path)
    assert "has several sheets" in page
    assert "<option >Notes</option>" in page
    operator.post(f"{path}/plan", {"sheet": "Leads"})
    assert "Import 2 leads" in planned(operator, path)
    assert operator.post(f"{path}/plan", {"column-0": "nonsense"}).status_code == 400
    assert operator.post(f"{path}/plan", {"country": "XX"}).status_code == 400
    assert operator.post(f"{path}/plan", {"encoding": "klingon"}).status_code == 400
    discarded = operator.post(f"{path}/discard")
    assert discarded.headers["location"] == "/imports"
    assert operator.get(path).status_code == 409
    other = planned(operator, upload(operator, b"\xd0\xcf\x11\xe0", "leads.xls").headers["location"])
    assert "old Excel workbook" in other
    assert rows.one("SELECT count(*) AS n FROM dispatcher.imports").n == 0


def exported(browser: Browser) -> list[dict[str, str]]:
    """The failed leads as the console writes them to be edited."""
    browser.post("/reveal")
    sent = browser.post("/failed/export", {"format": "edit", "filters": ""})
    assert sent.status_code == 200, sent.text
    assert sent.text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(sent.text.removeprefix("\ufeff"))))


def edited(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8-sig")


@pytest.mark.parametrize("as_workbook", [False, True])
def test_an_edited_export_corrects_its_leads_and_makes_no_new_ones(
    operator: Browser, rows: Rows, *, as_workbook: bool
) -> None:
    for number in range(4):
        rows.failed(phone=f"+1202555010{number}", variables='{"name": "Ada"}')
    accepted = rows.failed(phone="+12025550109", variables='{"name": "Bob"}')
    table = exported(operator)
    table[0]["name"] = "Ada Lovelace"
    table[1]["phone_number"] = "+12025550177"
    table[2]["phone_number"] = "12"
    table[4]["name"] = "Bo"
    rows.run("UPDATE dispatcher.failed_leads SET resolved_at = now(), resolution = 'dismissed' WHERE lead_id = :id",
             id=accepted)  # fmt: skip
    content = excel([tuple(table[0]), *(tuple(row.values()) for row in table)]) if as_workbook else edited(table)

    path = upload(operator, content, "edited").headers["location"]
    page = planned(operator, path)
    assert re.findall(r"<b>(\d+)</b>", page) == ["2", "1", "2"]
    assert "Correct 2 leads" in page
    assert [row.state for row in rows.rows("SELECT state FROM dispatcher.leads")] == ["failed"] * 5, "only planned"
    refused = list(csv.DictReader(io.StringIO(operator.post(f"{path}/refused").text)))
    assert [one["line"] for one in refused] == ["4", "6"]
    assert "phone_number" in refused[0]["reason"]
    operator.post(f"{path}/import", {"version": hidden(page, "version")})
    page = planned(operator, path)
    assert "The corrections are done." in page
    assert re.findall(r"<b>(\d+)</b>", page) == ["2", "1", "2"]
    leads = {row.phone_number: row for row in rows.rows("SELECT * FROM dispatcher.leads")}
    assert len(leads) == 5
    assert (leads["+12025550100"].state, leads["+12025550100"].variables) == ("pending", {"name": "Ada Lovelace"})
    assert (leads["+12025550177"].state, leads["+12025550102"].state) == ("pending", "failed")

    page = planned(operator, upload(operator, content, "edited").headers["location"])
    assert re.findall(r"<b>(\d+)</b>", page) == ["0", "3", "2"], "the same file again does nothing"
    assert hidden(page, "csrf")
    assert 'name="version"' not in page
    details = [line for line in rows.audited() if line[1] in {"import", "correct"}]
    assert [(line[0], line[1]) for line in details[:3]] == [
        ("olga@console", "import"), *[("olga@console", "correct")] * 2
    ]  # fmt: skip
    assert details[0][3] == {"edited": True, "rows": 5}


def test_an_edited_export_reaches_no_lead_of_another_account(seat: Seat, operator: Browser, rows: Rows) -> None:
    mine = rows.failed(phone=ADA, account="north")
    theirs = rows.failed(phone=BOB, account="south")
    table = exported(operator)
    for row in table:
        row["name"] = "changed"
    confined = seat.browser(Role.OPERATOR, accounts=("north",))
    assert [row["account"] for row in exported(confined)] == ["north"]

    path = upload(confined, edited(table), "edited.csv").headers["location"]
    page = planned(confined, path)
    assert "Correct 1 lead" in page
    assert "This database has no such lead" in page
    confined.post(f"{path}/import", {"version": hidden(page, "version")})
    assert "The corrections are done." in planned(confined, path)
    assert (rows.of(mine).state, rows.of(theirs).state) == ("pending", "failed")


def test_an_export_to_edit_shows_whole_numbers_and_open_failures_alone(operator: Browser, rows: Rows) -> None:
    rows.failed(phone=ADA)
    assert "CSV to edit" not in operator.get("/failed/rows").text
    assert operator.post("/failed/export", {"format": "edit", "filters": ""}).status_code == 409
    operator.post("/reveal")
    assert "CSV to edit" in operator.get("/failed/rows").text
    resolved = {"format": "edit", "filters": "resolved=yes"}
    assert operator.post("/failed/export", resolved).status_code == 409


def test_an_export_that_lost_a_mark_says_so(operator: Browser) -> None:
    content = b"dispatcher_lead,phone_number,campaign_id\nx,+12025550101,42\n"
    page = planned(operator, upload(operator, content, "failed.csv").headers["location"])
    assert "without its column dispatcher_version" in page


def test_only_an_operator_uploads_and_only_from_the_console(seat: Seat, operator: Browser, viewer: Browser) -> None:
    content = excel(LEADS)
    assert upload(viewer, content).status_code == 403
    assert viewer.get("/imports/upload").status_code == 403
    assert upload(operator, content, token="wrong").status_code == 403
    assert upload(operator, content, origin="https://evil.example").status_code == 403
    assert upload(seat.browser(), content).status_code == 401
    assert not seat.console.uploads.of("olga")
    path = upload(operator, content).headers["location"]
    planned(operator, path)
    assert seat.browser(Role.ADMIN).get(path).status_code == 409  # another user's


def test_a_user_of_some_accounts_imports_into_these_alone(seat: Seat, rows: Rows) -> None:
    browser = seat.browser(Role.OPERATOR, accounts=("north",))
    path = upload(browser, excel(LEADS)).headers["location"]
    page = planned(browser, path)
    assert upload(browser, excel(LEADS), account="default").status_code == 409
    assert browser.post(f"{path}/plan", {"account": "south"}).status_code == 409
    browser.post(f"{path}/import", {"version": hidden(page, "version")})
    assert "The import is done." in planned(browser, path)
    assert {row.account for row in rows.rows("SELECT account FROM dispatcher.leads")} == {"north"}


def test_who_lost_the_account_of_a_file_cannot_look_at_it_change_it_or_import_it(seat: Seat, rows: Rows) -> None:
    before = seat.browser(Role.OPERATOR, accounts=("north",))
    path = upload(before, excel(LEADS)).headers["location"]
    version = hidden(planned(before, path), "version")
    now = seat.browser(Role.OPERATOR, accounts=("south",))  # the same user

    answers = [now.get(path)]
    answers += [now.post(f"{path}/{act}", {"version": version}) for act in ("plan", "import", "discard")]

    assert not any(answer.is_success or answer.is_redirect for answer in answers)
    assert all("north" not in answer.text and "Ada" not in answer.text for answer in answers)
    assert len(seat.console.uploads.of("olga")) == 1
    assert rows.rows("SELECT FROM dispatcher.leads") == []


def test_a_file_that_is_discarded_while_it_is_read_is_closed_by_its_thread(
    seat: Seat, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, discarded = threading.Event(), threading.Event()

    def slowly(self: Uploads, upload: Upload) -> None:
        reading.set()
        discarded.wait(20)
        assert not upload.file.closed, "a thread reads it"

    monkeypatch.setattr(Uploads, "_plan", slowly)
    path = upload(operator, excel(LEADS)).headers["location"]
    reading.wait(20)
    [kept] = seat.console.uploads.of("olga")
    assert operator.post(f"{path}/discard", {}).is_redirect
    discarded.set()
    wait_until(lambda: kept.file.closed, 20, "the file to be closed")
    assert seat.console.uploads.of("olga") == []


def test_a_file_is_bounded(seat: Seat, operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.console.receiving.body_most", lambda _: 20_000)
    answer = upload(operator, b"x" * 100_000, "leads.csv")
    assert answer.status_code == 400
    monkeypatch.undo()
    assert operator.post("/theme", {"x": "y" * BODY_MOST}).status_code == 413
    most = seat.console.services.settings.console_upload_mb * 1_000_000
    headers = {"content-length": str(most + 1_000_000), "content-type": "multipart/form-data; boundary=x"}
    assert operator.client.post("/imports/upload", headers=headers, content=b"").status_code == 413
    assert upload(operator, b"", "leads.csv").status_code == 400
    assert operator.post("/imports/upload", {"file": "text"}).status_code == 400
    for _ in range(3):
        upload(operator, excel(LEADS))
    assert upload(operator, excel(LEADS)).status_code == 409


def test_a_file_is_forgotten_after_its_time(seat: Seat, operator: Browser) -> None:
    uploads = Uploads(seat.console.services, keep_seconds=0.05)
    object.__setattr__(seat.console, "uploads", uploads)
    path = upload(operator, excel(LEADS)).headers["location"]
    wait_until(lambda: not uploads.of("olga"), 20, "the file to be forgotten")
    assert operator.get(path).status_code == 409


def test_an_import_that_the_console_did_not_survive_goes_on_with_the_same_file(
    make_seat: Callable[..., Seat], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = excel([("phone", "campaign"), *((f"+1202555{n:04}", 42) for n in range(100, 200))])
    first = make_seat()
    browser = first.browser(Role.OPERATOR)
    path = upload(browser, content).headers["location"]
    page = planned(browser, path)
    begun = threading.Event()
    run = Importer.run

    def slowly(self: Importer, *given: Any, **more: Any) -> Any:
        stopping = more.pop("stopping")
        seen = iter(range(10**6))

        def asked() -> bool:
            begun.set()
            return next(seen) >= 50 and (time.sleep(0.01) or stopping())

        return run(self, *given, stopping=asked, **more)

    monkeypatch.setattr(Importer, "run", slowly)
    browser.post(f"{path}/import", {"version": hidden(page, "version")})
    begun.wait(20)
    assert browser.post(f"{path}/plan", {}).status_code == 409  # busy
    [kept] = first.console.uploads.of("olga")
    kept.stopping.set()
    assert "Stopped." in planned(browser, path)
    assert kept.stage is Stage.CUT_SHORT
    monkeypatch.undo()

    other = make_seat().browser(Role.OPERATOR)  # another process: it knows nothing of the file
    assert other.get(path).status_code == 409
    assert state_of(other) == ["running"], "it may be: nobody can tell yet"
    rows.run("UPDATE dispatcher.imports SET updated_at = now() - interval '3 minutes'")
    assert state_of(other) == ["cut short"]
    number = rows.one("SELECT id FROM dispatcher.imports").id
    assert "upload the same file again: it goes on where it was" in other.get(f"/imports/{number}").text
    again = upload(other, content).headers["location"]
    page = planned(other, again)
    other.post(f"{again}/import", {"version": hidden(page, "version")})
    assert "The import is done." in planned(other, again)
    assert rows.one("SELECT count(*) AS n FROM dispatcher.leads").n == 100
    assert state_of(other) == ["finished", "gone on with"]
    assert "a later import of the same file has gone on with it" in other.get(f"/imports/{number}").text


def state_of(browser: Browser) -> list[str]:
    """The states of the imports, the latest first."""
    states = re.findall(r'<span class="tag [a-z]+">([a-z ]+)</span>', browser.get("/imports").text)
    return [one for one in states if one != "busy"]


def test_a_bug_while_a_file_is_taken_in_is_told_on_a_page(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(ADA)

    monkeypatch.setattr(Uploads, "add", broken)
    sent = upload(operator, excel(LEADS))

    assert sent.status_code == 500
    assert "Something went wrong" in sent.text
    assert "<nav" in sent.text
    assert ADA not in sent.text


def test_a_forged_upload_is_refused_on_a_page(operator: Browser) -> None:
    for sent in (
        upload(operator, excel(LEADS), token="no"),
        upload(operator, excel(LEADS), origin="https://evil.test"),
    ):
        assert sent.status_code == 403
        assert "<nav" in sent.text


def test_a_page_is_made_of_one_moment_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends while a page is made: the page says that the file is read, or it shows the plan."""
    kept = Upload(uuid4(), "ada", "leads.csv", 3, Wanted(ImportOptions()), io.BytesIO())

    def ending(upload: Upload, **given: Any) -> Upload:
        upload.stage = Stage.PLANNED
        return replace(upload, **given)

    with monkeypatch.context() as patched:
        patched.setattr("dispatcher.console.uploads.replace", ending)
        assert kept.seen().stage is Stage.READING
    assert kept.stage is Stage.PLANNED
    assert kept.seen().stage is Stage.READING, "it is being planned anew: there is no plan to show"


def test_the_page_of_a_file_gets_a_copy() -> None:
    kept, request = Upload(uuid4(), "ada", "leads.csv", 3, Wanted(ImportOptions()), io.BytesIO()), Mock()
    request.uploads.get.return_value = kept
    request.http.path_params = {"id": str(kept.id)}
    request.person.accounts = None

    show(request)
    kept.stage, kept.fault = Stage.UNUSABLE, "a fault"

    given = request.page.call_args.kwargs["upload"]
    assert (given.id, given.stage, given.fault) == (kept.id, Stage.READING, "")
