"""Which login may submit for which accounts and campaigns by SQL; and no lead in the inbox that no reader can read.

Revision ID: 0021
Revises: 0015

Locks: SHARE ROW EXCLUSIVE on inbox for the change of the catalog only; rows that were nested or long beyond reading are
updated, each a row that no worker could take.
"""

from dispatcher.store.ddl import change

revision = "0021"
down_revision = "0015"
branch_labels = None
depends_on = None

# login: of Postgres, or `public` for those that have no row. accounts: an object of account and its campaigns, an array
# of ids or null for all; none at all: it may submit nothing.
TABLE = """
CREATE TABLE IF NOT EXISTS dispatcher.submitters (
    login text NOT NULL,
    accounts jsonb NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT submitters_pkey PRIMARY KEY (login),
    CONSTRAINT submitters_accounts_check CHECK (jsonb_typeof(accounts) = 'object')
)
"""

# The parsers of JSON in Python end at some depth and at 4 300 digits: one such row would break every listing, and every
# erasure. $.** visits each value; strict, because lax would unwrap arrays and count their levels away.
UNREADABLE = """
CREATE OR REPLACE FUNCTION dispatcher.unreadable(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN jsonb_path_exists(value, 'strict $.**{150}')
            THEN 'is nested more than 150 levels deep; flatten it'
        WHEN jsonb_path_exists(value, 'strict $.** ? (@.type() == "number" && (@ > 1e308 || @ < -1e308))')
            THEN 'has a number beyond 1e308; send it as text'
    END
$$
"""

# In `submit_lead`, whose owner's rights and search_path it has: nobody else inserts, and a search_path of its own, or of
# the function above, would double its cost. `session_user` is the login, which no caller can change.
CHECK = """
CREATE OR REPLACE FUNCTION dispatcher.check_submission() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Neither 150 levels nor a number beyond 1e308 fit into less.
    fault text := CASE WHEN NEW.bytes > 300 THEN dispatcher.unreadable(NEW.lead) END;
    granted jsonb := (SELECT accounts FROM dispatcher.submitters WHERE login IN (session_user, 'public')
        ORDER BY login = session_user DESC LIMIT 1);
    campaigns jsonb := granted -> NEW.account;
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'The lead was refused, nothing was stored: lead: ' || fault;
    END IF;
    IF granted IS NOT NULL AND campaigns IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = concat('The lead was refused, nothing was stored: account: the login ', session_user,
                ' may not submit for the account ', NEW.account, '; have an operator run `dispatcher submitters allow ',
                session_user, ' --account ', NEW.account, '`');
    END IF;
    IF jsonb_typeof(campaigns) = 'array' AND NOT (
        jsonb_typeof(NEW.lead -> 'campaign_id') = 'number' AND campaigns @> (NEW.lead -> 'campaign_id')
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = concat('The lead was refused, nothing was stored: campaign_id: the login ', session_user,
                ' may not submit for this campaign of the account ', NEW.account, '; pass the id of one that it may '
                'use as a number, or have an operator run `dispatcher submitters allow`');
    END IF;
    RETURN NEW;
END
$$
"""

TRIGGER = """
CREATE OR REPLACE TRIGGER inbox_check_submission BEFORE INSERT ON dispatcher.inbox
FOR EACH ROW EXECUTE FUNCTION dispatcher.check_submission()
"""

# What could not be read stays, as text: an erasure finds a number in it.
READABLE = """
UPDATE dispatcher.inbox SET lead = (
    SELECT jsonb_object_agg(
        name, CASE WHEN dispatcher.unreadable(value) IS NULL THEN value ELSE to_jsonb(CAST(value AS text)) END
    ) FROM jsonb_each(lead) AS member (name, value)
)
WHERE jsonb_typeof(lead) = 'object' AND dispatcher.unreadable(lead) IS NOT NULL
"""


def upgrade() -> None:
    change(TABLE, table="submitters")
    change(UNREADABLE, table="inbox")
    change(CHECK, table="inbox")
    change(TRIGGER, table="inbox")
    change(READABLE, table="inbox")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would let every login submit for every account; restore a backup instead.")
