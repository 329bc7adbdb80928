"""Bulk work of an operator, lead by lead."""

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from dispatcher.records.operation import OperationKind, OperationState
from dispatcher.tables.schema import EMPTY, NOW, metadata, one_of

operations = Table(
    "operations",
    metadata,
    Column("id", Uuid, primary_key=True, comment="made by whoever asks: the same id again is the same operation"),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'queued'")),
    Column("filters", JSONB, nullable=False, server_default=EMPTY),
    Column("options", JSONB, nullable=False, server_default=EMPTY),
    Column("actor", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False, server_default=text("0")),
    Column("refused", Integer, nullable=False, server_default=text("0")),
    Column("per_minute", Integer, comment="NULL: as fast as it goes"),
    Column("next_at", DateTime(timezone=True), nullable=False, server_default=NOW, comment="no batch earlier"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True), comment="set when it has finished or was stopped"),
    Column("stopped_by", Text),
    one_of("kind", OperationKind),
    one_of("state", OperationState),
    CheckConstraint("per_minute > 0", name="per_minute"),
    CheckConstraint("(state IN ('stopped', 'finished')) = (finished_at IS NOT NULL)", name="ended"),
    Index("operations_created", "created_at"),
    Index("operations_open", "next_at", postgresql_where=text("finished_at IS NULL")),
)

operation_leads = Table(
    "operation_leads",
    metadata,
    Column("operation_id", Uuid, ForeignKey(operations.c.id, ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("lead_id", Uuid, nullable=False, comment="no foreign key: what was done outlives the lead"),
    Column("outcome", Text, comment="NULL: not tried yet"),
    Column("reason", Text, comment="why it was refused"),
    CheckConstraint("outcome IN ('done', 'refused')", name="outcome"),
    Index("operation_leads_open", "operation_id", "position", postgresql_where=text("outcome IS NULL")),
    Index("operation_leads_refused", "operation_id", "position", postgresql_where=text("outcome = 'refused'")),
)
