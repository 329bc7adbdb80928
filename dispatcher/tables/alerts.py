"""What a person should see: incidents, alerts."""

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from dispatcher.records.alert import AlertKind
from dispatcher.tables.schema import EMPTY, NOW, metadata, one_of

incidents = Table(
    "incidents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("kind", Text, nullable=False),
    Column("lead_id", Uuid),
    Column("message", Text, nullable=False),
    Column("evidence", JSONB, nullable=False, server_default=EMPTY),
    Column("seen_at", DateTime(timezone=True)),
    Column("seen_by", Text),
    Index("incidents_unseen", "at", postgresql_where=text("seen_at IS NULL")),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("kind", Text, nullable=False),
    Column("cause", Text, nullable=False, comment="equal ones leave as one"),
    Column("account", Text),
    Column("campaign_id", BigInteger),
    Column("reason", Text),
    Column("lead_id", Uuid),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=NOW, comment="no POST earlier"),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("done_at", DateTime(timezone=True)),
    Column("result", Text, comment="folded: it left with an equal one"),
    one_of("kind", AlertKind),
    CheckConstraint("result IN ('sent', 'folded', 'given_up')", name="result"),
    CheckConstraint("(done_at IS NULL) = (result IS NULL)", name="done_has_result"),
    Index("alerts_at", "at"),
    Index("alerts_open", "due_at", postgresql_where=text("done_at IS NULL")),
    Index("alerts_open_cause", "cause", postgresql_where=text("done_at IS NULL")),
    Index("alerts_sent", "cause", "done_at", postgresql_where=text("result = 'sent'")),
)
