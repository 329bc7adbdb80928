"""How a proof that a POST had no effect is kept, and what it allows: SQL that look-ups and replays share."""

from typing import Final

FIRST_IN_QUEUE: Final = """least(now(), (
    SELECT min(waiting.due_at) FROM dispatcher.leads AS waiting
    WHERE waiting.state = 'pending' AND waiting.account = lead.account AND waiting.campaign_id = lead.campaign_id
      AND waiting.priority = lead.priority
) - interval '1 ms')"""
"""A due time before that of every lead that waits in the channel of `lead` with its priority: a proof grows old."""

ASKED_AT: Final = "CAST({attempt}.evidence -> 'lookups' -> -1 ->> 'at' AS timestamptz)"
"""When Voicery's list was last asked for an attempt."""

PROVEN_AT: Final = f"""(
    -- Of several attempts whose absence was proven, the proof that is the oldest. NULL: nothing rests on a proof.
    SELECT min({ASKED_AT.format(attempt="past")}) FROM dispatcher.lead_attempts AS past
    WHERE past.lead_id = lead.id AND past.outcome IN ('unknown', 'created_id_unknown')
      AND past.evidence -> 'proof' = 'true'::jsonb
)"""
"""When the proof was made on whose word `lead` may be sent again."""
