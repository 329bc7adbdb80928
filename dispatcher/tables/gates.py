"""Accounts and channels, and the gates that hold them back."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from dispatcher.tables.schema import metadata

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
