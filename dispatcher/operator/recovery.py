"""Recover after the database has forgotten: a restored backup, or an asynchronous standby that was promoted.

It knows no POST that was made since. Every lead that it would send is held as one whose POST may have worked, by an
attempt of unknown outcome that began at the last moment it knows. From there the ordinary look-ups decide.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

from dispatcher.decisions.gate import Gate, GateState
from dispatcher.decisions.outcome import Reason
from dispatcher.delivery import gates
from dispatcher.errors import NotAllowed
from dispatcher.operator import holding
from dispatcher.operator.pause import check_scope
from dispatcher.store import audit, timeline
from dispatcher.store.database import Database
from dispatcher.store.reading import ReadConnection

_BEGUN: Final = "recover"
_COMPLETE: Final = "recovered"
_ALL: Final = "*"
"""Noted as the account of a recovery of all: one that is new since has nothing to be held."""
_NOTE: Final = "dispatcher recover: leads that may have been sent since {since} are being held"

_NOW: Final = text("SELECT now()")

_ACCOUNTS: Final = text("""
SELECT name FROM dispatcher.accounts
UNION SELECT account FROM dispatcher.channels
UNION SELECT account FROM dispatcher.gates
-- One state a query: three at once are found by no index, and all leads there are would be read.
UNION SELECT account FROM dispatcher.leads WHERE state = 'pending'
UNION SELECT account FROM dispatcher.leads WHERE state = 'sending'
UNION SELECT account FROM dispatcher.leads WHERE state = 'unknown'
UNION SELECT account FROM dispatcher.inbox WHERE state = 'waiting'
ORDER BY 1
""")

_FIRST_NOTE: Final = text("""
-- On this timeline: an entry of another one was written before this database was restored, or promoted, itself.
SELECT min(at) FROM dispatcher.audit_log
WHERE action = :action AND subject IN (:subject, 'account:*') AND detail ->> 'since' = :since
  AND detail ->> 'timeline' IS NOT DISTINCT FROM dispatcher.this_timeline()
""")

_STOP_REPLAYS: Final = text("""
-- What they replayed since, the database does not know either. A person begins them again, after a look-up.
UPDATE dispatcher.operations SET state = 'stopped', finished_at = now(), stopped_by = :actor
WHERE kind = 'replay' AND finished_at IS NULL AND (accounts IS NULL OR :account = ANY (accounts))
""")

_INBOX_WAITS: Final = text("""
SELECT count(*) FROM dispatcher.inbox
WHERE state = 'waiting' AND created_at <= :before AND (CAST(:account AS text) IS NULL OR account = :account)
""")

_STANDING: Final = text(f"""
WITH held AS (
    SELECT CASE
            WHEN attempt.outcome = 'accepted' THEN 'adopted'
            WHEN attempt.id = lead.attempt_id AND (lead.state = 'unknown'
                OR (lead.failure_class = 'outcome_unknown' AND lead.resolved_at IS NULL)) THEN 'held'
            WHEN attempt.evidence -> 'proof' = 'true' THEN 'released'
            ELSE 'settled' END AS outcome,
        coalesce(attempt.evidence ->> 'why', CASE lead.state
            WHEN 'unknown' THEN 'It has not been looked up yet.' ELSE lead.last_error END) AS why
    FROM dispatcher.lead_attempts AS attempt JOIN dispatcher.leads AS lead ON lead.id = attempt.lead_id
    WHERE attempt.account = :account AND {holding.HELD.format(attempt="attempt")}
)
SELECT outcome, CASE outcome WHEN 'held' THEN why END AS why, count(*) AS leads FROM held GROUP BY 1, 2 ORDER BY 3 DESC
""")

_FAILED: Final = text("""
SELECT count(*) FROM dispatcher.failed_leads
WHERE account = :account AND resolved_at IS NULL AND failure_class <> 'outcome_unknown' AND failed_at < :since
""")


@dataclass(frozen=True, slots=True)
class Recovered:
    """How the recovery of one account stands. Counts are of leads.

    since        the last moment that the database knows
    held_now     held by this call, or with `dry_run` those that would be, and all that waits in the inbox
    adopted      found at Voicery, and accepted with its id
    released     proven absent: they are sent, or have been
    settled      ended otherwise, e.g. by a person
    still_held   looked up or waiting for it, or for a person; `why` counts them by reason
    failed       failed before, and open: somebody may have replayed them since, so look before you do
    paused       somebody else had paused the account: it stays paused
    """

    account: str
    since: datetime
    held_now: int
    adopted: int = 0
    released: int = 0
    settled: int = 0
    still_held: int = 0
    failed: int = 0
    paused: bool = False
    why: tuple[tuple[str, int], ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return it as `--json` prints it."""
        return {**asdict(self), "since": self.since.isoformat(), "why": dict(self.why)}


class Recovery:
    """Holds leads that may have been sent, and says what became of them.

    take_inbox      makes leads of what waits in the inbox
    lease_seconds   how long a claim that the database does not know may still be sent
    """

    def __init__(self, database: Database, take_inbox: Callable[[], None], *, lease_seconds: float) -> None:
        self._database = database
        self._take_inbox = take_inbox
        self._lease_seconds = lease_seconds

    def recover(
        self,
        since: datetime,
        account: str | None,
        *,
        actor: str,
        dry_run: bool = False,
        pause: bool = True,
        progress: Callable[[int], None] = lambda _leads: None,
    ) -> list[Recovered]:
        """Hold every lead that may have been sent after `since`, and return how each account stands.

        The accounts are paused meanwhile. Where all are meant, claims are made on this timeline of Postgres afterwards.
        May be repeated, also after it was interrupted: what was held for the same `since` stays as it is, and leads
        that came after the first call are not held. Once it is complete, a repetition only says how it stands.

        since      the moment of the backup, or of the last commit that the standby had; earlier is safe, later is not;
                   with its time zone
        account    only this one; None: all
        pause      False: the timeline lets nothing through anyway, so nothing is left that a person would have to
                   resume where this ends in between, or somebody else settles it at the same time
        progress   called with the number of leads after each batch

        Raises `NotAllowed` if `since` lies ahead, there is no such account, or rows of the inbox are locked.
        """
        if since > self._database.read(_database_now):
            raise NotAllowed(
                "--since lies ahead of the database's clock; give the moment of the backup, or an earlier one."
            )
        since = since.astimezone(UTC)
        if account is not None:
            check_scope(account, None)
        accounts = self._database.read(_accounts)
        if account is not None:
            if account not in accounts:
                known = ", ".join(accounts) or "none"
                raise NotAllowed(f"--account: there is no lead of the account {account}; give one of these: {known}.")
            accounts = [account]
        if dry_run:
            return [self._database.read(_would_hold, one, since) for one in accounts]
        complete = [one for one in accounts if self._database.read(_is_complete, one, since)]
        left = [one for one in accounts if one not in complete]
        if None in [self._database.again(_pause, one, since, actor, pause) for one in left]:
            self._empty_inbox(account)
        if account is None:
            self._database.again(_begin, _ALL, since, actor)
        done = [self._one(one, since, actor, None if one in complete else progress) for one in accounts]
        if account is None:
            self._database.again(_adopt, since, actor, done)
        return done

    def nothing_lost(self, *, actor: str) -> None:
        """Have claims go on, on an operator's word that this database has every commit: it was moved, not restored."""
        self._database.again(timeline.adopt_whole, actor)

    def _one(self, account: str, since: datetime, actor: str, progress: Callable[[int], None] | None) -> Recovered:
        held = 0 if progress is None else self._hold(account, since, actor, progress)
        paused = self._database.again(_resume, account, since)
        return replace(self._database.read(_standing, account, since), held_now=held, paused=paused)

    def _hold(self, account: str, since: datetime, actor: str, progress: Callable[[int], None]) -> int:
        before = self._database.again(_begin, account, since, actor)
        values = {**self._database.read(_values, account, since, before), "lease_seconds": self._lease_seconds}
        held = 0
        for leads in holding.hold(self._database, {**values, **self._database.read(holding.known, values)}):
            held += leads
            progress(leads)
        self._database.again(_note, actor, _COMPLETE, account, since, {"held": held})
        return held

    def _empty_inbox(self, account: str | None) -> None:
        before = self._database.read(_database_now)
        self._take_inbox()
        with self._database.autocommit() as connection:
            left = connection.execute(_INBOX_WAITS, {"before": before, "account": account}).scalar_one()
        if left:
            raise NotAllowed(
                f"{left} rows of the inbox cannot be taken now, because others hold their locks. Nothing is sent"
                " meanwhile; repeat the command in a minute."
            )


def _would_hold(connection: Connection, account: str, since: datetime) -> Recovered:
    stands = _standing(connection, account, since)
    if _is_complete(connection, account, since):
        return stands
    begun = _at(connection, _BEGUN, account, since)
    values = _values(connection, account, since, begun or _database_now(connection))
    leads = holding.count(connection, values)
    if begun is None:
        leads += connection.execute(_INBOX_WAITS, values).scalar_one()
    return replace(stands, held_now=leads)


def _pause(connection: Connection, account: str, since: datetime, actor: str, pause: bool) -> datetime | None:  # noqa: FBT001
    """Have nothing claimed from now on. Return when the recovery began, if it has."""
    gates.hold_claims(connection, account)
    gate = _gate_of(connection, account)
    if pause and (gate.state is GateState.OPEN or gate.reason is not Reason.PAUSED):
        shut = replace(gate, state=GateState.CLOSED, reason=Reason.PAUSED, wait_seconds=None, by=actor)
        gates.save(connection, replace(shut, note=_pause_note(since)))
    begun = _at(connection, _BEGUN, account, since)
    if begun is None:
        connection.execute(_STOP_REPLAYS, {"account": account, "actor": actor})
    return begun


def _resume(connection: Connection, account: str, since: datetime) -> bool:
    """Open the gate that `_pause` closed; return whether another pause stays."""
    gate = _gate_of(connection, account)
    if gate.note == _pause_note(since):
        gates.save(connection, Gate(account, None))
        return False
    return gate.reason is Reason.PAUSED


def _gate_of(connection: Connection, account: str) -> Gate:
    gates.ensure(connection, account, None)
    (gate,) = (one for one in gates.lock_all(connection, account) if one.campaign_id is None)
    return gate


def _pause_note(since: datetime) -> str:
    return _NOTE.format(since=since.isoformat())


def _values(connection: ReadConnection, account: str, since: datetime, before: datetime) -> dict[str, object]:
    here = timeline.read(connection).here
    return {"account": account, "since": since, "since_text": since.isoformat(), "here": here, "before": before}


def _database_now(connection: ReadConnection) -> datetime:
    now: datetime = connection.execute(_NOW).scalar_one()
    return now


def _accounts(connection: ReadConnection) -> list[str]:
    return list(connection.execute(_ACCOUNTS).scalars())


def _begin(connection: Connection, account: str, since: datetime, actor: str) -> datetime:
    """Record that it begins, and return when it first began: later leads cannot have been sent before."""
    begun = _at(connection, _BEGUN, account, since)
    _note(connection, actor, _BEGUN, account, since, {"again": begun is not None})
    return begun or _database_now(connection)


def _adopt(connection: Connection, since: datetime, actor: str, done: Sequence[Recovered]) -> None:
    timeline.adopt(connection)
    _note(connection, actor, _COMPLETE, _ALL, since, {"held": sum(one.held_now for one in done)})


def _is_complete(connection: ReadConnection, account: str, since: datetime) -> bool:
    """Whether all that was meant is held: what was sent since then was sent from here."""
    return _at(connection, _COMPLETE, account, since) is not None and not timeline.read(connection).changed


def _at(connection: ReadConnection, action: str, account: str, since: datetime) -> datetime | None:
    asked = {"subject": f"account:{account}", "since": since.isoformat(), "action": action}
    found: datetime | None = connection.execute(_FIRST_NOTE, asked).scalar_one()
    return found


def _note(
    connection: Connection, actor: str, action: str, account: str, since: datetime, more: Mapping[str, object]
) -> None:
    detail = {"since": since.isoformat(), "timeline": timeline.read(connection).here, **more}
    audit.note(connection, actor, action, f"account:{account}", detail)


def _standing(connection: ReadConnection, account: str, since: datetime) -> Recovered:
    values = _values(connection, account, since, since)
    rows = connection.execute(_STANDING, values).all()
    total = {name: sum(row.leads for row in rows if row.outcome == name) for name in ("adopted", "released", "settled")}
    why = tuple((row.why or "", row.leads) for row in rows if row.outcome == "held")
    failed = connection.execute(_FAILED, values).scalar_one()
    return Recovered(account, since, 0, **total, still_held=sum(leads for _, leads in why), failed=failed, why=why)
