"""When something may begin: a moment, or a delay by the database's clock; what has passed is now."""

from datetime import datetime, timedelta
from typing import Any, Final

Start = datetime | timedelta | None

START: Final = "greatest(now(), coalesce(CAST(:at AS timestamptz), now() + CAST(:delay AS interval), now()))"


def start_values(not_before: Start) -> dict[str, Any]:
    """What `START` binds."""
    return {
        "at": not_before if isinstance(not_before, datetime) else None,
        "delay": not_before if isinstance(not_before, timedelta) else None,
    }
