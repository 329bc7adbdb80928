"""Say which right a database role lacks, and which GRANT gives it, after Postgres has refused a statement."""

from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from dispatcher.store.rights import Part
from dispatcher.store.schema import SCHEMA
from dispatcher.store.trouble import NotPermitted

# By the ids of schema and table: their names are refused to a role without USAGE on the schema.
_LACKING: Final = text("""
SELECT current_user AS role, has_schema_privilege(space.oid, 'USAGE') AS enters,
    has_table_privilege(named.oid, 'SELECT') AS knows_roles,
    ARRAY(SELECT privilege FROM unnest(CAST(:privileges AS text[])) AS asked (privilege)
          WHERE NOT CASE WHEN privilege = 'DELETE' THEN has_table_privilege(refused.oid, privilege)
                         ELSE has_any_column_privilege(refused.oid, privilege) END) AS on_all,
    ARRAY(SELECT privilege FROM unnest(CAST(:privileges AS text[])) AS asked (privilege)
          WHERE NOT has_table_privilege(refused.oid, privilege)) AS on_some
FROM pg_namespace AS space
LEFT JOIN pg_class AS refused ON refused.relnamespace = space.oid AND refused.relname = :table
LEFT JOIN pg_class AS named ON named.relnamespace = space.oid AND named.relname = 'database_roles'
WHERE space.nspname = :schema
""")
_PRIVILEGES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_NAMES: Final = text(f"SELECT part, name FROM {SCHEMA}.database_roles")


def explained(engine: Engine, refusal: NotPermitted) -> NotPermitted:
    """Return the refusal with login, missing right and GRANT in its sentence, as far as they can be asked."""
    refused = refusal.refused
    privileges = [one for one in _PRIVILEGES if one in (refused.privileges or _PRIVILEGES)]
    asked = {"privileges": privileges, "table": refused.table, "schema": SCHEMA}
    names: dict[Part, str] = {}
    try:
        with engine.connect() as connection:
            row = connection.execute(_LACKING, asked).one()
            if row.enters and row.knows_roles:
                names = {Part(one.part): one.name for one in connection.execute(_NAMES)}
    except SQLAlchemyError:  # it does without
        return refusal
    lacking = (row.on_all or row.on_some) if refused.table is not None else ()
    return NotPermitted(refused.sentence(row.role, lacking, names, enters=row.enters), refused)
