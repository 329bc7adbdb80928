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
