"""The questions that only a monitoring system asks; each is answered by a partial index."""

from sqlalchemy import Connection, text

from dispatcher.records.figures import Figures
from dispatcher.store import overview, tallies

_AGES = text("""
SELECT
    (SELECT CAST(extract(epoch FROM now() - min(ended_at)) AS float8) FROM dispatcher.lead_attempts
     WHERE finished_at IS NULL AND ended_at IS NOT NULL) AS unknown_age,
    (SELECT count(*) FROM dispatcher.alerts WHERE done_at IS NULL) AS alerts_unsent,
    (SELECT CAST(extract(epoch FROM now() - min(at)) AS float8) FROM dispatcher.alerts
     WHERE done_at IS NULL) AS alert_age
""")

_INCIDENTS = text("SELECT kind, count(*) AS unseen FROM dispatcher.incidents WHERE seen_at IS NULL GROUP BY kind")


def read(connection: Connection) -> Figures:
    """Everything that Postgres knows; Redis' part is left out."""
    ages = connection.execute(_AGES).one()
    return Figures(
        overview=overview.read(connection),
        counted=tuple(tallies.read(connection)),
        unknown_age_seconds=max(0.0, ages.unknown_age or 0.0),
        incidents={row.kind: row.unseen for row in connection.execute(_INCIDENTS)},
        alerts_unsent=ages.alerts_unsent,
        alert_age_seconds=max(0.0, ages.alert_age or 0.0),
    )
