"""The filters that a user of the console has saved under names, for the lists of leads and of failed leads."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Connection, text

from dispatcher.errors import NotAllowed
from dispatcher.lead.masking import mask_numbers
from dispatcher.operator.record import Record

Page = Literal["leads", "failed"]

_MOST: Final = 30
_LONGEST_NAME: Final = 60

_OF = text("""
SELECT id, page, name, query, created_at FROM dispatcher.saved_filters WHERE who = :who AND page = :page ORDER BY name
""")

_SAVE = text("""
INSERT INTO dispatcher.saved_filters (who, page, name, query) VALUES (:who, :page, :name, :query)
ON CONFLICT (who, page, name) DO UPDATE SET query = excluded.query
""")

_REMOVE = text("DELETE FROM dispatcher.saved_filters WHERE id = :id AND who = :who RETURNING name")


@dataclass(frozen=True, slots=True)
class SavedFilter(Record):
    """Filters under a name. `query` is the query string of the list's address."""

    id: int
    page: Page
    name: str
    query: str
    created_at: datetime


def of(connection: Connection, who: str, page: Page) -> list[SavedFilter]:
    """Return the filters that a user has saved for a page, by name."""
    return list(map(SavedFilter.of, connection.execute(_OF, {"who": who, "page": page}).mappings()))


def save(connection: Connection, who: str, page: Page, name: str, query: str) -> None:
    """Save filters under a name, in place of those that have it. Raises `NotAllowed`.

    query   must name no person: a saved filter is shown to whoever looks at the screen, and outlives an erasure
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise NotAllowed(f"A saved filter needs a name of at most {_LONGEST_NAME} characters.")
    if mask_numbers(name) != name:
        raise NotAllowed("The name holds what may be a person's number; choose another.")
    if not query:
        raise NotAllowed("There is no filter to save: filter first.")
    if len(of(connection, who, page)) >= _MOST:
        raise NotAllowed(f"{_MOST} filters are saved for this list; remove one first.")
    connection.execute(_SAVE, {"who": who, "page": page, "name": name, "query": query})


def remove(connection: Connection, who: str, saved_id: int) -> str | None:
    """Remove a filter that the user has saved, and return its name; None if there is none."""
    name = connection.execute(_REMOVE, {"id": saved_id, "who": who}).scalar()
    return None if name is None else str(name)
