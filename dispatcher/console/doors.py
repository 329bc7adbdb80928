"""Every way into the console, with the role that it takes. What is not listed here does not exist.

A GET only reads; whatever acts is a POST with the session's token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from starlette.responses import Response

from dispatcher.console.pages import bulk, campaigns, failed, lead, operations, overview, own, records
from dispatcher.console.people import Role
from dispatcher.console.visit import Visit


@dataclass(frozen=True, slots=True)
class Door:
    """`role` is the least that opens it."""

    method: Literal["GET", "POST"]
    path: str
    role: Role
    answer: Callable[[Visit], Response]


DOORS: Final = (
    Door("GET", "/", Role.VIEWER, overview.show),
    Door("GET", "/search", Role.VIEWER, overview.search),
    Door("GET", "/failed", Role.VIEWER, failed.causes),
    Door("GET", "/failed/rows", Role.VIEWER, failed.rows),
    Door("POST", "/failed/preview", Role.OPERATOR, bulk.preview),
    Door("POST", "/failed/export", Role.OPERATOR, bulk.export),
    Door("GET", "/leads/{id}", Role.VIEWER, lead.show),
    Door("GET", "/leads/{id}/correct", Role.OPERATOR, lead.correction),
    Door("POST", "/leads/{id}/correct", Role.OPERATOR, lead.correct),
    Door("POST", "/leads/{id}/replay", Role.OPERATOR, lead.replay),
    Door("POST", "/leads/{id}/replay-even-if-called", Role.ADMIN, lead.replay_even_if_called),
    Door("POST", "/leads/{id}/look-up", Role.OPERATOR, lead.look_up),
    Door("POST", "/leads/{id}/resolve", Role.OPERATOR, lead.resolve),
    Door("POST", "/leads/{id}/cancel", Role.OPERATOR, lead.cancel),
    Door("GET", "/campaigns", Role.VIEWER, campaigns.show),
    Door("POST", "/campaigns/{account}/{campaign}/pause", Role.OPERATOR, campaigns.pause),
    Door("POST", "/campaigns/{account}/{campaign}/resume", Role.OPERATOR, campaigns.resume),
    Door("POST", "/campaigns/{account}/{campaign}/limit", Role.ADMIN, campaigns.limit),
    Door("POST", "/accounts/{account}/pause", Role.ADMIN, campaigns.pause_account),
    Door("POST", "/accounts/{account}/resume", Role.ADMIN, campaigns.resume_account),
    Door("GET", "/operations", Role.VIEWER, operations.show_all),
    Door("POST", "/operations", Role.OPERATOR, bulk.start),
    Door("GET", "/operations/{id}", Role.VIEWER, operations.show),
    Door("POST", "/operations/{id}/stop", Role.OPERATOR, operations.stop),
    Door("GET", "/imports", Role.VIEWER, records.imports),
    Door("GET", "/imports/{number}", Role.VIEWER, records.one_import),
    Door("POST", "/imports/{number}/export", Role.OPERATOR, records.export_rejected),
    Door("GET", "/incidents", Role.VIEWER, records.incidents),
    Door("POST", "/incidents/seen", Role.OPERATOR, records.seen),
    Door("GET", "/workers", Role.VIEWER, records.workers),
    Door("GET", "/audit", Role.VIEWER, records.audit),
    Door("POST", "/reveal", Role.OPERATOR, own.reveal),
    Door("POST", "/mask", Role.VIEWER, own.mask),
    Door("POST", "/theme", Role.VIEWER, own.theme),
)
