"""The paths of the console, and the role that each requires."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from starlette.responses import Response

from dispatcher.console.auth import Role
from dispatcher.console.guard import UPLOAD_PATH
from dispatcher.console.pages import (
    bulk,
    campaigns,
    do_not_call,
    failed,
    lead,
    lead_list,
    overview,
    records,
    saved,
    upload,
)
from dispatcher.console.request import PageRequest


@dataclass(frozen=True, slots=True)
class ConsoleRoute:
    """A path of the console. `role` is the lowest role that may use it; with `takes_file` a form brings a file."""

    method: Literal["GET", "POST"]
    path: str
    role: Role
    answer: Callable[[PageRequest], Response]
    takes_file: bool = False


ROUTES: Final = (
    ConsoleRoute("GET", "/", Role.VIEWER, overview.show),
    ConsoleRoute("GET", "/search", Role.VIEWER, overview.search),
    ConsoleRoute("GET", "/failed", Role.VIEWER, failed.causes),
    ConsoleRoute("GET", "/failed/rows", Role.VIEWER, failed.rows),
    ConsoleRoute("POST", "/failed/preview", Role.OPERATOR, bulk.preview),
    ConsoleRoute("POST", "/failed/export", Role.OPERATOR, bulk.export),
    ConsoleRoute("GET", "/leads", Role.VIEWER, lead_list.show),
    ConsoleRoute("POST", "/leads/bulk/preview", Role.OPERATOR, bulk.preview),
    ConsoleRoute("GET", "/leads/{id}", Role.VIEWER, lead.show),
    ConsoleRoute("GET", "/leads/{id}/correct", Role.OPERATOR, lead.correction),
    ConsoleRoute("POST", "/leads/{id}/correct", Role.OPERATOR, lead.correct),
    ConsoleRoute("POST", "/leads/{id}/replay", Role.OPERATOR, lead.replay),
    ConsoleRoute("POST", "/leads/{id}/replay-even-if-called", Role.ADMIN, lead.replay_even_if_called),
    ConsoleRoute("POST", "/leads/{id}/look-up", Role.OPERATOR, lead.look_up),
    ConsoleRoute("POST", "/leads/{id}/resolve", Role.OPERATOR, lead.resolve),
    ConsoleRoute("POST", "/leads/{id}/cancel", Role.OPERATOR, lead.cancel),
    ConsoleRoute("GET", "/campaigns", Role.VIEWER, campaigns.show),
    ConsoleRoute("POST", "/campaigns/{account}/{campaign}/pause", Role.OPERATOR, campaigns.pause),
    ConsoleRoute("POST", "/campaigns/{account}/{campaign}/resume", Role.OPERATOR, campaigns.resume),
    ConsoleRoute("POST", "/campaigns/{account}/{campaign}/limit", Role.ADMIN, campaigns.limit),
    ConsoleRoute("POST", "/accounts/{account}/pause", Role.ADMIN, campaigns.pause_account),
    ConsoleRoute("POST", "/accounts/{account}/resume", Role.ADMIN, campaigns.resume_account),
    ConsoleRoute("GET", "/blocked", Role.VIEWER, do_not_call.show),
    ConsoleRoute("POST", "/blocked", Role.OPERATOR, do_not_call.add),
    ConsoleRoute("POST", "/blocked/{number}/remove", Role.OPERATOR, do_not_call.remove),
    ConsoleRoute("POST", "/leads/{id}/block", Role.OPERATOR, do_not_call.add_person),
    ConsoleRoute("GET", "/operations", Role.VIEWER, records.show_all),
    ConsoleRoute("POST", "/operations", Role.OPERATOR, bulk.start),
    ConsoleRoute("GET", "/operations/{id}", Role.VIEWER, records.show),
    ConsoleRoute("POST", "/operations/{id}/stop", Role.OPERATOR, records.stop),
    ConsoleRoute("GET", "/imports", Role.VIEWER, records.imports),
    ConsoleRoute("GET", "/imports/upload", Role.OPERATOR, upload.choose),
    ConsoleRoute("POST", UPLOAD_PATH, Role.OPERATOR, upload.receive, takes_file=True),
    ConsoleRoute("GET", "/imports/uploads/{id}", Role.OPERATOR, upload.show),
    ConsoleRoute("POST", "/imports/uploads/{id}/plan", Role.OPERATOR, upload.plan),
    ConsoleRoute("POST", "/imports/uploads/{id}/import", Role.OPERATOR, upload.apply),
    ConsoleRoute("POST", "/imports/uploads/{id}/refused", Role.OPERATOR, upload.refused),
    ConsoleRoute("POST", "/imports/uploads/{id}/discard", Role.OPERATOR, upload.discard),
    ConsoleRoute("GET", "/imports/{number}", Role.VIEWER, records.one_import),
    ConsoleRoute("POST", "/imports/{number}/export", Role.OPERATOR, records.export_rejected),
    ConsoleRoute("GET", "/inbox", Role.VIEWER, records.inbox),
    ConsoleRoute("POST", "/inbox", Role.OPERATOR, records.act_on_inbox),
    ConsoleRoute("GET", "/incidents", Role.VIEWER, records.incidents),
    ConsoleRoute("POST", "/incidents/seen", Role.OPERATOR, records.seen),
    ConsoleRoute("GET", "/workers", Role.VIEWER, records.workers),
    ConsoleRoute("GET", "/audit", Role.VIEWER, records.audit),
    ConsoleRoute("POST", "/filters", Role.VIEWER, saved.save),
    ConsoleRoute("POST", "/filters/{number}/remove", Role.VIEWER, saved.remove),
    ConsoleRoute("POST", "/reveal", Role.OPERATOR, records.reveal),
    ConsoleRoute("POST", "/mask", Role.VIEWER, records.mask),
    ConsoleRoute("POST", "/theme", Role.VIEWER, records.theme),
)

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


def allowed() -> dict[str, frozenset[str]]:
    """Return the methods of each path."""
    found = {"/login": {"GET", "HEAD", "POST"}, "/logout": {"POST"}}
    for route in ROUTES:
        found.setdefault(route.path, set()).update({"GET", "HEAD"} if route.method == "GET" else {route.method})
    return {path: frozenset(methods) for path, methods in found.items()}
