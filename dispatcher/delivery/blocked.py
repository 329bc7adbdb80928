"""Leads that a claim met and a block holds back: they end as failed, and are never sent by themselves."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.delivery import claims
from dispatcher.delivery.claimed import Claimed
from dispatcher.store.blocks import FINGERPRINT, Screening, blocked_of, sentence, words
from dispatcher.store.database import Database
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

_SAID = text(blocked_of("unnest(CAST(:numbers AS text[]))"))

_END_CLAIMED = text(f"""
WITH picked AS (
    SELECT lead.id, given.message
    FROM unnest(CAST(:ids AS uuid[]), CAST(:messages AS text[])) AS given (id, message)
    JOIN dispatcher.leads AS lead ON lead.id = given.id AND lead.state = 'pending'
    ORDER BY lead.id
    FOR UPDATE OF lead
), {end_unsent("blocked", FINGERPRINT)}""")

_DROP = text("""
UPDATE dispatcher.lead_contacts AS contact SET dropped_at = now()
FROM unnest(CAST(:ids AS uuid[]), CAST(:positions AS smallint[])) AS given (lead_id, position)
WHERE contact.lead_id = given.lead_id AND contact.position = given.position
""")

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


def screened(
    connection: Connection, account: str, claimed: Sequence[Claimed], screening: Screening
) -> dict[UUID, Claimed]:
    """Return, by lead, what may be sent of leads whose contacts the claim could not check: their numbers are encrypted.

    One with a blocked contact is given back and ends as failed; or that contact is left out, if it is to be dropped.
    """
    numbers = sorted({number for one in claimed for number, _ in one.contacts})
    values = {"numbers": numbers, "account": account, **screening.pseudonyms.pads()}
    said = {number: of_contact for number, _, of_contact in connection.execute(_SAID, values)}
    met = [one for one in claimed if any(number in said for number, _ in one.contacts)]
    if not met:
        return {one.lead_id: one for one in claimed}
    if screening.drops_contacts:
        return {one.lead_id: one for one in claimed} | _without(connection, met, said)
    claims.release(connection, [one.attempt_id for one in met])
    messages = [next(said[number] for number, _ in one.contacts if number in said) for one in met]
    held = {one.lead_id: message for one, message in zip(met, messages, strict=True)}
    ended = {"ids": list(held), "messages": list(held.values()), "doubtful": DOUBTFUL_MESSAGE}
    connection.execute(_END_CLAIMED, ended)
    return {one.lead_id: one for one in claimed if one.lead_id not in held}


def _without(connection: Connection, met: Sequence[Claimed], said: dict[str, str]) -> dict[UUID, Claimed]:
    dropped = [
        (one.lead_id, position)
        for one in met
        for position, (number, _) in zip(one.positions, one.contacts, strict=True)
        if number in said
    ]
    connection.execute(_DROP, {"ids": [lead for lead, _ in dropped], "positions": [place for _, place in dropped]})
    return {
        one.lead_id: replace(one, contacts=tuple(contact for contact in one.contacts if contact[0] not in said))
        for one in met
    }


def but_hidden(
    database: Database, account: str, opened: tuple[Claimed, ...], screening: Screening
) -> tuple[tuple[Claimed, ...], set[UUID]]:
    """Return what may be sent, and the leads that were ended, once the contacts with encrypted numbers are checked.

    The list is read after the claim was committed: a block that was committed before it is seen.
    """
    hidden = {claimed.lead_id: claimed for claimed in opened if claimed.contacts_hidden and claimed.fault is None}
    if not hidden:
        return opened, set()
    checked = database.again(screened, account, list(hidden.values()), screening)
    ended = hidden.keys() - checked.keys()
    return tuple(checked.get(one.lead_id, one) for one in opened if one.lead_id not in ended), ended
