"""How the primary is found among several hosts: by host and port as libpq tells them, and never without end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from dispatcher.store.primaries import FormerPrimary, Primaries

FORMER, NEW = "10.0.0.1", "10.0.0.2"
TIMELINES = {FORMER: 1, NEW: 2}


@dataclass
class Connection:
    """To a host, as psycopg shows it."""

    host: str
    port: int
    closed: bool = False
    autocommit: bool = False
    info: Any = field(init=False)

    def __post_init__(self) -> None:
        self.info = SimpleNamespace(host=self.host, port=self.port)

    def execute(self, _: str) -> "Connection":
        return self

    def fetchone(self) -> tuple[str, int]:
        return "system", TIMELINES[self.host]

    def close(self) -> None:
        self.closed = True


@dataclass
class Libpq:
    """Connects to the first host of a list. `default_port` is that of the environment, `shown` overrides the host."""

    given: Mapping[str, Any]
    default_port: int = 5432
    opened: list[str] = field(default_factory=list)

    def open(self, changed: Mapping[str, Any]) -> Any:
        assert len(self.opened) < 10, "it connects without end"
        parameters = {**self.given, **changed}
        host = str(parameters.get("host") or parameters["hostaddr"]).split(",")[0]
        port = str(parameters.get("port") or "").split(",")[0]
        self.opened.append(host)
        return Connection(host, int(port or self.default_port))


@pytest.mark.parametrize(
    "hosts",
    [
        f"host={FORMER},{NEW}",
        f"host={FORMER},{NEW} port=6543,6543",
        f"host={FORMER},{NEW} port=,6543",
        f"hostaddr={FORMER},{NEW}",
        f"hostaddr={FORMER},{NEW} port=6543",
    ],
)
@pytest.mark.parametrize("default_port", [5432, 5433])
def test_a_former_primary_is_left_for_the_new_one_however_the_hosts_are_written(hosts: str, default_port: int) -> None:
    given = conninfo_to_dict(f"{hosts} target_session_attrs=read-write")
    libpq = Libpq(given, default_port)
    primaries = Primaries(given, {"system": 2})

    assert primaries.connect(libpq.open).info.host == NEW
    assert libpq.opened == [FORMER, NEW]


def test_a_host_that_is_not_recognised_is_not_asked_without_end() -> None:
    """The names of a list and the one of a connection could differ in a way that nobody knows of."""
    given = conninfo_to_dict("host=db-a,db-b target_session_attrs=primary")
    opened: list[Mapping[str, Any]] = []

    def open_(changed: Mapping[str, Any]) -> Any:
        opened.append(changed)
        assert len(opened) < 10, "it connects without end"
        return Connection(FORMER, 5432)

    with pytest.raises(FormerPrimary, match="former primary"):
        Primaries(given, {"system": 2}).connect(open_)
    assert len(opened) == 1
