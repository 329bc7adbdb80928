"""The views through which a user of the console reads and writes who is confined to accounts.

Revision ID: 0011
Revises: 0010

Locks: ACCESS EXCLUSIVE on operations for the change of the catalog only (a column without a default).
"""

from dispatcher.store.ddl import change

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# The accounts of an operation's leads when it was stored: the leads may be deleted before it. NULL: stored before.
ACCOUNTS = "ALTER TABLE dispatcher.operations ADD COLUMN IF NOT EXISTS accounts text[]"

# Read once for a statement. Without the setting it is an error, and an empty one names no account.
MINE = "CAST((SELECT string_to_array(current_setting('dispatcher.accounts'), ',')) AS text[])"


def _of_leads(lead_id: str) -> str:
    return f"EXISTS (SELECT FROM dispatcher.confined_leads AS mine WHERE mine.id = {lead_id})"


# A subject names a lead, an operation or a thing of an account; what names none of these, as an export, has the
# accounts of who did it in its detail.
AUDITED = f"""
CASE
    WHEN line.subject ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
        THEN {_of_leads("CAST(line.subject AS uuid)")}
            OR EXISTS (SELECT FROM dispatcher.confined_operations AS mine WHERE mine.id = CAST(line.subject AS uuid))
    WHEN starts_with(line.subject, 'account:') THEN split_part(split_part(line.subject, '/', 1), ':', 2) = ANY ({MINE})
    WHEN line.subject ~ '^incident:[0-9]{{1,18}}$' THEN EXISTS (
        SELECT FROM dispatcher.confined_incidents AS mine
        WHERE mine.id = CAST(split_part(line.subject, ':', 2) AS bigint))
    WHEN line.subject ~ '^import:[0-9]{{1,18}}$' THEN EXISTS (
        SELECT FROM dispatcher.confined_imports AS mine
        WHERE mine.id = CAST(split_part(line.subject, ':', 2) AS bigint))
    WHEN line.subject = 'blocks' OR starts_with(line.subject, 'block:')
        THEN coalesce(line.detail ->> 'account' = ANY ({MINE}), false)
    ELSE false
END
OR coalesce(line.detail -> 'accounts' <@ to_jsonb({MINE}), false)
"""

# Without `security_barrier`: our statements call nothing that tells what it saw, and it would keep indexes from being
# used. With the rights of the owner: a role needs those on the views alone.
VIEWS = {
    **{
        f"confined_{table}": f"SELECT * FROM dispatcher.{table} AS of_account WHERE account = ANY ({MINE})"
        for table in (
            "leads",
            "lead_attempts",
            "lead_contacts",
            "failed_leads",
            "idempotency_keys",
            "channels",
            "gates",
            "imports",
            "inbox",
            "blocks",
            "erased_leads",
        )
    },
    "confined_lead_revisions": f"SELECT * FROM dispatcher.lead_revisions AS past WHERE {_of_leads('past.lead_id')}",
    "confined_incidents": f"SELECT * FROM dispatcher.incidents AS incident WHERE {_of_leads('incident.lead_id')}",
    "confined_import_rejections": "SELECT * FROM dispatcher.import_rejections AS rejected"
    " WHERE EXISTS (SELECT FROM dispatcher.confined_imports AS mine WHERE mine.id = rejected.import_id)",
    "confined_operations": f"SELECT * FROM dispatcher.operations AS operation WHERE operation.accounts <@ {MINE}",
    "confined_operation_leads": "SELECT * FROM dispatcher.operation_leads AS target"
    " WHERE EXISTS (SELECT FROM dispatcher.confined_operations AS mine WHERE mine.id = target.operation_id)"
    f" AND {_of_leads('target.lead_id')}",
    "confined_audit_log": f"SELECT * FROM dispatcher.audit_log AS line WHERE {AUDITED}",
}

# Of the workers, which serve all accounts: that they live, and neither where nor how much they have done.
OF_ALL = {
    "confined_workers": "SELECT 'worker ' || row_number() OVER (ORDER BY started_at, name) AS name, started_at,"
    " seen_at, CAST(0 AS bigint) AS claims FROM dispatcher.workers",
    "confined_sweeps": "SELECT name, CAST('a worker' AS text) AS holder, held_until, swept_at, pruned_at"
    " FROM dispatcher.sweeps",
}


def upgrade() -> None:
    change(ACCOUNTS, table="operations")
    for name, query in VIEWS.items():
        change(f"CREATE OR REPLACE VIEW dispatcher.{name} AS {query} WITH LOCAL CHECK OPTION", table=name)
    for name, query in OF_ALL.items():
        # Not replaced: started again over the schema of a later revision, it would take that one's columns out.
        change(
            f"DO $$ BEGIN IF to_regclass('dispatcher.{name}') IS NULL THEN"
            f" CREATE VIEW dispatcher.{name} AS {query}; END IF; END $$",
            table=name,
        )


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop leads; restore a backup instead.")
