"""The tables, as SQLAlchemy sees them (design section 11). `migrations/` builds them; a test holds both equal.

They live in the Postgres schema `dispatcher`, so that they can share the producer's database: a lead then commits, or
rolls back, together with the producer's own rows. One noun per file; whoever wants `metadata` takes it from here,
where all of them have been read.
"""

from dispatcher.tables import alerts, failures, gates, housekeeping, imports, operations
from dispatcher.tables.leads import LIVE, LIVE_STRICT
from dispatcher.tables.schema import SCHEMA, metadata

__all__ = [
    "LIVE",
    "LIVE_STRICT",
    "SCHEMA",
    "alerts",
    "failures",
    "gates",
    "housekeeping",
    "imports",
    "metadata",
    "operations",
]
