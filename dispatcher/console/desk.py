"""What the console works with: the use cases of one dispatcher."""

from dataclasses import dataclass

from dispatcher.campaigns import Campaigns
from dispatcher.corrections import Corrections
from dispatcher.failures import Failures
from dispatcher.gates import GateKeeper
from dispatcher.ledgers import Ledgers
from dispatcher.operations import Operations
from dispatcher.runtime import Dispatcher, LazyBell
from dispatcher.settings import Settings


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that a page may read and do."""

    settings: Settings
    dispatcher: Dispatcher
    failures: Failures
    operations: Operations
    corrections: Corrections
    gates: GateKeeper
    campaigns: Campaigns
    ledgers: Ledgers

    @classmethod
    def of(cls, settings: Settings) -> "Desk":
        """The desk over the store of these settings. Connects when it is first used."""
        dispatcher = Dispatcher(settings)
        database = dispatcher.database
        failures = Failures(database, LazyBell(settings))
        return cls(
            settings=settings,
            dispatcher=dispatcher,
            failures=failures,
            operations=Operations(database, failures),
            corrections=Corrections(database, failures),
            gates=GateKeeper(database),
            campaigns=Campaigns(database),
            ledgers=Ledgers(database),
        )

    def close(self) -> None:
        """Give the connections back."""
        self.dispatcher.close()
