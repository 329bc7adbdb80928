"""The keyed hashes that stop a second call of erased persons, and the claim that asks them.

Revision ID: 0009
Revises: 0008

Locks: none but on the new table; the function of the claim is replaced as a whole.
"""

from dispatcher.store.ddl import change

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# lead_id: the erased lead. person: the pseudonym of its number, under the key of dispatcher.privacy_key.
TABLE = """
CREATE TABLE IF NOT EXISTS dispatcher.erased_leads (
    account text NOT NULL,
    campaign_id bigint NOT NULL,
    person bytea NOT NULL,
    lead_id uuid NOT NULL,
    erased_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT erased_leads_pkey PRIMARY KEY (account, campaign_id, person),
    CONSTRAINT erased_leads_person_check CHECK (octet_length(person) = 32)
)
"""

# The rule of what was erased; there is no other. Without the key the pads are NULL, and it finds nothing. The hash is
# not computed while nobody has been erased.
ERASED_OF = """
CREATE OR REPLACE FUNCTION dispatcher.erased_of(for_account text, for_campaign bigint, phone text, inner_pad bytea, outer_pad bytea)
RETURNS SETOF dispatcher.erased_leads LANGUAGE sql STABLE AS $$
    SELECT * FROM dispatcher.erased_leads AS erased
    WHERE erased.account = for_account AND erased.campaign_id = for_campaign
      AND erased.person = CASE WHEN EXISTS (SELECT FROM dispatcher.erased_leads)
          THEN sha256(outer_pad || sha256(inner_pad || convert_to(phone, 'UTF8'))) END
$$
"""

# As before, and the leads that repeat an erased one: their block_id is NULL.
BLOCKS_MET = """
CREATE OR REPLACE FUNCTION dispatcher.blocks_met(for_account text, lead_ids uuid[], drops boolean, inner_pad bytea, outer_pad bytea)
RETURNS TABLE (lead_id uuid, "position" smallint, block_id bigint, holds boolean) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('dispatcher.blocks', 0));
    IF EXISTS (SELECT FROM dispatcher.erased_leads) THEN
        RETURN QUERY
            SELECT lead.id, CAST(NULL AS smallint), CAST(NULL AS bigint), true
            FROM dispatcher.leads AS lead
            WHERE lead.id = ANY (lead_ids) AND NOT lead.allow_dupplicate AND EXISTS (
                SELECT FROM dispatcher.erased_of(lead.account, lead.campaign_id, lead.phone_number, inner_pad, outer_pad)
            );
    END IF;
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


def upgrade() -> None:
    change(TABLE, table="erased_leads")
    change(ERASED_OF, table="erased_leads")
    change(BLOCKS_MET, table="erased_leads")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would forget whom an erasure protects; restore a backup instead.")
