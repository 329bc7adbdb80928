"""Translate errors of Postgres into a cause and a remedy, without any value.

A failed statement has a code (SQLSTATE); a failed connection only has a message, which contains hosts, roles and
databases: the message is matched, never repeated.
"""

import re
from dataclasses import dataclass
from typing import Final

from dispatcher.errors import StoreUnavailable
from dispatcher.store.rights import Refused


class StatementRefused(Exception):
    """Postgres refused a statement (a constraint, a value). Contains codes, never values."""

    def __init__(self, sqlstate: str | None, constraint: str | None) -> None:
        self.sqlstate = sqlstate
        self.constraint = constraint
        super().__init__(f"Postgres refused a statement (SQLSTATE {sqlstate}, constraint {constraint})")


class NothingDone(StoreUnavailable):
    """Postgres is not usable now, and this statement or connection had no effect: it may be repeated."""


class Cancelled(NothingDone):
    """A statement was cancelled, by `statement_timeout` or by a person; repeated, it takes as long again."""


class OtherSchema(NothingDone):
    """Our tables are missing or of another version: the statement had no effect, and waiting does not help."""


class NotPermitted(NothingDone):
    """The database role lacks a right: the statement had no effect, and waiting does not help.

    refused   what it was refused
    """

    def __init__(self, message: str, refused: Refused) -> None:
        super().__init__(message)
        self.refused = refused


class Locked(NothingDone):
    """A lock was not to be had, however often it was tried: the transaction had no effect."""

    def __init__(self) -> None:
        super().__init__("Postgres kept refusing a lock; find the long transaction and end it.")


class TryAgain(Exception):
    """A deadlock or a lock timeout: the transaction had no effect and may be repeated."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate
        super().__init__(
            f"Another transaction held a lock for longer than lock_timeout, or it was a deadlock (SQLSTATE {sqlstate});"
            " `dispatcher doctor` shows transactions that are open for long."
        )


_AGAIN: Final = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock timeout: nothing was done
_REFUSED_CLASSES: Final = frozenset({"21", "22", "23", "27", "44", "54", "P0", "XX"})
"""Errors that a repetition cannot fix: the values, a constraint, a trigger, a limit, a damaged row. Others may pass: a
server that is down, stopping, full, read-only after a failover, without our tables or our rights."""
_NOT_PERMITTED: Final = "42501"
_OTHER_SCHEMA: Final = frozenset({"42P01", "3F000", "42703", "42883"})
_OUT_OF_SERVICE: Final = frozenset({"25006", "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"})
_MAY_HAVE_COMMITTED: Final = frozenset({"08", "40", "57"})
"""Classes after which a commit may have happened although it was not acknowledged."""

_CAUSES: Final = {
    "25006": "The server that DATABASE_URL leads to takes no writes: it is a standby, or was taken out of service; "
    "name the primary, or with several hosts add target_session_attrs=read-write. A session that was "
    "begun as READ ONLY is told the same.",
    "25P01": "The session is in AUTOCOMMIT mode and has no transaction that a lead could join; begin one, or leave out "
    "session.",
    "25P02": "The transaction of the session has failed before; roll it back and begin another.",
    "25P04": "Postgres ended a transaction after its transaction_timeout; ALTER ROLE … SET transaction_timeout = 0 for "
    "the role of DATABASE_URL.",
    "53100": "The disk of Postgres is full; free or add space there. Leads that were stored are safe.",
    "53200": "Postgres is out of memory; lower its load or its work_mem.",
    "53300": "Postgres has no connection left; raise max_connections, close other clients, or put a pooler in front.",
    "57014": "A statement was cancelled, by statement_timeout or by a person; look for what slows Postgres down.",
    "57P01": "Postgres ended the session: it is stopping, or an administrator ended it; it is tried again.",
    "57P02": "Postgres has crashed and restarts; it is tried again.",
    "57P03": "Postgres is starting, stopping or recovering; it is tried again.",
    "57P04": "The database was dropped; correct DATABASE_URL or restore a backup.",
    "28P01": "Postgres refuses the password of DATABASE_URL; correct it, with / ? # @ : [ ] % percent-encoded.",
    "28000": "Postgres refuses this role from this machine; create the role, or allow it in pg_hba.conf.",
    "3D000": "The database that DATABASE_URL names does not exist on that server; create it or correct the name.",
}
_CODE_BY_WORDS: Final = (
    (r"password authentication failed|no password supplied|authentication failed", "28P01"),
    (r"role \".*\" does not exist|no pg_hba\.conf entry|is not permitted to log in|no such user", "28000"),
    (r"database \".*\" does not exist|no such database", "3D000"),
    (r"too many (clients|connections)|connection slots|no more connections", "53300"),
    (r"is (starting up|shutting down|in recovery|not yet accepting)|not accepting connections", "57P03"),
    (r"session is (not )?read-only|server is (not )?in hot standby", "25006"),
)
_CAUSE_BY_WORDS: Final = (
    (
        r"unsupported startup parameter|unsupported startup option",
        "DATABASE_URL leads to a pooling proxy that takes no options of a session; set DISPATCHER_POOLER=true.",
    ),
    (
        r"translate host name|Name or service not known|resolve host|nodename nor servname",
        "Postgres cannot be reached: the host name of DATABASE_URL is not known here; correct it, or the name service.",
    ),
    (
        r"certificate|SSL|GSSAPI|root\.crt",
        "The encrypted connection to Postgres failed; check sslmode and sslrootcert in DATABASE_URL.",
    ),
    (
        r"No such file or directory",
        "Postgres cannot be reached: there is no socket where DATABASE_URL says; start it, or correct the host.",
    ),
    (r"definition of service|service file", "The service that DATABASE_URL names is in no service file here."),
    (
        r"[Cc]onnection refused",
        "Postgres cannot be reached: nothing listens at the host and port of DATABASE_URL; start it, or correct them.",
    ),
    (
        r"timeout expired|timed out",
        "The host of DATABASE_URL does not answer; is it the right one, and is the way open?",
    ),
)
_SERVERS_WORDS: Final = re.compile(r'server (at|on socket) "[^"]*"(, port \d+)? failed: [^\s:]+: ')
"""What libpq writes before the words of a server, which are in the server's language."""
_REFUSED: Final = (
    "Postgres answers and refuses the session, in words that are not known here; they are in its log, and `psql` with "
    "the same address shows them. Check role, password and database of DATABASE_URL."
)
_NOT_CONNECTED: Final = re.compile(
    r"connection (failed|is bad|timeout expired)|failed to resolve host|\[Errno -", re.ASCII
)
_GENERAL: Final = "Postgres cannot be reached or is stopping; check DATABASE_URL and `dispatcher doctor`."


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error of the driver: its code, and whether its connection is still usable."""

    sqlstate: str | None
    constraint: str | None
    words: str
    connected: bool
    refused: Refused | None = None

    @classmethod
    def of(cls, error: BaseException | None, statement: str | None = None) -> "Trouble":
        """Read an error of psycopg, psycopg2 or asyncpg. `statement`: the SQL that failed, else the error's notes."""
        sqlstate = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        diagnosis = getattr(error, "diag", None)
        constraint = getattr(diagnosis, "constraint_name", None) or getattr(error, "constraint_name", None)
        words = str(error) if sqlstate is None else ""
        connected = sqlstate is not None or _NOT_CONNECTED.match(words) is None
        if sqlstate is None:
            sqlstate = next((code for pattern, code in _CODE_BY_WORDS if re.search(pattern, words)), None)
        refused = None
        if sqlstate == _NOT_PERMITTED:
            notes = getattr(error, "__notes__", ())
            refused = Refused.of(
                getattr(diagnosis, "message_primary", None) or str(error), statement or " ".join(notes)
            )
        return cls(sqlstate, constraint, words, connected, refused)

    @property
    def out_of_service(self) -> bool:
        """Return whether the server is out of service, so that its other connections are dropped too."""
        return self.sqlstate in _OUT_OF_SERVICE or (self.sqlstate or "").startswith("08")

    @property
    def repeatable(self) -> bool:
        """Return whether it was a deadlock, a lock timeout or a serialization failure."""
        return self.sqlstate in _AGAIN

    def translated(self, *, away: bool = False) -> Exception:
        """Return it as one of our errors. `away`: the connection was lost, whatever the code."""
        code = self.sqlstate
        if self.repeatable:
            return TryAgain(code)
        if code in _OTHER_SCHEMA:
            return OtherSchema("The dispatcher's tables are missing or of another version; run `dispatcher migrate`.")
        if not away and code is not None and code[:2] in _REFUSED_CLASSES:
            return StatementRefused(code, self.constraint)
        if self.refused is not None and not away:
            return NotPermitted(self.refused.sentence(), self.refused)
        nothing_done = not self.connected or (
            code is not None and not away and (code[:2] not in _MAY_HAVE_COMMITTED or code == "57014")
        )
        kind = Cancelled if code == "57014" and not away else NothingDone if nothing_done else StoreUnavailable
        unavailable = kind(self._sentence())
        unavailable.connection_lost = away or self.out_of_service or (code is None and self.connected)
        return unavailable

    def _sentence(self) -> str:
        general = _REFUSED if _SERVERS_WORDS.search(self.words) else _GENERAL
        cause = _CAUSES.get(self.sqlstate or "") or next(
            (cause for pattern, cause in _CAUSE_BY_WORDS if re.search(pattern, self.words)), general
        )
        return f"{cause} (SQLSTATE {self.sqlstate})" if self.sqlstate and self.connected else cause
