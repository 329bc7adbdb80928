"""The stored state of Voicery accounts and their channels."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import Connection, text

from dispatcher.config.agreement import drift
from dispatcher.config.settings import Settings
from dispatcher.errors import StoreUnavailable
from dispatcher.lead.options import Channel
from dispatcher.store.blocks import NEEDS_KEY
from dispatcher.store.database import Database
from dispatcher.store.statement import HotStatement, first_id
from dispatcher.store.trouble import StatementRefused, TryAgain

if TYPE_CHECKING:
    from dispatcher.broker.limiter import History

_WAITING: Final = """
channel AS (
    -- A loose index scan: one probe a channel. The query that begins with it is RECURSIVE.
    (SELECT account, campaign_id FROM dispatcher.leads WHERE state = 'pending' AND {account}
     ORDER BY account, campaign_id LIMIT 1)
    UNION ALL
    SELECT following.account, following.campaign_id
    FROM channel CROSS JOIN LATERAL (
        SELECT lead.account, lead.campaign_id FROM dispatcher.leads AS lead
        WHERE lead.state = 'pending' AND {account}
          AND (lead.account, lead.campaign_id) > (channel.account, channel.campaign_id)
        ORDER BY lead.account, lead.campaign_id LIMIT 1
    ) AS following
)
"""
WAITING_CHANNELS: Final = _WAITING.format(account="true")
"""`channel`: every channel with pending leads, due or not."""
WAITING_CHANNELS_OF_ACCOUNT: Final = _WAITING.format(account="account = :account")

DUE: Final = """
EXISTS (
    SELECT FROM (VALUES (9), (8), (7), (6), (5), (4), (3), (2), (1), (0)) AS level (priority)
    CROSS JOIN LATERAL (
        SELECT 1 FROM dispatcher.leads AS lead
        WHERE lead.state = 'pending' AND lead.account = channel.account AND lead.campaign_id = channel.campaign_id
          AND lead.priority = level.priority AND lead.due_at <= now()
        ORDER BY lead.due_at LIMIT 1
    ) AS due
)
"""
"""Whether a lead of `channel` may be claimed now: one index probe for each priority."""

LIKELIEST: Final = """
    gate.state IS NOT NULL AND gate.state <> 'open', coalesce(gate.closings, 0) > 0, served.accepted_at IS NULL,
    coalesce(gate.failures, 0), served.accepted_at DESC, channel.campaign_id
"""
"""The order of the channels of an account (`channel`, its row `served` of channels, its `gate`) by the likelihood that
a lead is accepted: open ones before those that probe, then those with acceptances, the fewest failures since, and the
latest acceptance."""

PROBES_IN_VAIN: Final = "of_account.state = 'probing' AND of_account.moved_at < now() - interval '10 s'"
"""Whether an account, whose gate is `of_account`, has probed for so long that any campaign may be its probe: the
likeliest may have no permit of its own limit for an hour, or no lead that can be claimed."""

WAITS_FOR_PROBE: Final = """(
    state = 'closed' AND (until IS NULL OR until <= now())
    AND reason IN ('outage', 'unauthorized', 'no_balance', 'forbidden', 'misconfigured', 'rejecting')
)"""
"""Whether a closed gate has waited long enough. One without an end was closed by hand, and ends by its probe."""

_READ = HotStatement(f"""
SELECT account.base_url, coalesce(account.watermark_off, false) AS watermark_off, account.terms, account.terms_by,
    CASE WHEN account.list_off_until > now() THEN account.list_off_until END AS list_off_until,
    (SELECT rate_limit FROM dispatcher.channels WHERE account = :name AND campaign_id = :campaign_id) AS rate_limit,
    (SELECT id FROM dispatcher.privacy_key WHERE {NEEDS_KEY}) AS key_id,
    ARRAY(SELECT id FROM dispatcher.encryption_keys ORDER BY id) AS encryption_keys,
    coalesce((SELECT synchronous FROM dispatcher.sweeps WHERE name = 'sweep'), false) AS covered
FROM (SELECT 1) AS one LEFT JOIN dispatcher.accounts AS account ON account.name = :name
""")

_PIN = text("""
INSERT INTO dispatcher.accounts (name, base_url) VALUES (:name, :base_url)
ON CONFLICT (name) DO UPDATE SET base_url = coalesce(accounts.base_url, excluded.base_url)
""")


_STATE_TERMS = text("""
INSERT INTO dispatcher.accounts (name, terms, terms_by) VALUES (:name, CAST(:terms AS jsonb), :by)
ON CONFLICT (name) DO UPDATE SET terms = excluded.terms, terms_by = excluded.terms_by
WHERE accounts.terms IS DISTINCT FROM excluded.terms OR accounts.terms_by IS DISTINCT FROM excluded.terms_by
""")

_TERMS_IN_USE = text("""
SELECT EXISTS (
    SELECT FROM dispatcher.accounts AS account JOIN dispatcher.workers AS worker ON worker.name = account.terms_by
    WHERE account.name = :name AND account.terms_by <> :by AND worker.seen_at > now() - make_interval(secs => :seconds)
)
""")

_LEADS_WAIT = text("SELECT EXISTS (SELECT FROM dispatcher.leads WHERE state = 'pending' AND account = :account)")

_ANY_CAMPAIGN = text("""
-- One with waiting leads if there is one, else the one served last.
SELECT coalesce(
    (SELECT campaign_id FROM dispatcher.leads WHERE state = 'pending' AND account = :account LIMIT 1),
    (SELECT campaign_id FROM dispatcher.channels WHERE account = :account ORDER BY served_at DESC NULLS LAST LIMIT 1)
)
""")

_LIST_OFF = text("""
INSERT INTO dispatcher.accounts (name, list_off_until) VALUES (:account, now() + make_interval(secs => :seconds))
ON CONFLICT (name) DO UPDATE SET list_off_until = excluded.list_off_until
""")

_WATERMARK_OFF = text("""
INSERT INTO dispatcher.accounts (name, watermark_off) VALUES (:account, true)
ON CONFLICT (name) DO UPDATE SET watermark_off = true
""")


_HISTORY = text("""
SELECT floor(CAST(extract(epoch FROM clock_timestamp() - started_at) AS float8) / :slot) AS slot, count(*) AS posts
FROM dispatcher.lead_attempts
WHERE id >= :from_id AND started_at > clock_timestamp() - make_interval(secs => :seconds)
  AND account = :account AND :campaign_id IN (0, campaign_id)
GROUP BY 1
""")

_LISTING = text("""
SELECT EXISTS (SELECT FROM dispatcher.leads WHERE state = 'unknown' AND account = :account)
    OR EXISTS (SELECT FROM dispatcher.gates WHERE state <> 'open' AND account = :account)
""")

WORKER_ALIVE_SECONDS: Final = 60.0
"""A worker that has not been seen for this long is taken for gone."""

_SLOTS: Final = 50
_CLOCKS_DIFFER_SECONDS: Final = 300.0  # ids carry the worker's clock, which only narrows the search


@dataclass(frozen=True, slots=True)
class Account:
    """What is stored about an account.

    base_url         the one it is pinned to; None before its first accepted attempt
    rate_limit       the campaign's own
    terms, terms_by  the settings that decide about evidence, and the worker that started with them last
    key_id           of the privacy key without which nobody can tell who is blocked by hash alone; None: no one is
    encryption_keys  the ids of the keys that leads are encrypted under
    covered          commits waited for a standby at the last sweep
    """

    base_url: str | None
    watermark_off: bool
    list_off_until: datetime | None
    rate_limit: str | None
    terms: Mapping[str, Any] | None = None
    terms_by: str | None = None
    key_id: str | None = None
    encryption_keys: tuple[str, ...] = ()
    covered: bool = False


def read(connection: Connection, name: str, campaign_id: int | None = None) -> Account:
    """Return what is stored about an account, and about one of its campaigns."""
    (row,) = _READ.rows(connection, {"name": name, "campaign_id": campaign_id})
    return Account(
        row.base_url,
        row.watermark_off,
        row.list_off_until,
        row.rate_limit,
        row.terms,
        row.terms_by,
        row.key_id,
        tuple(row.encryption_keys),
        row.covered,
    )


def state_terms(connection: Connection, name: str, terms: Mapping[str, Any], by: str) -> None:
    """Store the settings that decide about evidence: those of the worker `by`, which starts now."""
    values = {"name": name, "terms": orjson.dumps(terms).decode(), "by": by}
    connection.execute(_STATE_TERMS, values)


def terms_in_use(connection: Connection, name: str, by: str) -> bool:
    """Return whether a worker other than `by`, which has been seen in the last minute, stored the terms."""
    values = {"name": name, "by": by, "seconds": WORKER_ALIVE_SECONDS}
    return bool(connection.execute(_TERMS_IN_USE, values).scalar())


def differing(connection: Connection, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield each account for which these settings about evidence differ from the stored ones, with a sentence."""
    for name in settings.accounts:
        stored = read(connection, name)
        if names := drift(settings, stored.terms):
            yield name, f"{', '.join(names)} {'differ' if len(names) > 1 else 'differs'} from worker {stored.terms_by}"


def pin(connection: Connection, name: str, base_url: str) -> None:
    """Store where the account's leads were accepted first; a URL that is stored already stays."""
    connection.execute(_PIN, {"name": name, "base_url": base_url})


def leads_wait(connection: Connection, account: str) -> bool:
    """Return whether leads of the account wait; if so, look-ups take only their share of the rate."""
    return bool(connection.execute(_LEADS_WAIT, {"account": account}).scalar())


def any_campaign(connection: Connection, account: str) -> int | None:
    """Return a campaign to query the list for, for a gate of the whole account."""
    found = connection.execute(_ANY_CAMPAIGN, {"account": account}).scalar()
    return None if found is None else int(found)


def switch_list_off(connection: Connection, account: str, *, seconds: float) -> None:
    """Record that the list endpoint is missing; it is not requested again for `seconds`."""
    connection.execute(_LIST_OFF, {"account": account, "seconds": seconds})


def switch_watermark_off(connection: Connection, account: str) -> None:
    """Record that the account's ids do not grow with time: then every unbound row may be the lead."""
    connection.execute(_WATERMARK_OFF, {"account": account})


def history(database: Database) -> "Callable[[Channel, float], History]":
    """Return a function that reads recent attempts for a `Limiter` whose data in Redis were lost.

    Attempts are stored before they are sent. It raises `LimiterUnavailable` if Postgres is not available.
    """
    from dispatcher.broker.limiter import History, LimiterUnavailable  # loads redis, which `status` does without

    def ask(channel: Channel, seconds: float) -> History:
        earliest = datetime.now(UTC) - timedelta(seconds=seconds + _CLOCKS_DIFFER_SECONDS)
        slot = seconds / _SLOTS
        values = {**channel._asdict(), "seconds": seconds, "slot": slot, "from_id": first_id(earliest)}
        try:
            with database.autocommit() as connection:
                rows = connection.execute(_HISTORY, values).all()
                listing = bool(connection.execute(_LISTING, {"account": channel.account}).scalar())
        except (StoreUnavailable, TryAgain, StatementRefused) as error:
            raise LimiterUnavailable(
                "Redis has lost the permits of the last minutes and Postgres cannot say which were used; "
                "nothing is sent until it can."
            ) from error
        return History(tuple((max(0.0, row.slot * slot), row.posts) for row in rows), listing)

    return ask
