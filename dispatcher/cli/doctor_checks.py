"""The checks of `doctor`. Each asks one thing, and none stops the others."""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import redis
from sqlalchemy import Connection

from dispatcher import moments
from dispatcher.broker.connection import connect, refuse_cluster
from dispatcher.cli import doctor_stores
from dispatcher.cli.doctor import Check, Verdict
from dispatcher.config.account import pinned_url
from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import Reason
from dispatcher.decisions.reply import Reply
from dispatcher.errors import DispatcherError, NotConfigured, SchemaOutOfDate
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.operator.leads import Reads
from dispatcher.operator.overview import Overview
from dispatcher.store import accounts, migration
from dispatcher.store.database import Database, StatementRefused

OLDEST_POSTGRES: Final = 140_000
OLDEST_REDIS: Final = (6, 2)
WORKER_SILENT_SECONDS: Final = 60.0
CLOCK_SKEW_SECONDS: Final = 5.0


def check_everything(*, strict: bool = False, online: bool = False) -> list[Check]:
    """Every check, in the order in which a person would mend things.

    strict   an unknown setting is bad
    online   ask Voicery too: one GET of the list for each account, which counts against the rate limit
    """
    try:
        settings = Settings.from_environment()
    except NotConfigured as error:
        return [Check("Settings", Verdict.BAD, str(error), "docs/settings.md describes every variable.")]
    checks = [*_settings(settings, strict=strict), *_postgres(settings), *_redis(settings), *_accounts(settings)]
    return [*checks, *_voicery(settings)] if online else checks


def _settings(settings: Settings, *, strict: bool) -> Iterator[Check]:
    if settings.unknown_names:
        found = "; ".join(str(name) for name in settings.unknown_names)
        yield Check("Settings", Verdict.BAD if strict else Verdict.DOUBTFUL, found, "Correct or unset them.")
    else:
        yield Check("Settings", Verdict.GOOD, "all are usable")


def _postgres(settings: Settings) -> Iterator[Check]:
    if settings.database_url is None:
        yield Check(
            "Postgres", Verdict.BAD, "DATABASE_URL is not set", "`dispatcher up` starts a local one and prints it."
        )
        return
    database = _open(settings, pooler=settings.pooler)
    try:
        with database.transaction() as connection:
            yield from _server(connection)
            with database.autocommit() as plain:  # a transaction of ours would have asked for more
                yield from doctor_stores.session(plain)
            migration.check(connection)
            yield Check("Schema", Verdict.GOOD, f"at revision {migration.head()}")
            yield from _pinned_urls(settings, connection)
            for check in (
                doctor_stores.limits,
                doctor_stores.bloat,
                doctor_stores.transactions,
                doctor_stores.doorbells,
            ):
                yield from check(connection)
        yield from _work(Reads(database).overview())
    except SchemaOutOfDate as error:
        yield Check("Schema", Verdict.BAD, str(error), error.remedy)
    except (DispatcherError, StatementRefused) as error:
        advice = "Is DATABASE_URL right, and does the server run?"
        if not settings.pooler and _answers_as_pooler(settings):
            advice = "Set DISPATCHER_POOLER=true: DATABASE_URL leads to a proxy that takes no options of a session."
        yield Check("Postgres", Verdict.BAD, str(error), advice)
    finally:
        database.close()


def _open(settings: Settings, *, pooler: bool) -> Database:
    return Database(settings.require_database_url(), name="dispatcher-doctor", pool_size=1, pooler=pooler)


def _answers_as_pooler(settings: Settings) -> bool:
    database = _open(settings, pooler=True)
    try:
        with database.transaction() as connection:
            doctor_stores.read(connection)
    except (DispatcherError, StatementRefused):
        return False
    finally:
        database.close()
    return True


def _server(connection: Connection) -> Iterator[Check]:
    asked = doctor_stores.read(connection)
    if asked.number < OLDEST_POSTGRES:
        yield Check("Postgres", Verdict.BAD, f"version {asked.version}", "Use Postgres 14 or newer.")
    elif asked.standby:
        yield Check("Postgres", Verdict.BAD, "this is a read-only standby", "Name the primary in DATABASE_URL.")
    else:
        yield Check("Postgres", Verdict.GOOD, f"version {asked.version}")
    if asked.fsync and asked.full_page_writes:
        yield Check("Durability", Verdict.GOOD, "fsync is on, and the dispatcher waits for each commit")
    else:
        off = "full_page_writes" if asked.fsync else "fsync"
        advice = f"Set {off} = on: after a power cut leads may be lost, or sent twice."
        yield Check("Durability", Verdict.BAD, f"{off} is off", advice)
    skew = abs((datetime.now(UTC) - asked.now).total_seconds())
    if skew > CLOCK_SKEW_SECONDS:
        found = f"this machine is {moments.span(skew)} off the database"
        yield Check("Clock", Verdict.DOUBTFUL, found, "Schedules follow the database's clock; set both by NTP.")
    else:
        yield Check("Clock", Verdict.GOOD, f"within {moments.span(CLOCK_SKEW_SECONDS)} of the database's")


def _pinned_urls(settings: Settings, connection: Connection) -> Iterator[Check]:
    for name, configured in settings.accounts.items():
        bound, check = accounts.read(connection, name).base_url, _named("Voicery", name)
        if bound is None:
            yield Check(check, Verdict.GOOD, f"{configured.base_url} (nothing accepted there yet)")
        elif bound == pinned_url(configured.base_url):
            yield Check(check, Verdict.GOOD, f"{configured.base_url}, where leads were accepted before")
        else:
            found = f"VOICERY_BASE_URL is {configured.base_url}, but leads were accepted at {bound} before"
            advice = "A worker with these settings sends nothing; set that address, or use another database."
            yield Check(check, Verdict.DOUBTFUL, found, advice)


def _work(seen: Overview) -> Iterator[Check]:
    advice = "Start `celery -A dispatcher worker`."
    if not seen.workers:
        yield Check("Workers", Verdict.DOUBTFUL, "none has ever been seen", advice)
    else:
        silent = (seen.at - seen.workers[0].seen_at).total_seconds()
        found = f"the latest was seen {moments.span(max(0, silent))} ago"
        good = silent <= WORKER_SILENT_SECONDS
        yield Check("Workers", Verdict.GOOD if good else Verdict.DOUBTFUL, found, "" if good else advice)
    for gate in seen.gates:
        found = f"{gate.scope}: {gate.reason}" + (f", {gate.note}" if gate.note else "")
        paused = gate.reason is Reason.PAUSED
        advice = "`dispatcher resume` lets it flow" + ("." if paused else " at once; else it is tried again by itself.")
        yield Check("Gate", Verdict.DOUBTFUL, found, advice)


def _redis(settings: Settings) -> Iterator[Check]:
    if settings.redis_url is None:
        yield Check("Redis", Verdict.BAD, "REDIS_URL is not set", "`dispatcher up` starts a local one and prints it.")
        return
    client = connect(settings.redis_url.reveal(), timeout_seconds=2.0)
    try:
        refuse_cluster(client)
        version = str(client.info("server").get("redis_version", "unknown"))
        known = re.match(r"(\d+)\.(\d+)", version)
        if known is not None and (int(known[1]), int(known[2])) < OLDEST_REDIS:
            advice = "Use Redis 6.2 or newer, or Valkey; older ones are not tested."
            yield Check("Redis", Verdict.DOUBTFUL, f"version {version}", advice)
        else:
            yield Check("Redis", Verdict.GOOD, f"version {version}")
        policy = client.info("memory").get("maxmemory_policy")
    except NotConfigured as error:
        yield Check("Redis", Verdict.BAD, str(error))
        return
    except redis.RedisError as error:
        found = f"cannot be asked ({type(error).__name__})"
        yield Check("Redis", Verdict.BAD, found, "Leads are safe, but nothing is sent until it answers.")
        return
    finally:
        client.close()
    if policy not in {None, "noeviction"}:
        advice = "Set maxmemory-policy noeviction: else the rate limit may be forgotten and exceeded."
        yield Check("Redis memory", Verdict.DOUBTFUL, f"the eviction policy is {policy}", advice)
    else:
        yield Check("Redis memory", Verdict.GOOD, "nothing is evicted")


def _accounts(settings: Settings) -> Iterator[Check]:
    for name, account in settings.accounts.items():
        try:
            account.read_token()
        except NotConfigured as error:
            yield Check(_named("Token", name), Verdict.DOUBTFUL, str(error), "Producers need none; every worker does.")
        else:
            yield Check(_named("Token", name), Verdict.GOOD, "is set")


def _voicery(settings: Settings) -> Iterator[Check]:
    from dispatcher.worker.deliverer import Deliverer, worker_name  # late: only `--online` needs it

    if settings.redis_url is None or settings.database_url is None:
        yield Check("Online", Verdict.DOUBTFUL, "Voicery was not asked", "Mend Postgres and Redis first.")
        return
    deliverer = Deliverer(settings, stopping=lambda: False, worker=worker_name(os.getpid()))
    try:
        for name in settings.accounts:
            try:
                yield judge_greeting(_named("Online", name), deliverer.greet(name))
            except (DispatcherError, StatementRefused) as error:
                yield Check(_named("Online", name), Verdict.DOUBTFUL, f"Voicery was not asked: {error}")
    finally:
        deliverer.close()


def judge_greeting(check: str, reply: Reply) -> Check:
    """What Voicery's answer to a harmless GET says of the token and the address."""
    match reply.status:
        case None:
            return Check(
                check, Verdict.BAD, "Voicery cannot be reached", "Is VOICERY_BASE_URL right, and the way open?"
            )
        case 200:
            return Check(check, Verdict.GOOD, "Voicery answers, and takes the token")
        case 401 | 403:
            found = f"Voicery refuses the token (HTTP {reply.status})"
            return Check(check, Verdict.BAD, found, "Set VOICERY_API_TOKEN to a token of this workspace.")
        case 404 | 405:
            advice = "Without the list a lost answer stays unknown; or VOICERY_BASE_URL is wrong: it ends in /api."
            return Check(check, Verdict.DOUBTFUL, f"there is no list of leads there (HTTP {reply.status})", advice)
        case status:
            return Check(check, Verdict.DOUBTFUL, f"Voicery answered HTTP {status}", "Try again in a minute.")


def _named(check: str, account: str) -> str:
    return check if account == DEFAULT_ACCOUNT else f"{check} of {account}"
