"""An upload in a real browser: without JavaScript, by keyboard alone, at a phone's width, and for a screen reader."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dispatcher.console.auth import Role
from tests.console.test_browser import CHROMIUM, Site, chromium, site, watched  # noqa: F401 - fixtures
from tests.support.workbooks import excel

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER TESTS: no Chromium on PATH")

LEADS = excel(
    [
        ("Telefon", "Campaign", "customer_name"),
        *((f"+12025550{n}", 42, f"Customer {n}") for n in range(101, 161)),
        ("12", 42, "short"),
    ]
)


def faults_of(page: Page, name: str, width: int) -> list[str]:
    """What is wrong with a page for who cannot see it, or sees little of it at a time."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
    found = Axe().run(page).response["violations"]
    return [f"{name}: {one['id']}" for one in found if one["impact"] in {"serious", "critical"}]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (768, "dark"), (375, "dark")])
def test_an_upload_is_for_everybody(
    chromium: Browser,  # noqa: F811 - a fixture
    site: Site,  # noqa: F811 - a fixture
    tmp_path: Path,
    width: int,
    scheme: str,
) -> None:
    file = tmp_path / "leads.xlsx"
    file.write_bytes(LEADS)
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = site.enter(context, Role.OPERATOR)
    told = watched(page)
    page.goto(f"{site.base}/imports")
    page.get_by_role("link", name="Upload a file").press("Enter")
    expect(page.get_by_label("File", exact=True)).to_be_attached()  # until then there may be no document at all
    found = faults_of(page, "choose", width)
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_role("button", name="Upload and show the plan").press("Enter")
    expect(page.get_by_role("button", name="Import 60 leads")).to_be_visible()
    found += faults_of(page, "plan", width)
    page.get_by_label("Campaign of rows that name none").fill("7")
    page.get_by_label("Telefon").select_option("phone_number")
    page.get_by_role("button", name="Plan it so").press("Enter")
    expect(page.get_by_text("a guess")).to_have_count(0)
    page.get_by_role("button", name="Import 60 leads").press("Enter")
    expect(page.get_by_text("The import is done.")).to_be_visible()
    found += faults_of(page, "done", width)
    context.close()
    assert (found, told) == ([], [])


def test_an_upload_works_without_javascript(
    chromium: Browser,  # noqa: F811 - a fixture
    site: Site,  # noqa: F811 - a fixture
    tmp_path: Path,
) -> None:
    file = tmp_path / "leads.csv"
    file.write_text("phone,campaign\n+12025550101,42\n")
    context = chromium.new_context(java_script_enabled=False)
    page = site.enter(context, Role.OPERATOR)
    page.goto(f"{site.base}/imports/upload")
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_role("button", name="Upload and show the plan").click()
    look_again = page.get_by_role("link", name="Look again")

    start = page.get_by_role("button", name="Import 1 lead")
    look_again.or_(start).first.wait_for()
    while not start.count():
        look_again.click()
        look_again.or_(start).first.wait_for()
    start.click()
    while "The import is done." not in page.content():
        page.reload()
    expect(page.get_by_role("link", name="The record of this import")).to_be_visible()
    context.close()
    assert site.rows.one("SELECT count(*) AS n FROM dispatcher.leads WHERE phone_number = '+12025550101'").n == 1
