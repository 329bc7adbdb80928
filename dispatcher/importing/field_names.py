"""The names by which a file, or `--map`, speaks of what is no variable."""

import re
from typing import Final

FIELDS: Final = {
    "phone_number": "phone_number",
    "phone": "phone_number",
    "campaign_id": "campaign_id",
    "campaign": "campaign_id",
    "allow_dupplicate": "allow_dupplicate",
    "allow_duplicate": "allow_dupplicate",
    "priority": "priority",
    "idempotency_key": "idempotency_key",
    "not_before": "not_before",
    "expires_at": "expires_at",
}
"""In small letters → the field of a lead, or the option of `submit`."""

CONTACT: Final = re.compile(r"contact([1-9]\d?)_(.+)", re.IGNORECASE | re.DOTALL)
