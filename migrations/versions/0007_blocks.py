"""The list of persons who must not be called, and what a claim asks of it.

Revision ID: 0007
Revises: 0006

Locks: ACCESS EXCLUSIVE on leads, failed_leads, lead_contacts and imports for the change of the catalog only (new
columns that rewrite nothing, constraints that are not validated yet); the validation takes SHARE UPDATE EXCLUSIVE,
which blocks no writer.
"""

from dispatcher.store.ddl import change

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# number: E.164; NULL where only the pseudonym is kept. digest: the pseudonym; NULL where no key was set. account: NULL
# for all accounts. until: NULL for good.
BLOCKS = """
CREATE TABLE IF NOT EXISTS dispatcher.blocks (
    id bigint GENERATED ALWAYS AS IDENTITY,
    number text,
    digest bytea,
    account text,
    reason text,
    source text,
    who text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    until timestamptz,
    CONSTRAINT blocks_pkey PRIMARY KEY (id),
    CONSTRAINT blocks_names_somebody_check CHECK (number IS NOT NULL OR digest IS NOT NULL),
    CONSTRAINT blocks_digest_check CHECK (octet_length(digest) = 32)
);

CREATE UNIQUE INDEX IF NOT EXISTS blocks_number
    ON dispatcher.blocks (number, COALESCE(account, ''))
    WHERE number IS NOT NULL;

CREATE UNIQUE INDEX IF NOT EXISTS blocks_digest
    ON dispatcher.blocks (digest, COALESCE(account, ''))
    WHERE number IS NULL;
"""

# One row as soon as a pseudonym is stored anywhere: the id of the key that it was made under.
PRIVACY_KEY = """
CREATE TABLE IF NOT EXISTS dispatcher.privacy_key (
    one boolean DEFAULT true NOT NULL,
    id text NOT NULL,
    since timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT privacy_key_pkey PRIMARY KEY (one),
    CONSTRAINT privacy_key_one_check CHECK (one)
)
"""

# The rule of who is blocked; there is no other. Postgres inlines it where it is used in FROM.
BLOCKS_OF = """
CREATE OR REPLACE FUNCTION dispatcher.blocks_of(for_account text, phone text, hash bytea)
RETURNS TABLE (id bigint, reason text, source text) LANGUAGE sql STABLE AS $$
    SELECT block.id, block.reason, block.source FROM dispatcher.blocks AS block
    WHERE block.number = phone AND (block.account IS NULL OR block.account = for_account)
      AND (block.until IS NULL OR block.until > now())
    UNION ALL
    SELECT block.id, block.reason, block.source FROM dispatcher.blocks AS block
    WHERE block.number IS NULL AND block.digest = hash AND (block.account IS NULL OR block.account = for_account)
      AND (block.until IS NULL OR block.until > now())
$$
"""

# Like gates_let_through: it waits for a block that is being committed, then looks with a snapshot newer than that of
# the claim around it. A lead is held back by a block of its number, and of a contact unless contacts are dropped.
# enable_seqscan: a plan that was made while the list was empty must not read all of it later.
BLOCKS_MET = """
CREATE OR REPLACE FUNCTION dispatcher.blocks_met(for_account text, lead_ids uuid[], drops boolean, inner_pad bytea, outer_pad bytea)
RETURNS TABLE (lead_id uuid, "position" smallint, block_id bigint, holds boolean) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('dispatcher.blocks', 0));
    IF NOT EXISTS (SELECT FROM dispatcher.blocks) THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM dispatcher.blocks AS hashed WHERE hashed.number IS NULL) THEN
        inner_pad := NULL;
    END IF;
    RETURN QUERY
        SELECT person.lead_id, person.position, block.id, person.position IS NULL OR NOT drops
        FROM (
            SELECT lead.id AS lead_id, CAST(NULL AS smallint) AS "position", lead.phone_number
            FROM dispatcher.leads AS lead WHERE lead.id = ANY (lead_ids)
            UNION ALL
            SELECT contact.lead_id, contact.position, contact.phone_number
            FROM dispatcher.lead_contacts AS contact WHERE contact.lead_id = ANY (lead_ids)
        ) AS person
        CROSS JOIN LATERAL (
            SELECT met.id FROM dispatcher.blocks_of(for_account, person.phone_number,
                CASE WHEN inner_pad IS NOT NULL
                    THEN sha256(outer_pad || sha256(inner_pad || convert_to(person.phone_number, 'UTF8'))) END) AS met
            LIMIT 1
        ) AS block;
END
$$
"""

CLASSES = "('rejected', 'exhausted', 'outcome_unknown', 'expired', 'bug', 'blocked')"

CONSTRAINT = """
ALTER TABLE dispatcher.{table} DROP CONSTRAINT IF EXISTS {table}_failure_class_check,
    ADD CONSTRAINT {table}_failure_class_check CHECK (failure_class IN {classes}) NOT VALID
"""


def upgrade() -> None:
    change(BLOCKS, table="blocks")
    change(PRIVACY_KEY, table="privacy_key")
    change(
        "ALTER TABLE dispatcher.lead_contacts ADD COLUMN IF NOT EXISTS dropped_at timestamptz", table="lead_contacts"
    )
    change("ALTER TABLE dispatcher.imports ADD COLUMN IF NOT EXISTS blocked bigint DEFAULT 0 NOT NULL", table="imports")
    change(BLOCKS_OF, table="blocks")
    change(BLOCKS_MET, table="blocks")
    for table in ("leads", "failed_leads"):
        change(CONSTRAINT.format(table=table, classes=CLASSES), table=table)
        change(f"ALTER TABLE dispatcher.{table} VALIDATE CONSTRAINT {table}_failure_class_check", table=table)


def downgrade() -> None:
    raise NotImplementedError("A downgrade would drop leads; restore a backup instead.")
