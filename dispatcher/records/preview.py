"""What a bulk action would do, before it is done: one count for each answer that the single action would give."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preview:
    """`safe` would be done; `doubtful` may have reached the person and need a look-up; the others would be refused.

    gone          neither failed nor in doubt any more
    rivals        another live lead stands for the person
    twins         the person occurs in the selection before; the first of them is counted as safe
    not_in_doubt  nothing to look up
    """

    total: int
    safe: int
    doubtful: int = 0
    gone: int = 0
    rivals: int = 0
    twins: int = 0
    not_in_doubt: int = 0

    @property
    def refused(self) -> int:
        """Leads that would be left alone for good reasons."""
        return self.gone + self.rivals + self.twins + self.not_in_doubt

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "total": self.total,
            "safe": self.safe,
            "needs_look_up": self.doubtful,
            "refused": self.refused,
            "why_refused": {
                "gone": self.gone,
                "rivals": self.rivals,
                "twins": self.twins,
                "not_in_doubt": self.not_in_doubt,
            },
        }
