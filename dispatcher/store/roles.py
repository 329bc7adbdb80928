"""Make the database roles of `dispatcher.store.rights` and give each its rights. Safe to repeat.

The roles are groups without a login and without a password: people and processes log in as roles of their own, to which
these are granted. Only `dispatcher migrate` imports this.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, Engine, text

from dispatcher.errors import NotConfigured
from dispatcher.store.ddl import Tell, under_lock
from dispatcher.store.rights import FUNCTIONS, Part, quoted, rights_of
from dispatcher.store.schema import SCHEMA

Names = Mapping[Part, str]
"""The name of the database role of each part."""

DEFAULT_PREFIX: Final = f"{SCHEMA}_"
_LONGEST: Final = 63  # bytes of a name in Postgres

_KNOWN: Final = text(f"SELECT part, name FROM {SCHEMA}.database_roles")
_REMEMBER: Final = text(f"""
INSERT INTO {SCHEMA}.database_roles (part, name)
SELECT part, name FROM unnest(CAST(:parts AS text[]), CAST(:names AS text[])) AS made (part, name)
""")
_ME: Final = text("""
SELECT me.rolname AS name, me.rolsuper AS superuser, me.rolcreaterole AS creates,
    ARRAY(SELECT CAST(rolname AS text) FROM pg_roles WHERE rolname = ANY (:names)) AS there,
    ARRAY(SELECT CAST(rolname AS text) FROM pg_roles WHERE rolname = ANY (:names) AND rolsuper) AS mighty,
    coalesce((SELECT pg_has_role(me.oid, made.oid, 'USAGE') FROM pg_roles AS made WHERE made.rolname = :owner), false)
        AS owns
FROM pg_roles AS me WHERE me.rolname = current_user
""")

# The sequence of an identity column follows its table. The schema comes first: an owner must be able to create in it.
_OWNED_BY_OTHERS: Final = text("""
SELECT 'SCHEMA ' || quote_ident(nspname) AS what, '' AS of_table
FROM pg_namespace WHERE nspname = :schema AND nspowner <> CAST(:owner AS regrole)
UNION ALL
SELECT 'TABLE ' || CAST(CAST(class.oid AS regclass) AS text), class.relname
FROM pg_class AS class
WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm')
  AND relowner <> CAST(:owner AS regrole)
UNION ALL
SELECT 'FUNCTION ' || CAST(CAST(routine.oid AS regprocedure) AS text), ''
FROM pg_proc AS routine
WHERE pronamespace = CAST(:schema AS regnamespace) AND proowner <> CAST(:owner AS regrole)
ORDER BY 2, 1 DESC
""")

_COLUMNS: Final = text("""
SELECT CAST(attname AS text) FROM pg_attribute
WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped
""")


def names_of(prefix: str = DEFAULT_PREFIX, others: Iterable[str] = ()) -> Names:
    """Return the names of all roles: the prefix and the part, or as `others` say: `producer=web_shop`.

    Raises `NotConfigured` for a part that does not exist, or a name that Postgres does not take.
    """
    names = {part: f"{prefix}{part}" for part in Part}
    for one in others:
        part, found, name = one.partition("=")
        if part not in set(Part) or not found:
            parts = ", ".join(Part)
            raise NotConfigured(f"--role {one} names no role; write PART=NAME, with one of {parts}.")
        names[Part(part)] = name
    for part, name in names.items():
        if not 0 < len(name.encode()) <= _LONGEST or not name.isprintable() or name.startswith("pg_"):
            raise NotConfigured(
                f"The name of the role {part} cannot be one in Postgres; choose up to {_LONGEST} printable bytes that "
                "do not begin with pg_."
            )
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    if twice:
        raise NotConfigured(f"Two roles would be called {', '.join(sorted(twice))}; give each part a name of its own.")
    return names


def known(connection: Connection) -> Names:
    """Return the roles that were made for this database; none before `dispatcher migrate --with-roles`."""
    return {Part(row.part): row.name for row in connection.execute(_KNOWN)}


def set_up(engine: Engine, wanted: Names | None, tell: Tell) -> Names:
    """Make the roles, let the owner own the schema, and give each its rights; return the names.

    wanted   None: those that were made before, if there are any and this login may administer them

    Raises `NotConfigured` if this login may not; the message has the statements for somebody who may.
    """
    with engine.begin() as connection:
        before = known(connection)
        names = wanted or before
        if not names or (wanted is None and not _owns(connection, names)):
            return before
        _make(connection, names)
    _hand_over(engine, names[Part.OWNER], tell)
    with engine.begin() as connection:
        stale = set(before.values()) - set(names.values())
        _grant(connection, names, stale)
    return names


def give_rights(connection: Connection, table: str, tell: Tell) -> None:
    """Give the roles that were made what they may do with a table or view that an upgrade has just created.

    Without it they would have to wait for `set_up`, and meanwhile a statement of theirs would fail that reads the new
    table by a function or a trigger. What exists so far of the table's columns is granted.
    """
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": f"{SCHEMA}.database_roles"}).scalar() is None:
        return
    names = known(connection)
    if not names or not _owns(connection, names):
        return
    _hand_over_all(connection, names[Part.OWNER], tell)
    there = set(connection.execute(_COLUMNS, {"name": f"{SCHEMA}.{table}"}).scalars())
    for right in rights_of(*(part for part in names if part is not Part.OWNER)):
        columns = tuple(column for column in right.columns if column in there)
        if right.table == table and there and bool(columns) == bool(right.columns):
            connection.exec_driver_sql(replace(right, columns=columns).grant(quoted(names[right.part])))
    for function, parts in FUNCTIONS.items():
        if connection.execute(text("SELECT to_regprocedure(:name)"), {"name": f"{SCHEMA}.{function}"}).scalar() is None:
            continue
        for part in names.keys() & parts:
            connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {SCHEMA}.{function} TO {quoted(names[part])}")


def _owns(connection: Connection, names: Names) -> bool:
    row = connection.execute(_ME, {"names": list(names.values()), "owner": names[Part.OWNER]}).one()
    return bool(row.superuser or row.owns)


def _make(connection: Connection, names: Names) -> None:
    owner = names[Part.OWNER]
    me = connection.execute(_ME, {"names": list(names.values()), "owner": owner}).one()
    if me.mighty:
        raise NotConfigured(
            f"The role {me.mighty[0]} is a superuser, whom no right binds; choose another name with --role or "
            "--role-prefix."
        )
    missing = [name for name in names.values() if name not in me.there]
    needed = [f"CREATE ROLE {quoted(name)} NOLOGIN" for name in missing]
    if not (me.superuser or me.owns):
        needed.append(f"GRANT {quoted(owner)} TO {quoted(me.name)}")
    if needed and not (me.superuser or me.creates):
        raise NotConfigured(
            f"The role {me.name} may not make roles. Let an administrator of Postgres run: {'; '.join(needed)}; then "
            "run `dispatcher migrate --with-roles` again."
        )
    for statement in needed:
        connection.exec_driver_sql(statement)


def _hand_over(engine: Engine, owner: str, tell: Tell) -> None:
    """Let the owner own the schema and everything in it, each in a transaction of its own that waits for no writer."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        _hand_over_all(connection, owner, tell)


def _hand_over_all(connection: Connection, owner: str, tell: Tell) -> None:
    for row in connection.execute(_OWNED_BY_OTHERS, {"schema": SCHEMA, "owner": quoted(owner)}).all():
        under_lock(connection, f"ALTER {row.what} OWNER TO {quoted(owner)}", table=row.of_table, tell=tell)


def _grant(connection: Connection, names: Names, stale: Iterable[str]) -> None:
    """Replace the rights of all roles, in one transaction: nobody is without a right meanwhile."""
    others = [name for part, name in names.items() if part is not Part.OWNER]
    for name in (*stale, *others):
        connection.exec_driver_sql(f"REVOKE ALL ON ALL TABLES IN SCHEMA {SCHEMA} FROM {quoted(name)}")
        connection.exec_driver_sql(f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {SCHEMA} FROM {quoted(name)}")
        connection.exec_driver_sql(f"REVOKE ALL ON SCHEMA {SCHEMA} FROM {quoted(name)}")
    for name in others:
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {quoted(name)}")
    for right in rights_of(*names):
        connection.exec_driver_sql(right.grant(quoted(names[right.part])))
    for function, parts in FUNCTIONS.items():
        for part in names.keys() & parts:
            connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {SCHEMA}.{function} TO {quoted(names[part])}")
    connection.exec_driver_sql(f"DELETE FROM {SCHEMA}.database_roles")
    connection.execute(_REMEMBER, {"parts": list(names), "names": list(names.values())})
