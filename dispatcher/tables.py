"""The tables, as SQLAlchemy sees them (design section 11). `migrations/` builds them; a test holds both equal.

They live in the Postgres schema `dispatcher`, so that they can share the producer's database: a lead then commits, or
rolls back, together with the producer's own rows.
"""

from enum import StrEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from dispatcher.records.alert import AlertKind
from dispatcher.records.operation import OperationKind, OperationState
from dispatcher.rules.states import FailureClass, Resolution, State

SCHEMA: Final = "dispatcher"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)

_NOW = text("now()")
_EMPTY = text("'{}'::jsonb")


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value.value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


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
    Column("variables", JSONB, nullable=False, server_default=_EMPTY),
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
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("finished_at", DateTime(timezone=True), comment="when it became accepted, duplicate, failed or cancelled"),
    Column("resolved_at", DateTime(timezone=True), comment="when a person dismissed the failure"),
    _one_of("state", State),
    _one_of("failure_class", FailureClass),
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
    Column("variables", JSONB, nullable=False, server_default=_EMPTY),
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
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("ended_at", DateTime(timezone=True), comment="the wire was done, or the lease ended"),
    Column("finished_at", DateTime(timezone=True), comment="the outcome is known or decided; NULL while in doubt"),
    Column("outcome", Text),
    Column("http_status", SmallInteger),
    Column("error", Text),
    Column("response", Text, comment="capped"),
    Column("evidence", JSONB, nullable=False, server_default=_EMPTY),
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
    Column("failed_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("resolved_at", DateTime(timezone=True)),
    Column("resolution", Text),
    Column("resolved_by", Text),
    Column("note", Text),
    _one_of("failure_class", FailureClass),
    _one_of("resolution", Resolution),
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

accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("base_url", Text, comment="bound by the first accepted attempt; another one sends nothing"),
    Column("watermark_off", Boolean, nullable=False, server_default=text("false")),
    Column("list_off_until", DateTime(timezone=True), comment="the list endpoint is missing; asked again after this"),
    CheckConstraint("name ~ '^[a-z0-9_]{1,40}$'", name="name"),
)

channels = Table(
    "channels",
    metadata,
    Column("account", Text, primary_key=True),
    Column("campaign_id", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "served_at", DateTime(timezone=True), comment="the last delivery run; the sweep rings the longest ago first"
    ),
    Column("rate_limit", Text, comment="the campaign's own limit, e.g. 30/minute"),
)

gates = Table(
    "gates",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account", Text, nullable=False),
    Column("campaign_id", BigInteger, comment="NULL: the gate of the whole account"),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    Column("reason", Text, comment="set unless open"),
    Column(
        "failures", Integer, nullable=False, server_default=text("0"), comment="consecutive, reset by an acceptance"
    ),
    Column("refusals", Integer, nullable=False, server_default=text("0"), comment="equal refusals in a row"),
    Column("refusal", Text, comment="the fingerprint of those refusals"),
    Column(
        "closings",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="since the last acceptance; sets the wait",
    ),
    Column("probes", Integer, nullable=False, server_default=text("0"), comment="bad probes since it closed"),
    Column("closed_at", DateTime(timezone=True)),
    Column("until", DateTime(timezone=True), comment="when the sweep probes; NULL: only a person opens it"),
    Column("by", Text),
    Column("note", Text),
    CheckConstraint("state IN ('open', 'closed', 'probing')", name="state"),
    CheckConstraint("(state = 'open') = (reason IS NULL)", name="closed_has_reason"),
    Index("gates_scope", "account", text("COALESCE(campaign_id, 0)"), unique=True),
    Index("gates_not_open", "until", postgresql_where=text("state <> 'open'")),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("kind", Text, nullable=False),
    Column("lead_id", Uuid),
    Column("message", Text, nullable=False),
    Column("evidence", JSONB, nullable=False, server_default=_EMPTY),
    Column("seen_at", DateTime(timezone=True)),
    Column("seen_by", Text),
    Index("incidents_unseen", "at", postgresql_where=text("seen_at IS NULL")),
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
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Index("idempotency_keys_created", "created_at"),
)

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
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("claims", BigInteger, nullable=False, server_default=text("0"), comment="leads claimed since it started"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=_EMPTY),
    Index("audit_log_subject", "subject", "id"),
)

operations = Table(
    "operations",
    metadata,
    Column("id", Uuid, primary_key=True, comment="made by whoever asks: the same id again is the same operation"),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'queued'")),
    Column("filters", JSONB, nullable=False, server_default=_EMPTY),
    Column("options", JSONB, nullable=False, server_default=_EMPTY),
    Column("actor", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False, server_default=text("0")),
    Column("refused", Integer, nullable=False, server_default=text("0")),
    Column("per_minute", Integer, comment="NULL: as fast as it goes"),
    Column("next_at", DateTime(timezone=True), nullable=False, server_default=_NOW, comment="no batch earlier"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True), comment="set when it has finished or was stopped"),
    Column("stopped_by", Text),
    _one_of("kind", OperationKind),
    _one_of("state", OperationState),
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
    Column("replaced_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("replaced_by", Text, nullable=False),
    Column("note", Text),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("kind", Text, nullable=False),
    Column("cause", Text, nullable=False, comment="equal ones leave as one"),
    Column("account", Text),
    Column("campaign_id", BigInteger),
    Column("reason", Text),
    Column("lead_id", Uuid),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=_NOW, comment="no POST earlier"),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("done_at", DateTime(timezone=True)),
    Column("result", Text, comment="folded: it left with an equal one"),
    _one_of("kind", AlertKind),
    CheckConstraint("result IN ('sent', 'folded', 'given_up')", name="result"),
    CheckConstraint("(done_at IS NULL) = (result IS NULL)", name="done_has_result"),
    Index("alerts_at", "at"),
    Index("alerts_open", "due_at", postgresql_where=text("done_at IS NULL")),
    Index("alerts_open_cause", "cause", postgresql_where=text("done_at IS NULL")),
    Index("alerts_sent", "cause", "done_at", postgresql_where=text("result = 'sent'")),
)

tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("account", Text, primary_key=True, comment="empty: of no account"),
    Column("label", Text, primary_key=True),
    Column("value", Double, nullable=False, comment="only ever grows"),
)

imports = Table(
    "imports",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("batch_id", Uuid, nullable=False, comment="that of its leads; several imports may go on with one batch"),
    Column("file_name", Text, nullable=False, comment="without its path"),
    Column("account", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("submitted", BigInteger, nullable=False, server_default=text("0")),
    Column("duplicates", BigInteger, nullable=False, server_default=text("0")),
    Column("repeated", BigInteger, nullable=False, server_default=text("0")),
    Column("rejected", BigInteger, nullable=False, server_default=text("0")),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("finished_at", DateTime(timezone=True), comment="NULL: still running, or cut short"),
    Index("imports_batch", "batch_id"),
)

import_rejections = Table(
    "import_rejections",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("import_id", BigInteger, ForeignKey(imports.c.id, ondelete="CASCADE"), nullable=False),
    Column("line", BigInteger, nullable=False, comment="1-based"),
    Column("field", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("original", Text, nullable=False, comment="the row as it stood, capped: a person's data"),
    Index("import_rejections_import", "import_id", "id"),
)
