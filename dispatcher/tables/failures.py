"""The failed leads: the table that many will read by SQL (design section 3)."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from dispatcher.rules.states import FailureClass, Resolution
from dispatcher.tables.leads import leads
from dispatcher.tables.schema import NOW, metadata, one_of

_FILTERED: Final = (
    "lead_id",
    "account",
    "campaign_id",
    "phone_number",
    "failure_class",
    "http_status",
    "fingerprint",
    "attempts",
)
"""What the failed screen filters, counts and groups by: from an index alone."""

failed_leads = Table(
    "failed_leads",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("lead_id", Uuid, ForeignKey(leads.c.id, ondelete="CASCADE"), nullable=False),
    Column("account", Text, nullable=False),
    Column("campaign_id", BigInteger, nullable=False),
    Column("phone_number", Text, nullable=False),
    Column("failure_class", Text, nullable=False),
    Column("http_status", SmallInteger),
    Column("fingerprint", Text, nullable=False, comment="equal for equal causes"),
    Column("message", Text, nullable=False, comment="one plain sentence"),
    Column("response", Text, comment="capped"),
    Column("attempts", Integer, nullable=False),
    Column("failed_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("resolved_at", DateTime(timezone=True)),
    Column("resolution", Text),
    Column("resolved_by", Text),
    Column("note", Text),
    one_of("failure_class", FailureClass),
    one_of("resolution", Resolution),
    CheckConstraint("(resolved_at IS NULL) = (resolution IS NULL)", name="resolved_has_resolution"),
    Index("failed_leads_one_open", "lead_id", unique=True, postgresql_where=text("resolved_at IS NULL")),
    Index(
        "failed_leads_open",
        "failed_at",
        "id",
        postgresql_include=_FILTERED,
        postgresql_where=text("resolved_at IS NULL"),
    ),
    Index(
        "failed_leads_resolved",
        "failed_at",
        "id",
        postgresql_include=_FILTERED,
        postgresql_where=text("resolved_at IS NOT NULL"),
    ),
    Index("failed_leads_lead", "lead_id"),
    Index("failed_leads_phone", "phone_number"),
    Index("failed_leads_open_cause", "fingerprint", "failed_at", postgresql_where=text("resolved_at IS NULL")),
)
