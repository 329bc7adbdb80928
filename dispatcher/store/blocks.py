"""Who must not be called, as the statements of submits, claims and replays ask it.

The rule itself is the SQL function `dispatcher.blocks_of`: a block in force of this number, for all accounts or this
one. `dispatcher.blocks_met` applies it to leads and their contacts for a claim.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.config.settings import Settings
from dispatcher.store.pseudonym import Pseudonyms, digest_sql

FINGERPRINT: Final = "blocked"

NEEDS_KEY: Final = """(
    EXISTS (SELECT FROM dispatcher.blocks /* whole */ WHERE number IS NULL)
    OR EXISTS (SELECT FROM dispatcher.erased_leads /* whole */)
)"""
"""The condition that somebody must not be called whose number is not kept."""

KEY_FITS: Final = f"""(
    NOT EXISTS (SELECT FROM dispatcher.privacy_key WHERE id IS DISTINCT FROM CAST(:key_id AS text))
    OR NOT {NEEDS_KEY}
)"""
"""The condition that this process can check every block, also those whose number is not kept."""


def hash_of(phone_number: str) -> str:
    """Return SQL for the pseudonym that `blocks_of` compares; NULL, and not computed, while no block needs it."""
    hashed = "EXISTS (SELECT FROM dispatcher.blocks /* whole */ WHERE number IS NULL)"
    return f"CASE WHEN {hashed} THEN {digest_sql(phone_number)} END"


def words(block: str, *, contact: str = "false") -> str:
    """Return SQL for a clause about a lead that met `block`; `contact`: whether that is of a secondary contact."""
    return (
        f"concat('the ', CASE WHEN {contact} THEN 'secondary contact' ELSE 'person' END,"
        f" ' is on the list of those who must not be called (',"
        f" coalesce(concat_ws('; ', 'reason: ' || {block}.reason, 'source: ' || {block}.source), ''),"
        f" CASE WHEN coalesce({block}.reason, {block}.source) IS NULL THEN 'no reason was given' END,"
        " ')')"
    )


def sentence(clause: str) -> str:
    """Return SQL for what a lead that ended as blocked says of it; `clause`: what `words` gave, or a column of it."""
    return f"concat('Nobody was called: ', {clause}, '. It can be replayed after `dispatcher unblock`.')"


def blocked_of(numbers: str) -> str:
    """Return the query of those of `numbers`, SQL for rows of text, that are blocked, with the sentences about them.

    The first sentence is for their own lead, the second for one that has them as a contact.
    """
    return f"""
SELECT given.phone_number, {sentence(words("block"))}, {sentence(words("block", contact="true"))}
FROM {numbers} AS given (phone_number)
CROSS JOIN LATERAL (
    SELECT * FROM dispatcher.blocks_of(CAST(:account AS text), given.phone_number, {hash_of("given.phone_number")})
    LIMIT 1
) AS block
WHERE EXISTS (SELECT FROM dispatcher.blocks /* whole */)
"""


OF_LEAD: Final = f"""coalesce(
    (SELECT {words("block")}
     FROM dispatcher.blocks_of(lead.account, lead.phone_number, {hash_of("lead.phone_number")}) AS block LIMIT 1),
    (SELECT {words("block", contact="true")}
     FROM dispatcher.lead_contacts AS contact
     CROSS JOIN LATERAL dispatcher.blocks_of(lead.account, contact.phone_number, {hash_of("contact.phone_number")})
         AS block
     WHERE contact.lead_id = lead.id AND NOT CAST(:drops AS boolean) LIMIT 1)
)"""
"""A scalar subquery that belongs to a row `lead` of `dispatcher.leads`: the clause about the block that it meets."""


@dataclass(frozen=True, slots=True)
class Screening:
    """How a process checks who is blocked.

    drops_contacts   a blocked secondary contact is left out; otherwise it holds the whole lead back
    """

    pseudonyms: Pseudonyms = field(default_factory=lambda: Pseudonyms(None))
    drops_contacts: bool = False

    @classmethod
    def of(cls, settings: Settings, pseudonyms: Pseudonyms | None = None) -> "Screening":
        """Return that of the settings. Raises `NotConfigured` where it reads a key, and `pseudonyms` are not given."""
        return cls(pseudonyms or Pseudonyms.of(settings), settings.blocked_contact == "drop")

    def values(self) -> dict[str, Any]:
        """Return what the statements bind: `inner_pad`, `outer_pad` and `drops`."""
        return {**self.pseudonyms.pads(), "drops": self.drops_contacts}


NO_KEY: Final = Screening()
"""That of a process without a key: blocks by hash alone are not seen. The claim, which must see them, has the key."""
