"""What `submit` costs as the role of a producer, beside the owner of the tables: `python -m benchmarks.roles`.

Both logins submit to one database, in turns of 100 leads, so that what else the machine does meets both alike.
"""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.leads import lead
from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.store.migration import upgrade
from dispatcher.store.rights import Part
from dispatcher.store.roles import names_of

_TURNS = 20
_LEADS = 100


def main() -> None:
    """Print the median milliseconds of both, and their ratio."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory) / "postgres") as server:
        names = names_of()
        upgrade(normal_database_url(server.url()), roles=names)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE shop LOGIN PASSWORD 'password'")
            connection.execute(f"GRANT {names[Part.PRODUCER]} TO shop")
        place = server.url().rsplit("@", 1)[1]
        urls = {"owner": server.url(), "producer": f"postgresql://shop:password@{place}"}
        took: dict[str, list[float]] = {name: [] for name in urls}
        with contextlib.ExitStack() as stack:
            dispatchers = {}
            for name, url in urls.items():
                settings = Settings(database_url=normal_database_url(url), redis_url="redis://127.0.0.1:1/0")
                dispatchers[name] = stack.enter_context(contextlib.closing(Dispatcher(settings)))
            number = 0
            for turn in range(_TURNS):
                for name, dispatcher in dispatchers.items():
                    for _ in range(_LEADS):
                        began = time.perf_counter()
                        dispatcher.submit(lead(number))
                        if turn:  # the first warms up
                            took[name].append(time.perf_counter() - began)
                        number += 1
    medians = {name: statistics.median(seconds) * 1000 for name, seconds in took.items()}
    print(" · ".join(f"{name} {milliseconds:.3f} ms" for name, milliseconds in medians.items()))
    print(f"producer / owner {medians['producer'] / medians['owner']:.3f}")


if __name__ == "__main__":
    main()
