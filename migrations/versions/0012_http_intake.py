"""The keys of the HTTP intake, and how the webhooks of other programs are read.

Revision ID: 0012
Revises: 0011

Locks: none but on the new tables.
"""

from dispatcher.store.ddl import change

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# prefix: the public part of the key, by which it is found. digest: SHA-256 of the whole key, which has 256 random bits
# and is stored nowhere. campaigns: NULL for all of the account. mapping: the key is for this webhook alone.
KEYS = """
CREATE TABLE IF NOT EXISTS dispatcher.api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY,
    prefix text NOT NULL,
    digest bytea NOT NULL,
    name text NOT NULL,
    account text NOT NULL,
    campaigns bigint[],
    mapping text,
    rate_limit text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_prefix_key UNIQUE (prefix),
    CONSTRAINT api_keys_digest_check CHECK (octet_length(digest) = 32),
    CONSTRAINT api_keys_campaigns_check CHECK (campaigns IS NULL OR cardinality(campaigns) > 0)
)
"""

# fields: a field of the lead, or variables.NAME, and the place in the webhook's body. fixed: fields with their values.
MAPPINGS = """
CREATE TABLE IF NOT EXISTS dispatcher.webhook_mappings (
    account text NOT NULL,
    name text NOT NULL,
    fields jsonb NOT NULL,
    fixed jsonb DEFAULT '{}' NOT NULL,
    country text,
    changed_at timestamptz DEFAULT now() NOT NULL,
    changed_by text NOT NULL,
    CONSTRAINT webhook_mappings_pkey PRIMARY KEY (account, name)
)
"""


def upgrade() -> None:
    change(KEYS, table="api_keys")
    change(MAPPINGS, table="webhook_mappings")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would end every key; restore a backup instead.")
