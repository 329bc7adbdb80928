"""The probe: one question to Postgres, and the judgement. It loads little, because orchestrators start it all day."""

from dispatcher.errors import DispatcherError
from dispatcher.records.health import WITHIN_SECONDS, Health, judge
from dispatcher.store import pulse
from dispatcher.store.database import Database, StatementRefused, TryAgain


def probe(database: Database, *, within_seconds: float = WITHIN_SECONDS, host: str | None = None) -> Health:
    """How the queue does now. Never raises: a store that cannot be asked, or has another schema, is unhealthy.

    `host`: a worker of this machine must have been seen.
    """
    try:
        with database.autocommit() as connection:
            return judge(pulse.read(connection, host), within_seconds=within_seconds, host=host)
    except DispatcherError as error:
        return Health(None, (str(error),))
    except (TryAgain, StatementRefused):
        return Health(None, ("Postgres refused the question; see `dispatcher doctor`.",))
