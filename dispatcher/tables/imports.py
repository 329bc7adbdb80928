"""Files that were imported, and the rows refused."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Identity, Index, Table, Text, Uuid, text

from dispatcher.tables.schema import NOW, metadata

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
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=NOW),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=NOW),
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
