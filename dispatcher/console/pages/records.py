"""What was written down: incidents, workers, imports, the audit log."""

from datetime import timedelta
from typing import Final

from starlette.responses import Response

from dispatcher.console import export
from dispatcher.console.auth import REVEAL_SECONDS
from dispatcher.console.visit import BadRequest, Visit
from dispatcher.errors import NotAllowed
from dispatcher.importing import imports as stored_imports
from dispatcher.importing.imports import ImportRecord
from dispatcher.operator import audit_log, overview
from dispatcher.operator import incidents as stored_incidents
from dispatcher.store import audit as written


def show_all(visit: Visit) -> Response:
    """The newest first."""
    return visit.page("operations.html", operations=visit.services.operations.latest())


def show(visit: Visit) -> Response:
    """One, with its progress and what was refused."""
    operation = visit.services.operations.get(visit.id())
    return visit.page("operation.html", operation=operation, refusals=visit.services.operations.refusals(operation.id))


def stop(visit: Visit) -> Response:
    """Do no more of it."""
    stopped = visit.services.operations.stop(visit.id(), actor=visit.actor)
    visit.say(
        "Stopped; what was done stays done." if stopped else "It was over already.", "good" if stopped else "note"
    )
    return visit.go(f"/operations/{visit.id()}")


PAGE_ROWS: Final = 100
SHOWN_REJECTIONS: Final = 200
_STALE: Final = timedelta(seconds=30)  # a worker's sweep says every 10 s that it lives


def incidents(visit: Visit) -> Response:
    """What must never happen and did."""
    return visit.page("incidents.html", incidents=visit.services.database.read(stored_incidents.latest))


def seen(visit: Visit) -> Response:
    """Somebody has seen them."""
    texts = visit.form.all("incident")
    if not all(text.isascii() and text.isdecimal() and int(text) < 2**63 for text in texts):
        raise BadRequest("That is no number of an incident.")
    count = visit.services.database.again(stored_incidents.mark_seen, list(map(int, texts)), actor=visit.actor)
    visit.say(f"Marked as seen: {count}." if count else "Nothing was selected.", "good" if count else "note")
    return visit.go("/incidents")


def workers(visit: Visit) -> Response:
    """Who works, and when they were last seen."""
    return visit.page("workers.html", overview=visit.services.database.read(overview.workers), stale=_STALE)


def imports(visit: Visit) -> Response:
    """Files that were imported, and how it ended."""
    return visit.page("imports.html", imports=visit.services.database.read(stored_imports.latest))


def one_import(visit: Visit) -> Response:
    """One file, with the rows that were refused."""
    record = _import(visit)
    rows = visit.services.database.read(stored_imports.rejections, record.id, most=SHOWN_REJECTIONS)
    return visit.page("import.html", record=record, rows=rows)


def export_rejected(visit: Visit) -> Response:
    """The refused rows as a file, for whoever corrects them; the rows themselves only while numbers are revealed."""
    record = _import(visit)
    rows = visit.services.database.read(stored_imports.rejections, record.id)
    detail: dict[str, object] = {"rows": len(rows), "whole_rows": visit.shows_numbers}
    visit.services.database.again(written.note, visit.actor, "export", f"import:{record.id}", detail)
    return export.rejected(rows, reveal=visit.shows_numbers)


def _import(visit: Visit) -> ImportRecord:
    text = str(visit.request.path_params["number"])
    known = text.isascii() and text.isdecimal() and int(text) < 2**63
    found = visit.services.database.read(stored_imports.latest, import_id=int(text)) if known else []
    if not found:
        raise NotAllowed("There is no such import.")
    return found[0]


def audit(visit: Visit) -> Response:
    """Who did what, the newest first."""
    given = {name: visit.query.get(name, "").strip()[:200] for name in ("subject", "actor", "action")}
    if any("\0" in text for text in given.values()):
        raise BadRequest("That filter cannot be understood.")
    before = visit.query.get("before", "")
    if before and not (before.isascii() and before.isdecimal() and int(before) < 2**63):
        raise BadRequest("That page does not exist; begin with the first.")
    lines = visit.services.database.read(
        audit_log.entries,
        before=int(before) if before else None,
        most=PAGE_ROWS + 1,
        subject=given["subject"] or None,
        actor=given["actor"] or None,
        action=given["action"] or None,
    )
    following = lines[PAGE_ROWS - 1].id if len(lines) > PAGE_ROWS else None
    return visit.page("audit.html", lines=lines[:PAGE_ROWS], given=given, following=following)


def reveal(visit: Visit) -> Response:
    """Show numbers and variables for a while. Audited."""
    visit.services.database.again(
        written.note, visit.actor, "reveal", "numbers", {"seconds": REVEAL_SECONDS, "page": _page(visit)}
    )
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
