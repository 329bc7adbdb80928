"""Free text and JSON that may mention a phone number: where it is stored, found and taken out.

`PLACES` is the whole list. Columns of the schema that are not in it hold no text of people; a test names each of them.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.storable import storable
from dispatcher.lead.number_forms import NumberForms, foreign_digits
from dispatcher.store import encryption


@dataclass(frozen=True, slots=True)
class TextColumns:
    """A table's columns of free text.

    key     names a row
    texts   columns of type text
    jsons   columns of type jsonb
    lead    the column with the id of the lead that a row belongs to
    whole   columns that are emptied as a whole, because all of them is about the person
    """

    table: str
    key: tuple[str, ...]
    texts: tuple[str, ...] = ()
    jsons: tuple[str, ...] = ()
    lead: str | None = None
    whole: tuple[str, ...] = ()


PLACES: Final = (
    TextColumns("leads", ("id",), ("last_error", "idempotency_key", "voicery_status"), ("variables",), lead="id"),
    TextColumns("lead_contacts", ("lead_id", "position"), ("voicery_status",), ("variables",), lead="lead_id"),
    TextColumns("lead_revisions", ("lead_id", "revision"), ("note", "replaced_by"), ("variables",), lead="lead_id"),
    TextColumns("lead_attempts", ("id",), ("error", "response", "worker"), ("evidence",), lead="lead_id"),
    TextColumns("failed_leads", ("id",), ("message", "response", "note", "resolved_by"), lead="lead_id"),
    TextColumns("incidents", ("id",), ("message", "seen_by"), ("evidence",)),
    TextColumns("audit_log", ("id",), ("actor", "subject"), ("detail",)),
    TextColumns("operations", ("id",), ("actor", "stopped_by"), ("filters", "options")),
    TextColumns("operation_leads", ("operation_id", "position"), ("reason",)),
    TextColumns("gates", ("id",), ("note", "by", "refusal")),
    TextColumns("imports", ("id",), ("file_name", "actor")),
    TextColumns("import_rejections", ("id",), ("field", "reason", "original"), whole=("original",)),
    TextColumns("blocks", ("id",), ("reason", "source", "who")),
    TextColumns("api_keys", ("id",), ("name", "created_by")),
    TextColumns("webhook_mappings", ("account", "name"), ("changed_by",), ("fields", "fixed")),
    TextColumns("submitters", ("login",), ("changed_by",)),
    TextColumns("saved_filters", ("id",), ("who", "name", "query")),
    TextColumns("idempotency_keys", ("account", "key"), ("key",)),
    TextColumns("inbox", ("id",), ("idempotency_key", "caller"), ("lead", "reasons")),
)

BY_TABLE: Final = {place.table: place for place in PLACES}


@dataclass(frozen=True, slots=True)
class Mention:
    """One row that mentions the number. `values`: the columns that do, as they are. The repr shows none of them."""

    place: TextColumns
    key: Mapping[str, Any]
    values: Mapping[str, Any] = field(repr=False)
    lead_id: UUID | None = None
    owned: Mapping[str, Any] = field(default_factory=dict)  # the column that names the owner of what is encrypted


def row_name(table: str, key: Iterable[object]) -> str:
    """Return what a row is called where it is told of."""
    return f"{table} {', '.join(str(part) for part in key)}"


def find(
    connection: Connection, forms: NumberForms, place: TextColumns, unreadable: set[str] | None = None
) -> Iterator[Mention]:
    """Return the rows of one place that mention the number. Reads the whole table, and locks nothing.

    unreadable   gets the names of rows with a value that does not decrypt: whether it mentions the number is not known
    """
    read = connection.execute(_select(place), _digits_of(forms), execution_options=_STREAMED)
    for row in read.mappings():
        mention = _mention(connection, forms, place, row, unreadable)
        if mention is not None:
            yield mention


def held(connection: Connection, forms: NumberForms, mention: Mention) -> Mention | None:
    """Return a row as it is now, locked until the transaction ends; None if it mentions the number no more."""
    statement = _select(mention.place, one=True)
    row = connection.execute(statement, {**_digits_of(forms), **mention.key}).mappings().first()
    return None if row is None else _mention(connection, forms, mention.place, row)


def _mention(
    connection: Connection,
    forms: NumberForms,
    place: TextColumns,
    row: Mapping[Any, Any],
    unreadable: set[str] | None = None,
) -> "Mention | None":
    values = {name: row[name] for name in place.texts} | {
        name: json.loads(row[name]) for name in place.jsons if row[name] is not None
    }
    values, lost = encryption.readable_row(encryption.of(connection), place.table, {**row, **values}, values)
    if lost and unreadable is not None:
        unreadable.add(row_name(place.table, (row[name] for name in place.key)))
    found = {name: value for name, value in values.items() if forms.stands_in(value)}
    if not found:
        return None
    key, table = {name: row[name] for name in place.key}, encryption.TABLES.get(place.table)
    return Mention(place, key, found, row["of_lead"], {table.of: row[table.of]} if table else {})


def waiting_leads(
    connection: Connection, forms: NumberForms, *, lock: Sequence[UUID] | None = None
) -> list[tuple[UUID, list[int]]]:
    """Return the rows of the inbox whose lead has the number, or whose contacts have it, in whatever form.

    Each with the places of these contacts, from 1; without any, the number is the lead's own.

    lock   looks at these rows alone, which stay locked until the transaction ends
    """
    place = BY_TABLE["inbox"]
    found: list[tuple[UUID, list[int]]] = []
    for mention in (
        find(connection, forms, place)
        if lock is None
        else filter(None, (held(connection, forms, Mention(place, {"id": row}, {})) for row in lock))
    ):
        lead = mention.values.get("lead")
        if not isinstance(lead, dict):
            continue
        contacts = lead.get("secondary_contacts")
        named = [
            place
            for place, contact in enumerate(contacts if isinstance(contacts, list) else (), 1)
            if isinstance(contact, dict) and forms.stands_in(contact.get("phone_number"))
        ]
        if forms.stands_in(lead.get("phone_number")):
            found.append((mention.key["id"], []))
        elif named:
            found.append((mention.key["id"], named))
    return found


def remove(connection: Connection, forms: NumberForms, mention: Mention) -> None:
    """Take the number out of the row."""
    place = mention.place
    new = {
        name: "" if name in place.whole else _bound(forms.removed_from(value), as_json=name in place.jsons)
        for name, value in mention.values.items()
    }
    new = encryption.encrypted_row(encryption.of(connection), place.table, {**mention.key, **mention.owned}, new)
    changes = ", ".join(
        f"{name} = CAST(:new_{name} AS jsonb)" if name in place.jsons else f"{name} = :new_{name}" for name in new
    )
    row = " AND ".join(f"{name} = :{name}" for name in place.key)
    connection.execute(
        text(f"UPDATE dispatcher.{place.table} SET {changes} WHERE {row}"),
        {**mention.key, **{f"new_{name}": value for name, value in new.items()}},
    )


def _bound(value: Any, *, as_json: bool) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(storable(value), ensure_ascii=False) if as_json else str(value)


_STREAMED: Final = {"stream_results": True, "yield_per": 1000}


def _select(place: TextColumns, *, one: bool = False) -> Any:  # noqa: ANN401 - SQLAlchemy's clause
    table = encryption.TABLES.get(place.table)
    columns = dict.fromkeys([*place.key, *([table.of] if table else []), *place.texts])
    hidden = f" OR strpos(said.whole, '{encryption.ENCRYPTED}') > 0" if table else ""
    row = "".join(f" AND {name} = :{name}" for name in place.key) if one else ""
    jsons = [f"CAST({name} AS text) AS {name}" for name in place.jsons]
    searched = ", ".join([*place.texts, *(f"CAST({name} AS text)" for name in place.jsons)])
    lead = f"{place.lead} AS of_lead" if place.lead else "CAST(NULL AS uuid) AS of_lead"
    return text(f"""
        SELECT {", ".join([*columns, *jsons, lead])} FROM dispatcher.{place.table}
        CROSS JOIN LATERAL (SELECT concat_ws(' ', {searched}) AS whole) AS said
        -- Cheap and too much: `NumberForms` looks at what is left.
        WHERE (strpos(regexp_replace(
            CASE WHEN said.whole ~ :foreign_class THEN translate(said.whole, :foreign, :ascii) ELSE said.whole END,
            '[^0-9]', '', 'g'), :digits) > 0{hidden}){row}
        ORDER BY {", ".join(place.key)} {f"FOR UPDATE OF {place.table}" if one else ""}
    """)


def _digits_of(forms: NumberForms) -> dict[str, str]:
    foreign = foreign_digits()
    return {
        "digits": forms.national_digits,
        "foreign": foreign,
        "foreign_class": f"[{foreign}]",
        "ascii": "".join(str(unicodedata.decimal(character)) for character in foreign),
    }
