"""Who may do what in the database: one table of rights by role, from which the GRANTs are made, checked and explained.

A new table needs a row here; `tests/database/test_roles.py` compares the rows with the tables of the schema.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Part(StrEnum):
    """What a database role is for. `OWNER` owns the schema and is not in the table: it may do everything there."""

    OWNER = "owner"
    PRODUCER = "producer"
    SUBMITTER = "submitter"
    WORKER = "worker"
    OPERATOR = "operator"
    READER = "reader"
    RETENTION = "retention"


VERBS: Final[Mapping[Part, str]] = MappingProxyType(
    {
        Part.OWNER: "migrate",
        Part.PRODUCER: "submit",
        Part.SUBMITTER: "submit by SQL",
        Part.WORKER: "deliver",
        Part.OPERATOR: "act on leads",
        Part.READER: "read",
        Part.RETENTION: "delete",
    }
)

_READS: Final = dict.fromkeys((Part.WORKER, Part.OPERATOR, Part.READER, Part.RETENTION), "SELECT")

# What tells whether a person's lead is live, and whether a submission is a repetition: no variables, no answers.
_LEADS_SEEN: Final = (
    "SELECT (id, account, campaign_id, phone_number, state, failure_class, allow_dupplicate, resolved_at, duplicate_of,"
    " attempt_id, payload_hash, batch_id, due_at, created_at, finished_at)"
)
_LEADS_BORN: Final = (
    "INSERT (id, account, campaign_id, phone_number, variables, allow_dupplicate, state, failure_class, last_error,"
    " priority, due_at, expires_at, duplicate_of, idempotency_key, payload_hash, batch_id, finished_at)"
)
_KEYS_BORN: Final = "INSERT (account, key, lead_id, payload_hash, state, duplicate_of)"
_CONTACTS_BORN: Final = "INSERT (lead_id, position, account, phone_number, variables)"
_COUNTS: Final = "submitted, duplicates, repeated, rejected, blocked"
_NOTE: Final = "SELECT, INSERT (actor, action, subject, detail)"

RIGHTS: Final[Mapping[str, Mapping[Part, str]]] = MappingProxyType(
    {
        "accounts": {
            **_READS,
            Part.WORKER: "SELECT, INSERT, UPDATE",
            Part.RETENTION: "SELECT, INSERT (name, watermark), UPDATE (watermark)",
        },
        "alembic_version": {**_READS, Part.PRODUCER: "SELECT"},
        "alerts": {
            **_READS,
            Part.WORKER: "SELECT, INSERT, UPDATE, DELETE",
            Part.OPERATOR: "SELECT, INSERT (kind, cause, account, campaign_id, reason, lead_id)",
        },
        "api_keys": {
            **_READS,
            Part.PRODUCER: "SELECT, UPDATE (last_used_at)",
            Part.OPERATOR: "SELECT, INSERT, UPDATE",
            Part.RETENTION: "SELECT, UPDATE (name, created_by), DELETE",
        },
        "audit_chain": {**_READS},
        "audit_log": {
            **_READS,
            Part.WORKER: _NOTE,
            Part.OPERATOR: _NOTE,
            Part.RETENTION: f"{_NOTE}, UPDATE (actor, subject, detail)",
        },
        "blocks": {
            **_READS,
            Part.PRODUCER: "SELECT (id, number, digest, account, reason, source, until)",
            Part.OPERATOR: "SELECT, INSERT, UPDATE, DELETE",
            Part.RETENTION: "SELECT, INSERT, UPDATE (reason, source, who, created_at, until), DELETE",
        },
        "channels": {
            **_READS,
            Part.PRODUCER: "SELECT (account, campaign_id, rate_limit)",
            Part.WORKER: "SELECT, INSERT, UPDATE",
            Part.OPERATOR: "SELECT, INSERT, UPDATE",
        },
        "database_roles": {**_READS, Part.PRODUCER: "SELECT"},
        "encryption_keys": {
            **_READS,
            Part.PRODUCER: "SELECT, INSERT (id)",
            Part.WORKER: "SELECT, INSERT (id)",
            Part.OPERATOR: "SELECT, INSERT (id)",
            Part.RETENTION: "SELECT, INSERT (id), DELETE",
        },
        "erased_leads": {
            **_READS,
            Part.PRODUCER: "SELECT",
            Part.RETENTION: "SELECT, INSERT (account, campaign_id, person, lead_id), UPDATE (erased_at), DELETE",
        },
        "failed_leads": {
            **_READS,
            Part.PRODUCER: "INSERT (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message,"
            " attempts)",
            Part.WORKER: "SELECT, INSERT, UPDATE",
            Part.OPERATOR: "SELECT, INSERT, UPDATE",
            Part.RETENTION: "SELECT, UPDATE (phone_number, message, response, note, resolved_by)",
        },
        "gates": {
            **_READS,
            Part.PRODUCER: "SELECT (account, campaign_id, state, reason)",
            Part.WORKER: "SELECT, INSERT, UPDATE",
            Part.OPERATOR: "SELECT, INSERT, UPDATE",
            Part.RETENTION: "SELECT, UPDATE (note, by, refusal)",
        },
        "idempotency_keys": {
            **_READS,
            Part.PRODUCER: f"SELECT, {_KEYS_BORN}",
            Part.WORKER: f"SELECT, {_KEYS_BORN}",
            Part.RETENTION: "SELECT, UPDATE (key, payload_hash), DELETE",
        },
        "import_rejections": {
            **_READS,
            Part.PRODUCER: "INSERT (import_id, line, field, reason, original)",
            Part.RETENTION: "SELECT, UPDATE (field, reason, original)",
        },
        "imports": {
            **_READS,
            Part.PRODUCER: f"SELECT (id, {_COUNTS}), INSERT (batch_id, file_name, account, actor),"
            f" UPDATE ({_COUNTS}, updated_at, finished_at)",
            Part.RETENTION: "SELECT, UPDATE (file_name, actor), DELETE",
        },
        "inbox": {
            **_READS,
            Part.WORKER: "SELECT, UPDATE, DELETE",
            Part.OPERATOR: "SELECT, UPDATE (state, ended_at, reasons), DELETE",
            Part.RETENTION: "SELECT, UPDATE (lead, idempotency_key, caller, reasons), DELETE",
        },
        "incidents": {
            **_READS,
            Part.WORKER: "SELECT, INSERT (kind, lead_id, message, evidence)",
            Part.OPERATOR: "SELECT, INSERT (kind, lead_id, message, evidence), UPDATE (seen_at, seen_by)",
            Part.RETENTION: "SELECT, UPDATE (message, seen_by, evidence), DELETE",
        },
        "lead_attempts": {
            **_READS,
            Part.WORKER: "SELECT, INSERT, UPDATE",
            Part.OPERATOR: "SELECT, UPDATE",
            Part.RETENTION: "SELECT, UPDATE (phone_number, error, response, worker, evidence)",
        },
        "lead_contacts": {
            **_READS,
            Part.PRODUCER: _CONTACTS_BORN,
            Part.WORKER: f"SELECT, {_CONTACTS_BORN}, UPDATE (voicery_lead_id, voicery_status, dropped_at)",
            Part.RETENTION: "SELECT, UPDATE (voicery_status, phone_number, variables), DELETE",
        },
        "lead_revisions": {
            **_READS,
            Part.PRODUCER: "SELECT (lead_id, campaign_id, payload_hash)",
            Part.WORKER: "SELECT, INSERT",
            Part.OPERATOR: "SELECT, INSERT",
            Part.RETENTION: "SELECT, UPDATE (note, replaced_by, variables, payload_hash), DELETE",
        },
        "leads": {
            **_READS,
            Part.PRODUCER: f"{_LEADS_SEEN}, {_LEADS_BORN}",
            Part.WORKER: f"SELECT, {_LEADS_BORN}, UPDATE",
            Part.OPERATOR: "SELECT, UPDATE",
            Part.RETENTION: "SELECT, DELETE,"
            " UPDATE (last_error, idempotency_key, voicery_status, variables, payload_hash)",
        },
        "operation_leads": {
            **_READS,
            Part.WORKER: "SELECT, UPDATE (outcome, reason)",
            Part.OPERATOR: "SELECT, INSERT",
            Part.RETENTION: "SELECT, UPDATE (reason)",
        },
        "operations": {
            **_READS,
            Part.WORKER: "SELECT, UPDATE",
            Part.OPERATOR: "SELECT, INSERT, UPDATE",
            Part.RETENTION: "SELECT, UPDATE (actor, stopped_by, filters, options), DELETE",
        },
        "privacy_key": {
            **_READS,
            Part.OPERATOR: "SELECT, INSERT (id)",
            Part.RETENTION: "SELECT, INSERT (id)",
        },
        "submissions": {**_READS, Part.PRODUCER: "SELECT", Part.SUBMITTER: "SELECT"},
        "saved_filters": {
            **_READS,
            Part.OPERATOR: "SELECT, INSERT (who, page, name, query), UPDATE (query), DELETE",
            Part.RETENTION: "SELECT, UPDATE (who, name, query)",
        },
        "submitters": {
            **_READS,
            Part.OPERATOR: "SELECT, INSERT, UPDATE, DELETE",
            Part.RETENTION: "SELECT, UPDATE (changed_by)",
        },
        "sweeps": {
            **_READS,
            Part.WORKER: "SELECT, UPDATE",
            Part.RETENTION: "SELECT, UPDATE (pruned_at)",
        },
        "tallies": {
            **_READS,
            Part.PRODUCER: "SELECT, INSERT, UPDATE (value)",
            Part.WORKER: "SELECT, INSERT, UPDATE",
        },
        "webhook_mappings": {
            **_READS,
            Part.PRODUCER: "SELECT",
            Part.OPERATOR: "SELECT, INSERT, UPDATE, DELETE",
            Part.RETENTION: "SELECT, UPDATE (fields, fixed, changed_by)",
        },
        "workers": {**_READS, Part.WORKER: "SELECT, INSERT, UPDATE, DELETE"},
    }
)
"""By table or view, and role: privileges, and the columns they are limited to, where they are. None: nothing."""

CONFINED_PREFIX: Final = "confined_"
CONFINED: Final = frozenset(
    {
        "audit_log",
        "blocks",
        "channels",
        "erased_leads",
        "failed_leads",
        "gates",
        "idempotency_keys",
        "import_rejections",
        "imports",
        "inbox",
        "incidents",
        "lead_attempts",
        "lead_contacts",
        "lead_revisions",
        "leads",
        "operation_leads",
        "operations",
        "sweeps",
        "workers",
    }
)
"""The tables that have a view of some accounts' rows, on which an operator has the same rights."""

FUNCTIONS: Final[Mapping[str, tuple[Part, ...]]] = MappingProxyType(
    {
        "prune_audit(timestamptz, text, int)": (Part.RETENTION,),
        "submit_lead(jsonb, text, text, int, timestamptz, timestamptz)": (Part.SUBMITTER, Part.PRODUCER),
    }
)
"""Functions that run with the owner's rights, and who may call each; those that are not here, only triggers call."""

_LEAST_FIRST: Final = (Part.SUBMITTER, Part.READER, Part.PRODUCER, Part.OPERATOR, Part.WORKER, Part.RETENTION)
_PRIVILEGE: Final = re.compile(r"(?P<privilege>[A-Z]+)(?: \((?P<columns>[^)]*)\))?")
_WRITES: Final = {
    "INSERT": r"(?:INSERT INTO|COPY) dispatcher\.{table}\b",
    "UPDATE": r"UPDATE dispatcher\.{table}\b|\bDO UPDATE\b|\bFOR (?:NO KEY )?UPDATE\b",
    "DELETE": r"DELETE FROM dispatcher\.{table}\b",
    "SELECT": r"(?:FROM|JOIN) dispatcher\.{table}\b|RETURNING",
}


@dataclass(frozen=True, slots=True)
class Right:
    """One privilege on one table; `columns` empty: on the whole of it."""

    part: Part
    table: str
    privilege: str
    columns: tuple[str, ...] = ()

    def grant(self, role: str) -> str:
        """Return the statement that gives it to `role`, which is quoted already."""
        columns = f" ({', '.join(self.columns)})" if self.columns else ""
        return f"GRANT {self.privilege}{columns} ON dispatcher.{self.table} TO {role}"


def rights_of(*parts: Part) -> Iterator[Right]:
    """Yield the rights of these roles, by table."""
    for table, by_part in RIGHTS.items():
        for part in parts:
            for found in _PRIVILEGE.finditer(by_part.get(part, "")):
                columns = tuple(found["columns"].split(", ")) if found["columns"] else ()
                yield Right(part, table, found["privilege"], columns)
                if part is Part.OPERATOR and table in CONFINED:
                    yield Right(part, f"{CONFINED_PREFIX}{table}", found["privilege"], columns)


def parts_with(table: str, privileges: frozenset[str]) -> list[Part]:
    """Return the roles that have all of these privileges on the whole table; if none has, on some of its columns.

    The one that may do least comes first.
    """
    whole: dict[Part, set[str]] = {}
    some: dict[Part, set[str]] = {}
    for right in rights_of(*_LEAST_FIRST):
        if right.table == table:
            some.setdefault(right.part, set()).add(right.privilege)
            if not right.columns:
                whole.setdefault(right.part, set()).add(right.privilege)
    return [part for part in _LEAST_FIRST if privileges <= whole.get(part, set())] or [
        part for part in _LEAST_FIRST if privileges <= some.get(part, set())
    ]


def needed_by(statement: str, table: str) -> frozenset[str]:
    """Return the privileges that the SQL statement needs on the table."""
    return frozenset(
        privilege for privilege, pattern in _WRITES.items() if re.search(pattern.format(table=table), statement)
    )


def quoted(name: str) -> str:
    """Return a name of Postgres as a statement writes it."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Refused:
    """What Postgres refused a role (SQLSTATE 42501).

    table        the table of ours; None: the schema, a function, or something else
    privileges   those that the statement needs on the table; empty where the statement is not known
    ownership    only the owner may do it
    """

    table: str | None
    privileges: frozenset[str]
    ownership: bool = False

    @classmethod
    def of(cls, message: str, statement: str) -> "Refused":
        """Read the server's message, of which only the name of a table of ours is kept, in whatever language it is."""
        names = sorted([*RIGHTS, *(f"{CONFINED_PREFIX}{table}" for table in CONFINED)], key=len, reverse=True)
        table = next((name for name in names if re.search(rf"\b{name}\b", message)), None)
        needed = frozenset() if table is None else needed_by(statement, table)
        return cls(table, needed, "must be owner" in message)

    def sentence(
        self,
        role: str | None = None,
        lacking: Iterable[str] = (),
        names: Mapping[Part, str] = MappingProxyType({}),
        *,
        enters: bool = True,
    ) -> str:
        """Return what is missing and the GRANT that gives it.

        role      the login, where it could be asked for
        lacking   the privileges that it lacks on the table, where that could be asked for
        names     the roles that `dispatcher migrate --with-roles` made
        enters    whether it has USAGE on the schema
        """
        who = "The role of DATABASE_URL" if role is None else f"The database role {role}"
        to = "it" if role is None else quoted(role)
        missing = sorted(frozenset(lacking) or self.privileges)
        able: Sequence[Part] = _LEAST_FIRST
        give = "`dispatcher doctor` names the missing GRANT"
        if self.ownership:
            what, able = "the ownership of the dispatcher's tables", [Part.OWNER]
            give = "log in as the role that ran `dispatcher migrate`"
        elif self.table is not None:
            what = f"the right {' and '.join(missing) or 'to do this'} on dispatcher.{self.table}"
            able = parts_with(self.table, frozenset(missing))
            if missing:
                give = f"GRANT {', '.join(missing)} ON dispatcher.{self.table} TO {to}"
        elif not enters:
            what = "the right USAGE on the schema dispatcher"
        else:
            what = "a right on something in the schema dispatcher"
        if names and able:
            give = " or ".join(f"GRANT {quoted(names[part])} TO {to}" for part in able[:2])
        return f"{who} lacks {what}; {give} (SQLSTATE 42501)."
