"""`python -m tests.hosts.producer SEED`: submit leads until SIGTERM, and print the id of each."""

import random
import signal
import sys
import threading

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.errors import StoreUnavailable
from tests.hosts.stack import SUBMITS_A_SECOND, UNAVAILABLE
from tests.soak.stack import CAMPAIGNS, numbers


def main() -> int:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    seed = int(sys.argv[1])
    dice, phones = random.Random(seed), numbers(seed)
    dispatcher = Dispatcher(Settings.from_environment())
    while not stop.wait(1 / SUBMITS_A_SECOND):
        lead = {"phone_number": next(phones), "campaign_id": dice.choice(CAMPAIGNS), "allow_dupplicate": True}
        try:
            print(dispatcher.submit(lead).id, flush=True)
        except StoreUnavailable:
            print(UNAVAILABLE, flush=True)
    dispatcher.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
