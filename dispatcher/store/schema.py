"""The names that our statements share with the migrations, which define the schema."""

from typing import Final

SCHEMA: Final = "dispatcher"

LIVE: Final = (
    "state IN ('pending', 'sending', 'unknown', 'accepted')"
    " OR (state = 'failed' AND failure_class = 'outcome_unknown' AND resolved_at IS NULL)"
)
"""A lead that stands for its person: no second one with `allow_dupplicate` false may be live."""

LIVE_STRICT: Final = f"NOT allow_dupplicate AND ({LIVE})"
