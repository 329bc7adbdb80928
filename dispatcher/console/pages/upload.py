"""The pages of an upload: choose a file, look at what an import would do, change how it is read, import it."""

from typing import Final

from starlette.responses import Response, StreamingResponse

from dispatcher.console.request import BadRequest, PageRequest, identifier, whole
from dispatcher.console.uploads import BUSY, Stage, Upload, Wanted
from dispatcher.errors import NotAllowed
from dispatcher.importing.columns import CONTACT, ImportOptions
from dispatcher.importing.columns import FIELDS as LEAD_FIELDS
from dispatcher.importing.encoding import check_encoding
from dispatcher.lead.masking import safe_name
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.lead.phone import Country
from dispatcher.spreadsheet import csv_table
from dispatcher.store import audit
from dispatcher.store.confinement import OutOfReach

MOST_COLUMNS: Final = 80
"""Columns whose meaning the page lets one choose; the others are what their names say."""
FIELDS: Final = (
    ("", "a variable of this name"),
    ("phone_number", "the number to call"),
    ("campaign_id", "the campaign"),
    ("idempotency_key", "the idempotency key"),
    ("priority", "the priority, 0 to 9"),
    ("allow_dupplicate", "whether duplicates are allowed"),
    ("not_before", "not before this time"),
    ("expires_at", "not after this time"),
    ("contact1_phone", "the number of a second contact"),
)
_NAMES: Final = frozenset(name for name, _ in FIELDS)


def choose(request: PageRequest) -> Response:
    """Return the page where a file is chosen."""
    most = request.services.settings.console_upload_mb
    return request.page("upload.html", most_mb=most, own=request.uploads.of(request.person.name))


def receive(request: PageRequest) -> Response:
    """Take a file in, and show its plan."""
    given = request.file
    if given is None:
        raise BadRequest("No file was chosen, or it is empty; go back and choose one.")
    try:
        wanted = _wanted(request, {})
        upload = request.uploads.add(request.person.name, given.name, given.file, given.size, wanted)
    except BaseException:
        given.file.close()
        raise
    request.services.database.again(
        audit.note,
        request.actor,
        "upload",
        f"upload:{upload.id}",
        {"bytes": given.size, "account": wanted.options.account},
    )
    return request.go(f"/imports/uploads/{upload.id}")


def show(request: PageRequest) -> Response:
    """Return what is known of a file: its plan, its progress or its result."""
    upload = _upload(request).seen()
    plan = upload.plan
    meanings = {} if plan is None else {one.position: one for one in plan.columns}
    columns = [
        (position, safe_name(name, position) if name else f"column {position + 1}", meanings.get(position))
        for position, name in enumerate(upload.header[:MOST_COLUMNS])
    ]
    return request.page(
        "uploaded.html", upload=upload, plan=plan, columns=columns, fields=FIELDS, busy=upload.stage in BUSY,
        Stage=Stage, more_columns=max(0, len(upload.header) - MOST_COLUMNS),
    )  # fmt: skip


def plan(request: PageRequest) -> Response:
    """Plan a file anew, with another reading of it."""
    upload = _upload(request)
    columns = {}
    for position, name in enumerate(upload.header[:MOST_COLUMNS]):
        meaning = request.form.get(f"column-{position}")
        if meaning not in _NAMES:
            raise BadRequest("That is no meaning of a column; go back and choose one.")
        if meaning and name:
            columns[name] = meaning
        elif name and _is_field(name):
            columns[name] = f"{name}_column"  # a variable, and not what its name says
    request.uploads.plan(upload, _wanted(request, columns))
    return request.go(f"/imports/uploads/{upload.id}")


def apply(request: PageRequest) -> Response:
    """Begin the import that was planned."""
    upload = _upload(request)
    version = whole(request.form.get("version"), "That is not a plan; go back and reload.")
    planned, edited = upload.plan, upload.corrections
    request.uploads.apply(upload, version)
    detail: dict[str, object] = {"edited": True, "rows": edited.rows} if edited is not None else {}
    if planned is not None:
        detail = {"batch_id": str(planned.batch_id), "rows": planned.rows}
    request.services.database.again(audit.note, request.actor, "import", f"upload:{upload.id}", detail)
    return request.go(f"/imports/uploads/{upload.id}")


def refused(request: PageRequest) -> Response:
    """Return the rows of an edited export that were refused, or would be, as a download. It names no person."""
    corrections = _upload(request).corrections
    if corrections is None:
        raise NotAllowed("This file corrects no leads; the record of its import has what was refused.")
    rows = ((one.line, one.lead_id, one.reason) for one in corrections.refusals)
    return StreamingResponse(
        csv_table(("line", "lead_id", "reason"), rows),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="refused-rows.csv"'},
    )


def discard(request: PageRequest) -> Response:
    """Forget a file; an import of it stops."""
    upload = _upload(request)
    stopped = upload.stage is Stage.IMPORTING
    request.uploads.drop(upload)
    request.say("Stopped; what was stored stays." if stopped else "The file is forgotten.")
    return request.go("/imports")


def _upload(request: PageRequest) -> Upload:
    upload = request.uploads.get(identifier(str(request.http.path_params["id"])), request.person.name)
    person = request.person  # whose accounts may be others than when the file was uploaded
    if not person.reaches(upload.wanted.options.account) or person.accounts != upload.wanted.accounts:
        raise OutOfReach
    return upload


def _is_field(name: str) -> bool:
    return name.casefold() in LEAD_FIELDS or CONTACT.fullmatch(name) is not None


def _wanted(request: PageRequest, columns: dict[str, str]) -> Wanted:
    """Return how a form wants a file to be read. Raises `BadRequest`, and `NotAllowed` for an account of others."""
    form, reach = request.form, request.person.accounts
    account = form.get("account") or (next(iter(reach)) if reach is not None and len(reach) == 1 else DEFAULT_ACCOUNT)
    if reach is not None and account not in reach:
        raise NotAllowed(f"Name one of your accounts: {', '.join(sorted(reach))}.")
    campaign, encoding = form.get("campaign_id"), form.get("encoding")
    fault = "The campaign is its id, a whole number, or empty."
    try:
        checked = check_encoding(encoding) if encoding else None
    except ValueError as error:
        raise BadRequest(f"Encoding: {error}.") from None
    return Wanted(
        ImportOptions(
            account=account,
            campaign_id=whole(campaign, fault, least=1) if campaign else None,
            country=_country(form.get("country"), national=form.get("national") == "yes"),
            columns=columns,
            actor=request.actor,
        ),
        sheet=form.get("sheet") or None,
        encoding=checked,
        accounts=reach,
    )


def _country(code: str, *, national: bool) -> Country | None:
    if not code:
        return None
    try:
        return Country(code.upper(), national)
    except ValueError as error:
        raise BadRequest(f"Country “{code[:10]}”: {error}.") from None
