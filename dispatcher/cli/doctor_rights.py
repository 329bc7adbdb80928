"""What `doctor` says of the rights of the database role: what it may do, and what a worker lacks as GRANTs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection, text

from dispatcher.cli.doctor import Check, Grade
from dispatcher.store.rights import VERBS, Part, Right, quoted, rights_of

# By the ids of schema and tables: their names are refused to a role without USAGE on the schema.
_HELD: Final = text("""
SELECT current_user AS role, has_schema_privilege(space.oid, 'USAGE') AS enters, wanted.number,
    CASE WHEN wanted.columns = '[]' THEN has_table_privilege(class.oid, wanted.privilege)
         ELSE (SELECT bool_and(has_column_privilege(class.oid, name, wanted.privilege))
               FROM jsonb_array_elements_text(wanted.columns) AS listed (name))
    END AS held
FROM jsonb_to_recordset(CAST(:wanted AS jsonb)) AS wanted (number int, "table" text, privilege text, columns jsonb)
JOIN pg_namespace AS space ON space.nspname = 'dispatcher'
JOIN pg_class AS class ON class.relnamespace = space.oid AND class.relname = wanted."table"
ORDER BY wanted.number
""")

_NAMES: Final = text("SELECT part, name FROM dispatcher.database_roles")
_LISTED: Final = 8
_PARTS: Final = [part for part in Part if part not in {Part.OWNER, Part.SUBMITTER}]
"""Those that a process of the dispatcher may log in as. A submitter is an application's own login."""


@dataclass(frozen=True, slots=True)
class _Role:
    """The connected role, and which of the rights in the table it has."""

    name: str
    enters: bool
    held: frozenset[Right]

    def lacking(self, *parts: Part) -> list[Right]:
        """Return what it lacks of the rights of these parts."""
        return [right for right in rights_of(*parts) if right not in self.held]

    def parts(self) -> list[Part]:
        """Return the parts of which it has every right."""
        return [part for part in _PARTS if self.enters and not self.lacking(part)]

    def strays(self) -> bool:
        """Return whether it may write what belongs to a part of which it has not every right."""
        covered = {(right.table, right.privilege) for right in rights_of(*self.parts())}
        writes = {(right.table, right.privilege) for right in self.held if right.privilege != "SELECT"}
        return not writes <= covered


def rights(connection: Connection) -> Iterator[Check]:
    """Say what the role may do; a doctor expects that of a worker, who also deletes what is old."""
    role = _asked(connection)
    held = role.parts()
    verbs = _listed([VERBS[part] for part in held])
    names = _names(connection) if role.enters and not _hides(role, "database_roles") else {}
    if held == _PARTS:
        yield Check("Rights", Grade.GOOD, "the role may read and write the dispatcher's tables")
    elif not held or role.strays():
        missing = role.lacking(*_PARTS)
        lacks = list(dict.fromkeys(f"{one.privilege} on dispatcher.{one.table}" for one in missing))
        lacks = [*([] if role.enters else ["USAGE on schema dispatcher"]), *lacks]
        more = f" and {len(lacks) - _LISTED} more" if len(lacks) > _LISTED else ""
        found = f"the role {role.name} lacks {', '.join(lacks[:_LISTED])}{more}"
        yield Check("Rights", Grade.BAD, found, _grants(role, missing, names))
    elif Part.WORKER not in held:
        advice = f"For workers: {_grants(role, role.lacking(Part.WORKER, Part.RETENTION), names)}"
        found = f"the role {role.name} may {verbs}, and not {VERBS[Part.WORKER]}"
        yield Check("Rights", Grade.DOUBTFUL, found, advice)
    elif Part.RETENTION not in held:
        found = f"the role {role.name} may {verbs}, and not {VERBS[Part.RETENTION]}: what is old stays"
        advice = f"Run `dispatcher prune` as another role, or {_grants(role, role.lacking(Part.RETENTION), names)}"
        yield Check("Rights", Grade.DOUBTFUL, found, advice)
    else:
        yield Check("Rights", Grade.GOOD, f"the role {role.name} may {verbs}")


def may_read(connection: Connection) -> bool:
    """Return whether the role may read every table, so that the other checks can ask."""
    role = _asked(connection)
    return role.enters and not role.lacking(Part.READER)


def _asked(connection: Connection) -> _Role:
    wanted = list(rights_of(*_PARTS))
    asked = [
        {"number": number, "table": right.table, "privilege": right.privilege, "columns": list(right.columns)}
        for number, right in enumerate(wanted)
    ]
    rows = connection.execute(_HELD, {"wanted": orjson.dumps(asked).decode()}).all()
    # What is on a table that is missing counts as held: `doctor` says of the schema that it is old.
    held = frozenset(wanted) - {wanted[row.number] for row in rows if not row.held}
    return _Role(rows[0].role, rows[0].enters, held) if rows else _Role("", True, held)


def _names(connection: Connection) -> dict[Part, str]:
    if connection.execute(text("SELECT to_regclass('dispatcher.database_roles')")).scalar() is None:
        return {}
    return {Part(row.part): row.name for row in connection.execute(_NAMES)}


def _hides(role: _Role, table: str) -> bool:
    return any(right.table == table for right in role.lacking(Part.READER))


def _grants(role: _Role, missing: Sequence[Right], names: Mapping[Part, str]) -> str:
    """Return the statements that give what is missing: of the roles that were made for it, else of whole tables."""
    to = quoted(role.name)
    if names:
        return " ".join(f"GRANT {quoted(names[part])} TO {to};" for part in dict.fromkeys(one.part for one in missing))
    wanted: dict[str, dict[str, None]] = {}
    for one in missing:
        wanted.setdefault(one.table, {})[one.privilege] = None
    alike: dict[str, list[str]] = {}
    for table, privileges in wanted.items():
        alike.setdefault(", ".join(privileges), []).append(f"dispatcher.{table}")
    statements = [] if role.enters else [f"GRANT USAGE ON SCHEMA dispatcher TO {to};"]
    statements += [f"GRANT {privileges} ON {', '.join(tables)} TO {to};" for privileges, tables in alike.items()]
    return " ".join(statements)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
