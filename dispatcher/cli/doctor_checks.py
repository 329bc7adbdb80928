"""The checks of `doctor`. A failed one does not stop the others."""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import redis
from sqlalchemy import Connection

from dispatcher import moments
from dispatcher.broker.connection import connect, refuse_cluster
from dispatcher.cli import doctor_keys, doctor_replica, doctor_rights, doctor_upkeep, doctor_wires, screen
from dispatcher.cli.doctor import Check, Grade
from dispatcher.cli.doctor_sentinels import judge_sentinels
from dispatcher.config.account import pinned_url
from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import Reason
from dispatcher.decisions.reply import Reply
from dispatcher.errors import DispatcherError, NotConfigured, SchemaOutOfDate
from dispatcher.http_intake import keys
from dispatcher.lead.masking import mask_numbers
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.operator import health, overview
from dispatcher.operator.health import WITHIN_SECONDS, Heartbeat
from dispatcher.operator.inbox_list import InboxCounts
from dispatcher.operator.overview import Overview
from dispatcher.store import accounts, migration, postgres, sessions, timeline
from dispatcher.store.database import Database
from dispatcher.store.postgres import ConnectionUse, SessionSettings
from dispatcher.store.timeline import Timeline
from dispatcher.store.trouble import StatementRefused

OLDEST_POSTGRES: Final = 140_000
OLDEST_REDIS: Final = (6, 2)
WORKER_SILENT_SECONDS: Final = 60.0
CLOCK_SKEW_SECONDS: Final = 5.0
_FEW_CONNECTIONS_LEFT: Final = 0.9

_START_ONE: Final = "`dispatcher up` starts a local one; then `source .dispatcher/sandbox/env`."


def check_everything(*, strict: bool = False, online: bool = False) -> list[Check]:
    """Run every check, in the order in which a person would repair things.

    strict   an unknown setting is bad
    online   ask Voicery too: one GET of the list for each account, which counts against the rate limit
    """
    try:
        settings = Settings.from_environment()
    except NotConfigured as error:
        return [Check("Settings", Grade.BAD, str(error), "docs/settings.md describes every variable.")]
    checks = [*_settings(settings, strict=strict), *_postgres(settings), *doctor_replica.replica_checks(settings)]
    checks += [*_redis(settings), *doctor_wires.wires(settings), *_accounts(settings)]
    return [*checks, *_voicery(settings)] if online else checks


def _settings(settings: Settings, *, strict: bool) -> Iterator[Check]:
    if settings.unknown_names:
        found = "; ".join(str(name) for name in settings.unknown_names)
        yield Check("Settings", Grade.BAD if strict else Grade.DOUBTFUL, found, "Correct or unset them.")
    else:
        yield Check("Settings", Grade.GOOD, "all are usable")


def _postgres(settings: Settings) -> Iterator[Check]:
    if settings.database_url is None:
        yield Check("Postgres", Grade.BAD, "DATABASE_URL is not set", _START_ONE)
        return
    database = _open(settings, pooler=settings.pooler)
    try:
        with database.transaction() as connection:
            yield from _server(connection)
            with database.autocommit() as plain:  # a transaction would have set more
                yield from judge_settings(sessions.seen_by(plain), pooler=settings.pooler)
                yield from judge_session(postgres.session_settings(plain))
            yield from doctor_rights.rights(connection)
            if not doctor_rights.may_read(connection):
                return
            found = migration.current(connection)
            if migration.is_newer(found):
                advice = "Install the version that migrated it here too; until then this one works beside it."
                yield Check("Schema", Grade.DOUBTFUL, f"at revision {found}, newer than {migration.head()}", advice)
            else:
                migration.check(connection)
                yield Check("Schema", Grade.GOOD, f"at revision {found}")
            yield judge_timeline(timeline.read(connection))
            yield from doctor_keys.keys(settings, connection)
            yield from _pinned_urls(settings, connection)
            yield from judge_limits(postgres.server_limits(connection))
            yield from doctor_upkeep.upkeep_checks(connection)
            yield judge_doorbells(health.read(connection))
            yield from judge_keys(*keys.counts(connection))
        yield from _work(database.again(overview.read))
    except SchemaOutOfDate as error:
        yield Check("Schema", Grade.BAD, str(error), error.remedy)
    except (DispatcherError, StatementRefused) as error:
        found, _, advice = str(error).partition("; ")
        if not advice or "doctor" in advice:  # which is running
            found, advice = str(error), "Is DATABASE_URL right, and does the server run?"
        if not settings.pooler and _answers_as_pooler(settings):
            advice = "Set DISPATCHER_POOLER=true: DATABASE_URL leads to a proxy that takes no options of a session."
        yield Check("Postgres", Grade.BAD, found, advice[:1].upper() + advice[1:])
    finally:
        database.close()


def _open(settings: Settings, *, pooler: bool) -> Database:
    return Database(settings.require_database_url(), name="dispatcher-doctor", pool_size=1, pooler=pooler, strict=False)


def _answers_as_pooler(settings: Settings) -> bool:
    database = _open(settings, pooler=True)
    try:
        with database.transaction() as connection:
            postgres.read(connection)
    except (DispatcherError, StatementRefused):
        return False
    finally:
        database.close()
    return True


def _server(connection: Connection) -> Iterator[Check]:
    asked = postgres.read(connection)
    if asked.number < OLDEST_POSTGRES:
        yield Check("Postgres", Grade.BAD, f"version {asked.version}", "Use Postgres 14 or newer.")
    elif asked.read_only:
        found = "this server takes no writes: it is a standby, or was taken out of service"
        yield Check("Postgres", Grade.BAD, found, "Name the primary in DATABASE_URL.")
    else:
        yield Check("Postgres", Grade.GOOD, f"version {asked.version}")
    if asked.fsync and asked.full_page_writes:
        yield Check("Durability", Grade.GOOD, "fsync is on, and the dispatcher waits for each commit")
    else:
        off = "full_page_writes" if asked.fsync else "fsync"
        advice = f"Set {off} = on: after a power cut leads may be lost, or sent twice."
        yield Check("Durability", Grade.BAD, f"{off} is off", advice)
    skew = abs((datetime.now(UTC) - asked.now).total_seconds())
    if skew > CLOCK_SKEW_SECONDS:
        found = f"this machine is {moments.span(skew)} off the database"
        yield Check("Clock", Grade.DOUBTFUL, found, "Schedules follow the database's clock; set both by NTP.")
    else:
        yield Check("Clock", Grade.GOOD, f"within {moments.span(CLOCK_SKEW_SECONDS)} of the database's")


def judge_timeline(seen: Timeline) -> Check:
    """Check that this is the Postgres that claims are made on, and say whether a failover may lose commits."""
    if seen.changed:
        found, _, advice = seen.sentence.partition(": ")
        return Check("Timeline", Grade.BAD, found, advice[:1].upper() + advice[1:])
    if seen.here is None:
        advice = "After a failover or a restore, run `dispatcher recover` before a worker starts."
        return Check("Timeline", Grade.DOUBTFUL, "this server does not tell it", advice)
    waits = "each commit is on a standby when it is confirmed" if seen.covered else "commits wait for no standby"
    return Check("Timeline", Grade.GOOD, f"number {seen.here.rpartition('/')[2]}; {waits}")


def judge_keys(active: int, ending: int) -> Iterator[Check]:
    """Check for keys of the HTTP intake that end within two weeks; nothing where there are no keys."""
    if ending:
        found = f"{ending} of {screen.plural(active, 'active key')} end within two weeks"
        advice = "`dispatcher keys list` shows which; `dispatcher keys rotate` makes the next one."
        yield Check("Intake keys", Grade.DOUBTFUL, found, advice)
    elif active:
        yield Check("Intake keys", Grade.GOOD, f"{screen.plural(active, 'active key')}, none ends soon")


def judge_settings(seen: Mapping[str, str], *, pooler: bool) -> Iterator[Check]:
    """Yield a check for each setting of the session that breaks a guarantee."""
    for fault in sessions.faults(seen):
        if fault.name != "synchronous_commit":  # `judge_session` says what it costs
            found, _, advice = fault.sentence(pooler=pooler).partition("; ")
            yield Check("Session", Grade.BAD, found, advice)


def judge_session(seen: SessionSettings) -> Iterator[Check]:
    """Check what a session must have: our connections ask for it; behind a pooler the role must have it."""
    if not seen.synchronous_commit:
        found = "synchronous_commit is off: a crash of Postgres may forget a claim whose POST has left"
        advice = f"ALTER ROLE {seen.role} SET synchronous_commit = on"
        yield Check("Session", Grade.BAD, found, advice)
    missing = [
        name
        for name, there in (("statement_timeout", seen.statement_timeout), ("lock_timeout", seen.lock_timeout))
        if not there
    ]
    if missing:
        found = f"{' and '.join(missing)} not set: a stuck statement would wait without end"
        yield Check("Session", Grade.DOUBTFUL, found, f"ALTER ROLE {seen.role} SET …, as docs/operations.md says.")
    if seen.synchronous_commit and not missing:
        yield Check("Session", Grade.GOOD, "commits are waited for; statements and locks have a time limit")


def judge_limits(seen: ConnectionUse) -> Iterator[Check]:
    """Check the number of connections."""
    found = f"{seen.connected} of {seen.connections} in use"
    full = seen.connected >= seen.connections * _FEW_CONNECTIONS_LEFT
    advice = "Raise max_connections or put a pooler in front; a worker uses up to 2 for each process or thread, and 2."
    yield Check("Connections", Grade.DOUBTFUL if full else Grade.GOOD, found, advice if full else "")


def judge_doorbells(seen: Heartbeat) -> Check:
    """Check for due leads that no worker claims: lost doorbells, or a worker that consumes nothing."""
    due, served, alive = seen.due_age, seen.served_age, seen.worker_age
    waits = due is not None and due > WITHIN_SECONDS
    unserved = (served is None or served > WITHIN_SECONDS) and not seen.sending
    if due is not None and waits and unserved and alive is not None and alive <= WITHIN_SECONDS:
        since = "ever" if served is None else f"for {moments.span(served)}"
        found = f"a lead has been due for {moments.span(due)}, workers live, and no delivery run came {since}"
        advice = "Do workers and sweep name the same REDIS_URL, and does a worker consume the queue `dispatcher`?"
        return Check("Doorbells", Grade.BAD, found, advice)
    if waits and unserved:
        return Check("Doorbells", Grade.DOUBTFUL, "leads are due and no worker comes", "Start the workers.")
    return Check("Doorbells", Grade.GOOD, "what is due is being fetched")


def _pinned_urls(settings: Settings, connection: Connection) -> Iterator[Check]:
    for name, found in accounts.differing(connection, settings):
        advice = "Look-ups from here use the stricter value of each; give this process the workers' settings."
        yield Check(_named("Evidence", name), Grade.DOUBTFUL, found, advice)
    for name, configured in settings.accounts.items():
        bound, check = accounts.read(connection, name).base_url, _named("Voicery", name)
        if bound is None:
            yield Check(check, Grade.GOOD, f"{configured.base_url} (nothing accepted there yet)")
        elif bound == pinned_url(configured.base_url):
            yield Check(check, Grade.GOOD, f"{configured.base_url}, where leads were accepted before")
        else:
            found = f"VOICERY_BASE_URL is {configured.base_url}, but leads were accepted at {bound} before"
            advice = "A worker with these settings sends nothing; set that address, or use another database."
            yield Check(check, Grade.DOUBTFUL, found, advice)


def _work(seen: Overview) -> Iterator[Check]:
    advice = "Start `celery -A dispatcher worker`."
    if not seen.workers:
        yield Check("Workers", Grade.DOUBTFUL, "none has ever been seen", advice)
    else:
        silent = (seen.at - seen.workers[0].seen_at).total_seconds()
        found = f"the latest was seen {moments.span(max(0, silent))} ago"
        good = silent <= WORKER_SILENT_SECONDS
        yield Check("Workers", Grade.GOOD if good else Grade.DOUBTFUL, found, "" if good else advice)
    yield judge_inbox(seen.inbox)
    for gate in seen.gates:
        found = f"{gate.scope}: {gate.reason}" + (f", {mask_numbers(gate.note)}" if gate.note else "")
        paused = gate.reason is Reason.PAUSED
        advice = "`dispatcher resume` lets it flow" + ("." if paused else " at once; else it is tried again by itself.")
        yield Check("Gate", Grade.DOUBTFUL, found, advice)


def judge_inbox(counts: InboxCounts) -> Check:
    """Check that what was submitted by SQL becomes leads."""
    waiting = f"leads submitted by SQL that wait: {counts.waiting}"
    if counts.waiting and (counts.oldest_seconds or 0.0) > WITHIN_SECONDS:
        found = f"{waiting}, the oldest for {moments.span(counts.oldest_seconds or 0.0)}"
        advice = "The sweep of a worker takes them: start a worker, or see its log for `inbox.not_taken`."
        return Check("Inbox", Grade.DOUBTFUL, found, advice)
    if counts.rejected:
        found = f"leads submitted by SQL that were rejected: {counts.rejected}"
        return Check("Inbox", Grade.DOUBTFUL, found, "`dispatcher inbox` says why.")
    return Check("Inbox", Grade.GOOD, waiting if counts.waiting else "nothing waits")


def _redis(settings: Settings) -> Iterator[Check]:
    if settings.redis_url is None:
        yield Check("Redis", Grade.BAD, "REDIS_URL is not set", _START_ONE)
        return
    yield from judge_sentinels(settings.redis_url.reveal())
    client = connect(settings.redis_url.reveal(), timeout_seconds=2.0)
    try:
        refuse_cluster(client)
        version = str(client.info("server").get("redis_version", "unknown"))
        known = re.match(r"(\d+)\.(\d+)", version)
        if known is not None and (int(known[1]), int(known[2])) < OLDEST_REDIS:
            advice = "Use Redis 6.2 or newer, or Valkey; older ones are not tested."
            yield Check("Redis", Grade.DOUBTFUL, f"version {version}", advice)
        else:
            yield Check("Redis", Grade.GOOD, f"version {version}")
        policy = client.info("memory").get("maxmemory_policy")
    except NotConfigured as error:
        yield Check("Redis", Grade.BAD, str(error))
        return
    except redis.RedisError as error:
        found = f"cannot be asked ({type(error).__name__})"
        yield Check("Redis", Grade.BAD, found, "Leads are safe, but nothing is sent until it answers.")
        return
    finally:
        client.close()
    if policy not in {None, "noeviction"}:
        advice = "Set maxmemory-policy noeviction: else the rate limit may be forgotten and exceeded."
        yield Check("Redis memory", Grade.DOUBTFUL, f"the eviction policy is {policy}", advice)
    else:
        yield Check("Redis memory", Grade.GOOD, "nothing is evicted")


def _accounts(settings: Settings) -> Iterator[Check]:
    for name, account in settings.accounts.items():
        try:
            account.read_token()
            second = account.read_next_token()
        except NotConfigured as error:
            yield Check(_named("Token", name), Grade.DOUBTFUL, str(error), "Producers need none; every worker does.")
        else:
            found = "is set" if second is None else "is set, and so is a second one"
            yield Check(_named("Token", name), Grade.GOOD, found)


def _voicery(settings: Settings) -> Iterator[Check]:
    from dispatcher.wiring import Services, worker_name
    from dispatcher.worker.deliverer import Deliverer  # late: only `--online` needs it

    if settings.redis_url is None or settings.database_url is None:
        yield Check("Online", Grade.DOUBTFUL, "Voicery was not asked", "Mend Postgres and Redis first.")
        return
    deliverer = Deliverer(Services(settings), stopping=lambda: False, worker=worker_name(os.getpid()))
    try:
        for name in settings.accounts:
            try:
                yield judge_greeting(_named("Online", name), deliverer.greet(name))
            except (DispatcherError, StatementRefused) as error:
                yield Check(_named("Online", name), Grade.DOUBTFUL, f"Voicery was not asked: {error}")
    finally:
        deliverer.close()


def judge_greeting(check: str, reply: Reply) -> Check:
    """Judge token and address by Voicery's answer to a harmless GET."""
    match reply.status:
        case None:
            return Check(check, Grade.BAD, "Voicery cannot be reached", "Is VOICERY_BASE_URL right, and the way open?")
        case 200:
            return Check(check, Grade.GOOD, "Voicery answers, and takes the token")
        case 401 | 403:
            found = f"Voicery refuses the token (HTTP {reply.status})"
            return Check(check, Grade.BAD, found, "Set VOICERY_API_TOKEN to a token of this workspace.")
        case 404 | 405:
            advice = "Without the list a lost answer stays unknown; or VOICERY_BASE_URL is wrong: it ends in /api."
            return Check(check, Grade.DOUBTFUL, f"there is no list of leads there (HTTP {reply.status})", advice)
        case status:
            return Check(check, Grade.DOUBTFUL, f"Voicery answered HTTP {status}", "Try again in a minute.")


def _named(check: str, account: str) -> str:
    return check if account == DEFAULT_ACCOUNT else f"{check} of {account}"
