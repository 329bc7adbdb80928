"""The campaign of rows that name none."""

from dataclasses import dataclass
from typing import Any

from dispatcher.leads.candidate import BatchIds


@dataclass(frozen=True, slots=True)
class DefaultCampaign:
    """Picklable, as the readers are that have one.

    ids   where other rows may name their own: the ids of these, so that in another campaign they are other leads
    """

    campaign_id: int
    ids: BatchIds | None = None

    def complete(self, lead: dict[str, Any], options: dict[str, Any], line: int) -> None:
        """Give the campaign to a lead that has none; `line` is that of its row."""
        if "campaign_id" in lead:
            return
        lead["campaign_id"] = self.campaign_id
        if self.ids is not None and options.get("id") is None:
            options["id"] = self.ids(line)
