"""What somebody sets for their own session."""

from starlette.responses import Response

from dispatcher.console.sessions import REVEAL_SECONDS
from dispatcher.console.visit import Visit


def reveal(visit: Visit) -> Response:
    """Show numbers and variables for a while. Audited."""
    visit.desk.ledgers.note(visit.actor, "reveal", "numbers", {"seconds": REVEAL_SECONDS, "page": _page(visit)})
    visit.sessions.reveal(visit.session)
    return visit.go(visit.form.get("return", "/"))


def mask(visit: Visit) -> Response:
    """Mask them again."""
    visit.sessions.mask(visit.session)
    return visit.go(visit.form.get("return", "/"))


def theme(visit: Visit) -> Response:
    """Light, dark, or as the system has it."""
    wanted = visit.form.get("theme")
    if wanted in {"auto", "light", "dark"}:
        visit.session.theme = wanted
    return visit.go(visit.form.get("return", "/"))


def _page(visit: Visit) -> str:
    """Where it was asked for, without the query: that may hold a number."""
    return visit.form.get("return", "/").split("?")[0][:200]
