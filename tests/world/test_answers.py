"""What answers mean that people report of APIs, proxies, gateways, CDNs and captive portals.

Sources: RFC 9110, 6585 and 9457; the error pages of nginx, Cloudflare, AWS and Apache; the error bodies of Laravel,
FastAPI, Django REST framework, NestJS, Spring and Google's APIs.
"""

import json
from typing import Any

import pytest

from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import IN_DOUBT, Kind, Outcome, Reason, Scope, Sent, Signal, classify
from dispatcher.decisions.reply import BodyFault, Reply

SENT = Sent(campaign_id=42, phone_number="+12025550101")
RULES = Settings().rules
ACCOUNT_MISCONFIGURED = Signal(Reason.MISCONFIGURED, Scope.ACCOUNT)


def meant(status: int, body: Any = None, text: str | None = None, **headers: str) -> Outcome:
    """What an answer means: with JSON, or with a text that is none."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if text is not None:
        reply = Reply(status=status, headers=named, text=text, body_fault=BodyFault.NOT_JSON, written=True)
    else:
        reply = Reply(status=status, headers=named, body=body, text=json.dumps(body), written=True)
    return classify(reply, SENT, RULES)


# Every status ---------------------------------------------------------------------------------------------------------

LEADS_OWN = {400, 413, 422, 451}
PASSED_ON = {408, 425, 460, 499}


@pytest.mark.parametrize("status", range(100, 600))
def test_the_lead_is_at_fault_only_where_voicery_says_so(status: int) -> None:
    spoken = meant(status, {"message": "No."})

    assert (spoken.kind is Kind.REJECTED) == (status in LEADS_OWN)
    assert (spoken.kind is Kind.DUPLICATE) == (status == 409)
    if status in PASSED_ON or not (400 <= status <= 499 or status in {301, 307, 308}):
        assert spoken.kind in IN_DOUBT
    assert spoken.signal is not None or status == 409


PAGES = {
    "nginx": "<html>\r\n<head><title>400 Bad Request</title></head>\r\n<body><center><h1>400 Bad Request</h1>",
    "a CDN's block page": "<!DOCTYPE html>\n<html lang='en'><head><title>Attention Required! | Cloudflare</title>",
    "a proxy's block page": "<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD><BODY>Blocked by policy",
    "a login page": "\n  <!doctype html><html><body><h1>Please log in</h1><form>",
    "XML": "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "nothing": "",
    "blanks": " \r\n",
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("status", sorted(set(range(400, 500)) - PASSED_ON))
def test_what_is_not_voicerys_fails_no_lead_and_closes_the_gate_of_the_account(status: int, page: str) -> None:
    outcome = meant(status, text=PAGES[page])

    empty = not PAGES[page].strip()
    if empty and status == 409:  # that status is always a duplicate
        assert outcome.kind is Kind.DUPLICATE
        return
    assert outcome.kind in {
        Kind.MISCONFIGURED, Kind.FORBIDDEN, Kind.UNAUTHORIZED, Kind.THROTTLED, Kind.NO_BALANCE
    }  # fmt: skip
    assert not outcome.counts
    assert outcome.signal is not None
    assert outcome.signal.scope is (Scope.CHANNEL if empty and status in {404, 405, 410} else Scope.ACCOUNT)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("status", [200, 201, 202, 204, 500, 502, 503, 504, 511, 520, 522, 530, 302, 303])
def test_a_page_in_the_place_of_an_answer_leaves_the_lead_in_doubt(status: int, page: str) -> None:
    outcome = meant(status, text=PAGES[page])

    assert outcome.kind in IN_DOUBT
    assert outcome.signal is not None


@pytest.mark.parametrize("page", ["nginx", "a CDN's block page", "a proxy's block page", "a login page"])
def test_a_login_page_with_200_is_no_yes_and_closes_the_gate_at_once(page: str) -> None:
    """A base URL that leads to the web application, or a captive portal: every lead would meet the same page."""
    outcome = meant(200, text=PAGES[page])

    assert (outcome.kind, outcome.signal) == (Kind.UNKNOWN, ACCOUNT_MISCONFIGURED)


@pytest.mark.parametrize("text", ["", "<br />\n<b>Warning</b>: in x.php\n{...", "OK", "created"])
def test_a_yes_without_json_is_still_a_yes(text: str) -> None:
    assert meant(200, text=text).kind is Kind.CREATED_ID_UNKNOWN


@pytest.mark.parametrize("page", PAGES)
def test_a_firewalls_403_forbids_the_account_and_not_the_campaign(page: str) -> None:
    outcome = meant(403, text=PAGES[page])

    assert (outcome.kind, outcome.signal) == (Kind.FORBIDDEN, Signal(Reason.FORBIDDEN, Scope.ACCOUNT))


def test_a_page_is_told_as_such() -> None:
    assert (
        meant(403, text=PAGES["a CDN's block page"], server="cloudflare").message
        == "Not Voicery's API but a page titled “Attention Required! | Cloudflare” answered (HTTP 403 from cloudflare)."
    )
    assert meant(400, text="").message == "Not Voicery's API answered but something that says nothing (HTTP 400)."
    assert meant(400, text="400 Bad Request\n").message == "Not Voicery's API but a gateway answered (HTTP 400)."
    assert "a page titled “Please log in”" in meant(200, text=PAGES["a login page"]).message
    assert "502 from nginx" in meant(502, text=PAGES["nginx"], server="nginx").message


def test_a_number_or_a_token_in_a_page_is_not_shown() -> None:
    for text in ("<title>+1 202 555 0101 is blocked</title>", "<html><h1>Bearer abcdef123456 expired</h1>"):
        message = meant(403, text=text).message
        assert "555" not in message
        assert "abcdef" not in message


# Words ----------------------------------------------------------------------------------------------------------------

WORDS: dict[str, tuple[Any, str]] = {
    "message": ({"message": "Campaign is closed"}, "Campaign is closed."),
    "error": ({"error": "Campaign is closed"}, "Campaign is closed."),
    "detail": ({"detail": "Campaign is closed"}, "Campaign is closed."),
    "problem details": (
        {"type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": "Campaign is closed"},
        "Campaign is closed.",
    ),
    "problem with a title only": ({"type": "x", "title": "Campaign is closed", "status": 422}, "Campaign is closed."),
    "problem with errors": (
        {"title": "Invalid", "errors": [{"detail": "is closed", "pointer": "#/allow_dupplicate"}]},
        "Voicery refused allow_dupplicate: is closed.",
    ),
    "invalid-params": (
        {"title": "Invalid", "invalid-params": [{"name": "phone_number", "reason": "is odd"}]},
        "Voicery refused the phone number: is odd.",
    ),
    "FastAPI": (
        {"detail": [{"loc": ["body", "phone_number"], "msg": "value is odd", "type": "value_error"}]},
        "Voicery refused the phone number: value is odd.",
    ),
    "FastAPI, in a list": (
        {"detail": [{"loc": ["body", "secondary_contacts", 0, "phone_number"], "msg": "is odd"}]},
        "Voicery refused secondary_contacts.0.phone_number: is odd.",
    ),
    "Laravel": (
        {"message": "The given data was invalid.", "errors": {"phone_number": ["is odd", "is long"]}},
        "Voicery refused the phone number: is odd.",
    ),
    "Laravel, one text a field": ({"errors": {"phone_number": "is odd"}}, "Voicery refused the phone number: is odd."),
    "nested fields": (
        {"errors": {"variables": {"email": ["is odd"]}}},
        "Voicery refused variables.email: is odd.",
    ),
    "fields under message": ({"message": {"phone_number": ["is odd"]}}, "Voicery refused the phone number: is odd."),
    "Django REST": ({"phone_number": ["is odd"]}, "Voicery refused the phone number: is odd."),
    "Django REST, no field": ({"non_field_errors": ["Campaign is closed"]}, "Campaign is closed."),
    "express-validator": (
        {"errors": [{"type": "field", "msg": "is odd", "path": "phone_number", "location": "body"}]},
        "Voicery refused the phone number: is odd.",
    ),
    "JSON:API": (
        {"errors": [{"title": "Invalid", "detail": "is odd",
                     "source": {"pointer": "/data/attributes/phone_number"}}]},
        "Voicery refused the phone number: is odd.",
    ),
    "Google": (
        {"error": {"code": 400, "message": "Campaign is closed", "status": "INVALID_ARGUMENT"}},
        "Campaign is closed.",
    ),
    "Google, with fields": (
        {"error": {"message": "bad", "details": [{"fieldViolations": [{"field": "phone_number",
                                                                       "description": "is odd"}]}]}},
        "Voicery refused the phone number: is odd.",
    ),
    "NestJS": (
        {"statusCode": 400, "message": ["Campaign is closed", "b"], "error": "Bad Request"},
        "Campaign is closed.",
    ),
    "Spring": ({"timestamp": "x", "status": 400, "error": "Bad Request", "message": "", "path": "/a",
                "detail": "Campaign is closed"}, "Campaign is closed."),
    "Mongoose": ({"name": "ValidationError", "message": "Campaign is closed"}, "Campaign is closed."),
    "texts under errors": ({"errors": ["Campaign is closed", "b"]}, "Campaign is closed."),
    "one text under errors": ({"errors": "Campaign is closed"}, "Campaign is closed."),
    "a list of texts": (["Campaign is closed"], "Campaign is closed."),
    "a text": ("Campaign is closed", "Campaign is closed."),
    "an envelope": ({"success": False, "data": {"message": "Campaign is closed"}}, "Campaign is closed."),
    "two envelopes": ({"response": {"status": {"message": "Campaign is closed"}}}, "Campaign is closed."),
    "upper case": ({"Message": "Campaign is closed"}, "Campaign is closed."),
    "an OAuth error": ({"error_description": "Campaign is closed"}, "Campaign is closed."),
    "an echo of the lead": ({"phone_number": "+12025550101", "name": "Ada"}, "no reason given."),
    "nothing": ({}, "no reason given."),
    "numbers": ({"code": 7}, "no reason given."),
}  # fmt: skip


@pytest.mark.parametrize("form", WORDS)
@pytest.mark.parametrize("status", [400, 422])
def test_the_words_are_shown_wherever_they_stand(status: int, form: str) -> None:
    body, words = WORDS[form]
    outcome = meant(status, body)

    assert outcome.kind is Kind.REJECTED
    assert outcome.message == (
        words if words.startswith("Voicery") else f"Voicery refused the lead (HTTP {status}): {words}"
    )


def test_plain_text_is_shown() -> None:
    assert meant(422, text="Campaign is closed").message == "Voicery refused the lead (HTTP 422): Campaign is closed."


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 423, 421])
def test_the_words_of_what_is_held_are_shown_too(status: int) -> None:
    assert meant(status, {"detail": "Ask the owner"}).message.endswith(": Ask the owner.")


@pytest.mark.parametrize("status", [500, 503, 408])
def test_the_words_of_a_lost_answer_are_shown_too(status: int) -> None:
    assert meant(status, {"error": "Database is down"}).message.endswith(" It said: Database is down.")


# Duplicates and balance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"detail": "Lead already exists"}, Kind.DUPLICATE),
        ({"detail": [{"loc": ["body", "phone_number"], "msg": "already in this campaign"}]}, Kind.DUPLICATE),
        ({"errors": [{"detail": "Duplicate", "pointer": "#/phone_number"}]}, Kind.DUPLICATE),
        ({"errors": ["Duplicate lead"]}, Kind.DUPLICATE),
        ("already exists", Kind.DUPLICATE),
        ({"errors": {"secondary_contacts.0.phone_number": ["has already been added"]}}, Kind.REJECTED),
        (
            {
                "message": "The contact has already been added. (and 1 more error)",
                "errors": {"secondary_contacts.0.phone_number": ["The contact has already been added."]},
            },
            Kind.REJECTED,
        ),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_duplicate_is_one_in_every_form_and_of_the_lead_itself(status: int, body: Any, kind: Kind) -> None:
    assert meant(status, body).kind is kind


BROKE = [
    {"error": "Insufficient balance to create a lead."},
    {"message": "Insufficient balance"},
    {"message": "Your account has insufficient credits."},
    {"detail": "Not enough credit left"},
    {"errors": {"balance": ["Balance is too low"]}},
    {"errors": ["Out of credits"]},
    {"title": "Payment problem", "detail": "Your balance has run out."},
    {"message": "No.", "error_code": "INSUFFICIENT_BALANCE"},
    {"message": "No.", "code": "insufficient_funds"},
    {"error": {"code": "INSUFFICIENT_CREDITS", "message": "No."}},
    {"message": "Please top up your account."},
    "Insufficient balance",
]


@pytest.mark.parametrize("body", BROKE, ids=map(str, range(len(BROKE))))
@pytest.mark.parametrize("status", [400, 402, 403, 422])
def test_a_lack_of_balance_told_in_words_closes_the_gate_of_the_account(status: int, body: Any) -> None:
    """Other copies of the platform say it with 422 or 400 and no `error_code`."""
    outcome = meant(status, body)

    assert (outcome.kind, outcome.counts) == (Kind.NO_BALANCE, False)
    assert outcome.signal == Signal(Reason.NO_BALANCE, Scope.ACCOUNT)


def test_a_lack_of_balance_in_plain_text_counts_too() -> None:
    assert meant(422, text="Insufficient balance").kind is Kind.NO_BALANCE


@pytest.mark.parametrize(
    "body",
    [
        {"errors": {"variables.balance": ["Insufficient balance"]}},
        {"message": "Insufficient balance given.", "errors": {"variables": ["Insufficient balance given."]}},
        {"message": "The balance field is required."},
        {"message": "No credit card field is known."},
        {"message": "Your account balance was updated."},
        {"message": "No."},
    ],
)
def test_what_is_said_of_the_leads_own_fields_is_no_lack_of_balance(body: Any) -> None:
    assert meant(422, body).kind is Kind.REJECTED


def test_the_rule_for_balance_is_a_setting() -> None:
    rules = Settings(balance_rule="guthaben leer").rules
    reply = Reply(status=422, body={"message": "guthaben leer"}, written=True)

    assert classify(reply, SENT, rules).kind is Kind.NO_BALANCE
    assert classify(reply, SENT, RULES).kind is Kind.REJECTED
