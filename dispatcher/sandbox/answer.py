"""The documented answers of the API, as values, independent of how they are sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from dispatcher.sandbox.book import Invalid, LeadBook, StoredContact, StoredLead
from dispatcher.sandbox.options import DuplicateForm, SandboxOptions


@dataclass(frozen=True, slots=True)
class SandboxAnswer:
    """Status, body and headers; `delivery` sends them."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> SandboxAnswer:
    """Return an answer with `body` as JSON."""
    return SandboxAnswer(status, orjson.dumps(body), headers=headers or {})


def unauthenticated() -> SandboxAnswer:
    """Return 401: no token, or a wrong one."""
    return json_answer(401, {"message": "Unauthenticated."})


def invalid(found: Invalid) -> SandboxAnswer:
    """Return 422 with every invalid field and its messages."""
    return json_answer(422, {"message": found.message, "errors": found.errors})


def no_route(path: str) -> SandboxAnswer:
    """Return 404: no such path."""
    return json_answer(404, {"message": f"The route {path.lstrip('/')} could not be found."})


def wrong_method(method: str, path: str, allowed: str) -> SandboxAnswer:
    """Return 405; `allowed` are the methods of this path."""
    message = f"The {method} method is not supported for route {path.lstrip('/')}. Supported methods: {allowed}."
    return json_answer(405, {"message": message}, {"Allow": allowed})


def too_large() -> SandboxAnswer:
    """Return 413: the body is larger than aiohttp's limit of 1 MiB."""
    return json_answer(413, {"message": "The POST data is too large."})


def throttled(retry_after: int | str | None, headers: Mapping[str, str] | None = None) -> SandboxAnswer:
    """Return 429 with `retry_after` in seconds, or any text that a fault sends, or None to leave it out."""
    body: dict[str, object] = {"message": "Too Many Attempts."}
    sent = dict(headers or {})
    if retry_after is not None:
        sent["Retry-After"] = str(retry_after)
        body["retry_after"] = int(retry_after) if str(retry_after).isdecimal() else str(retry_after)
    return json_answer(429, body, sent)


def duplicate_refused(form: DuplicateForm) -> SandboxAnswer:
    """Return 409 or 422; 409 also for the form `existing`, because there is no lead to return here."""
    message = "A lead with this phone number already exists in this campaign."
    if form is DuplicateForm.UNPROCESSABLE:
        return json_answer(422, {"message": message, "errors": {"phone_number": [message]}})
    return json_answer(409, {"error": message})


class LeadWriter:
    """Serialises leads as the API does, with the variations set by the options."""

    def __init__(self, options: SandboxOptions, book: LeadBook) -> None:
        self._options = options
        self._book = book

    def created(self, lead: StoredLead, **changed: object) -> SandboxAnswer:
        """`changed` replaces fields of `data`; a field set to None is left out."""
        return self._single(self._options.created_status, "Lead created successfully", lead, changed)

    def existing(self, lead: StoredLead) -> SandboxAnswer:
        """Return the existing lead with 200."""
        return self._single(200, "Lead already exists", lead, {})

    def row(self, lead: StoredLead) -> dict[str, Any]:
        """Return the lead as `data` of a creation and as a row of the list."""
        at = self._book.timestamp(lead.created_at)
        return {
            "id": self._id(lead.id),
            "campaign_id": lead.campaign_id,
            "phone_number": lead.phone_number,
            "variables": lead.variables,
            "status": self._book.status_of(lead),
            "created_at": at,
            "updated_at": at,
            "campaign": {
                "id": lead.campaign_id,
                "name": self._campaign_name(lead.campaign_id),
            },
            "secondary_contacts": [self._contact(contact, lead.status, at) for contact in lead.contacts],
        }

    def _single(self, status: int, message: str, lead: StoredLead, changed: Mapping[str, object]) -> SandboxAnswer:
        data = self.row(lead)
        for name, value in changed.items():
            if value is None:
                data.pop(name, None)
            else:
                data[name] = value
        body = {"message": message, "data": data}
        return json_answer(status, [body] if self._options.wrap_in_list else body)

    def _contact(self, contact: StoredContact, status: str, at: str) -> dict[str, Any]:
        return {
            "id": self._id(contact.id),
            "phone_number": contact.phone_number,
            "variables": contact.variables,
            "status": status,
            "created_at": at,
            "updated_at": at,
        }

    def _id(self, number: int) -> int | str:
        return str(number) if self._options.ids_as_strings else number

    def _campaign_name(self, campaign_id: int) -> str:
        campaigns = self._options.campaigns
        return campaigns[campaign_id] if campaigns and campaign_id in campaigns else f"Campaign {campaign_id}"
