"""What the figures for a monitoring system are made of: one reading of the stores, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatcher.records.overview import Overview


@dataclass(frozen=True, slots=True)
class Counted:
    """One counter since the first day; `account` is empty where it belongs to none."""

    name: str
    account: str
    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One reading; ages in seconds by the database's clock, 0 where there is nothing.

    unknown_age_seconds   since the end of the attempt whose outcome has been unknown for longest
    incidents             unseen ones by kind
    alerts_unsent         alerts that no receiver has taken yet; `alert_age_seconds` of the oldest
    doorbells             messages that wait for a worker; None if Redis cannot be asked
    """

    overview: Overview
    counted: tuple[Counted, ...] = ()
    unknown_age_seconds: float = 0.0
    incidents: Mapping[str, int] = field(default_factory=dict)
    alerts_unsent: int = 0
    alert_age_seconds: float = 0.0
    doorbells: int | None = None
