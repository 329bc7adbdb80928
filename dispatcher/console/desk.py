"""What the console works with: the use cases of one dispatcher."""

from dataclasses import dataclass

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.operator.campaigns import Campaigns
from dispatcher.operator.corrections import Corrections
from dispatcher.operator.ledger import Ledgers
from dispatcher.operator.operations import Operations
from dispatcher.operator.pause import GateKeeper
from dispatcher.operator.replay import Failures


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
        failures = dispatcher._failures  # noqa: SLF001 - until both take `Services`
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
