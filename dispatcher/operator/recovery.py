"""Recover after the database has forgotten: a restored backup, or an asynchronous standby that was promoted.

It knows no POST that was made since. Every lead that it would send is held as one whose POST may have worked, by an
attempt of unknown outcome that began at the last moment it knows. From there the ordinary look-ups decide.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.decisions.gate import Gate, GateState
from dispatcher.decisions.outcome import Reason
from dispatcher.delivery import gates
from dispatcher.errors import NotAllowed
from dispatcher.operator.pause import check_scope
from dispatcher.store import audit, timeline
from dispatcher.store.database import Database

BATCH: Final = 1000
_ACTION: Final = "recover"
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

_BEGUN: Final = text("""
SELECT min(at) FROM dispatcher.audit_log WHERE action = 'recover' AND subject = :subject AND detail ->> 'since' = :since
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

_KNOWN: Final = text("""
-- What POSTs since are compared with: a greater id than any from before, and what the last of these was sent with.
SELECT greatest(
        (SELECT max(voicery_lead_id) FROM dispatcher.leads
         WHERE account = :account AND voicery_lead_id IS NOT NULL AND finished_at < :since),
        (SELECT max(contact.voicery_lead_id) FROM dispatcher.lead_contacts AS contact
         JOIN dispatcher.leads AS lead ON lead.id = contact.lead_id
         WHERE contact.account = :account AND contact.voicery_lead_id IS NOT NULL AND lead.finished_at < :since),
        (SELECT max(watermark) FROM dispatcher.accounts WHERE name = :account), 0
    ) AS watermark, last.token, last.reference
FROM (SELECT) AS one LEFT JOIN LATERAL (
    SELECT attempt.token, attempt.reference
    FROM dispatcher.leads AS lead JOIN dispatcher.lead_attempts AS attempt ON attempt.id = lead.attempt_id
    WHERE lead.account = :account AND lead.voicery_lead_id IS NOT NULL AND lead.state || '' = 'accepted'
      AND attempt.outcome = 'accepted' AND lead.finished_at < :since
    ORDER BY lead.voicery_lead_id DESC LIMIT 1
) AS last ON true
""")

_MEANT: Final = """
    lead.account = :account AND lead.created_at <= :before AND (
        lead.state IN ('sending', 'unknown')
        -- Parked: it was due before.
        OR (lead.state = 'pending' AND least(lead.due_at, lead.was_due_at) <= :before)
    ) AND NOT EXISTS (
        SELECT FROM dispatcher.lead_attempts AS held
        WHERE held.lead_id = lead.id AND held.evidence ->> 'recovered_since' = CAST(:since_text AS text)
    )
"""

_COUNT: Final = text(f"SELECT count(*) FROM dispatcher.leads AS lead WHERE {_MEANT}")

_HOLD: Final = text(f"""
WITH picked AS MATERIALIZED (
    SELECT lead.* FROM dispatcher.leads AS lead
    WHERE lead.id > :after AND {_MEANT}
    ORDER BY lead.id LIMIT :most
    FOR UPDATE
), meant AS (
    SELECT picked.*,
        -- A claim made just before, on the primary that is gone, is sent until its lease ends at the latest.
        greatest(now() + make_interval(secs => :lease_seconds), lease_until) AS until,
        -- One open attempt a person: whose other lead is open is held for a person, by a closed one.
        state = 'pending' AND (
            row_number() OVER (PARTITION BY state, campaign_id, phone_number ORDER BY id) > 1 OR EXISTS (
                SELECT FROM dispatcher.lead_attempts AS open
                WHERE open.account = picked.account AND open.campaign_id = picked.campaign_id
                  AND open.phone_number = picked.phone_number AND open.finished_at IS NULL
            )
        ) AS beside
    FROM picked
), doubted AS (
    -- It may have been sent again since, so earlier look-ups and proofs say nothing any more.
    UPDATE dispatcher.lead_attempts AS attempt
    SET outcome = coalesce(attempt.outcome, 'unknown'), ended_at = meant.until, evidence = attempt.evidence
        || jsonb_build_object('proof', false, 'reopened_at', now(), 'recovered_since', CAST(:since_text AS text))
    FROM meant WHERE attempt.id = meant.attempt_id AND meant.state <> 'pending'
), opened AS (
    INSERT INTO dispatcher.lead_attempts (id, lead_id, number, account, campaign_id, phone_number, watermark,
        started_at, ended_at, finished_at, outcome, error, token, reference, evidence)
    SELECT gen_random_uuid(), id, attempts + 1, account, campaign_id, phone_number, :watermark,
        CAST(:since AS timestamptz), until, CASE WHEN beside THEN until END, 'unknown', 'recovered',
        CAST(:token AS text), CAST(:reference AS text),
        -- It waited for its POST: to send it, once its absence is proven, uses up no resend.
        jsonb_build_object('granted', 'policy', 'recovered_since', CAST(:since_text AS text))
    FROM meant WHERE state = 'pending'
    RETURNING id, lead_id
), moved AS (
    UPDATE dispatcher.leads AS lead
    SET state = CASE WHEN meant.beside THEN 'failed' ELSE 'unknown' END,
        failure_class = CASE WHEN meant.beside THEN 'outcome_unknown' END,
        finished_at = CASE WHEN meant.beside THEN now() END, due_at = now(), updated_at = now(),
        attempt_id = coalesce(opened.id, lead.attempt_id), lease_until = NULL, was_due_at = NULL, parked_until = NULL,
        proven_at = NULL, attempts = lead.attempts + CASE WHEN opened.id IS NULL THEN 0 ELSE 1 END,
        first_attempt_at = coalesce(lead.first_attempt_at, now()),
        last_error = 'The database was restored, or a standby promoted: it may have been sent since then.'
            || CASE WHEN meant.beside THEN ' Another lead of this person is looked up; this one is for you to decide.'
                ELSE '' END
    FROM meant LEFT JOIN opened ON opened.lead_id = meant.id
    WHERE lead.id = meant.id
    RETURNING lead.id, lead.account, lead.campaign_id, lead.phone_number, lead.state, lead.last_error, lead.attempts
), failed AS (
    INSERT INTO dispatcher.failed_leads
        (lead_id, account, campaign_id, phone_number, failure_class, fingerprint, message, attempts)
    SELECT id, account, campaign_id, phone_number, 'outcome_unknown', 'outcome_unknown:recovered', last_error, attempts
    FROM moved WHERE state = 'failed'
)
SELECT id FROM moved ORDER BY id
""")

_STANDING: Final = text("""
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
    WHERE attempt.account = :account AND attempt.evidence ->> 'recovered_since' = :since_text
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
        progress: Callable[[int], None] = lambda _leads: None,
    ) -> list[Recovered]:
        """Hold every lead that may have been sent after `since`, and return how each account stands.

        The accounts are paused meanwhile. Where all are meant, claims are made on this timeline of Postgres afterwards.
        May be repeated, also after it was interrupted: what was held for the same `since` stays as it is, and leads
        that came after the first call are not held.

        since      the moment of the backup, or of the last commit that the standby had; earlier is safe, later is not
        account    only this one; None: all
        progress   called with the number of leads after each batch

        Raises `NotAllowed` if `since` lies ahead, an account cannot have this name, or rows of the inbox are locked.
        """
        if since > self._database.read(_database_now):
            raise NotAllowed(
                "--since lies ahead of the database's clock; give the moment of the backup, or an earlier one."
            )
        if account is not None:
            check_scope(account, None)
        accounts = [account] if account is not None else self._database.read(_accounts)
        if dry_run:
            return [self._database.read(self._would_hold, one, since) for one in accounts]
        begun = {one: self._database.again(self._pause, one, since, actor) for one in accounts}
        if None in begun.values():
            self._empty_inbox(account)
        done = [self._one(one, since, actor, progress) for one in accounts]
        if account is None:
            self._database.again(timeline.adopt)
        return done

    def nothing_lost(self, *, actor: str) -> None:
        """Have claims go on, on an operator's word that this database has every commit: it was moved, not restored."""
        self._database.again(timeline.adopt_whole, actor)

    def _one(self, account: str, since: datetime, actor: str, progress: Callable[[int], None]) -> Recovered:
        before = self._database.again(_begin, account, since, actor)
        values = {**_values(account, since, before), **self._database.read(_known, account, since)}
        after, held = UUID(int=0), 0
        while ids := self._database.again(partial(_hold, values, self._lease_seconds, after)):
            after, held = ids[-1], held + len(ids)
            progress(len(ids))
        paused = self._database.again(_resume, account, since, actor, held)
        return replace(self._database.read(_standing, account, since), held_now=held, paused=paused)

    def _would_hold(self, connection: Connection, account: str, since: datetime) -> Recovered:
        before = _begun(connection, account, since) or _database_now(connection)
        count = connection.execute(_COUNT, _values(account, since, before)).scalar_one()
        waiting = 0
        if _begun(connection, account, since) is None:
            waiting = connection.execute(_INBOX_WAITS, {"before": before, "account": account}).scalar_one()
        return replace(_standing(connection, account, since), held_now=count + waiting)

    def _pause(self, connection: Connection, account: str, since: datetime, actor: str) -> datetime | None:
        """Have nothing claimed from now on. Return when the recovery began, if it has."""
        gates.hold_claims(connection, account)
        gates.ensure(connection, account, None)
        (gate,) = (one for one in gates.lock_all(connection, account) if one.campaign_id is None)
        if gate.state is GateState.OPEN or gate.reason is not Reason.PAUSED:
            shut = replace(gate, state=GateState.CLOSED, reason=Reason.PAUSED, wait_seconds=None, by=actor)
            gates.save(connection, replace(shut, note=_note(since)))
        begun = _begun(connection, account, since)
        if begun is None:
            connection.execute(_STOP_REPLAYS, {"account": account, "actor": actor})
        return begun

    def _empty_inbox(self, account: str | None) -> None:
        before = self._database.read(_database_now)
        self._take_inbox()
        with self._database.autocommit() as connection:
            left = connection.execute(_INBOX_WAITS, {"before": before, "account": account}).scalar_one()
        if left:
            raise NotAllowed(
                f"{left} rows of the inbox cannot be taken now, because others hold their locks. The accounts are"
                " paused; repeat the command in a minute."
            )


def _values(account: str, since: datetime, before: datetime) -> dict[str, object]:
    return {"account": account, "since": since, "since_text": since.isoformat(), "before": before}


def _database_now(connection: Connection) -> datetime:
    now: datetime = connection.execute(_NOW).scalar_one()
    return now


def _accounts(connection: Connection) -> list[str]:
    return list(connection.execute(_ACCOUNTS).scalars())


def _known(connection: Connection, account: str, since: datetime) -> Mapping[str, object]:
    return dict(connection.execute(_KNOWN, {"account": account, "since": since}).mappings().one())


def _begun(connection: Connection, account: str, since: datetime) -> datetime | None:
    found: datetime | None = connection.execute(
        _BEGUN, {"subject": f"account:{account}", "since": since.isoformat()}
    ).scalar_one()
    return found


def _begin(connection: Connection, account: str, since: datetime, actor: str) -> datetime:
    """Record that it begins, and return when it first began: later leads cannot have been sent before."""
    begun = _begun(connection, account, since)
    audit.note(
        connection, actor, _ACTION, f"account:{account}", {"since": since.isoformat(), "again": begun is not None}
    )
    return begun or _database_now(connection)


def _hold(values: Mapping[str, object], lease_seconds: float, after: UUID, connection: Connection) -> list[UUID]:
    more = {"after": after, "most": BATCH, "lease_seconds": lease_seconds}
    return list(connection.execute(_HOLD, {**values, **more}).scalars())


def _resume(connection: Connection, account: str, since: datetime, actor: str, held: int) -> bool:
    """Open the gate that `_pause` closed; return whether another pause stays."""
    (gate,) = (one for one in gates.lock_all(connection, account) if one.campaign_id is None)
    ours = gate.note == _note(since)
    if ours:
        gates.save(connection, Gate(account, None))
    audit.note(connection, actor, "recovered", f"account:{account}", {"since": since.isoformat(), "held": held})
    return not ours and gate.reason is Reason.PAUSED


def _standing(connection: Connection, account: str, since: datetime) -> Recovered:
    rows = connection.execute(_STANDING, {"account": account, "since_text": since.isoformat()}).all()
    total = {name: sum(row.leads for row in rows if row.outcome == name) for name in ("adopted", "released", "settled")}
    why = tuple((row.why or "", row.leads) for row in rows if row.outcome == "held")
    failed = connection.execute(_FAILED, {"account": account, "since": since}).scalar_one()
    return Recovered(account, since, 0, **total, still_held=sum(leads for _, leads in why), failed=failed, why=why)


def _note(since: datetime) -> str:
    return _NOTE.format(since=since.isoformat())
