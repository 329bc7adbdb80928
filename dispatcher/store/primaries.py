"""A former primary that takes writes again is left: another server was promoted, and what it is given would be lost.

Postgres does not know of its own successor. Where `DATABASE_URL` names both, libpq takes the first that takes writes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg

from dispatcher.store.trouble import NothingDone

_ASK: Final = """
SELECT CAST(system_identifier AS text), CAST(CAST('x' || left(
    CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END, 8) AS bit(32)) AS int)
FROM pg_control_system()
"""
_ASK_SECONDS: Final = 2  # the least that libpq takes
_PLACE: Final = ("host", "hostaddr", "port")

Open = Callable[[Mapping[str, Any]], "psycopg.Connection[Any]"]
"""Opens a connection with these parameters instead of those of the URL."""


class FormerPrimary(NothingDone):
    """The server is one that another has succeeded; nothing was asked of it."""


class Primaries:
    """Finds the primary among the hosts of one address. Thread-safe: what it remembers only grows.

    given   the parameters of the address, as libpq read them
    """

    def __init__(self, given: Mapping[str, Any], latest: dict[str, int]) -> None:
        self._latest = latest  # the last timeline of each system that this process has been connected to
        self._hosts = _hosts(given)
        self._chooses = given.get("target_session_attrs") in {"read-write", "primary"}

    def connect(self, open_: Open) -> "psycopg.Connection[Any]":
        """Return a connection to the primary. Raises `FormerPrimary` where only former ones are left."""
        hosts = self._hosts
        several = self._chooses and len(hosts) > 1
        if several and not self._latest:
            for host in hosts:
                self._look_at(open_, host)
        former = False
        while hosts:
            try:
                connection = open_(_joined(hosts) if several else {})
            except psycopg.Error:
                if former:
                    break
                raise
            if not self._is_former(connection):
                return connection
            former = True
            others = [host for host in hosts if several and not _is_at(host, connection.info)]
            connection.close()
            hosts = others if len(others) < len(hosts) else []  # one that is not recognised would be asked without end
        raise FormerPrimary(
            "The server that DATABASE_URL leads to is a former primary: another one was promoted since, and what it is "
            "given now would be lost. Stop it, or make it a standby of the new one."
        )

    def _look_at(self, open_: Open, host: Mapping[str, str]) -> None:
        """Learn the timeline of one host before the first connection: a process that starts remembers none."""
        try:
            alone = open_({**host, "target_session_attrs": "any", "connect_timeout": _ASK_SECONDS})
        except (psycopg.Error, NothingDone):
            return
        self._is_former(alone)
        alone.close()

    def _is_former(self, connection: "psycopg.Connection[Any]") -> bool:
        try:
            connection.autocommit = True
            found = connection.execute(_ASK).fetchone()
        except psycopg.Error:  # a service that does not tell
            found = None
        finally:
            if not connection.closed:
                connection.autocommit = False
        if found is None or found[1] is None:
            return False
        system, number = found
        latest = self._latest[system] = max(number, self._latest.get(system, number))
        return bool(number < latest)


def _hosts(given: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what libpq makes of lists of hosts and ports, one for each host."""
    lists = {name: str(given[name]).split(",") for name in _PLACE if given.get(name)}
    count = max((len(one) for name, one in lists.items() if name != "port"), default=1)
    return [{name: one[index] if len(one) > 1 else one[0] for name, one in lists.items()} for index in range(count)]


def _is_at(host: Mapping[str, str], info: "psycopg.ConnectionInfo") -> bool:
    """Whether a connection leads to this host; a port that is not given may come from the environment."""
    return info.host == (host.get("host") or host.get("hostaddr")) and host.get("port") in {None, "", str(info.port)}


def _joined(hosts: list[dict[str, str]]) -> dict[str, str]:
    return {name: ",".join(host[name] for host in hosts) for name in hosts[0]}
