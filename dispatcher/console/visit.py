"""One request of somebody who may make it: what they sent, who they are, and how to answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dispatcher import moments
from dispatcher.console.auth import Person, Role, Session, Sessions
from dispatcher.errors import LeadNotFound
from dispatcher.wiring import Services

FIELDS_MOST: Final = 2000


class BadRequest(Exception):
    """What was sent makes no sense; the text is for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, in the order sent."""

    fields: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> "Form":
        """Of `application/x-www-form-urlencoded`. Raises `BadRequest`."""
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MOST, errors="strict")
        except ValueError:
            raise BadRequest("That form cannot be read.") from None
        return cls(tuple(pairs))

    def get(self, name: str, otherwise: str = "") -> str:
        """The last value of a field, without the space around it."""
        return next((value.strip() for key, value in reversed(self.fields) if key == name), otherwise)

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for key, value in self.fields if key == name]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request with its session. Made after the login, the role and the token were checked."""

    request: Request
    session: Session
    sessions: Sessions
    services: Services
    form: Form
    render: Any

    @property
    def person(self) -> Person:
        """Who it is."""
        return self.session.person

    @property
    def actor(self) -> str:
        """Who it is, as the audit log says it."""
        return f"{self.person.name}@console"

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the address."""
        return self.request.query_params

    @property
    def shows_numbers(self) -> bool:
        """Whether numbers and variables are shown whole."""
        return self.may(Role.OPERATOR) and self.sessions.revealed(self.session)

    def may(self, role: Role) -> bool:
        """Whether this person's role includes another."""
        return self.person.role.includes(role)

    def id(self, name: str = "id") -> UUID:
        """An id from the path. Raises `LeadNotFound`."""
        text = str(self.request.path_params[name])
        try:
            return UUID(text)
        except ValueError:
            raise LeadNotFound(text) from None

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401  (what templates take)
        """A page for this person."""
        return self.render.page(self, template, status=status, **values)  # type: ignore[no-any-return]

    def say(self, sentence: str, kind: str = "good") -> None:
        """Show a sentence on the next page: `good`, `bad` or `note`."""
        self.session.notices.append((kind, sentence))

    def go(self, address: str) -> Response:
        """See another page of ours, by GET."""
        return RedirectResponse(local(address), status_code=303)


def start_of(text: str) -> datetime | timedelta:
    """When something is to begin, as typed. Raises `BadRequest`."""
    try:
        return moments.future(text, datetime.now(UTC))
    except ValueError as fault:
        raise BadRequest(f"“{text[:40]}” as a time: {fault}.") from None


def local(address: str) -> str:
    """The path and query of an address of ours; `/` for anything that would leave."""
    parts = urlsplit(address)
    unsafe = parts.scheme or parts.netloc or not address.startswith("/") or address.startswith(("//", "/\\"))
    if unsafe or not address.isprintable() or "\\" in address:
        return "/"
    return parts.path + (f"?{parts.query}" if parts.query else "")


def address(path: str, parameters: Mapping[str, object]) -> str:
    """A path with those parameters that have a value."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
