"""The pages of incidents, workers, operations, imports, the inbox and the audit log."""

from typing import Final
from uuid import UUID

from starlette.responses import Response

from dispatcher.console import export
from dispatcher.console.auth import REVEAL_SECONDS
from dispatcher.console.export_limit import MOST_ROWS, take
from dispatcher.console.request import NO_PAGE, BadRequest, PageRequest, whole
from dispatcher.errors import NotAllowed
from dispatcher.importing import imports as stored_imports
from dispatcher.importing.imports import ImportRecord
from dispatcher.operator import audit_log, overview
from dispatcher.operator import incidents as stored_incidents
from dispatcher.operator.operation_work import OperationKind
from dispatcher.store import audit as written


def show_all(request: PageRequest) -> Response:
    """Return the operations, the newest first."""
    return request.page("operations.html", operations=request.services.operations.latest())


def show(request: PageRequest) -> Response:
    """Return one operation with its progress and the leads that were refused."""
    operations = request.services.operations
    operation = operations.get(request.id())
    results, looked_up = operations.results(operation.id) if operation.kind is OperationKind.LOOK_UP else ({}, [])
    return request.page(
        "operation.html",
        operation=operation,
        refusals=operations.refusals(operation.id),
        results=results,
        looked_up=looked_up,
    )


def stop(request: PageRequest) -> Response:
    """Stop an operation."""
    stopped = request.services.operations.stop(request.id(), actor=request.actor)
    request.say(
        "Stopped; what was done stays done." if stopped else "It was over already.", "good" if stopped else "note"
    )
    return request.go(f"/operations/{request.id()}")


PAGE_ROWS: Final = 100
MOST_READ: Final = 50_000
"""The entries of the audit log that are read for one page of a user who sees some of them."""
SHOWN_REJECTIONS: Final = 200


def incidents(request: PageRequest) -> Response:
    """Return the incidents."""
    return request.page("incidents.html", incidents=request.reading.read(stored_incidents.latest))


def seen(request: PageRequest) -> Response:
    """Mark incidents as seen."""
    ids = [whole(text, "That is not the number of an incident.") for text in request.form.all("incident")]
    count = request.services.database.again(stored_incidents.mark_seen, ids, actor=request.actor)
    request.say(f"Marked as seen: {count}." if count else "Nothing was selected.", "good" if count else "note")
    return request.go("/incidents")


def inbox(request: PageRequest) -> Response:
    """Return what was submitted by SQL and waits, or was rejected."""
    found = request.services.inbox.latest()
    return request.page("inbox.html", rows=[(one, one.as_dict(reveal=request.shows_numbers)) for one in found])


def act_on_inbox(request: PageRequest) -> Response:
    """Have rejected rows validated again, or discard them."""
    try:
        ids = [UUID(text) for text in request.form.all("row")]
    except ValueError:
        raise BadRequest("That is not the id of a row.") from None
    kept = request.services.inbox
    match request.form.get("action"):
        case _ if not ids:
            request.say("Nothing was selected.", "note")
        case "retry":
            request.say(f"Will be validated again: {kept.retry(ids, actor=request.actor)}.", "good")
        case "discard":
            request.say(f"Discarded: {kept.discard(ids, actor=request.actor)}.", "good")
        case _:
            raise BadRequest("That can be neither retried nor discarded.")
    return request.go("/inbox")


def workers(request: PageRequest) -> Response:
    """Return the workers, and when each was last seen."""
    return request.page("workers.html", overview=request.reading.read(overview.workers))


def imports(request: PageRequest) -> Response:
    """Return the imports and their results."""
    return request.page("imports.html", imports=request.reading.read(stored_imports.latest))


def one_import(request: PageRequest) -> Response:
    """Return one import with its rejected rows."""
    record = _import(request)
    rows = request.reading.read(stored_imports.rejections, record.id, most=SHOWN_REJECTIONS)
    return request.page("import.html", record=record, rows=rows)


def export_rejected(request: PageRequest) -> Response:
    """Return the rejected rows as a download; their contents only while numbers are revealed."""
    record = _import(request)
    rows = request.services.database.again(
        take,
        request.actor,
        f"import:{record.id}",
        lambda connection, most: request.reading.beside(connection, stored_imports.rejections, record.id, most=most),
        {"whole_rows": request.shows_numbers},
    )
    if rows is None:
        raise NotAllowed(f"More than {MOST_ROWS} rows were refused; `dispatcher imports {record.id} --csv` has all.")
    return export.rejected(rows, reveal=request.shows_numbers)


def _import(request: PageRequest) -> ImportRecord:
    number = whole(str(request.http.path_params["number"]), "That is not the number of an import.")
    found = request.services.database.read(stored_imports.latest, import_id=number)
    if not found:
        raise NotAllowed("There is no such import; the page Imports lists them.")
    return found[0]


def audit(request: PageRequest) -> Response:
    """Return the audit log, the newest entry first."""
    given = {name: request.query.get(name, "").strip()[:200] for name in ("subject", "actor", "action")}
    if any("\0" in text for text in given.values()):
        raise BadRequest("That filter cannot be understood.")
    given_before = request.query.get("before", "")
    before = whole(given_before, NO_PAGE) if given_before else None
    reading = request.reading
    least = 0
    if request.person.accounts is not None and not given["subject"]:
        # What is of other accounts is read and left out: a page ends after so many.
        least = max(0, (before or reading.read(audit_log.newest) + 1) - MOST_READ)
    lines = reading.read(
        audit_log.entries,
        before=before,
        most=PAGE_ROWS + 1,
        least=least,
        subject=given["subject"] or None,
        actor=given["actor"] or None,
        action=given["action"] or None,
    )
    following = lines[PAGE_ROWS - 1].id if len(lines) > PAGE_ROWS else least or None
    return request.page("audit.html", lines=lines[:PAGE_ROWS], given=given, following=following)


def reveal(request: PageRequest) -> Response:
    """Show numbers and variables for a limited time. Audited."""
    request.services.database.again(
        written.note, request.actor, "reveal", "numbers", {"seconds": REVEAL_SECONDS, "page": _page(request)}
    )
    request.sessions.reveal(request.session)
    return request.go(request.form.get("return", "/"))


def mask(request: PageRequest) -> Response:
    """Mask numbers and variables again."""
    request.sessions.mask(request.session)
    return request.go(request.form.get("return", "/"))


def theme(request: PageRequest) -> Response:
    """Set the theme: light, dark, or that of the system."""
    wanted = request.form.get("theme")
    if wanted in {"auto", "light", "dark"}:
        request.session.theme = wanted
    return request.go(request.form.get("return", "/"))


def _page(request: PageRequest) -> str:
    """Return the path of the page before, without its query, which may contain a phone number."""
    return request.form.get("return", "/").split("?")[0][:200]
