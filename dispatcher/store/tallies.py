"""The counters of all processes together, in one small table: they survive restarts and only ever grow."""

from typing import Final

from sqlalchemy import Connection, text

from dispatcher.records.figures import Counted
from dispatcher.records.tally import Tally

NO_ACCOUNT: Final = ""

_ADD = text("""
INSERT INTO dispatcher.tallies (name, account, label, value)
SELECT name, :account, label, value
FROM unnest(CAST(:names AS text[]), CAST(:labels AS text[]), CAST(:values AS float8[])) AS counted (name, label, value)
ORDER BY name, label
ON CONFLICT (name, account, label) DO UPDATE SET value = tallies.value + excluded.value
""")

_READ = text("SELECT name, account, label, value FROM dispatcher.tallies ORDER BY name, account, label")


def add(connection: Connection, account: str, tally: Tally) -> None:
    """Add what one process has counted for an account."""
    if tally:
        names, labels, values = zip(*tally, strict=True)
        connection.execute(
            _ADD, {"account": account, "names": list(names), "labels": list(labels), "values": list(values)}
        )


def read(connection: Connection) -> list[Counted]:
    """Every counter."""
    return [Counted(row.name, row.account, row.label, row.value) for row in connection.execute(_READ)]
