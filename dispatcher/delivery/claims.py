"""Claims: the promise that is committed before a POST may leave."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.config.settings import Settings
from dispatcher.delivery.claimed import Claimed, claimed_of
from dispatcher.lead.options import Channel
from dispatcher.store import encryption
from dispatcher.store.blocks import KEY_FITS, Screening
from dispatcher.store.encryption import (
    KEYS_HELD,
    NO_KEYS,
    KeyRing,
)
from dispatcher.store.statement import Call, HotStatement

_HOLD_PAUSES = text(
    # Shared by all claims of an account, exclusive for `pause`. The claim itself takes it too, in gates_let_through.
    "SELECT pg_advisory_xact_lock_shared(hashtextextended('dispatcher.pause:' || :account, 0))"
)

PILE_WINDOW: Final = 256
"""The number of due leads that a claim may read to get past a pile: leads of persons who have an open lead."""

_CLAIM: Final = """
WITH picked AS MATERIALIZED (
    -- One index probe a priority level: ORDER BY priority DESC over the whole index would wade through the leads of a
    -- higher priority that are scheduled for later.
    SELECT due.id, due.phone_number, due.attempts, due.parked_until IS NOT NULL AS was_parked,
        -- What may be sent again only because its absence was proven is sent only while the proof holds.
        due.proven_at IS NOT NULL AND NOT dispatcher.proof_holds(
            due.proven_at, make_interval(secs => :proof_seconds), :account, :campaign_id) AS stale
    FROM generate_series(9, 0, -1) AS level (priority)
    CROSS JOIN LATERAL (
        SELECT lead.id, lead.phone_number, lead.attempts, lead.proven_at, lead.parked_until
        FROM dispatcher.leads AS lead
        WHERE lead.state = 'pending' AND lead.account = :account AND lead.campaign_id = :campaign_id
          AND lead.priority = level.priority
          AND lead.due_at <= now() AND (lead.expires_at IS NULL OR lead.expires_at > now())
        ORDER BY lead.due_at, lead.id
        LIMIT {window}
        FOR UPDATE SKIP LOCKED
    ) AS due
    -- Once, before anything is picked; holds back a pause until this claim is committed, and the other way round.
    WHERE (SELECT dispatcher.gates_let_through(:account, :campaign_id, CAST(:shut AS text[])))
      -- Who is blocked by hash alone cannot be told without the key: then nothing is claimed.
      AND {key_fits} AND {keys_held}
    LIMIT {window}
), met AS MATERIALIZED (
    -- The persons on the list of those who must not be called, as it is once a block that is being committed is there.
    SELECT * FROM dispatcher.blocks_met(:account, ARRAY(SELECT id FROM picked WHERE NOT stale),
        CAST(:drops AS boolean), CAST(:inner_pad AS bytea), CAST(:outer_pad AS bytea))
), {ready}, mark AS (
    SELECT greatest(
        (SELECT max(voicery_lead_id) FROM dispatcher.leads WHERE account = :account AND voicery_lead_id IS NOT NULL),
        (SELECT max(voicery_lead_id) FROM dispatcher.lead_contacts
         WHERE account = :account AND voicery_lead_id IS NOT NULL),
        -- Of leads that have been deleted since.
        (SELECT max(watermark) FROM dispatcher.accounts WHERE name = :account),
        0
    ) AS watermark
), opened AS (
    -- The unique index on open attempts is the rule "one open lead per person"; who loses it is parked. In the order of
    -- the numbers, so that two claims never wait for each other in a circle.
    INSERT INTO dispatcher.lead_attempts
        (id, lead_id, number, account, campaign_id, phone_number, watermark, worker, token, reference, followed)
    SELECT (CAST(:attempt_ids AS uuid[]))[turn], id, attempts + 1, :account, :campaign_id, phone_number, watermark,
        :worker, CAST(:token AS text), CAST(:reference AS text), was_parked
    FROM ready CROSS JOIN mark WHERE turn <= {wanted} ORDER BY phone_number, turn
    ON CONFLICT DO NOTHING
    RETURNING id, lead_id
), pairs AS (
    SELECT array_agg(lead_id) AS lead_ids, array_agg(id) AS attempt_ids FROM opened
), claimed AS (
    -- Not joined with `opened`: the planner expects one row of it, and would read all of them again for each lead.
    UPDATE dispatcher.leads AS lead
    SET state = 'sending', attempts = lead.attempts + 1, updated_at = now(),
        attempt_id = pairs.attempt_ids[array_position(pairs.lead_ids, lead.id)],
        lease_until = now() + make_interval(secs => :lease_seconds), was_due_at = NULL, parked_until = NULL,
        first_attempt_at = coalesce(lead.first_attempt_at, now())
    FROM pairs
    -- By the array the primary key is probed whatever the statistics say; and the state is compared as an expression,
    -- so that no partial index fits along which the planner would walk the whole backlog.
    WHERE lead.id = ANY (pairs.lead_ids) AND lead.state || '' = 'pending'
    RETURNING lead.id, lead.attempt_id, lead.phone_number, CAST(lead.variables AS text) AS variables,
        lead.allow_dupplicate, lead.attempts,
        CAST(extract(epoch FROM now() - lead.first_attempt_at) AS float8) AS age_seconds
), dropped AS (
    UPDATE dispatcher.lead_contacts AS contact SET dropped_at = CASE WHEN dropped_at IS NULL THEN now() END
    WHERE lead_id = ANY (ARRAY(SELECT lead_id FROM opened)) AND (dropped_at IS NOT NULL)
        <> ((lead_id, position) IN (SELECT lead_id, position FROM met WHERE NOT holds))
)
SELECT claimed.*, picks.met, picks.stale, picks.blocked, picks.held, gate.states,
    (SELECT json_agg(json_build_array(contact.position, contact.phone_number, CAST(contact.variables AS text))
        ORDER BY contact.position)
     FROM dispatcher.lead_contacts AS contact WHERE contact.lead_id = claimed.id
       AND (contact.lead_id, contact.position) NOT IN (SELECT lead_id, position FROM met WHERE NOT holds)) AS contacts
FROM (
    SELECT count(*) AS met, array_agg(id) FILTER (WHERE stale) AS stale,
        (SELECT array_agg(DISTINCT lead_id) FROM met WHERE holds) AS held,
        -- All but those that were opened, that are held back, and those of persons whose turn did not come.
        array_agg(id) FILTER (WHERE NOT stale
            AND id NOT IN (SELECT lead_id FROM opened UNION ALL SELECT lead_id FROM met WHERE holds)
            AND phone_number NOT IN (SELECT phone_number FROM ready WHERE turn > {wanted})) AS blocked
    FROM picked
) AS picks
CROSS JOIN (
    SELECT array_agg(state) AS states FROM dispatcher.gates
    WHERE account = :account AND COALESCE(campaign_id, 0) IN (0, :campaign_id)
      AND (state <> 'open' OR failures > 0 OR refusals > 0 OR closings > 0)
) AS gate
LEFT JOIN claimed ON true
"""

_FIRST_COME: Final = """ready AS (
    SELECT picked.*, row_number() OVER () AS turn FROM picked
    WHERE NOT stale AND id NOT IN (SELECT lead_id FROM met WHERE holds)
)"""

# Out of more leads than are wanted: the first of each person none of whose leads is open already.
_ONE_A_PERSON: Final = """numbered AS (
    SELECT picked.*, row_number() OVER () AS place FROM picked
    WHERE NOT stale AND id NOT IN (SELECT lead_id FROM met WHERE holds)
), persons AS (
    SELECT DISTINCT ON (phone_number) * FROM numbered ORDER BY phone_number, place
), ready AS (
    SELECT persons.*, row_number() OVER (ORDER BY place) AS turn FROM persons
    WHERE NOT EXISTS (
        SELECT FROM dispatcher.lead_attempts AS attempt
        WHERE attempt.account = :account AND attempt.campaign_id = :campaign_id
          AND attempt.phone_number = persons.phone_number AND attempt.finished_at IS NULL
    )
)"""

# A statement of its own, because few claims need it: in the claim's it costs 13 % more even where it does nothing. What
# has changed since the claim was committed is seen here, by what is locked.
_PARK: Final = text("""
WITH waiting AS (
    SELECT id, phone_number FROM dispatcher.leads
    WHERE id = ANY (CAST(:blocked AS uuid[])) AND state || '' = 'pending' AND due_at <= now()
), front AS (
    -- The open attempts that they wait behind: when one ends, it wakes the next lead (`lead_attempts_wake_next`). One
    -- that has ended meanwhile is not updated, and the leads behind it stay due.
    UPDATE dispatcher.lead_attempts SET followed = true
    WHERE id = ANY (ARRAY(
        SELECT id FROM dispatcher.lead_attempts
        WHERE account = :account AND campaign_id = :campaign_id AND finished_at IS NULL
          AND phone_number = ANY (ARRAY(SELECT phone_number FROM waiting))
        ORDER BY id FOR NO KEY UPDATE
    ))
    RETURNING phone_number
), parked AS (
    UPDATE dispatcher.leads AS lead
    SET due_at = now() + make_interval(secs => :park_seconds), updated_at = now(),
        was_due_at = CASE WHEN lead.parked_until = lead.due_at THEN lead.was_due_at ELSE lead.due_at END,
        parked_until = now() + make_interval(secs => :park_seconds)
    FROM waiting
    WHERE lead.id = ANY (ARRAY(SELECT id FROM waiting)) AND lead.id = waiting.id AND lead.state || '' = 'pending'
      AND lead.due_at <= now() AND lead.phone_number IN (SELECT phone_number FROM front)
    RETURNING lead.id
), stale AS (
    UPDATE dispatcher.leads
    SET due_at = now() + make_interval(secs => :park_seconds), updated_at = now(), was_due_at = due_at,
        parked_until = NULL
    WHERE id = ANY (CAST(:stale AS uuid[])) AND state || '' = 'pending' AND due_at <= now()
    RETURNING id
)
SELECT (SELECT count(*) FROM parked) + (SELECT count(*) FROM stale) AS parked
""")

_RELEASE = text("""
WITH released AS (
    -- Also where the lease has run out meanwhile: these were not sent, so they are not in doubt.
    UPDATE dispatcher.leads AS lead
    SET state = 'pending', attempts = lead.attempts - 1, lease_until = NULL, due_at = now(), updated_at = now()
    FROM dispatcher.lead_attempts AS attempt
    WHERE attempt.id = ANY (CAST(:attempt_ids AS uuid[])) AND attempt.finished_at IS NULL
      AND lead.id = attempt.lead_id AND lead.attempt_id = attempt.id AND lead.state IN ('sending', 'unknown')
    RETURNING lead.attempt_id
)
UPDATE dispatcher.lead_attempts AS attempt
SET outcome = 'given_back', error = 'Given back before sending: its claim was not acknowledged.',
    ended_at = now(), finished_at = now()
FROM released WHERE attempt.id = released.attempt_id
RETURNING attempt.id
""")


_DOUBT_AGAIN: Final = text("""
-- Letter q. The attempt that may have worked is open again: it stands for its person until a look-up has closed it.
WITH stale AS (
    SELECT lead.id, coalesce(
        (SELECT past.id FROM dispatcher.lead_attempts AS past
         WHERE past.lead_id = lead.id AND past.outcome IN ('unknown', 'created_id_unknown')
         ORDER BY past.started_at DESC LIMIT 1), lead.attempt_id) AS doubt_id,
        EXISTS (SELECT FROM dispatcher.failed_leads AS failure
                WHERE failure.lead_id = lead.id AND failure.resolution = 'replayed') AS by_person
    FROM dispatcher.leads AS lead
    WHERE lead.id = :lead_id AND lead.state = 'pending' AND lead.proven_at IS NOT NULL
    FOR UPDATE
), reopened AS (
    UPDATE dispatcher.lead_attempts AS attempt
    SET finished_at = NULL, evidence = attempt.evidence || jsonb_build_object(
        'granted', CASE WHEN stale.by_person THEN 'person' ELSE 'policy' END, 'reopened_at', now())
    FROM stale WHERE attempt.id = stale.doubt_id
)
UPDATE dispatcher.leads AS lead
SET state = 'unknown', attempt_id = stale.doubt_id, due_at = now(), updated_at = now(),
    last_error = 'The proof that its POST had no effect is too old; it is looked up again before it is sent.'
FROM stale WHERE lead.id = stale.id AND lead.state = 'pending'
RETURNING lead.id
""")


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim did.

    opened        the leads that may be POSTed now
    met           the number of due leads it read, of at most `window`
    blocked       those whose person has an open lead, and `stale` those whose resend rests on a proof that no longer
                  holds (see `doubt_again`): both are to be parked
    held          those whose person, or a contact, must not be called: they are to end (see `blocked.end_held`)
    parked        how many wait for a while from now on
    probing       nothing was claimed because a gate of the channel lets only single leads through
    needs_gates   an acceptance has something to reset in a gate of the channel
    """

    opened: tuple[Claimed, ...] = ()
    met: int = 0
    window: int = 1
    blocked: tuple[UUID, ...] = ()
    stale: tuple[UUID, ...] = ()
    held: tuple[UUID, ...] = ()
    parked: int = 0
    probing: bool = False
    needs_gates: bool = False

    @property
    def drained(self) -> bool:
        """Whether no lead of the channel is left that is due."""
        return self.met < self.window and self.met == len(self.opened) + self.parked + len(self.held)

    @property
    def impeded(self) -> bool:
        """Whether leads that cannot be claimed stood in the way of others."""
        return bool(self.parked or self.held)


def hold_pauses(connection: Connection, account: str) -> None:
    """Keep a `pause` of this account from being committed until this transaction ends. Before the gates are locked."""
    connection.execute(_HOLD_PAUSES, {"account": account})


@dataclass(frozen=True, slots=True)
class Claimer:
    """Claims the leads of one channel for one worker.

    token       the fingerprint of the token that the POSTs carry
    screening   how it is checked who must not be called
    """

    channel: Channel
    settings: Settings
    worker: str
    token: str | None = None
    screening: Screening = field(default_factory=Screening)

    def claim(
        self, connection: Connection, attempt_ids: Sequence[UUID], *, probing: bool = False, window: int = 0
    ) -> Claim:
        """Claim at most one due lead for each of `attempt_ids`, highest priority and longest due first.

        Commits nothing itself: the attempt rows exist when the transaction does, and only then may a POST leave.

        probing   claim although the gate is probing (the caller holds its row)
        window    the number of due leads to read for that, where it is greater
        """
        ring = encryption.of(connection)
        statement, parameters = self.call(attempt_ids, ring, probing=probing, window=window)
        return self.read(statement.rows(connection, parameters), max(window, len(attempt_ids)), ring)

    def call(
        self, attempt_ids: Sequence[UUID], ring: KeyRing = NO_KEYS, *, probing: bool = False, window: int = 0
    ) -> Call:
        """Return the statement of `claim` and its parameters."""
        settings = self.settings
        return _claim_of(len(attempt_ids), max(window, len(attempt_ids))), {
            **self.channel._asdict(),
            "worker": self.worker,
            "lease_seconds": settings.lease_seconds,
            "proof_seconds": settings.proof_for_seconds,
            "token": self.token,
            "reference": settings.reference_variable,
            "attempt_ids": list(attempt_ids),
            "shut": ["closed"] if probing else ["closed", "probing"],
            **self.screening.values(),
            "key_id": self.screening.pseudonyms.key_id,
            "key_ids": list(ring.key_ids),
        }

    def read(self, rows: Sequence[Any], window: int, ring: KeyRing = NO_KEYS) -> Claim:
        """Return the claim that the rows of `call` describe."""
        opened = tuple(claimed_of(self.channel, row, ring) for row in rows if row.id is not None)
        picks = rows[0]
        states = frozenset(picks.states or ())
        return Claim(
            opened,
            picks.met,
            window,
            tuple(picks.blocked or ()),
            tuple(picks.stale or ()),
            tuple(picks.held or ()),
            probing="probing" in states and "closed" not in states,
            needs_gates=bool(states),
        )

    def park(self, connection: Connection, claim: Claim) -> Claim:
        """Have the leads that `claim` could not open wait, and return it with their number.

        Until the open lead of their person ends, but at most `park_seconds`. Until then they would be read by each
        claim; where this is not called, or what they wait for has ended, they stay due.
        """
        parameters = {
            **self.channel._asdict(),
            "park_seconds": self.settings.park_seconds,
            "blocked": list(claim.blocked),
            "stale": list(claim.stale),
        }
        return replace(claim, parked=connection.execute(_PARK, parameters).scalar_one())


def release(connection: Connection, attempt_ids: Sequence[UUID]) -> int:
    """Give back what a claim opened that was not acknowledged, and so never sent. Return the number of leads."""
    return len(connection.execute(_RELEASE, {"attempt_ids": list(attempt_ids)}).all())


def doubt_again(connection: Connection, lead_id: UUID) -> bool:
    """Have a pending lead looked up again whose proof no longer holds; it is then due for a look-up at once.

    Raises `StatementRefused` while another lead of the person is open: it stays parked.
    """
    return connection.execute(_DOUBT_AGAIN, {"lead_id": lead_id}).first() is not None


@cache
def _claim_of(wanted: int, window: int) -> HotStatement:
    """Return the claim of `wanted` leads out of `window`, the numbers written out.

    A plan that does not know them expects a tenth of the table. Measured with 200,000 due leads: 1.5 ms instead of
    200 ms, which is a scan of the whole table.
    """
    ready = _FIRST_COME if window == wanted else _ONE_A_PERSON
    return HotStatement(
        _CLAIM.format(wanted=wanted, window=window, ready=ready, key_fits=KEY_FITS, keys_held=KEYS_HELD)
    )
