"""Render pages from templates: values are escaped, and an undefined name is an error."""

import uuid
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from dispatcher.console.auth import Role
from dispatcher.console.request import PageRequest, address
from dispatcher.console.words import WORDS
from dispatcher.printable import printable

NAVIGATION: Final = (
    # path, name, key: `g` and this key open the page
    ("/", "Overview", "o"),
    ("/leads", "Leads", "l"),
    ("/failed", "Failed leads", "f"),
    ("/campaigns", "Campaigns", "c"),
    ("/blocked", "Must not be called", "b"),
    ("/imports", "Imports", "i"),
    ("/inbox", "Inbox", "s"),
    ("/operations", "Operations", "p"),
    ("/incidents", "Incidents", "n"),
    ("/workers", "Workers", "w"),
    ("/audit", "Audit", "a"),
)


class Renderer:
    """The templates of this package."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("dispatcher.console"),
            autoescape=True,
            finalize=_visible,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(WORDS)
        self._environment.globals.update(
            address=address, navigation=NAVIGATION, Role=Role, version=_version(), new_id=lambda: str(uuid.uuid4())
        )

    def page(self, request: PageRequest, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401
        """Return a page with the navigation, for a logged-in user."""
        notices, request.session.notices = request.session.notices, []
        html = self._environment.get_template(template).render(
            request=request,
            path=request.http.url.path,
            here=request.http.url.path + (f"?{request.http.url.query}" if request.http.url.query else ""),
            now=datetime.now(UTC),
            shown=request.shows_numbers,
            csrf=request.session.csrf,
            notices=notices,
            theme=request.session.theme,
            place=request.services.reading.place,
            **values,
        )
        return HTMLResponse(html, status_code=status)

    def bare(self, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401  (as above)
        """Return a page without the navigation, for a client that is not logged in."""
        html = self._environment.get_template(template).render(theme="auto", **values)
        return HTMLResponse(html, status_code=status)


def _visible(value: object) -> object:
    """Write out what a browser would obey in any text that a template shows; markup is made of such texts."""
    return printable(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def _version() -> str:
    """Return a version that changes with any static file, so that browsers may cache them for long."""
    static = files("dispatcher.console") / "static"
    return sha256(b"".join((static / name).read_bytes() for name in ("console.css", "console.js"))).hexdigest()[:12]
