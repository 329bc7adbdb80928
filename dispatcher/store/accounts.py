"""Accounts and channels: what is known of a Voicery workspace and of its campaigns."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

_READ = text("""
SELECT account.base_url, coalesce(account.watermark_off, false) AS watermark_off,
    CASE WHEN account.list_off_until > now() THEN account.list_off_until END AS list_off_until,
    (SELECT rate_limit FROM dispatcher.channels WHERE account = :name AND campaign_id = :campaign_id) AS rate_limit
FROM (SELECT 1) AS one LEFT JOIN dispatcher.accounts AS account ON account.name = :name
""")

_BIND = text("""
INSERT INTO dispatcher.accounts (name, base_url) VALUES (:name, :base_url)
ON CONFLICT (name) DO UPDATE SET base_url = coalesce(accounts.base_url, excluded.base_url)
""")


@dataclass(frozen=True, slots=True)
class Account:
    """`base_url`: the one it is bound to, None before its first accepted attempt. `rate_limit`: the campaign's own."""

    base_url: str | None
    watermark_off: bool
    list_off_until: datetime | None
    rate_limit: str | None


def read(connection: Connection, name: str, campaign_id: int | None = None) -> Account:
    """What is stored of an account, and of one of its campaigns."""
    row = connection.execute(_READ, {"name": name, "campaign_id": campaign_id}).one()
    return Account(row.base_url, row.watermark_off, row.list_off_until, row.rate_limit)


def bind(connection: Connection, name: str, base_url: str) -> None:
    """Remember where the account's leads were accepted first; a bound account stays bound."""
    connection.execute(_BIND, {"name": name, "base_url": base_url})
