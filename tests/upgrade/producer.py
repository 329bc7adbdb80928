"""`producer.py FIRST [PAUSE]`: submit leads until SIGTERM, by whatever version of the package is found; tell each.

FIRST is the index of the first lead among the numbers of the benchmarks, PAUSE the seconds between two. Prints a JSON
object a submission: the id and the seconds that it took, or the error.
"""

import itertools
import json
import signal
import sys
import threading
import time

import dispatcher
from benchmarks.leads import CAMPAIGN, phone_number

ending = threading.Event()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    first, pause = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    for index in itertools.count(first):
        if ending.wait(pause):
            return
        lead = {"phone_number": phone_number(index), "campaign_id": CAMPAIGN, "allow_dupplicate": True}
        began = time.perf_counter()
        try:
            told = {"id": str(dispatcher.submit(lead).id)}
        except Exception as error:  # noqa: BLE001 - told to whoever reads
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({**told, "at": time.time(), "seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
