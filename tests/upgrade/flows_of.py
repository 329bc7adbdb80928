"""`flows_of.py SERVER TEMPLATE [FLOW …]`: run the flows of the version that is found, each on a copy of a database.

Prints each flow that fails, with its error.
"""

import sys
import traceback

import psycopg

from tests.migration.flows import FLOWS, world_of


def main() -> None:
    server, template, *only = sys.argv[1:]
    name = f"{template}_of_before"
    with psycopg.connect(server, autocommit=True) as connection:
        for flow in FLOWS:
            if only and flow.__name__ not in only:
                continue
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
            try:
                with world_of(f"{server.rpartition('/')[0]}/{name}") as world:
                    flow(world)
            except Exception:  # noqa: BLE001 - told to whoever reads
                print(flow.__name__, traceback.format_exc(), flush=True)
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    main()
