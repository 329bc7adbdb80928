"""What `doctor` says of the rights of the database role: each missing one as the GRANT that gives it."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from dispatcher.cli.doctor import Check, Verdict

_RIGHTS: Final = text("""
SELECT current_user AS role, 'SCHEMA' AS kind, nspname AS name, 'USAGE' AS privilege,
    has_schema_privilege(oid, 'USAGE') AS held
FROM pg_namespace WHERE nspname = 'dispatcher'
UNION ALL
SELECT current_user, 'TABLE', relname, privilege, has_table_privilege(oid, privilege)
FROM pg_class CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted (privilege)
WHERE relnamespace = to_regnamespace('dispatcher') AND relkind = 'r'
  AND (relname <> 'alembic_version' OR privilege = 'SELECT')
UNION ALL
SELECT current_user, 'FUNCTION', proname, 'EXECUTE', has_function_privilege(oid, 'EXECUTE')
FROM pg_proc
WHERE pronamespace = to_regnamespace('dispatcher') AND prorettype <> 'trigger'::regtype
ORDER BY 2, 3, 4
""")

_LISTED: Final = 8
_OF_PRODUCERS: Final = frozenset(
    (table, privilege)
    for table in ("leads", "lead_contacts", "idempotency_keys")
    for privilege in ("SELECT", "INSERT", "UPDATE")
)


def rights(connection: Connection) -> Iterator[Check]:
    """Compare the rights of the role with what a worker needs; a producer and a reader need less."""
    asked = connection.execute(_RIGHTS).all()
    missing = [one for one in asked if not one.held]
    if not missing:
        yield Check("Rights", Verdict.GOOD, "the role may read and write the dispatcher's tables")
        return
    role = missing[0].role
    use = _use({(one.name, one.privilege) for one in asked if one.held}, {(one.name, one.privilege) for one in missing})
    if use is not None:
        yield Check(
            "Rights",
            Verdict.DOUBTFUL,
            f"the role {role} may {use}, and not deliver",
            f"For workers: {_grants(missing)}",
        )
        return
    found = ", ".join(_object(one.kind, one.name, one.privilege) for one in missing[:_LISTED])
    more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
    yield Check("Rights", Verdict.BAD, f"the role {role} lacks {found}{more}", _grants(missing))


def may_read(connection: Connection) -> bool:
    """Whether the role may read every table, so that the other checks can ask."""
    needed = {"USAGE", "SELECT", "EXECUTE"}
    return all(one.held for one in connection.execute(_RIGHTS) if one.privilege in needed)


def _use(held: set[tuple[str, str]], missing: set[tuple[str, str]]) -> str | None:
    """What the role may have been made for: to submit or to read, and nothing else."""
    writes = {(table, privilege) for table, privilege in held if privilege in {"INSERT", "UPDATE", "DELETE"}}
    if not missing & (_OF_PRODUCERS | {("dispatcher", "USAGE")}) and writes <= _OF_PRODUCERS:
        return "submit"
    if not writes and not any(privilege in {"USAGE", "SELECT", "EXECUTE"} for _, privilege in missing):
        return "read"
    return None


def _object(kind: str, name: str, privilege: str) -> str:
    return f"{privilege} on schema {name}" if kind == "SCHEMA" else f"{privilege} on dispatcher.{name}"


def _grants(missing: Sequence[Row[Any]]) -> str:
    """The statements that give what is missing, as few as there can be."""
    wanted: dict[tuple[str, str], list[str]] = {}
    for one in missing:
        wanted.setdefault((one.kind, one.name), []).append(one.privilege)
    statements: dict[tuple[str, str], list[str]] = {}
    for (kind, name), privileges in wanted.items():
        statements.setdefault((kind, ", ".join(privileges)), []).append(name)
    quoted = '"' + missing[0].role.replace('"', '""') + '"'
    return " ".join(
        f"GRANT {privileges} ON {_place(kind, names)} TO {quoted};" for (kind, privileges), names in statements.items()
    )


def _place(kind: str, names: list[str]) -> str:
    if kind == "SCHEMA":
        return f"SCHEMA {names[0]}"
    listed = ", ".join(f"dispatcher.{name}" for name in names)
    return f"FUNCTION {listed}" if kind == "FUNCTION" else listed
