"""What stops a second call of a person who was erased: the keyed hash of the number, by account and campaign.

A lead that stood for its person leaves one. A later lead of the same number in the same campaign, with
`allow_dupplicate` false, is then what it would have been before the erasure: a duplicate. The rule is the SQL function
`dispatcher.erased_of`; a claim asks it too (`dispatcher.blocks_met`), for what a process without the key submitted.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.store.pseudonym import Pseudonyms, digest_sql
from dispatcher.store.schema import LIVE_STRICT

_PADS: Final = "CAST(:inner_pad AS bytea), CAST(:outer_pad AS bytea)"


def erased_of_person(account: str, campaign_id: str, phone_number: str) -> str:
    """Return what stands after FROM: the erased lead of a person, who is given by SQL."""
    return f"dispatcher.erased_of({account}, {campaign_id}, {phone_number}, {_PADS})"


OF_SUBMISSION: Final = f"""
SELECT erased.lead_id AS id
FROM {erased_of_person(":account", "CAST(:campaign_id AS bigint)", "CAST(:phone_number AS text)")} AS erased
WHERE NOT :allow_dupplicate
"""
"""The query of the erased lead that a submission repeats."""

SENTENCE: Final = (
    "Nobody was called: a lead of this person in this campaign was erased, and another one with allow_dupplicate false"
    " is a duplicate of it. Submit it with allow_dupplicate true if the person is to be called all the same."
)
"""What a lead says of itself that a claim found to be such a duplicate."""

REPEATS: Final = (
    "A lead of this person in this campaign was erased, and this one, with allow_dupplicate false, is a duplicate of"
    " it. Dismiss it; if the person is to be called all the same, submit the lead with allow_dupplicate true."
)
"""Why such a lead is not replayed."""


def erased_of(persons: str) -> str:
    """Return the query of campaign, number and erased lead of those of `persons`, SQL for rows of the first two."""
    return f"""
SELECT given.campaign_id, given.phone_number, erased.lead_id
FROM {persons}
CROSS JOIN LATERAL dispatcher.erased_of(
    CAST(:account AS text), given.campaign_id, given.phone_number, {_PADS}) AS erased
WHERE EXISTS (SELECT FROM dispatcher.erased_leads)
"""


_KEEP = text(f"""
INSERT INTO dispatcher.erased_leads (account, campaign_id, person, lead_id)
SELECT account, campaign_id, {digest_sql("phone_number")}, id FROM dispatcher.leads
WHERE id = ANY (CAST(:leads AS uuid[])) AND {LIVE_STRICT}
ON CONFLICT (account, campaign_id, person) DO UPDATE SET erased_at = now()
RETURNING xmax = 0 AS new
""")

_CALLED = text(f"""
SELECT count(*) FROM dispatcher.leads
WHERE id = ANY (CAST(:leads AS uuid[])) AND {LIVE_STRICT} AND first_attempt_at IS NOT NULL
""")

_PRUNE = text("""
DELETE FROM dispatcher.erased_leads
WHERE (account, campaign_id, person) IN (
    SELECT account, campaign_id, person FROM dispatcher.erased_leads WHERE erased_at < :before LIMIT :most
)
""")


def keep(connection: Connection, leads: Sequence[UUID], pseudonyms: Pseudonyms) -> int:
    """Keep the hash of those of the leads that stand for their person; before they are deleted.

    Returns how many are new.
    """
    return sum(connection.execute(_KEEP, {"leads": list(leads), **pseudonyms.pads()}).scalars())


def called(connection: Connection, leads: Sequence[UUID]) -> int:
    """Return how many of the leads stand for their person and were, or may have been, called."""
    return int(connection.execute(_CALLED, {"leads": list(leads)}).scalar_one())


def prune(connection: Connection, before: datetime, *, most: int) -> int:
    """Delete at most `most` hashes that were kept before `before`, and return their number."""
    return connection.execute(_PRUNE, {"before": before, "most": most}).rowcount
