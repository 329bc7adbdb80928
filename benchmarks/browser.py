"""A console over a database of one's own, served on a free port, and a headless Chromium that is logged in to it."""

import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.console.app import Console, build
from dispatcher.console.auth import Role, Sessions, User, Users
from dispatcher.console.guard import reached_at
from dispatcher.console.login import Login
from dispatcher.console.rendering import Renderer
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.store.migration import upgrade
from dispatcher.web.throttle import Throttle
from dispatcher.wiring import Services


@contextmanager
def new_services() -> Iterator[Services]:
    """Give the parts over an embedded Postgres without leads, which ends with the context."""
    directory = Path(tempfile.mkdtemp(prefix="console-"))
    directory.chmod(0o755)
    with EmbeddedPostgres(directory / "postgres", durable=False) as server:
        url = normal_database_url(server.url())
        upgrade(url)
        services = Services(Settings(database_url=url, rate_limit="off"))
        yield services
        services.close()
    shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Visit:
    """A served console, and a browser."""

    base: str
    browser: Browser
    cookie: tuple[str, str]

    def page(self, width: int = 1440, height: int = 900, *, scheme: Literal["light", "dark"] = "light") -> Page:
        """Return a window of this size for the logged-in administrator."""
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        name, value = self.cookie
        context.add_cookies([{"name": name, "value": value, "url": self.base}])
        page = context.new_page()
        page.set_default_timeout(15_000)
        return page


@contextmanager
def visit(services: Services, who: str = "bench") -> Iterator[Visit]:
    """Serve the console with `who` as its administrator. Chromium is taken from PATH."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no Chromium on PATH")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    sessions = Sessions(1800)
    origin = reached_at("127.0.0.1", port, users=False)
    console = Console(services, Login(Users(None, None), None, Throttle()), sessions, origin, Renderer())
    cookie, _ = sessions.begin(User(who, Role.ADMIN), by_key=True)
    served = uvicorn.Server(uvicorn.Config(build(console), log_level="error", lifespan="off"))
    thread = threading.Thread(target=served.run, args=([listener],), daemon=True)
    thread.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield Visit(f"http://127.0.0.1:{port}", browser, (console.cookie, cookie))
        browser.close()
    served.should_exit = True
    thread.join(30)
