"""Refusals as problem details (RFC 9457). None holds a number, a variable's value or a key."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import orjson
from starlette.responses import Response

from dispatcher.errors import FieldError, IdempotencyConflict, InvalidLead, SchemaOutOfDate, StoreUnavailable
from dispatcher.http_intake.bodies import UnreadableBody, in_json_words, pointer_to

MEDIA_TYPE: Final = "application/problem+json"
AWAY_SECONDS: Final = 2


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: the end of its `type`, its status, its title, and what to do."""

    name: str
    status: int
    title: str
    remedy: str


KINDS: Final = (
    UNREADABLE := ProblemKind("unreadable-body", 400, "The body cannot be read", "Send valid JSON in UTF-8."),
    BAD_REQUEST := ProblemKind("bad-request", 400, "The request cannot be understood", "Send it as described here."),
    NO_KEY := ProblemKind(
        "no-key",
        401,
        "A valid key is needed",
        "Send `Authorization: Bearer vdk_…`; make one by `dispatcher keys create`.",
    ),
    NOT_YOURS := ProblemKind(
        "not-in-scope", 403, "The key may not do this", "Use a key that was made for this campaign or path."
    ),
    NOT_FOUND := ProblemKind("not-found", 404, "There is nothing here", "Compare the path with this page."),
    METHOD := ProblemKind("method-not-allowed", 405, "The path does not have this method", "See the field Allow."),
    ACCEPT := ProblemKind("not-acceptable", 406, "Answers are JSON only", "Accept application/json."),
    SLOW := ProblemKind("too-slow", 408, "The body did not arrive in time", "Send it again, at once and whole."),
    TOO_LARGE := ProblemKind("too-large", 413, "The body is too large", "Send less in one request."),
    MEDIA := ProblemKind(
        "unsupported-media-type", 415, "The body has another form than this path takes", "See the field Accept-Post."
    ),
    INVALID := ProblemKind("invalid-lead", 422, "The lead was refused, nothing was stored", "Correct every error."),
    CONFLICT := ProblemKind(
        "idempotency-conflict",
        422,
        "The idempotency key was used for another payload",
        "Submit a changed lead under a key of its own.",
    ),
    TOO_MANY := ProblemKind("too-many-requests", 429, "Too many leads or refused keys", "Wait as Retry-After says."),
    BUG := ProblemKind("internal-error", 500, "Something went wrong here", "Tell the operator the report's number."),
    AWAY := ProblemKind(
        "unavailable",
        503,
        "The lead could not be confirmed as stored",
        "Repeat the request with the same Idempotency-Key, after Retry-After.",
    ),
    BUSY := ProblemKind("busy", 503, "Too many requests at once", "Repeat the request after Retry-After."),
)


class Problem(Exception):
    """A refusal. `more` are further members, `headers` further fields of the answer."""

    def __init__(
        self,
        kind: ProblemKind,
        detail: str = "",
        more: Mapping[str, Any] = MappingProxyType({}),
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.kind = kind
        self.detail = detail or kind.remedy
        self.more = more
        self.headers = headers
        super().__init__(kind.name)

    def response(self) -> Response:
        """Return the answer."""
        members = {
            "type": f"/docs#{self.kind.name}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            **self.more,
        }
        headers = dict(self.headers)
        if self.kind.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="leads"'
        return Response(orjson.dumps(members), self.kind.status, headers, MEDIA_TYPE)


def wait(kind: ProblemKind, seconds: float, detail: str, **more: object) -> Problem:
    """Return a refusal with `Retry-After`, in whole seconds."""
    return Problem(kind, detail, more, {"Retry-After": str(max(1, math.ceil(seconds)))})


def faults_of(errors: Iterable[FieldError], body: object) -> list[dict[str, str]]:
    """Return faults as members of an answer: the place in the body, the field, the fault and the way out."""
    return [
        {"pointer": pointer_to(one.field, body), "field": one.field, "fault": one.fault, "remedy": one.remedy}
        for one in map(in_json_words, errors)
    ]


def invalid(errors: Iterable[FieldError], body: object) -> Problem:
    """Return the refusal of a lead, with every fault."""
    faults = faults_of(errors, body)
    count = "1 error" if len(faults) == 1 else f"{len(faults)} errors"
    return Problem(INVALID, f"{count}: correct all of them and send the lead again.", {"errors": faults})


def problem_of(error: Exception, body: object = None) -> Problem | None:
    """Return what an error of ours is as an answer; None for a bug."""
    match error:
        case Problem():
            return error
        case UnreadableBody():
            return Problem(UNREADABLE, str(error))
        case InvalidLead():
            return invalid(error.errors, body)
        case IdempotencyConflict():  # its lead may be one of a campaign that the key may not read
            return Problem(CONFLICT, "Nothing was stored. Submit a changed lead under an idempotency key of its own.")
        case StoreUnavailable() | SchemaOutOfDate():
            return wait(AWAY, AWAY_SECONDS, AWAY.remedy)
        case _:
            return None
