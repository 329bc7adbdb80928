"""Apply a fault to a regular answer before it is sent."""

import orjson

from dispatcher.sandbox.answer import (
    SandboxAnswer,
    duplicate_refused,
    json_answer,
    no_route,
    throttled,
    unauthenticated,
    wrong_method,
)
from dispatcher.sandbox.fault import FaultName, Rule
from dispatcher.sandbox.options import DuplicateForm

_ERROR_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>%s</title></head><body><center><h1>%s</h1></center>"
    b"<hr><center>nginx</center></body></html>\n"
)


def spoil(rule: Rule, honest: SandboxAnswer, method: str, path: str, duplicate_form: DuplicateForm) -> SandboxAnswer:
    """Return the changed answer. Wire and list faults change nothing here: `delivery` and `listing` apply them."""
    match rule.fault:
        case FaultName.INTERNAL_ERROR:
            return json_answer(500, {"error": "Server Error"})
        case FaultName.INTERNAL_ERROR_HTML:
            return _page(500, b"Server Error")
        case FaultName.BAD_GATEWAY:
            return _page(502, b"502 Bad Gateway")
        case FaultName.UNAVAILABLE:
            headers = {} if rule.retry_after is None else {"Retry-After": rule.retry_after}
            return json_answer(503, {"message": "Service Unavailable"}, headers)
        case FaultName.GATEWAY_TIMEOUT:
            return _page(504, b"504 Gateway Time-out")
        case FaultName.UNAUTHORIZED:
            return unauthenticated()
        case FaultName.NO_BALANCE:
            body = {
                "error": "Insufficient balance. Please top up.",
                "error_code": "INSUFFICIENT_BALANCE",
            }
            return json_answer(rule.status or 402, body)
        case FaultName.FORBIDDEN:
            return json_answer(403, {"message": "This action is unauthorized."})
        case FaultName.NOT_FOUND:
            return no_route(path)
        case FaultName.METHOD_NOT_ALLOWED:
            return wrong_method(method, path, "GET, HEAD" if method == "POST" else "POST")
        case FaultName.UNPROCESSABLE:
            message = "The phone number is not supported."
            return json_answer(422, {"message": message, "errors": {"phone_number": [message]}})
        case FaultName.THROTTLED:
            return throttled(rule.retry_after)
        case FaultName.REDIRECT:
            return SandboxAnswer(rule.status or 302, b"", "text/html", {"Location": rule.location})
        case FaultName.DUPLICATE:
            return duplicate_refused(duplicate_form)
        case FaultName.ANSWER:
            body_bytes = rule.body.encode("utf-8", "surrogatepass")
            return SandboxAnswer(rule.status or 200, body_bytes, headers=rule.headers or {})
        case FaultName.NOT_JSON:
            return SandboxAnswer(honest.status, b"<html><body>OK</body></html>\n", "text/html")
        case FaultName.BAD_GZIP:
            return SandboxAnswer(
                honest.status,
                honest.body,
                headers={**honest.headers, "Content-Encoding": "gzip"},
            )
        case FaultName.NO_ID | FaultName.WRONG_CAMPAIGN | FaultName.WRONG_NUMBER | FaultName.STRING_ID:
            return _alter_lead(rule.fault, honest)
        case (
            FaultName.HANG
            | FaultName.RESET
            | FaultName.CLOSE
            | FaultName.GARBAGE
            | FaultName.LATE
            | FaultName.CUT_BODY
            | FaultName.SLOW_HEADERS
            | FaultName.SLOW_BODY
            | FaultName.HUGE_BODY
            | FaultName.DELAY
            | FaultName.STALE
            | FaultName.SHIFTING_PAGES
            | FaultName.MISSING_CONTROLS
            | FaultName.BARE_LIST
            | FaultName.CACHED_LIST
            | FaultName.OTHER_FORM
            | FaultName.MASKED_NUMBERS
            | FaultName.NO_VARIABLES
            | FaultName.HIDDEN_STATUS
            | FaultName.FILTER_IGNORED
            | FaultName.OWN_TOKEN
            | FaultName.HOLES
            | FaultName.CUT_LIST
            | FaultName.OLDEST_FIRST
            | FaultName.SHUFFLED_LIST
            | FaultName.DOUBLED_ROWS
            | FaultName.SHORT_PAGES
            | FaultName.WRONG_TOTAL
            | FaultName.FIRST_PAGE_ONLY
            | FaultName.MISFILED
        ):
            return honest


def _page(status: int, title: bytes) -> SandboxAnswer:
    return SandboxAnswer(status, _ERROR_PAGE % (title, title), "text/html")


def _alter_lead(fault: FaultName, honest: SandboxAnswer) -> SandboxAnswer:
    """Return the answer with changed lead fields; a refusal has none and stays."""
    body = orjson.loads(honest.body)
    envelope = body[0] if isinstance(body, list) else body
    data = envelope.get("data")
    if not isinstance(data, dict):
        return honest
    if fault is FaultName.NO_ID:
        del data["id"]
    elif fault is FaultName.STRING_ID:
        data["id"] = str(data["id"])
    elif fault is FaultName.WRONG_CAMPAIGN:
        data["campaign_id"] += 1
        data["campaign"] = {
            "id": data["campaign_id"],
            "name": f"Campaign {data['campaign_id']}",
        }
    else:
        data["phone_number"] = data["phone_number"][:-1] + str((int(data["phone_number"][-1]) + 1) % 10)
    return json_answer(honest.status, body, honest.headers)
