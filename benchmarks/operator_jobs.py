"""Ten jobs of an operator in the console, each from the overview on: clicks, typed fields, and seconds of the machine.

    python -m benchmarks.operator_jobs [--leads 20000]

A headless Chromium (on PATH) does each job once on an embedded Postgres; a job ends when what was looked for is shown.
The seconds are those of pages and forms alone: a person's reading and moving is not in them. Exit 1 if a job fails.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

from playwright.sync_api import Page
from sqlalchemy import text

from benchmarks.browser import new_services, visit
from benchmarks.console_pages import seed
from dispatcher.decisions.absence import Decision, Step
from dispatcher.wiring import Services

SCENE = """
INSERT INTO dispatcher.leads (id, account, campaign_id, phone_number, variables, state, due_at, payload_hash)
SELECT CAST('fa54fd8e-644c-88e5-aff3-e2' || lpad(to_hex(n), 10, '0') AS uuid), 'default', 77,
    '+1202555' || lpad(CAST(n AS text), 4, '0'), '{}', 'pending', now(), 'h'
FROM generate_series(1, 500) AS n;
INSERT INTO dispatcher.gates (account, campaign_id, state, reason, by, note, closed_at)
VALUES ('default', 47, 'closed', 'paused', 'bob', 'wrong script', now());
UPDATE dispatcher.leads SET finished_at = now() WHERE state = 'accepted' AND campaign_id = 48;
INSERT INTO dispatcher.failed_leads (lead_id, account, campaign_id, phone_number, failure_class, http_status,
    fingerprint, message, attempts)
SELECT id, account, 99, phone_number, 'outcome_unknown', NULL, 'silence', 'No answer.', 1
FROM dispatcher.leads WHERE state = 'failed' AND failure_class = 'outcome_unknown' ORDER BY id LIMIT 3;
"""
SCENE_BEFORE = """
DELETE FROM dispatcher.failed_leads WHERE failure_class = 'outcome_unknown' AND resolved_at IS NULL
"""


@dataclass
class Hand:
    """Acts on the page as a person does, and counts."""

    page: Page
    base: str
    clicks: int = 0
    fields: int = 0

    def click(self, selector: str) -> None:
        """Click, which is counted."""
        self.page.locator(selector).first.click()
        self.clicks += 1

    def type(self, selector: str, words: str, *, enter: bool = False) -> None:
        """Fill a field, which is counted."""
        self.page.locator(selector).first.fill(words)
        self.fields += 1
        if enter:
            self.page.keyboard.press("Enter")

    def see(self, words: str) -> None:
        """Wait until these words are shown."""
        self.page.get_by_text(words).first.wait_for(timeout=15_000)

    def search(self, words: str) -> None:
        """Search from the field at the top."""
        self.type("#search", words, enter=True)


@dataclass(frozen=True)
class Scene:
    """What the jobs look for."""

    services: Services
    accepted: str
    number: str
    reference: str


def by_end_of_number(hand: Hand, scene: Scene) -> None:
    """Find a person's lead, accepted long ago, by the last seven digits of the number."""
    hand.search(scene.number)
    hand.see(scene.accepted)


def why_it_waits(hand: Hand, scene: Scene) -> None:
    """Say why a waiting lead has not been sent, by its reference."""
    hand.search(scene.reference)
    hand.page.locator(".lead-in").wait_for()


def let_a_campaign_go(hand: Hand, _: Scene) -> None:
    """See why a campaign stands, and let it go on."""
    hand.click(".notice a:has-text('Campaigns')")
    hand.see("wrong script")
    hand.click("button:has-text('Resume')")
    hand.see("Resumed.")


def replay_the_422s(hand: Hand, _: Scene) -> None:
    """Replay the 422s of one campaign after their cause is gone."""
    hand.click("nav >> text=Failed leads")
    hand.click("summary:has-text('Filters')")
    hand.type("input[name=campaign]", "40")
    hand.type("input[name=http_status]", "422")
    hand.click("button.main:has-text('Filter')")
    hand.click("button:has-text('Replay all')")
    if hand.page.locator("input[name=typed]").count():
        hand.type("input[name=typed]", hand.page.locator("input[name=total]").input_value())
    hand.click("button.main:has-text('Replay')")
    hand.page.locator("#progress").wait_for()


def cancel_500(hand: Hand, _: Scene) -> None:
    """Cancel the 500 pending leads of a campaign."""
    hand.click("nav >> text=Campaigns")
    hand.click('a.count[href*="campaign=77"]')
    hand.click("label:has-text('all pending that match')")
    hand.click("button:has-text('Cancel…')")
    hand.type("input[name=typed]", "500")
    hand.click("button.grave:has-text('Cancel 500')")
    hand.page.locator("#progress").wait_for()


def look_up_the_doubtful(hand: Hand, scene: Scene) -> None:
    """Look up all leads in doubt of one cause, and see what became of each."""
    hand.click("nav >> text=Failed leads")
    hand.click("tr:has-text('No answer.') >> button:has-text('Look up all')")
    hand.click("button.main:has-text('Look up')")
    found = SimpleNamespace(decision=Decision(Step.ACCEPT, "It was found."))
    while scene.services.operations.look_up("default", lambda _: [found]):
        pass
    hand.page.reload()
    hand.see("What was found out")


def accepted_today(hand: Hand, _: Scene) -> None:
    """List what was accepted today in one campaign."""
    hand.click("a.tile:has-text('Accepted today')")
    hand.type("input[name=campaign]", "48")
    hand.click("button.main:has-text('Filter')")
    hand.page.locator("tr[data-row]").first.wait_for()


def correct_a_number(hand: Hand, _: Scene) -> None:
    """Correct the wrong number of one failed lead, and send it again."""
    hand.click("nav >> text=Failed leads")
    hand.click("a[href*='cause=rejected']")
    hand.click("tr[data-row] a")
    hand.click("text=Correct or move, and replay")
    hand.type("input[name=phone_number]", "+12025550199")
    hand.click("button:has-text('Correct and replay')")
    hand.see("Corrected and replayed")


def by_end_of_id(hand: Hand, _: Scene) -> None:
    """Find the lead of a line of the log by the end of its id."""
    hand.search("…e20000000042")
    hand.see("fa54fd8e-644c-88e5-aff3-e20000000042")


def the_usual_filter(hand: Hand, _: Scene) -> None:
    """Come back to the filter of every morning: open 422s of a campaign since yesterday."""
    hand.click("nav >> text=Failed leads")
    hand.click(".saved a:has-text('every morning')")
    hand.page.locator("tr[data-row]").first.wait_for()


JOBS: tuple[Callable[[Hand, Scene], None], ...] = (
    by_end_of_number, why_it_waits, let_a_campaign_go, replay_the_422s, cancel_500, look_up_the_doubtful,
    accepted_today, correct_a_number, by_end_of_id, the_usual_filter,
)  # fmt: skip


def scene_of(services: Services, leads: int) -> Scene:
    """Seed, and pick what the jobs look for."""
    seed(services.database, leads, leads // 10)
    with services.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(SCENE_BEFORE)
        connection.exec_driver_sql(SCENE)
        connection.execute(
            text(
                "INSERT INTO dispatcher.saved_filters (who, page, name, query) VALUES ('bench', 'failed',"
                " 'every morning', 'campaign=40&http_status=422&since=yesterday')"
            )
        )
        connection.exec_driver_sql("UPDATE dispatcher.failed_leads SET failed_at = now() WHERE campaign_id = 40")
        row = connection.execute(
            text("SELECT id, phone_number FROM dispatcher.leads WHERE state = 'accepted' ORDER BY id LIMIT 1")
        ).one()
        waiting = connection.execute(
            text(
                "SELECT idempotency_key FROM dispatcher.leads"
                " WHERE state = 'pending' AND idempotency_key IS NOT NULL LIMIT 1"
            )
        ).scalar()
    return Scene(services, str(row.id), row.phone_number[-7:], str(waiting))


def main() -> None:
    """Serve, do the jobs, tell."""
    parser = argparse.ArgumentParser(description="Ten jobs of an operator in the console.")
    parser.add_argument("--leads", type=int, default=20_000)
    given = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with new_services() as services:
        scene = scene_of(services, given.leads)
        with visit(services) as console:
            page = console.page()
            failed = sum(not _done(job, page, console.base, scene) for job in JOBS)
    sys.exit(1 if failed else 0)


def _done(job: Callable[[Hand, Scene], None], page: Page, base: str, scene: Scene) -> bool:
    """Do a job and print what it cost; return whether it could be done."""
    page.goto(base)
    hand = Hand(page, base)
    begin = time.perf_counter()
    try:
        job(hand, scene)
    except Exception as error:  # noqa: BLE001 - the others are measured all the same
        print(f"FAILED {job.__name__}: {str(error).splitlines()[0]}")
        return False
    seconds = time.perf_counter() - begin
    print(f"{(job.__doc__ or '').strip():80} {hand.clicks:2} clicks {hand.fields} fields {seconds:5.1f} s", flush=True)
    return True


if __name__ == "__main__":
    main()
