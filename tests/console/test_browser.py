"""The console in a real browser: every screen, without JavaScript, by keyboard alone, at a phone's width.

Debian's Chromium, driven by Playwright; where none is installed these tests are skipped, and say so.
"""

import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dispatcher.console.auth import Role
from dispatcher.console.guard import reached_at
from tests.console.conftest import PASSWORD, Seat
from tests.support.rows import Rows
from tests.support.waiting import wait_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

PATIENCE_MS = 30_000
"""How long to wait for what a page will show; a busy machine takes seconds for a form."""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO BROWSER TESTS: no Chromium on PATH; `apt-get install chromium` brings one"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Site:
    """A served console with something on every screen."""

    seat: Seat
    base: str
    rows: Rows
    lead: uuid.UUID
    doubtful: uuid.UUID
    number: int
    operation: uuid.UUID

    @property
    def screens(self) -> dict[str, str]:
        return {
            "overview": "/",
            "causes": "/failed",
            "rows": "/failed/rows",
            "filtered": "/failed/rows?campaign=42&text=phone",
            "empty": "/failed/rows?text=nothing+like+this",
            "lead": f"/leads/{self.lead}",
            "doubtful lead": f"/leads/{self.doubtful}",
            "correction": f"/leads/{self.lead}/correct",
            "campaigns": "/campaigns",
            "imports": "/imports",
            "import": f"/imports/{self.number}",
            "operations": "/operations",
            "operation": f"/operations/{self.operation}",
            "incidents": "/incidents",
            "workers": "/workers",
            "audit": "/audit",
            "search": "/search?q=nothing",
            "not found": f"/leads/{uuid.UUID(int=1)}",
        }

    def enter(self, context: BrowserContext, role: Role = Role.ADMIN) -> Page:
        """A page of somebody who is logged in, and a list of everything that went wrong in it."""
        browser = self.seat.browser(role)
        name = self.seat.console.cookie
        context.add_cookies([{"name": name, "value": browser.client.cookies[name], "url": self.base}])
        return context.new_page()


@pytest.fixture
def site(make_seat: Callable[..., Seat], rows: Rows) -> Iterator[Site]:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    seat: Seat = make_seat(origin=reached_at("127.0.0.1", port, users=True))
    attempt = uuid.uuid4()
    lead = rows.failed(phone="+447700900001", attempt_id=attempt, message="Voicery refused the phone number.")
    rows.attempt(lead, attempt, outcome="rejected", minutes_ago=5)
    for n in range(5):
        rows.failed(phone=f"+44770090010{n}", message="Voicery refused the phone number.")
    doubtful = rows.failed_unknown(
        phone="+447700900009",
        idempotency_key="order-16993",
        fingerprint="f2",
        message="No answer.",
        evidence={"why": "lost"},
    )
    rows.lead("pending", phone="+447700900020")
    rows.run("UPDATE dispatcher.leads SET created_at = created_at - interval '100 min'")  # as wide as a time is
    rows.run(
        "INSERT INTO dispatcher.incidents (kind, message, evidence) VALUES ('possible_match', 'Look.', '{\"a\": 1}')"
    )
    rows.run("INSERT INTO dispatcher.workers (name) VALUES ('host:1')")
    rows.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor, rejected)"
        " VALUES (gen_random_uuid(), 'november-callbacks.xlsx', 'default', 'ada@console', 1)"
    )
    rows.run(
        "INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)"
        " SELECT id, 2, 'phone_number', 'is empty', 'x' FROM dispatcher.imports"
    )
    rows.run(
        "INSERT INTO dispatcher.operations (id, kind, actor, total, done)"
        " VALUES (gen_random_uuid(), 'look_up', 'ada', 10, 4)"
    )
    rows.run("INSERT INTO dispatcher.audit_log (actor, action, subject) VALUES ('ada@console', 'replay', 'x')")
    server = uvicorn.Server(uvicorn.Config(seat.app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    wait_until(lambda: server.started, 20, "the console to listen")
    number = rows.one("SELECT id FROM dispatcher.imports").id
    operation = rows.one("SELECT id FROM dispatcher.operations").id
    yield Site(seat, f"http://127.0.0.1:{port}", rows, lead, doubtful, number, operation)
    server.should_exit = True
    thread.join(60)


def watched(page: Page) -> list[str]:
    """Everything that the page complains about: errors, and breaches of the policy."""
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    return faults


def on_screen(page: Page, heading: str) -> None:
    """Wait for the screen, and for its script: a key that is pressed before that is nobody's."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.locator("html[data-script]")).to_be_attached()


HIDDEN_TABLES = """
[...document.querySelectorAll(".scroll")].filter((one) => one.scrollWidth > one.clientWidth + 1)
    .map((one) => one.querySelector("th").textContent)
"""


WIDTHS_BETWEEN = (820, 901, 1000, 1141, 1201)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (820, "dark"), (390, "light"), (390, "dark")])
def test_every_screen_is_for_everybody(chromium: Browser, site: Site, width: int, scheme: str) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 850}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = site.enter(context)
    faults = watched(page)
    axe = Axe()
    serious: list[str] = []
    for name, path in site.screens.items():
        page.goto(site.base + path)
        if name != "not found":
            assert faults == [], name
        faults.clear()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
        for between in WIDTHS_BETWEEN if width == 1280 else ():
            page.set_viewport_size({"width": between, "height": 850})
            assert page.evaluate(HIDDEN_TABLES) == [], f"{name}: at {between} px what is at the right is out of sight"
        page.set_viewport_size({"width": width, "height": 850})
        assert width < 800 or page.evaluate(HIDDEN_TABLES) == [], f"{name}: what is at the right is out of sight"
        for violation in axe.run(page).response["violations"]:
            if violation["impact"] in {"serious", "critical"}:
                serious += [f"{name}: {violation['id']} at {node['html'][:120]}" for node in violation["nodes"]]
    context.close()
    assert serious == []


def test_everything_works_without_javascript(chromium: Browser, site: Site) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.base}/failed?campaign=42")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page, "the login leads to where one wanted to go").to_have_url(f"{site.base}/failed?campaign=42")
    page.get_by_role("button", name="Replay all").first.click()
    expect(page.get_by_role("heading", name="Replay 6 leads?")).to_be_visible()
    page.get_by_role("button", name="Replay 6 leads").click()
    expect(page.locator("#progress")).to_contain_text("6 left")
    while site.seat.console.services.operations.step():
        pass
    page.reload()
    expect(page.locator("#progress")).to_contain_text("6 done")
    page.goto(f"{site.base}/failed/rows")
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Look up…").click()
    expect(page.get_by_role("heading", name="Look up 1 lead?")).to_be_visible()
    page.goto(f"{site.base}/leads/{site.doubtful}")
    page.get_by_placeholder("How do you know?").fill("it is in the list")
    page.get_by_role("button", name="Voicery has it").click()
    expect(page.get_by_text("Resolved as accepted.")).to_be_visible()
    page.goto(f"{site.base}/campaigns")
    page.get_by_role("button", name="Pause", exact=True).first.click()
    expect(page.get_by_text("Paused. Nothing more is sent")).to_be_visible()
    page.get_by_role("button", name="Resume").first.click()
    expect(page.get_by_text("Resumed.")).to_be_visible()
    page.get_by_label("Limit of campaign 42").fill("30/minute")
    page.get_by_role("button", name="Set").first.click()
    expect(page.get_by_text("The limit of campaign 42 is set")).to_be_visible()
    expect(page.get_by_label("Limit of campaign 42")).to_have_value("30/minute")
    page.get_by_role("button", name="Reveal numbers").click()
    expect(page.get_by_role("button", name="Mask numbers")).to_be_visible()
    page.goto(f"{site.base}/leads/{site.lead}")
    expect(page.get_by_text("+447700900001").first).to_be_visible()
    page.get_by_role("button", name="Cancel it before it is sent").click()
    expect(page.get_by_text("nobody is called").first).to_be_visible()
    page.goto(f"{site.base}/incidents")
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Mark as seen").click()
    expect(page.get_by_text("Marked as seen: 1.")).to_be_visible()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    context.close()


def test_the_keyboard_alone_is_enough(chromium: Browser, site: Site) -> None:
    context = chromium.new_context()
    page = context.new_page()
    faults = watched(page)
    page.goto(site.base)
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    on_screen(page, "Overview")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.type("gf")
    on_screen(page, "Failed leads")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    on_screen(page, "one by one")
    page.keyboard.type("jxjx")
    expect(page.locator("[data-picked]").first).to_have_text("(2)")
    page.keyboard.press("r")
    on_screen(page, "Replay 2 leads?")
    page.get_by_role("button", name="Replay 2 leads").focus()
    page.keyboard.press("Enter")
    on_screen(page, "Replay of 2 leads")
    expect(page.locator("#progress")).to_contain_text("2 left")
    page.keyboard.press("/")
    expect(page.get_by_label("Find a lead")).to_be_focused()
    page.keyboard.type(str(site.lead))
    page.keyboard.press("Enter")
    expect(page.locator("#lead-id")).to_have_text(str(site.lead))
    assert faults == []
    context.close()


def test_live_refresh_shows_what_happens_and_can_be_paused(chromium: Browser, site: Site) -> None:
    context = chromium.new_context()
    page = site.enter(context)
    page.clock.install()
    page.goto(f"{site.base}/failed")
    page.get_by_role("button", name="Pause live refresh").click()
    site.rows.failed(phone="+447700900055", fingerprint="f9", message="A new cause.")
    with page.expect_request("**/*") as asked:
        page.clock.run_for(11_000)
        page.evaluate("fetch('/static/icon.svg')")
    assert asked.value.url.endswith("icon.svg"), "a paused page asks for nothing"
    expect(page.get_by_text("A new cause.")).to_have_count(0)
    page.get_by_role("button", name="Live refresh is paused").click()
    page.locator("h1").click()
    page.clock.run_for(6_000)
    expect(page.get_by_text("A new cause.")).to_be_visible()

    told = page.locator("#stale")
    context.set_offline(True)
    page.clock.run_for(6_000)
    expect(told).to_contain_text("The console does not answer")
    context.set_offline(False)
    page.clock.run_for(6_000)
    expect(told).to_have_count(0)
    context.clear_cookies()
    page.clock.run_for(6_000)
    expect(told).to_contain_text("Your session has ended")
    context.close()


def test_shift_selects_a_range_and_a_second_click_does_nothing(chromium: Browser, site: Site) -> None:
    context = chromium.new_context()
    page = site.enter(context)
    page.goto(f"{site.base}/failed/rows?campaign=42")
    boxes = page.locator('input[name="lead"]')
    boxes.nth(0).click()
    boxes.nth(3).click(modifiers=["Shift"])
    expect(page.locator("[data-picked]").first).to_have_text("(4)")
    page.get_by_label("Select all on this page").check()
    expect(page.locator("[data-picked]").first).to_have_text(f"({boxes.count()})")
    page.get_by_role("button", name="Dismiss…").click()
    page.get_by_label("Note").fill("a test")
    page.get_by_role("button", name="Dismiss 7 leads").dblclick()
    expect(page.locator("#progress")).to_be_visible()
    assert site.rows.one("SELECT count(*) AS n FROM dispatcher.operations WHERE kind = 'dismiss'").n == 1
    context.close()
