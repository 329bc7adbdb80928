"""The ids of a file's rows: of the content, of the campaign that a row goes into, and of its place.

So neither a changed mapping nor a default that a row does not use makes it another lead, but another campaign does.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

from dispatcher.leads.candidate import BatchIds


@dataclass(frozen=True, slots=True)
class RowIds:
    """The ids of the rows of one batch. Picklable."""

    account: str
    batch_id: UUID
    _series: dict[int, BatchIds] = field(default_factory=dict, repr=False, compare=False)  # what was made so far

    def __call__(self, index: int, campaign_id: int) -> UUID:
        """The id of the row at `index`, 0-based, empty rows left out, where it goes into this campaign."""
        return self.of_campaign(campaign_id)(index)

    def of_campaign(self, campaign_id: int) -> BatchIds:
        """Those of the rows that go into this campaign, by their index."""
        series = self._series.get(campaign_id)
        if series is None:
            series = BatchIds.of(self.account, uuid_of(f"{self.batch_id}:{campaign_id}"))
            self._series[campaign_id] = series
        return series


def uuid_of(name: str) -> UUID:
    """UUIDv8, 122 bits of SHA-256."""
    bits = int.from_bytes(sha256(name.encode()).digest()[:16])
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62)
