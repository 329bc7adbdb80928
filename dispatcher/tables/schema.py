"""The Postgres schema, its metadata, and the words that several tables share."""

from enum import StrEnum
from typing import Final

from sqlalchemy import CheckConstraint, MetaData, text

SCHEMA: Final = "dispatcher"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)

NOW: Final = text("now()")
EMPTY: Final = text("'{}'::jsonb")


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """A check that `column` holds one of `values`."""
    listed = ", ".join(f"'{value.value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)
