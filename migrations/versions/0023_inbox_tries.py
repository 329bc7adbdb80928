"""How often a row of the inbox was taken without an end, so that one that ends its process does not stop the others.

Revision ID: 0023
Revises: 0021

Locks: ACCESS EXCLUSIVE on inbox for the change of the catalog only; the default is a constant, no row is written.
"""

from dispatcher.store.ddl import change

revision = "0023"
down_revision = "0021"
branch_labels = None
depends_on = None

# tries: counted before the row is taken, in a transaction of its own; 0 again when it has been rejected or postponed.
TRIES = "ALTER TABLE dispatcher.inbox ADD COLUMN IF NOT EXISTS tries smallint DEFAULT 0 NOT NULL"


# As in 0011, with the new column at the end.
VIEW = """
CREATE OR REPLACE VIEW dispatcher.confined_inbox AS
SELECT * FROM dispatcher.inbox AS of_account
WHERE account = ANY (CAST((SELECT string_to_array(current_setting('dispatcher.accounts'), ',')) AS text[]))
WITH LOCAL CHECK OPTION
"""


def upgrade() -> None:
    change(TRIES, table="inbox")
    change(VIEW, table="inbox")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would take rows again that end their process; restore a backup instead.")
