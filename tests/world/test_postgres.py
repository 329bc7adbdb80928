"""Postgres as people have it: settings, failovers, cut connections, refusals, addresses, clocks."""

import itertools
import json
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from dispatcher.api import Dispatcher
from dispatcher.cli.commands import app
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.errors import NotConfigured, StoreUnavailable
from dispatcher.operator.health import probe
from dispatcher.store import sessions
from dispatcher.store.database import Database
from dispatcher.store.migration import upgrade
from dispatcher.store.trouble import Trouble
from dispatcher.sweep import repairs
from tests.database.queue import Queue, accepted, phone
from tests.faults.proxy import Proxy
from tests.process.rig import Rig, SandboxProcess
from tests.support.waiting import wait_until


@contextmanager
def opened(url: str, **options: Any) -> Iterator[Queue]:
    with closing(Database(normal_database_url(url), **options)) as database:
        yield Queue(database)


@contextmanager
def producer(url: str) -> Iterator[Dispatcher]:
    """A dispatcher whose Redis is away, which no submit may mind."""
    dispatcher = Dispatcher(Settings(database_url=url, redis_url="redis://127.0.0.1:9/0"))
    yield dispatcher
    dispatcher.close()


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def database_name(url: str) -> str:
    return urlsplit(url).path[1:]


def command(monkeypatch: pytest.MonkeyPatch, url: str, *arguments: str) -> Any:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("COLUMNS", "1000")
    return CliRunner().invoke(app, list(arguments))


def doctor(monkeypatch: pytest.MonkeyPatch, url: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for check in json.loads(command(monkeypatch, url, "doctor", "--json").stdout)["items"]:
        found.setdefault(check["name"], []).append(check)
    return found


def through_everything(queue: Queue) -> None:
    """Submit, claim, record and read."""
    queue.put(1)
    (one,) = queue.claim().opened
    queue.record(accepted(one, 1001))
    lead, attempt = queue.lead(one.lead_id), queue.attempt(one.attempt_id)
    assert lead.state == "accepted"
    assert attempt.started_at <= attempt.ended_at


# Settings of servers, databases and roles -----------------------------------------------------------------------------

# Postgres docs 20.11 and 8.5.2; `ALTER DATABASE … SET` is what administrators write.
DEFAULTS = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "America/Caracas",
    "bytea_output": "escape",
    "extra_float_digits": "-3",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "client_encoding": "LATIN1",
    "synchronous_commit": "off",
    "search_path": "public",
    "statement_timeout": "1ms",
    "lock_timeout": "1ms",
    "idle_session_timeout": "20ms",
    "idle_in_transaction_session_timeout": "20ms",
    "plan_cache_mode": "force_custom_plan",
    "enable_indexscan": "off",
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items(), ids=DEFAULTS.keys())
def test_a_default_of_the_database_changes_nothing(database_url: str, name: str, value: str) -> None:
    execute(database_url, f"ALTER DATABASE {database_name(database_url)} SET {name} = '{value}'")

    with opened(database_url) as queue, producer(database_url) as dispatcher:
        through_everything(queue)
        lead = dispatcher.submit({"phone_number": phone(2), "campaign_id": 42, "variables": {"customer_name": "Zoë ☎"}})
        time.sleep(0.05)
        assert dispatcher.get(lead.id).variables == {"customer_name": "Zoë ☎"}
        assert dispatcher.explain(lead.id)
        assert dispatcher.submit_many([{"phone_number": phone(3), "campaign_id": 42}]).submitted == 1
        assert queue.rows("SELECT current_setting('transaction_isolation') AS it")[0].it == "read committed"


def test_the_warning_that_no_standby_has_a_commit_arrives_also_where_a_role_hears_errors_only(
    database_url: str,
) -> None:
    """Postgres docs 20.11: client_min_messages = error drops every warning, also that of a cancelled wait."""
    execute(database_url, f"ALTER DATABASE {database_name(database_url)} SET client_min_messages = 'error'")
    heard: list[str | None] = []

    with opened(database_url) as queue, queue.database.transaction() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.add_notice_handler(lambda told: heard.append(told.severity_nonlocalized))
        connection.exec_driver_sql("DO $$ BEGIN RAISE WARNING 'alone'; END $$")

    assert heard == ["WARNING"]


def test_a_limit_on_whole_transactions_ends_none_of_ours(database_url: str) -> None:
    """Postgres docs 20.11: transaction_timeout, new in 17; hosts set it for all roles."""
    with psycopg.connect(database_url) as connection:
        if connection.info.server_version < 170000:
            pytest.skip("This server does not have the setting.")
    execute(database_url, f"ALTER DATABASE {database_name(database_url)} SET transaction_timeout = '200ms'")

    with opened(database_url) as queue, queue.database.transaction() as connection:
        assert connection.exec_driver_sql("SELECT pg_sleep(0.3)").one() is not None


def test_a_pause_holds_although_the_database_asks_for_repeatable_read(database_url: str) -> None:
    """Seen: with default_transaction_isolation = 'repeatable read' a lead was claimed after the pause was committed."""
    execute(
        database_url, f"ALTER DATABASE {database_name(database_url)} SET default_transaction_isolation = 'serializable'"
    )

    with opened(database_url) as queue, producer(database_url) as dispatcher:
        queue.put(1)
        dispatcher.pause(campaign_id=42, actor="ada")
        assert queue.claim().opened == ()


@pytest.mark.parametrize(
    ("name", "value"), [("PGDATESTYLE", "SQL,DMY"), ("PGTZ", "Asia/Tokyo"), ("PGOPTIONS", "-c datestyle=German")]
)
def test_what_the_environment_tells_libpq_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """libpq docs 34.15: PGDATESTYLE and PGTZ set the default style of a session."""
    monkeypatch.setenv(name, value)

    with opened(database_url) as queue:
        through_everything(queue)


def test_a_database_that_is_not_utf8_is_refused_at_start(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres docs 23.3: a LATIN1 database cannot hold most names."""
    name = f"{database_name(database_url)}_latin"
    execute(database_url, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = database_url.replace(database_name(database_url), name)
    try:
        with opened(url) as queue, pytest.raises(StoreUnavailable, match=r"encoded in LATIN1.*ENCODING 'UTF8'"):
            queue.states()
        migrated = command(monkeypatch, url, "migrate")
        assert "encoded in LATIN1" in str(migrated.exception)
        assert "encoded in LATIN1" in doctor(monkeypatch, url)["Session"][0]["found"]
    finally:
        execute(database_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_role_without_triggers_is_refused_at_start(database_url: str) -> None:
    """Postgres docs 20.11: with session_replication_role = replica neither triggers nor foreign keys are checked."""
    execute(database_url, f"ALTER DATABASE {database_name(database_url)} SET session_replication_role = 'replica'")

    with opened(database_url) as queue, pytest.raises(StoreUnavailable, match=r"run without triggers.*ALTER ROLE"):
        queue.states()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("datestyle", "SQL, DMY"),
        ("default_transaction_isolation", "repeatable read"),
        ("default_transaction_read_only", "on"),
        ("synchronous_commit", "off"),
        ("client_min_messages", "error"),
    ],
)
def test_behind_a_pooler_what_cannot_be_pinned_is_refused_in_one_sentence(
    database_url: str, name: str, value: str
) -> None:
    """PgBouncer docs: in transaction mode a session's settings are those of whichever server session is assigned."""
    execute(database_url, f"ALTER DATABASE {database_name(database_url)} SET {name} = '{value}'")

    with opened(database_url, pooler=True) as queue, pytest.raises(StoreUnavailable) as refused:
        queue.states()

    assert f"Sessions behind the pooler have {name} = '{value}'" in str(refused.value)
    assert f"ALTER ROLE … SET {name}" in str(refused.value)


def test_a_proxy_that_drops_our_options_is_noticed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PgBouncer docs: with ignore_startup_parameters = options they are dropped without a word."""
    execute(
        database_url,
        f"ALTER DATABASE {database_name(database_url)} SET default_transaction_isolation = 'repeatable read'",
    )
    monkeypatch.setattr(sessions, "options", lambda *_: "")

    with opened(database_url) as queue, pytest.raises(StoreUnavailable, match=r"drops our options.*DISPATCHER_POOLER"):
        queue.states()


# Failover -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_servers(own_postgres: EmbeddedPostgres, server_dir: Path, postgres_bin_dir: Path | None) -> Iterator[Any]:
    """A server and a second one with the same data, behind one address that leads to the first."""
    own_postgres.stop()
    directory = Path(tempfile.mkdtemp(prefix="second-", dir=server_dir))
    subprocess.run(["cp", "-a", f"{own_postgres.directory}/.", directory], check=True)
    (directory / "port").unlink(missing_ok=True)
    own_postgres.start()
    second = EmbeddedPostgres(directory, durable=False, bin_dir=postgres_bin_dir)
    second.start()
    first_url = own_postgres.url()
    with Proxy((str(urlsplit(first_url).hostname), int(urlsplit(first_url).port or 0))) as proxy:
        yield proxy, first_url, second.url()
    second.remove()
    shutil.rmtree(directory, ignore_errors=True)


def address(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{proxy.port}")


def take_out_of_service(url: str) -> None:
    execute(url, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    with psycopg.connect(url, autocommit=True) as connection:
        wait_until(lambda: connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",))


def switch(proxy: Proxy, first_url: str, second_url: str, *, cut: bool = False) -> None:
    """Take the first server out of service, and lead new connections to the second; the old ones stay open."""
    take_out_of_service(first_url)
    target = urlsplit(second_url)
    proxy._target = (str(target.hostname), int(target.port or 0))
    if cut:
        proxy.cut_all(reset=True)


@pytest.mark.parametrize("cut", [False, True], ids=["connections stay", "connections are cut"])
def test_submit_goes_on_within_ten_seconds_of_a_failover(two_servers: Any, cut: bool) -> None:
    """SQLSTATE 25006 on connections to an old primary that stay open, as managed Postgres leaves them."""
    proxy, first_url, second_url = two_servers
    with producer(address(proxy, first_url)) as dispatcher, opened(second_url) as second:
        for number in range(5):
            dispatcher.submit({"phone_number": phone(number), "campaign_id": 42})
        threads = [
            threading.Thread(target=dispatcher.submit, args=({"phone_number": phone(n), "campaign_id": 42},))
            for n in range(10, 14)
        ]
        for thread in threads:  # so that the pool holds several connections
            thread.start()
        for thread in threads:
            thread.join()
        switch(proxy, first_url, second_url, cut=cut)
        began = time.monotonic()

        dispatcher.submit({"phone_number": phone(20), "campaign_id": 42})
        dispatcher.submit_many([{"phone_number": phone(21), "campaign_id": 42}])
        dispatcher.pause(campaign_id=7, actor="ada")

        assert time.monotonic() - began < 60  # the machine may be slow; the connections would stay for half an hour
        assert second.states() == {"pending": 2}


def test_a_server_without_writes_is_named_and_is_not_healthy(
    two_servers: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    _, first_url, _ = two_servers
    monkeypatch.setenv("REDIS_URL", redis_url)
    take_out_of_service(first_url)

    with producer(first_url) as dispatcher, pytest.raises(StoreUnavailable, match=r"takes no writes.*name the primary"):
        dispatcher.submit({"phone_number": phone(1), "campaign_id": 42})
    with opened(first_url) as queue:
        health = probe(queue.database)

    assert not health.ok
    assert any("takes no writes" in fault for fault in health.faults)
    assert doctor(monkeypatch, first_url)["Postgres"][0]["verdict"] == "bad"


def test_workers_deliver_within_ten_seconds_of_a_failover_and_end_in_time(
    two_servers: Any, own_redis: Any, tmp_path: Path, worker: Callable[..., Any]
) -> None:
    proxy, first_url, second_url = two_servers
    sandbox = SandboxProcess(tmp_path, "--latency", "0.02")
    try:
        environment = {
            "DATABASE_URL": address(proxy, first_url),
            "REDIS_URL": own_redis.url(),
            "VOICERY_API_TOKEN": "a-token-of-the-tests",
        }
        rig = Rig(environment, sandbox, worker)
        rig.submit(20)
        process = rig.start_worker()
        wait_until(lambda: sandbox.created() == 20, 30, lambda: process.log)
        switch(proxy, first_url, second_url)
        with producer(address(proxy, first_url)) as dispatcher:
            dispatcher.submit({"phone_number": "+12025550199", "campaign_id": 42})
            wait_until(lambda: sandbox.created() == 21, describe=lambda: process.log)
        process.send(signal.SIGTERM)
        process.wait(60)  # or it fails
    finally:
        sandbox.close()


# Cut connections ------------------------------------------------------------------------------------------------------


def read_everything(dispatcher: Dispatcher, lead_id: Any) -> None:
    dispatcher.get(lead_id)
    dispatcher.explain(lead_id)
    dispatcher.failed()
    dispatcher.overview()
    dispatcher.pause(campaign_id=42, actor="ada")


@pytest.mark.parametrize("how", ["terminated", "FIN", "RST"])
def test_a_read_does_not_meet_a_connection_that_was_cut(database_url: str, how: str) -> None:
    """Seen: after idle connections were cut the console answered 503 twice; firewalls and administrators cut them."""
    parts = urlsplit(database_url)
    with (
        Proxy((str(parts.hostname), int(parts.port or 0))) as proxy,
        producer(address(proxy, database_url)) as dispatcher,
    ):
        lead_id = dispatcher.submit({"phone_number": phone(1), "campaign_id": 42}).id
        reads: list[Callable[[], Any]] = [
            lambda: dispatcher.get(lead_id),
            lambda: dispatcher.explain(lead_id),
            dispatcher.failed,
            dispatcher.overview,
            lambda: dispatcher.pause(campaign_id=42, actor="ada"),
            lambda: dispatcher.submit({"phone_number": phone(2), "campaign_id": 42}),
            lambda: dispatcher.submit_many([{"phone_number": phone(3), "campaign_id": 42}]),
        ]
        for read in reads:
            read_everything(dispatcher, lead_id)
            if how == "terminated":
                execute(
                    database_url,
                    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
            else:
                proxy.cut_all(reset=how == "RST")
            read()


def test_a_connection_that_dies_at_its_next_use_is_replaced_after_idle_seconds(database_url: str) -> None:
    """AWS NLB docs: after the idle timeout a flow is forgotten, and the next packet is answered with RST."""
    parts, numbers = urlsplit(database_url), itertools.count()
    with Proxy((str(parts.hostname), int(parts.port or 0))) as proxy, opened(address(proxy, database_url)) as queue:
        for use in (queue.states, lambda: queue.put(next(numbers))):
            use()
            time.sleep(1.6)
            proxy.swallow_answer_to(lambda _: True)
            use()
        assert proxy.cuts == 2


# Refusals -------------------------------------------------------------------------------------------------------------


def with_password(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return f"postgresql://{user}:{password}@{parts.hostname}:{parts.port}{parts.path}"


REFUSALS: dict[str, tuple[Callable[[str], str], str, str]] = {
    "a wrong password (28P01)": (
        lambda url: with_password(url, str(urlsplit(url).username), "wr0ng-secret"),
        "refuses the password",
        "percent-encoded",
    ),
    "no such role (28P01 or 28000)": (lambda url: with_password(url, "nobody", "x"), "refuses", "correct it|create"),
    "no such database (3D000)": (lambda url: url.replace("dispatcher_test", "no_such"), "does not exist", "create it"),
    "nothing listens": (lambda _: "postgresql://u:p@127.0.0.1:9/d", "nothing listens", "start it"),
    "no such host": (lambda _: "postgresql://u:p@no-such-host.invalid/d", "not known here", "name service"),
    "no such socket": (lambda _: "postgresql:///d?host=/no/such/dir", "there is no socket", "start it"),
    "no TLS offered": (lambda url: f"{url}?sslmode=require", "encrypted connection", "sslmode"),
    "no such service": (lambda _: "postgresql:///?service=nowhere", "is in no service file", ""),
}


@pytest.mark.parametrize(("spoil", "cause", "remedy"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refused_connection_names_its_cause_and_the_way_out(
    database_url: str, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[str], str], cause: str, remedy: str
) -> None:
    url = spoil(database_url)

    with opened(url) as queue, pytest.raises(StoreUnavailable, match=f"(?s){cause}.*({remedy})") as refused:
        queue.states()
    found = doctor(monkeypatch, url)["Postgres"][0]

    assert "wr0ng-secret" not in str(refused.value)
    assert str(urlsplit(url).hostname) not in str(refused.value)
    assert "cannot be reached or is stopping" not in str(refused.value)
    assert "doctor" not in found["advice"]
    assert found["found"].split(";")[0] in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        "FATAL:  Passwort-Authentifizierung für Benutzer »ada« fehlgeschlagen",
        "ВАЖНО:  пользователь «ada» не прошёл проверку подлинности",
        "FATAL:  la autentificación password falló para el usuario «ada»",
    ],
)
def test_a_refusal_in_the_servers_own_language_is_told_as_one(words: str) -> None:
    """Postgres docs 23.2: lc_messages of the server decides in which language it refuses a session."""
    error = psycopg.OperationalError(
        f'connection failed: connection to server at "10.0.0.7", port 5432 failed: {words}'
    )

    told = str(Trouble.of(error).translated())

    assert "answers and refuses the session" in told
    assert "ada" not in told
    assert "10.0.0.7" not in told


@pytest.fixture
def bare_role(database_url: str) -> Iterator[tuple[str, str]]:
    """A role without any right, and the address with it."""
    role = f"bare_{database_name(database_url)}"
    execute(database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    yield role, with_password(database_url, role, "pw")
    execute(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_role_without_rights_is_told_so_and_the_doctor_names_the_grant(
    database_url: str, bare_role: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLSTATE 42501, insufficient_privilege."""
    _, url = bare_role
    with opened(url) as queue, pytest.raises(StoreUnavailable, match=r"lacks the right USAGE.*doctor.*GRANT"):
        queue.states()

    (rights,) = doctor(monkeypatch, url)["Rights"]
    assert rights["verdict"] == "bad"
    assert "USAGE on schema dispatcher" in rights["found"]
    execute(database_url, *rights["advice"].removesuffix(";").split(";"))

    (rights,) = doctor(monkeypatch, url)["Rights"]
    assert rights["verdict"] == "good"
    with opened(url) as queue:
        through_everything(queue)


def test_one_missing_privilege_is_named_with_its_table(
    database_url: str, bare_role: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    role, url = bare_role
    execute(
        database_url,
        f"GRANT USAGE ON SCHEMA dispatcher TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dispatcher TO {role}",
        f"REVOKE INSERT ON dispatcher.leads FROM {role}",
        f"REVOKE UPDATE ON dispatcher.lead_attempts FROM {role}",
    )

    (rights,) = doctor(monkeypatch, url)["Rights"]

    assert "INSERT on dispatcher.leads" in rights["found"]
    assert f'GRANT INSERT ON dispatcher.leads TO "{role}";' in rights["advice"]
    assert f'GRANT UPDATE ON dispatcher.lead_attempts TO "{role}";' in rights["advice"]


@pytest.mark.parametrize(
    ("sqlstate", "cause"),
    [("53100", "disk of Postgres is full"), ("53200", "out of memory"), ("57014", "cancelled"), ("25006", "no writes")],
)
def test_a_refused_statement_names_its_cause(database_url: str, sqlstate: str, cause: str) -> None:
    """Postgres docs, appendix A: the codes."""
    with opened(database_url) as queue, pytest.raises(StoreUnavailable, match=f"{cause}.*SQLSTATE {sqlstate}"):
        queue.run(f"DO $$ BEGIN RAISE EXCEPTION '+12025550101' USING ERRCODE = '{sqlstate}'; END $$")


# Addresses ------------------------------------------------------------------------------------------------------------


def parts_of(url: str) -> dict[str, Any]:
    return conninfo_to_dict(url)


ADDRESSES: dict[str, Callable[[dict[str, Any]], str]] = {
    "several hosts": lambda p: "postgresql://{user}:{password}@127.0.0.1:9,{host}:{port}/{dbname}".format(**p),
    "several hosts and what they must be": lambda p: (
        "postgresql://{user}:{password}@127.0.0.1:9,{host}:{port}/{dbname}?target_session_attrs=read-write".format(**p)
    ),
    "hosts in the query": lambda p: (
        "postgresql://{user}:{password}@/{dbname}?host=127.0.0.1,{host}&port=9,{port}".format(**p)
    ),
    "user and password in the query": lambda p: (
        "postgresql://{host}:{port}/{dbname}?user={user}&password={password}".format(**p)
    ),
    "options, which are kept": lambda p: (
        "postgresql://{user}:{password}@{host}:{port}/{dbname}?options=-c%20geqo%3Doff".format(**p)
    ),
    "sslmode and timeouts": lambda p: (
        "postgresql://{user}:{password}@{host}:{port}/{dbname}?sslmode=disable&connect_timeout=3&keepalives_idle=9"
    ).format(**p),
    "the scheme of Heroku": lambda p: "postgres://{user}:{password}@{host}:{port}/{dbname}".format(**p),
}


@pytest.mark.parametrize("form", ADDRESSES.values(), ids=ADDRESSES.keys())
def test_an_address_that_libpq_connects_with_works(
    database_url: str, monkeypatch: pytest.MonkeyPatch, form: Callable[[dict[str, Any]], str]
) -> None:
    """libpq docs 34.1.1.2 and 34.1.1.3."""
    url = form(parts_of(database_url))

    with opened(url) as queue:
        through_everything(queue)
        if "geqo" in url:
            assert queue.rows("SELECT current_setting('geqo') AS it")[0].it == "off"
            assert queue.rows("SELECT current_setting('jit') AS it")[0].it == "off"
    assert upgrade(normal_database_url(url))
    assert command(monkeypatch, url, "migrate").exit_code == 0


def test_a_passfile_and_a_service_work(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """libpq docs 34.16 and 34.17."""
    parts = parts_of(database_url)
    (tmp_path / "pass").write_text("*:*:*:*:{password}\n".format(**parts))
    (tmp_path / "pass").chmod(0o600)
    (tmp_path / "services").write_text(
        "[leads]\nhost={host}\nport={port}\ndbname={dbname}\nuser={user}\n".format(**parts)
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))

    with opened(f"postgresql:///?service=leads&passfile={quote(str(tmp_path / 'pass'), safe='')}") as queue:
        through_everything(queue)


def test_a_socket_directory_works_also_percent_encoded(own_postgres: EmbeddedPostgres) -> None:
    parts = parts_of(own_postgres.url())
    with psycopg.connect(own_postgres.url()) as connection:
        (directories,) = connection.execute("SHOW unix_socket_directories").fetchone() or ("",)
    if not directories:
        pytest.skip("this server has no socket")
    directory = directories.split(",")[0].strip()
    parts["directory"] = quote(directory, safe="")
    for url in (
        "postgresql://{user}:{password}@{directory}:{port}/{dbname}",
        "postgresql://{user}:{password}@/{dbname}?host={directory}&port={port}",
    ):
        with opened(url.format(**parts)) as queue:
            through_everything(queue)
            execute(own_postgres.url(), "TRUNCATE dispatcher.leads CASCADE")


UNUSABLE = {
    "pgbouncer=true": "pgbouncer.*DISPATCHER_POOLER=true",
    "connection_limit=5": "connection_limit",
    "schema=public": "schema.*remove it",
    "sslmod=require": "sslmod, which Postgres does not know; did you mean sslmode",
    "sslmode=yes": "sslmode that is none of",
    "connect_timeout=5s": "connect_timeout that is no whole number",
    "target_session_attrs=primary-first": "target_session_attrs that is none of",
    "prepare_threshold=0": "prepare_threshold.*DISPATCHER_POOLER",
    "client_encoding=latin1": "client_encoding.*remove it",
    "replication=database": "replication.*remove it",
    "host=a:5432&host=b:5432": "port in the parameter host; write host=h1,h2",
    "application_name": "unreadable value of application_name",
}


@pytest.mark.parametrize(("query", "fault"), UNUSABLE.items(), ids=UNUSABLE.keys())
def test_a_parameter_that_cannot_work_is_refused_at_start_by_its_name(query: str, fault: str) -> None:
    with pytest.raises(NotConfigured, match=f"DATABASE_URL.*{fault}") as refused:
        Settings.from_environment({"DATABASE_URL": f"postgresql://u:s3cret@h/d?{query}"})
    assert "s3cret" not in str(refused.value)


# Clocks ---------------------------------------------------------------------------------------------------------------


def test_no_attempt_ends_before_it_started_whatever_a_writer_says(database_url: str) -> None:
    """Seen: 7 % of attempts "took" up to -52 ms; and the clock of a new primary may be behind."""
    with opened(database_url) as queue:
        claimed = queue.claimed(1)
        queue.run("UPDATE dispatcher.lead_attempts SET started_at = now() + interval '1 min'")
        queue.record(accepted(claimed, 1001))
        attempt = queue.attempt(claimed.attempt_id)
        assert attempt.started_at == attempt.ended_at == attempt.finished_at
        execute(database_url, "ALTER TABLE dispatcher.lead_attempts DISABLE TRIGGER lead_attempts_order")
        with pytest.raises(psycopg.errors.CheckViolation, match="lead_attempts_order_check"):
            execute(database_url, "UPDATE dispatcher.lead_attempts SET ended_at = started_at - interval '1 ms'")


def test_many_quick_attempts_have_no_negative_duration(database_url: str) -> None:
    with opened(database_url) as queue:
        execute(database_url, "ALTER TABLE dispatcher.lead_attempts DISABLE TRIGGER lead_attempts_order")
        for number in range(50):
            with queue.database.transaction():
                claimed = queue.claimed(number)
            queue.record(accepted(claimed, 1000 + number, ended_ago=0.0))
        (row,) = queue.rows("SELECT min(ended_at - started_at) AS least FROM dispatcher.lead_attempts")

    assert row.least.total_seconds() >= 0


@pytest.mark.parametrize(
    "row",
    [
        "held_until = now() + interval '1 hour', swept_at = now() + interval '1 hour'",
        "held_until = now() + interval '1 hour', swept_at = NULL",
        "held_until = now() + interval '1 day', swept_at = now()",
    ],
)
def test_a_sweep_row_dated_ahead_holds_nobody_up(database_url: str, row: str) -> None:
    """A clock that was ahead, and was set back by NTP or a failover: nobody swept for that hour."""
    execute(database_url, f"UPDATE dispatcher.sweeps SET holder = 'gone', {row}")

    with opened(database_url) as queue, queue.database.autocommit() as connection:
        assert repairs.take(connection, "one", hold_seconds=30) is not None
        assert repairs.take(connection, "two", hold_seconds=30) is None


# Health ---------------------------------------------------------------------------------------------------------------


def alive(queue: Queue) -> None:
    """Workers and sweeps are seen, and delivery runs come."""
    queue.run("INSERT INTO dispatcher.workers (name) VALUES ('host:1')")
    queue.run("UPDATE dispatcher.sweeps SET swept_at = now()")
    queue.run(
        "INSERT INTO dispatcher.channels (account, campaign_id, served_at) VALUES ('default', 42, now())"
        " ON CONFLICT (account, campaign_id) DO UPDATE SET served_at = now()"
    )


def test_claims_without_results_are_not_healthy(database_url: str) -> None:
    """Seen: claims were committed, reading them failed, nothing was POSTed, and `health` said ✓."""
    with opened(database_url) as queue:
        alive(queue)
        assert probe(queue.database).ok
        for number in range(3):
            queue.claimed(number)
        queue.run("UPDATE dispatcher.lead_attempts SET started_at = now() - interval '70 s'")
        queue.put(9, due_in=-1)

        found = probe(queue.database)

        assert not found.ok
        assert "no worker stored a result" in found.faults[0]
        queue.record(accepted(queue.claim().opened[0], 1001))
        assert probe(queue.database).ok


def test_a_due_lead_that_runs_never_take_is_not_healthy(database_url: str) -> None:
    with opened(database_url) as queue:
        alive(queue)
        queue.put(1, due_in=-400)

        assert "claim nothing" in probe(queue.database).faults[0]
        queue.run("UPDATE dispatcher.channels SET rate_limit = '1/hour'")
        assert probe(queue.database).ok


def test_times_dated_ahead_are_not_taken_for_fresh(database_url: str) -> None:
    with opened(database_url) as queue:
        alive(queue)
        queue.run("UPDATE dispatcher.sweeps SET swept_at = now() + interval '1 hour'")

        assert not probe(queue.database).ok


# Migrations -----------------------------------------------------------------------------------------------------------


def test_migrate_tells_what_it_waits_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that is open holds ACCESS SHARE on what it has read; ALTER TABLE needs ACCESS EXCLUSIVE."""
    execute(database_url, "UPDATE dispatcher.alembic_version SET version_num = '0001'")
    with psycopg.connect(database_url, application_name="a report") as report:
        report.execute("SELECT count(*) FROM dispatcher.lead_attempts")
        threading.Timer(2.0, report.rollback).start()
        migrated = command(monkeypatch, database_url, "migrate")

    assert migrated.exit_code == 0
    assert "Waiting for a lock on dispatcher.lead_attempts, which a report (pid" in migrated.output


def test_a_lock_that_never_comes_is_given_up_with_its_holder(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.store.ddl.PATIENCE_SECONDS", 1.0)
    execute(database_url, "UPDATE dispatcher.alembic_version SET version_num = '0001'")
    with psycopg.connect(database_url, application_name="a report") as report:
        report.execute("SELECT count(*) FROM dispatcher.lead_attempts")
        migrated = command(monkeypatch, database_url, "migrate")

    assert "could not lock dispatcher.lead_attempts" in str(migrated.exception)
    assert "a report" in str(migrated.exception)
    assert command(monkeypatch, database_url, "migrate").exit_code == 0
