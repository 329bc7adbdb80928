"""What the machinery keeps about itself: sweeps, workers, tallies, and who did what."""

from sqlalchemy import BigInteger, Column, DateTime, Double, Identity, Index, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from dispatcher.tables.schema import EMPTY, NOW, metadata

sweeps = Table(
    "sweeps",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    Column("held_until", DateTime(timezone=True)),
    Column("swept_at", DateTime(timezone=True)),
    Column("pruned_at", DateTime(timezone=True)),
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("claims", BigInteger, nullable=False, server_default=text("0"), comment="leads claimed since it started"),
)

tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("account", Text, primary_key=True, comment="empty: of no account"),
    Column("label", Text, primary_key=True),
    Column("value", Double, nullable=False, comment="only ever grows"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=EMPTY),
    Index("audit_log_subject", "subject", "id"),
)
