"""The leads, their contacts and attempts, what a correction replaced, and the keys that outlive them."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from dispatcher.rules.states import FailureClass, State
from dispatcher.tables.schema import EMPTY, NOW, metadata, one_of

LIVE: Final = (
    "state IN ('pending', 'sending', 'unknown', 'accepted')"
    " OR (state = 'failed' AND failure_class = 'outcome_unknown' AND resolved_at IS NULL)"
)
"""A lead that stands for its person: no second one with `allow_dupplicate` false may be live (design section 8)."""

LIVE_STRICT: Final = f"NOT allow_dupplicate AND ({LIVE})"

leads = Table(
    "leads",
    metadata,
    Column("id", Uuid, primary_key=True, comment="UUIDv7, made by the client; never changes"),
    Column("account", Text, nullable=False),
    Column("campaign_id", BigInteger, nullable=False),
    Column("phone_number", Text, nullable=False, comment="canonical E.164"),
    Column("variables", JSONB, nullable=False, server_default=EMPTY),
    Column("allow_dupplicate", Boolean, nullable=False, server_default=text("false")),
    Column("state", Text, nullable=False),
    Column("failure_class", Text, comment="set while failed"),
    Column("priority", SmallInteger, nullable=False, server_default=text("0"), comment="0-9, higher first"),
    Column("due_at", DateTime(timezone=True), nullable=False, comment="pending: may be claimed; unknown: next look-up"),
    Column("expires_at", DateTime(timezone=True)),
    Column("attempts", Integer, nullable=False, server_default=text("0"), comment="attempts that count"),
    Column("resends", SmallInteger, nullable=False, server_default=text("0"), comment="automatic resends, at most 1"),
    Column("first_attempt_at", DateTime(timezone=True), comment="the retry budget runs from here; a replay renews it"),
    Column("lease_until", DateTime(timezone=True), comment="set while sending"),
    Column("attempt_id", Uuid, comment="the latest attempt; the fence of every write from sending and unknown"),
    Column("voicery_lead_id", BigInteger),
    Column("voicery_status", Text, comment="as Voicery said it, never an enum"),
    Column("duplicate_of", Uuid),
    Column("idempotency_key", Text),
    Column("payload_hash", Text, nullable=False),
    Column("batch_id", Uuid),
    Column("last_error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("finished_at", DateTime(timezone=True), comment="when it became accepted, duplicate, failed or cancelled"),
    Column("resolved_at", DateTime(timezone=True), comment="when a person dismissed the failure"),
    one_of("state", State),
    one_of("failure_class", FailureClass),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
    CheckConstraint("campaign_id > 0", name="campaign_id"),
    CheckConstraint("attempts >= 0", name="attempts"),
    CheckConstraint("(state = 'failed') = (failure_class IS NOT NULL)", name="failed_has_class"),
    CheckConstraint("(state = 'sending') = (lease_until IS NOT NULL)", name="sending_has_lease"),
    CheckConstraint("state NOT IN ('sending', 'unknown') OR attempt_id IS NOT NULL", name="in_doubt_has_attempt"),
    Index(
        "leads_due",
        "account",
        "campaign_id",
        "priority",
        "due_at",
        "id",
        postgresql_where=text("state = 'pending'"),
    ),
    Index("leads_leased", "lease_until", postgresql_where=text("state = 'sending'")),
    Index("leads_unknown", "account", "due_at", postgresql_where=text("state = 'unknown'")),
    Index(
        "leads_expiring",
        "expires_at",
        postgresql_where=text("state = 'pending' AND expires_at IS NOT NULL"),
    ),
    Index(
        "leads_one_live",
        "account",
        "campaign_id",
        "phone_number",
        unique=True,
        postgresql_where=text(LIVE_STRICT),
    ),
    Index(
        "leads_voicery_lead_id",
        "account",
        "voicery_lead_id",
        unique=True,
        postgresql_where=text("voicery_lead_id IS NOT NULL"),
    ),
    Index("leads_batch", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    Index(
        "leads_finished",
        "finished_at",
        postgresql_include=["state"],
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
)

lead_contacts = Table(
    "lead_contacts",
    metadata,
    Column("lead_id", Uuid, ForeignKey(leads.c.id, ondelete="CASCADE"), primary_key=True),
    Column("position", SmallInteger, primary_key=True, comment="0-based, as submitted"),
    Column("account", Text, nullable=False),
    Column("phone_number", Text, nullable=False),
    Column("variables", JSONB, nullable=False, server_default=EMPTY),
    Column("voicery_lead_id", BigInteger),
    Column("voicery_status", Text),
    Index(
        "lead_contacts_voicery_lead_id",
        "account",
        "voicery_lead_id",
        postgresql_where=text("voicery_lead_id IS NOT NULL"),
    ),
)

lead_attempts = Table(
    "lead_attempts",
    metadata,
    Column("id", Uuid, primary_key=True, comment="UUIDv7, made by the worker before the claim"),
    Column("lead_id", Uuid, ForeignKey(leads.c.id, ondelete="CASCADE"), nullable=False),
    Column(
        "number", Integer, nullable=False, comment="1-based among the attempts that count; one given back is repeated"
    ),
    Column("account", Text, nullable=False),
    Column("campaign_id", BigInteger, nullable=False),
    Column("phone_number", Text, nullable=False),
    Column("watermark", BigInteger, nullable=False, comment="greatest Voicery id stored for the account at the claim"),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("ended_at", DateTime(timezone=True), comment="the wire was done, or the lease ended"),
    Column("finished_at", DateTime(timezone=True), comment="the outcome is known or decided; NULL while in doubt"),
    Column("outcome", Text),
    Column("http_status", SmallInteger),
    Column("error", Text),
    Column("response", Text, comment="capped"),
    Column("evidence", JSONB, nullable=False, server_default=EMPTY),
    Column("worker", Text),
    Index(
        "lead_attempts_one_open_person",
        "account",
        "campaign_id",
        "phone_number",
        unique=True,
        postgresql_where=text("finished_at IS NULL"),
    ),
    Index("lead_attempts_one_open_lead", "lead_id", unique=True, postgresql_where=text("finished_at IS NULL")),
    Index("lead_attempts_lead", "lead_id", "started_at"),
)

lead_revisions = Table(
    "lead_revisions",
    metadata,
    Column("lead_id", Uuid, ForeignKey(leads.c.id, ondelete="CASCADE"), primary_key=True),
    Column(
        "revision", Integer, primary_key=True, autoincrement=False, comment="1-based: the version that was replaced"
    ),
    Column("campaign_id", BigInteger, nullable=False),
    Column("phone_number", Text, nullable=False),
    Column("variables", JSONB, nullable=False),
    Column("payload_hash", Text, nullable=False),
    Column("replaced_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("replaced_by", Text, nullable=False),
    Column("note", Text),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("lead_id", Uuid, nullable=False, comment="no foreign key: keys outlive leads"),
    Column("payload_hash", Text, nullable=False),
    Column("state", Text, nullable=False, comment="what the first submission said: pending or duplicate"),
    Column("duplicate_of", Uuid),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Index("idempotency_keys_created", "created_at"),
)
