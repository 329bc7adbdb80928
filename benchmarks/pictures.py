"""Renew the pictures of the console in docs/images, in a headless Chromium, from leads that are made up.

    python -m benchmarks.pictures [--all DIRECTORY]

--all   instead every screen at 390, 820 and 1440 px, light and dark, to look at after a change of the style sheet
"""

import argparse
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Page
from sqlalchemy import text

from benchmarks.browser import Visit, new_services, visit
from dispatcher.store.database import Database

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
SCENE: Final = Path(__file__).with_suffix(".sql")
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


def stage(database: Database) -> None:
    """Store what the pictures show."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET session_replication_role = replica"))
        for statement in filter(str.strip, SCENE.read_text().split(";\n")):
            connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.exec_driver_sql("ANALYZE")


def screens(database: Database) -> dict[str, str]:
    """The addresses of every screen, by the names of their pictures."""
    with database.autocommit() as connection:
        lead, fingerprint = connection.execute(
            text("SELECT lead_id, fingerprint FROM dispatcher.failed_leads WHERE failure_class = 'rejected' LIMIT 1")
        ).one()
        doubtful = connection.execute(
            text("SELECT lead_id FROM dispatcher.failed_leads WHERE failure_class = 'outcome_unknown' LIMIT 1")
        ).scalar()
        number = connection.execute(text("SELECT min(id) FROM dispatcher.imports")).scalar()
        operation = connection.execute(text("SELECT id FROM dispatcher.operations WHERE state = 'running'")).scalar()
    return {
        "overview": "/",
        "causes": "/failed",
        "rows": f"/failed/rows?cause={fingerprint}",
        "nothing-found": "/failed/rows?text=nothing+like+this",
        "leads": "/leads?state=pending",
        "lead": f"/leads/{lead}",
        "lead-in-doubt": f"/leads/{doubtful}",
        "correction": f"/leads/{lead}/correct",
        "campaigns": "/campaigns",
        "blocked": "/blocked",
        "imports": "/imports",
        "import": f"/imports/{number}",
        "upload": "/imports/upload",
        "inbox": "/inbox",
        "operations": "/operations",
        "operation": f"/operations/{operation}",
        "incidents": "/incidents",
        "workers": "/workers",
        "audit": "/audit",
        "not-found": "/nothing",
        "bad-filter": "/failed?since=soon",
    }


def shoot(page: Page, name: str, *, whole: bool = False) -> None:
    """Save what the window shows."""
    page.screenshot(path=IMAGES / f"console-{name}.png", full_page=whole)


def of_the_docs(console: Visit, addresses: dict[str, str]) -> None:
    """Make the pictures that the pages show."""
    for name, height in (("overview", 800), ("causes", 640), ("leads", 800), ("lead", 900)):
        page = console.page(1280, height)
        page.goto(console.base + addresses[name])
        shoot(page, name)
        page.context.close()
    page = console.page(1280, 800, scheme="dark")
    page.goto(console.base)
    shoot(page, "overview-dark")
    page = console.page(390, 844)
    page.goto(console.base + addresses["causes"])
    shoot(page, "phone")
    page = console.page(1280, 900)
    page.goto(console.base + addresses["causes"])
    page.get_by_role("button", name="Replay all").first.click()
    shoot(page, "preview")


def every_screen(console: Visit, addresses: dict[str, str], directory: Path) -> None:
    """Make a picture of each screen, whole, at three widths, in both schemes."""
    directory.mkdir(parents=True, exist_ok=True)
    for scheme in SCHEMES:
        for width in (390, 820, 1440):
            page = console.page(width, 900, scheme=scheme)
            for name, address in addresses.items():
                page.goto(console.base + address)
                page.screenshot(path=directory / f"{name}-{width}-{scheme}.png", full_page=True)
            page.context.close()


def main() -> None:
    """Stage, serve, take the pictures."""
    parser = argparse.ArgumentParser(description="Renew the pictures of the console.")
    parser.add_argument("--all", type=Path, metavar="DIRECTORY", help="every screen, into this directory")
    given = parser.parse_args()
    with new_services() as services:
        stage(services.database)
        addresses = screens(services.database)
        with visit(services, "ada") as console:
            if given.all is None:
                of_the_docs(console, addresses)
            else:
                every_screen(console, addresses, given.all)


if __name__ == "__main__":
    main()
