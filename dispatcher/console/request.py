"""An authorized request: its form, URL and session, and its possible answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID, uuid5

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dispatcher import moments
from dispatcher.console.auth import Role, Session, Sessions, User
from dispatcher.console.recent import Recent
from dispatcher.operating import lead_id_of
from dispatcher.operator import person_lookups
from dispatcher.store.reading import MEASURED_SECONDS, Reading
from dispatcher.wiring import Services

if TYPE_CHECKING:
    from dispatcher.console.receiving import ReceivedFile
    from dispatcher.console.uploads import Uploads

T = TypeVar("T")

FIELDS_MOST: Final = 2000


class BadRequest(Exception):
    """A malformed request; the text is shown to the user."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, in the order sent."""

    fields: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> "Form":
        """Return the form of an `application/x-www-form-urlencoded` body. Raises `BadRequest`."""
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MOST, errors="strict")
        except ValueError:
            raise BadRequest("That form cannot be read.") from None
        return cls(tuple(pairs))

    def get(self, name: str, otherwise: str = "") -> str:
        """Return the last value of a field, stripped."""
        return next((value.strip() for key, value in reversed(self.fields) if key == name), otherwise)

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for key, value in self.fields if key == name]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request with its session. Made after the session was found and the CSRF token checked."""

    http: Request
    session: Session
    sessions: Sessions
    services: Services
    form: Form
    render: Any
    uploads: "Uploads"
    recent: Recent
    file: "ReceivedFile | None" = None

    @property
    def person(self) -> User:
        """The user."""
        return self.session.person

    @property
    def actor(self) -> str:
        """The user as the audit log shows it."""
        return f"{self.person.name}@console"

    @property
    def reading(self) -> Reading:
        """Where lists are read; the primary for as long as a replica may lack what this user has just written."""
        kept = self.services.reading
        return kept.of_now() if self.reads_now else kept

    @property
    def reads_now(self) -> bool:
        """Whether this user may just have written what a replica lacks."""
        longest = self.services.reading.lag_max_seconds + MEASURED_SECONDS
        return self.sessions.wrote_within(self.session, longest)

    def recently(self, question: str, seconds: float, read: Callable[[], T]) -> T:
        """Return what `read` gives, or gave within the last `seconds` to someone who sees the same accounts.

        It is read anew for who has just sent a form, and from a replica: how old that is stands on the page.
        """
        if self.services.reading.place is not None:
            return read()
        wrote = self.sessions.wrote_within(self.session, seconds)
        return self.recent.get((self.person.accounts, question), read, seconds=seconds, anew=wrote)

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters."""
        return self.http.query_params

    @property
    def shows_numbers(self) -> bool:
        """Whether numbers and variables are shown unmasked."""
        return self.may(Role.OPERATOR) and self.sessions.revealed(self.session)

    def may(self, role: Role) -> bool:
        """Return whether the user's role includes another."""
        return self.person.role.includes(role)

    def note_person_looked_up(self, number: str) -> None:
        """Write to the audit log that this user looked for a person by the number; a few last digits name nobody."""
        if person_lookups.names_a_person(number):
            self.services.database.again(person_lookups.note, self.actor, number)

    def id(self, name: str = "id") -> UUID:
        """Return an id of the path. Raises `LeadNotFound`."""
        return lead_id_of(str(self.http.path_params[name]))

    def action_id(self) -> UUID:
        """Return the id of the action of a form, which makes a second click the same action. Raises `BadRequest`.

        That of a user who is confined to accounts is told apart from the same id of anybody else: it does not tell
        whether that exists.
        """
        given = identifier(self.form.get("action"))
        if self.person.accounts is None:
            return given
        return uuid5(given, f"{self.person.name}:{','.join(sorted(self.person.accounts))}")

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401  (template values)
        """Return a page for this user."""
        return self.render.page(self, template, status=status, **values)  # type: ignore[no-any-return]

    def say(self, sentence: str, kind: str = "good") -> None:
        """Show a message on the next page: `good`, `bad` or `note`."""
        self.session.notices.append((kind, sentence))

    def go(self, address: str) -> Response:
        """Redirect to another page of the console, by GET."""
        return RedirectResponse(local(address), status_code=303)


NO_PAGE: Final = "That page does not exist; begin with the first."


def whole(text: str, fault: str, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """Parse an integer in ASCII digits. Raises `BadRequest` with `fault`."""
    # Check the length first: Python refuses to parse very long numbers.
    if not text.isascii() or not text.isdecimal() or len(text) > 20 or not least <= int(text) <= most:
        raise BadRequest(fault)
    return int(text)


def identifier(text: str, fault: str = "That is not an id; go back and reload.") -> UUID:
    """Parse a UUID. Raises `BadRequest` with `fault`."""
    try:
        return UUID(text)
    except ValueError:
        raise BadRequest(fault) from None


def start_of(text: str) -> datetime | timedelta:
    """Parse a start time. Raises `BadRequest`."""
    try:
        return moments.future(text, datetime.now(UTC))
    except ValueError as fault:
        raise BadRequest(f"“{text[:40]}” as a time: {fault}.") from None


def local(address: str) -> str:
    """Return the path and query of a URL of the console; `/` for a URL of another site."""
    parts = urlsplit(address)
    unsafe = parts.scheme or parts.netloc or not address.startswith("/") or address.startswith(("//", "/\\"))
    if unsafe or not address.isprintable() or "\\" in address:
        return "/"
    return parts.path + (f"?{parts.query}" if parts.query else "")


def address(path: str, parameters: Mapping[str, object]) -> str:
    """Return a path with the parameters that have a value."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
