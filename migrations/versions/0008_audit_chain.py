"""The audit log is only appended to, and each entry is chained to the one before by a hash.

Revision ID: 0008
Revises: 0007

Locks: ACCESS EXCLUSIVE on audit_log for the change of the catalog only (a new column without a value), SHARE ROW
EXCLUSIVE on it for the triggers. Entries from before are chained 500 at a time; who writes an entry waits for one
portion at most.
"""

from dispatcher.store.ddl import change, in_portions

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMN = "ALTER TABLE dispatcher.audit_log ADD COLUMN IF NOT EXISTS db_user text"

# salt: NULL once the personal part of the entry was erased; without it the digest says nothing of what was erased.
# digest: of the personal part with the salt. hash: of the hash before, the rest of the entry, and the digest.
TABLE = """
CREATE TABLE IF NOT EXISTS dispatcher.audit_chain (
    position bigint NOT NULL,
    audit_id bigint NOT NULL,
    salt uuid,
    digest bytea NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT audit_chain_pkey PRIMARY KEY (position),
    CONSTRAINT audit_chain_audit_id_key UNIQUE (audit_id)
)
"""

STAMP = """
CREATE OR REPLACE FUNCTION dispatcher.stamp_audit() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.at := clock_timestamp();
    NEW.db_user := session_user;
    RETURN NEW;
END
$$
"""

# `dispatcher.operator.audit_chain` computes the same. Fixed lengths, so that no two entries give the same bytes.
SEAL = """
CREATE OR REPLACE FUNCTION dispatcher.seal_audit(entry bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    line record;
    before record;
    salt uuid := gen_random_uuid();
    digest bytea;
BEGIN
    -- Held until the commit that follows at once: this runs as the last thing of a transaction.
    PERFORM pg_advisory_xact_lock(hashtextextended('dispatcher.audit', 0));
    SELECT * INTO line FROM dispatcher.audit_log WHERE id = entry
        AND NOT EXISTS (SELECT FROM dispatcher.audit_chain WHERE audit_id = entry);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT position, hash INTO before FROM dispatcher.audit_chain ORDER BY position DESC LIMIT 1;
    digest := sha256(uuid_send(salt) || sha256(convert_to(line.actor, 'UTF8')) || sha256(convert_to(line.subject, 'UTF8'))
        || sha256(convert_to(line.detail::text, 'UTF8')));
    INSERT INTO dispatcher.audit_chain (position, audit_id, salt, digest, hash)
    VALUES (coalesce(before.position, 0) + 1, entry, salt, digest, sha256(
        coalesce(before.hash, sha256(''::bytea))
        || sha256(convert_to(line.id::text, 'UTF8'))
        || sha256(convert_to((extract(epoch FROM line.at) * 1000000)::bigint::text, 'UTF8'))
        || sha256(convert_to(line.action, 'UTF8'))
        || sha256(convert_to(coalesce(line.db_user, ''), 'UTF8'))
        || digest));
END
$$
"""

CHAIN = """
CREATE OR REPLACE FUNCTION dispatcher.chain_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM dispatcher.seal_audit(NEW.id);
    RETURN NULL;
END
$$
"""

# An erasure takes characters away, and what it takes is shown as erased. Nothing else may be changed, by nobody.
KEEP = """
CREATE OR REPLACE FUNCTION dispatcher.keep_audit() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    marks text := '[•"\\s,:{}\\[\\]\\\\]';
    had text[] := string_to_array(regexp_replace(concat_ws(chr(31), OLD.actor, OLD.subject, OLD.detail), marks, '', 'g'), NULL);
    has text[];
    reached int := 1;
BEGIN
    -- Only inside `prune_audit` is the user the owner and the setting on.
    IF TG_OP = 'DELETE' AND current_setting('dispatcher.audit_pruning', true) = 'on' AND current_user =
        (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'DELETE' OR (NEW.id, NEW.at, NEW.action, NEW.db_user) IS DISTINCT FROM
        (OLD.id, OLD.at, OLD.action, OLD.db_user) THEN
        RAISE EXCEPTION 'the audit log is only appended to' USING ERRCODE = 'insufficient_privilege',
            HINT = 'dispatcher.prune_audit deletes what is old; an erasure takes a number out.';
    END IF;
    has := string_to_array(regexp_replace(concat_ws(chr(31), NEW.actor, NEW.subject, NEW.detail), marks, '', 'g'), NULL);
    FOR place IN 1 .. coalesce(cardinality(has), 0) LOOP
        WHILE reached <= cardinality(had) AND had[reached] <> has[place] LOOP
            reached := reached + 1;
        END LOOP;
        IF reached > coalesce(cardinality(had), 0) THEN
            RAISE EXCEPTION 'the audit log is only appended to; an erasure takes away, and adds nothing'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        reached := reached + 1;
    END LOOP;
    RETURN NEW;
END
$$
"""

UNSALT = """
CREATE OR REPLACE FUNCTION dispatcher.unsalt_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    UPDATE dispatcher.audit_chain SET salt = NULL WHERE audit_id = OLD.id;
    RETURN NULL;
END
$$
"""

REFUSE = """
CREATE OR REPLACE FUNCTION dispatcher.refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only appended to' USING ERRCODE = 'insufficient_privilege';
END
$$
"""

# The last entry that goes leaves its hash behind, where the chain then begins; the entry about it names that hash.
PRUNE = """
CREATE OR REPLACE FUNCTION dispatcher.prune_audit(before timestamptz, by text, most int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    kept bigint;
    anchor record;
    gone bigint;
BEGIN
    IF before > now() - interval '30 days' THEN
        RAISE EXCEPTION 'entries of the last 30 days stay in the audit log' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('dispatcher.audit', 0));
    SELECT min(chain.position) INTO kept FROM dispatcher.audit_chain AS chain
    JOIN dispatcher.audit_log AS line ON line.id = chain.audit_id WHERE line.at >= before;
    SELECT position, hash INTO anchor FROM dispatcher.audit_chain
    WHERE position < coalesce(kept, 9223372036854775807)
      AND position <= (SELECT min(chain.position) FROM dispatcher.audit_chain AS chain
                       JOIN dispatcher.audit_log AS line ON line.id = chain.audit_id) + most - 1
    ORDER BY position DESC LIMIT 1;
    PERFORM set_config('dispatcher.audit_pruning', 'on', true);
    DELETE FROM dispatcher.audit_log AS line USING dispatcher.audit_chain AS chain
    WHERE chain.audit_id = line.id AND chain.position <= anchor.position;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('dispatcher.audit_pruning', 'off', true);
    IF gone > 0 THEN
        DELETE FROM dispatcher.audit_chain WHERE position < anchor.position;
        UPDATE dispatcher.audit_chain SET salt = NULL WHERE position = anchor.position;
        INSERT INTO dispatcher.audit_log (actor, action, subject, detail) VALUES (by, 'audit_prune', 'audit_log',
            jsonb_build_object('entries', gone, 'position', anchor.position, 'hash', encode(anchor.hash, 'hex')));
    END IF;
    RETURN gone;
END
$$
"""

CHAINS = (
    "DROP TRIGGER IF EXISTS audit_log_chain ON dispatcher.audit_log;"
    " CREATE CONSTRAINT TRIGGER audit_log_chain AFTER INSERT ON dispatcher.audit_log DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION dispatcher.chain_audit()"
)

TRIGGERS = (
    (
        "CREATE OR REPLACE TRIGGER audit_log_stamp BEFORE INSERT ON dispatcher.audit_log"
        " FOR EACH ROW EXECUTE FUNCTION dispatcher.stamp_audit()"
    ),
    (
        "CREATE OR REPLACE TRIGGER audit_log_keep BEFORE UPDATE OR DELETE ON dispatcher.audit_log"
        " FOR EACH ROW EXECUTE FUNCTION dispatcher.keep_audit()"
    ),
    (
        "CREATE OR REPLACE TRIGGER audit_log_unsalt AFTER UPDATE ON dispatcher.audit_log"
        " FOR EACH ROW EXECUTE FUNCTION dispatcher.unsalt_audit()"
    ),
    (
        "CREATE OR REPLACE TRIGGER audit_log_keep_all BEFORE TRUNCATE ON dispatcher.audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION dispatcher.refuse_audit_change()"
    ),
    (
        "CREATE OR REPLACE TRIGGER audit_chain_keep_all BEFORE TRUNCATE ON dispatcher.audit_chain"
        " FOR EACH STATEMENT EXECUTE FUNCTION dispatcher.refuse_audit_change()"
    ),
)

# Before the trigger is there, so that the chain has the entries in their order; then again, for those written meanwhile.
BACKLOG = """
WITH portion AS (
    SELECT id FROM dispatcher.audit_log AS entry
    WHERE id > coalesce(CAST(:after AS bigint), 0)
      AND NOT EXISTS (SELECT FROM dispatcher.audit_chain WHERE audit_id = entry.id)
    ORDER BY id LIMIT 500
), sealed AS (
    SELECT id, dispatcher.seal_audit(id) FROM portion
)
SELECT max(id) FROM sealed
"""
SEAL_SECONDS = 0.0002

NOT_FOR_ALL = (
    "REVOKE ALL ON FUNCTION dispatcher.seal_audit(bigint), dispatcher.prune_audit(timestamptz, text, int) FROM PUBLIC"
)


def upgrade() -> None:
    change(COLUMN, table="audit_log")
    change(TABLE, table="audit_chain")
    for statement in (STAMP, SEAL, CHAIN, KEEP, UNSALT, REFUSE, PRUNE, NOT_FOR_ALL, *TRIGGERS):
        change(statement, table="audit_log")
    in_portions(BACKLOG, table="audit_log", row_seconds=SEAL_SECONDS)
    change(CHAINS, table="audit_log")
    in_portions(BACKLOG, table="audit_log")


def downgrade() -> None:
    raise NotImplementedError("A downgrade would unchain the audit log; restore a backup instead.")
