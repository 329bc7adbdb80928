"""Leads that a claim met and a block holds back: they end as failed, and are never sent by themselves."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.store.blocks import FINGERPRINT, Screening, sentence, words
from dispatcher.store.erased import SENTENCE
from dispatcher.store.proof import end_unsent

_END = text(f"""
WITH met AS MATERIALIZED (
    SELECT DISTINCT ON (met.lead_id) met.lead_id,
        CASE WHEN met.block_id IS NULL THEN '{SENTENCE}'
            ELSE {sentence(words("block", contact="met.position IS NOT NULL"))} END AS message
    FROM dispatcher.blocks_met(:account, CAST(:ids AS uuid[]), :drops, CAST(:inner_pad AS bytea),
        CAST(:outer_pad AS bytea)) AS met
    LEFT JOIN dispatcher.blocks AS block ON block.id = met.block_id
    WHERE met.holds AND (block.id IS NOT NULL OR met.block_id IS NULL)
    ORDER BY met.lead_id, met.position NULLS FIRST
), picked AS (
    SELECT lead.id, met.message FROM dispatcher.leads AS lead JOIN met ON met.lead_id = lead.id
    WHERE lead.id = ANY (ARRAY(SELECT lead_id FROM met)) AND lead.state = 'pending'
    ORDER BY lead.id
    FOR UPDATE OF lead SKIP LOCKED
), {end_unsent("blocked", FINGERPRINT)}""")

DOUBTFUL_MESSAGE: Final = (
    "The person is on the list of those who must not be called, and an earlier POST of this lead may have worked; look "
    "it up."
)


def end_held(connection: Connection, account: str, lead_ids: Sequence[UUID], screening: Screening) -> list[UUID]:
    """End those of the pending leads that a block holds back, as failed, and return them.

    A lead whose earlier POST may have worked ends in doubt instead of as blocked: it goes on standing for its person.
    """
    values = {"account": account, "ids": list(lead_ids), "doubtful": DOUBTFUL_MESSAGE, **screening.values()}
    return list(connection.execute(_END, values).scalars())
