"""The rule of which POSTs may have reached the person, and of when a proof of absence allows a replay, as SQL.

Look-ups, replays, previews, deliveries and the sweep use these fragments, so that all apply the same condition.
"""

from datetime import timedelta
from typing import Final

PROOF_HOLDS: Final = timedelta(minutes=10)
"""How long after a look-up its proof of absence allows a replay: later, a lead that Voicery created meanwhile could be
created twice."""

ASKED_AT: Final = "CAST({attempt}.evidence -> 'lookups' -> -1 ->> 'at' AS timestamptz)"
"""When Voicery's list was last asked for an attempt."""

_ANSWER_LOST: Final = "{attempt}.outcome IN ('unknown', 'created_id_unknown')"
_PROVEN: Final = "coalesce({attempt}.evidence -> 'proof' = 'true'::jsonb, false)"


def unproven(attempt: str) -> str:
    """Return the condition that the answer of an attempt was lost and no look-up has proved that it had no effect."""
    return f"({_ANSWER_LOST} AND NOT {_PROVEN})".format(attempt=attempt)


def doubtful(attempt: str) -> str:
    """Return the condition that the answer of an attempt was lost and no proof that still holds says it had no effect.

    It is checked before a lead that waits to be sent again ends, because afterwards no lead stands for its person.
    """
    holds = f"interval '{PROOF_HOLDS.total_seconds():.0f} s'"
    fresh = f"coalesce({ASKED_AT}, {{attempt}}.finished_at, '-infinity') > now() - {holds}"
    return f"({_ANSWER_LOST} AND NOT ({_PROVEN} AND {fresh}))".format(attempt=attempt)


def end_unsent(failure_class: str, fingerprint: str) -> str:
    """Return the rest of a statement that ends pending leads, as failed, without a POST. It returns their ids.

    It follows the CTE `picked`: the `id` of each, locked, and the `message` of its failure. A lead whose earlier POST
    may have worked ends in doubt instead, with `:doubtful` as its message: it goes on standing for its person.
    """
    return f"""judged AS (
    SELECT picked.id, picked.message, EXISTS (
        SELECT FROM dispatcher.lead_attempts AS past WHERE past.lead_id = picked.id AND {doubtful("past")}
    ) AS in_doubt
    FROM picked
), moved AS (
    UPDATE dispatcher.leads AS lead
    SET state = 'failed', failure_class = CASE WHEN judged.in_doubt THEN 'outcome_unknown' ELSE '{failure_class}' END,
        last_error = CASE WHEN judged.in_doubt THEN :doubtful ELSE judged.message END, finished_at = now(),
        updated_at = now()
    FROM judged WHERE lead.id = judged.id AND lead.state || '' = 'pending'
    RETURNING lead.id, lead.account, lead.campaign_id, lead.phone_number, lead.attempts, lead.failure_class,
        lead.last_error
), failed AS (
    INSERT INTO dispatcher.failed_leads
        (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message, attempts)
    SELECT id, account, campaign_id, phone_number, failure_class,
        CASE failure_class WHEN '{failure_class}' THEN '{fingerprint}' ELSE 'outcome_unknown:{fingerprint}' END,
        last_error, attempts
    FROM moved
)
SELECT id FROM moved
"""


_RULE: Final = f"""(
    -- The time of the latest POST of `lead` that may have worked; NULL if none may have.
    SELECT max({{attempt}}.started_at) FROM dispatcher.lead_attempts AS {{attempt}}
    WHERE {{attempt}}.lead_id = lead.id AND (
        -- Voicery answered yes, late: no look-up disproves that.
        {{attempt}}.evidence -> 'late_answer' ->> 'outcome' IN ('accepted', 'created_id_unknown')
        OR (
            ({_ANSWER_LOST} OR (lead.failure_class = 'outcome_unknown' AND {{attempt}}.id = lead.attempt_id))
            -- Proof of absence clears an earlier attempt for good, because a later POST was made on the strength of it;
            -- the latest attempt only while the proof is fresh.
            AND NOT ({_PROVEN} AND (
                {{attempt}}.id IS DISTINCT FROM lead.attempt_id
                OR coalesce({ASKED_AT} > now() - interval '{PROOF_HOLDS.total_seconds():.0f} s', false)
            ))
        )
    )
)"""

IN_DOUBT_SINCE: Final = _RULE.format(attempt="attempt")
"""A scalar subquery that belongs to a row `lead` of `dispatcher.leads`."""

PROVEN_AT: Final = f"""(
    -- Of several attempts whose absence was proven, the proof that is the oldest. NULL: nothing rests on a proof.
    SELECT min({ASKED_AT}) FROM dispatcher.lead_attempts AS {{attempt}}
    WHERE {{attempt}}.lead_id = lead.id AND {_ANSWER_LOST} AND {_PROVEN}
)""".format(attempt="past")
"""The time of the proof that allows `lead` to be sent again."""

FIRST_IN_QUEUE: Final = """least(now(), (
    SELECT min(waiting.due_at) FROM dispatcher.leads AS waiting
    WHERE waiting.state = 'pending' AND waiting.account = lead.account AND waiting.campaign_id = lead.campaign_id
      AND waiting.priority = lead.priority
) - interval '1 ms')"""
"""A due time before that of every lead that waits in the channel of `lead` with its priority: a proof expires."""
