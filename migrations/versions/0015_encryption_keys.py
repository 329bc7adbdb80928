"""The ids of the keys that leads are encrypted under, which every worker must have.

Revision ID: 0015
Revises: 0014

Locks: SHARE ROW EXCLUSIVE on leads for the change of the catalog only (a trigger that no row is checked for).
"""

from dispatcher.store.ddl import change

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# id: what tells one key from another and gives neither away. The keys are never here.
TABLE = """
CREATE TABLE IF NOT EXISTS dispatcher.encryption_keys (
    id text NOT NULL,
    since timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT encryption_keys_pkey PRIMARY KEY (id)
)
"""

# In the transaction of the lead, so that no worker sees a lead whose key it does not know to be needed.
NOTE_KEY = """
CREATE OR REPLACE FUNCTION dispatcher.note_key() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    key_id text := split_part(NEW.variables #>> '{}', ':', 3);
BEGIN
    IF NOT EXISTS (SELECT FROM dispatcher.encryption_keys WHERE id = key_id) THEN
        INSERT INTO dispatcher.encryption_keys (id) VALUES (key_id) ON CONFLICT (id) DO NOTHING;
    END IF;
    RETURN NEW;
END
$$
"""

TRIGGER = """
CREATE OR REPLACE TRIGGER leads_note_key BEFORE INSERT OR UPDATE OF variables ON dispatcher.leads FOR EACH ROW
WHEN (jsonb_typeof(NEW.variables) = 'string') EXECUTE FUNCTION dispatcher.note_key()
"""


def upgrade() -> None:
    change(TABLE, table="encryption_keys")
    change(NOTE_KEY, table="encryption_keys")
    change(TRIGGER, table="leads")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would let workers claim leads that they cannot decrypt; restore a backup.")
