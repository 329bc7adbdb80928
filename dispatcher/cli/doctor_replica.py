"""What `doctor` says of the replica from which lists are read."""

from dispatcher.cli.doctor import Check, Grade
from dispatcher.config.settings import Settings
from dispatcher.wiring import Services


def replica_checks(settings: Settings) -> list[Check]:
    """Return whether the replica of `DATABASE_READ_URL` is used, and how far it is behind; nothing without one."""
    if settings.database_read_url is None or settings.database_url is None:
        return []
    services = Services(settings, name="dispatcher-doctor", connections=1)
    try:
        place = services.reading.place
    finally:
        services.close()
    if place is None:
        return []
    if place.replica:
        return [Check("Replica", Grade.GOOD, f"{place.lag_seconds or 0.0:.0f} s behind; lists are read there")]
    advice = "Lists are read from DATABASE_URL meanwhile; repair the replica, or unset DATABASE_READ_URL."
    return [Check("Replica", Grade.DOUBTFUL, place.fault or "not used", advice)]
