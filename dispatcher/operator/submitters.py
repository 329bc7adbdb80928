"""Submitters: which login of Postgres may submit by SQL, for which accounts and campaigns.

`dispatcher.submit_lead` asks the table itself (`migrations/versions/0021_submitters.py`). A login without a row may
submit for all, as long as there is no row for `public`, which is for every login that has none of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import orjson
from sqlalchemy import Connection, text

from dispatcher.errors import NotAllowed
from dispatcher.lead.options import check_account
from dispatcher.operator.record import FOREIGN_TEXT, Record
from dispatcher.store import audit
from dispatcher.store.database import Database

PUBLIC: Final = "public"
"""Stands for every login that has no row."""

_ALL = text("SELECT login, accounts, changed_by, changed_at FROM dispatcher.submitters ORDER BY login")

_ONE = text("SELECT accounts FROM dispatcher.submitters WHERE login = :login FOR UPDATE")

_PUT = text("""
INSERT INTO dispatcher.submitters (login, accounts, changed_by) VALUES (:login, CAST(:accounts AS jsonb), :actor)
ON CONFLICT (login) DO UPDATE SET accounts = excluded.accounts, changed_by = excluded.changed_by, changed_at = now()
""")

_DELETE = text("DELETE FROM dispatcher.submitters WHERE login = :login")

_IS_LOGIN = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :login AND rolcanlogin)")


@dataclass(frozen=True, slots=True)
class Submitter(Record):
    """What a login may submit.

    login      a login of Postgres, or `public`: every login that has no row
    accounts   each with the ids of its campaigns; None: all of them. Empty: nothing
    """

    login: str = field(metadata=FOREIGN_TEXT)
    accounts: Mapping[str, Sequence[int] | None]
    changed_by: str = field(metadata=FOREIGN_TEXT)
    changed_at: datetime


class Submitters:
    """Reads and changes who may submit by SQL. `actor` is written to the audit log; a change holds from its commit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Submitter]:
        """Return every row, by login."""
        return self._database.read(_read)

    def allow(self, login: str, account: str, campaigns: Sequence[int] | None, *, actor: str) -> Submitter:
        """Let a login submit for an account, and for nothing that it was not allowed; return its row.

        login       of Postgres, or `public`
        campaigns   ids, beside those that it may use already; None: all of the account

        Raises `NotAllowed` for a name that is no login, and `InvalidLead` for an impossible account.
        """
        check_account(account)
        return self._database.again(_allow, login, account, campaigns, actor)

    def revoke(self, login: str, account: str | None, *, actor: str) -> Submitter:
        """Take an account away, or with None each; return the row. With none left the login may submit nothing.

        Raises `NotAllowed` for a name that is no login, and for an account that the login was not allowed.
        """
        return self._database.again(_revoke, login, account, actor)

    def free(self, login: str, *, actor: str) -> None:
        """Forget what the login may, so that `public` holds for it, or nothing. Raises `NotAllowed` without a row."""
        self._database.again(_free, login, actor)


def _read(connection: Connection) -> list[Submitter]:
    return [Submitter.of(row) for row in connection.execute(_ALL).mappings()]


def _held(connection: Connection, login: str) -> dict[str, list[int] | None] | None:
    if login != PUBLIC and not connection.execute(_IS_LOGIN, {"login": login}).scalar():
        raise NotAllowed(
            f"{login} is no login of Postgres; name the login that calls dispatcher.submit_lead (CREATE ROLE … LOGIN "
            f"makes one), or `{PUBLIC}` for every login without a row. A group's members are named one by one."
        )
    found: dict[str, list[int] | None] | None = connection.execute(_ONE, {"login": login}).scalar()
    return found


def _allow(connection: Connection, login: str, account: str, campaigns: Sequence[int] | None, actor: str) -> Submitter:
    accounts = _held(connection, login) or {}
    before = accounts.get(account, [])
    accounts[account] = None if campaigns is None or before is None else sorted({*before, *campaigns})
    detail = {"account": account, "campaigns": campaigns and list(campaigns)}
    return _put(connection, login, accounts, actor, "submitters_allow", detail)


def _revoke(connection: Connection, login: str, account: str | None, actor: str) -> Submitter:
    accounts = _held(connection, login) or {}
    if account is not None and account not in accounts:
        raise NotAllowed(
            f"{login} was not allowed the account {account}; `dispatcher submitters list` shows what it was."
        )
    left = {} if account is None else {name: its for name, its in accounts.items() if name != account}
    return _put(connection, login, left, actor, "submitters_revoke", {"account": account})


def _free(connection: Connection, login: str, actor: str) -> None:
    if not connection.execute(_DELETE, {"login": login}).rowcount:
        raise NotAllowed(f"{login} has no row; `dispatcher submitters list` shows those that have.")
    audit.note(connection, actor, "submitters_free", login, {})


def _put(
    connection: Connection,
    login: str,
    accounts: Mapping[str, Sequence[int] | None],
    actor: str,
    action: str,
    detail: Mapping[str, object],
) -> Submitter:
    connection.execute(_PUT, {"login": login, "accounts": orjson.dumps(accounts).decode(), "actor": actor})
    audit.note(connection, actor, action, login, detail)
    return next(one for one in _read(connection) if one.login == login)
