"""What the person who imports decides about a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatcher.leads.options import DEFAULT_ACCOUNT


@dataclass(frozen=True, slots=True)
class ImportTerms:
    """Frozen, and the same for the plan and the import.

    account      whose leads these are
    campaign_id  of rows that name none; None: every row must
    country      two letters: whose numbers those without a country code are; None: such numbers are refused
    columns      what a column means, by its header: `{"Mobile": "phone_number", "First name": "customer_name"}`
    again        import rows once more that an earlier import of this file took in
    actor        who imports, for the record
    workers      processes that read and validate, beside this one; 0: none
    """

    account: str = DEFAULT_ACCOUNT
    campaign_id: int | None = None
    country: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    actor: str = ""
    workers: int = 0
