"""Each component works as its own database role, and what it must not do is refused by Postgres, in one sentence."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from dispatcher.cli.commands import app
from dispatcher.config.urls import normal_database_url
from dispatcher.errors import NotConfigured, StoreUnavailable
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.mentions import PLACES
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.retention import Pruning
from dispatcher.store.migration import upgrade
from dispatcher.store.rights import CONFINED, CONFINED_PREFIX, RIGHTS, VERBS, Part, needed_by, rights_of
from dispatcher.sweep.sweep import Sweep
from tests.database.queue import ids
from tests.migration import flows
from tests.migration.flows import World, lead_id
from tests.security.roles import WorldOf
from tests.support.doubles import Bell, Rate
from tests.support.logins import Installation

ROOT = Path(__file__).parents[2]
PERSON = {"phone_number": "+12025550190", "campaign_id": 42, "variables": {"customer_name": "Eve"}}

P, W, O, R, E = Part.PRODUCER, Part.WORKER, Part.OPERATOR, Part.READER, Part.RETENTION  # noqa: E741
S = Part.SUBMITTER

# What a flow does through the `Dispatcher`, and what through the queue.
FLOWS: list[tuple[Callable[[World], None], Part, Part | None]] = [
    (flows.submit, P, None),
    (flows.submit_many, P, None),
    (flows.submit_by_sql, P, W),
    (flows.submit_by_sql, S, W),
    (flows.claim_and_record, P, W),
    (flows.record_what_was_claimed_before, W, None),
    (flows.read_doubts, W, None),
    (flows.replay, O, None),
    (flows.resolve, O, None),
    (flows.cancel_and_correct, O, None),
    (flows.sweep, W, None),
    (flows.pause_and_resume, O, W),
    (flows.alert, W, None),
    (flows.erase, E, None),
    (flows.keys_and_mappings, O, P),
    (flows.read, R, None),
    (flows.scrape_and_probe, R, None),
]


def execute(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """As the login of the address; its rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


# What each may ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flow", "dispatcher", "queue"), FLOWS, ids=lambda one: getattr(one, "__name__", str(one)))
def test_a_component_does_its_work_as_its_role(
    world_as: WorldOf, flow: Callable[[World], None], dispatcher: Part, queue: Part | None
) -> None:
    flow(world_as(dispatcher, queue))


def test_a_producer_imports_a_file_and_repeats_it(
    installed: Installation, roles_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", installed.url(roles_url, P))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.chdir(tmp_path)
    rows = ["phone_number,campaign_id,name", "+12025550190,42,Eve", "+12025550191,42,Ada", "none,42,Bob"]
    Path("leads.csv").write_text("\n".join(rows))

    for options, done in ((["--plan"], 0), ([], 2), ([], 2)):
        result = CliRunner().invoke(app, ["import", "leads.csv", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        found = execute(roles_url, "SELECT count(*) FROM dispatcher.leads WHERE phone_number ~ '555019[01]'")
        assert found == [(done,)]

    counted = execute(
        roles_url, "SELECT submitted, repeated, rejected FROM dispatcher.imports ORDER BY id DESC LIMIT 2"
    )
    assert counted == [(0, 2, 1), (2, 0, 1)]


def test_bulk_work_is_asked_for_by_an_operator_and_done_by_a_worker(world_as: WorldOf) -> None:
    operator, worker = world_as(O), world_as(W)
    operator.dispatcher.operations.start(
        ids(1)[0],
        OperationKind.DISMISS,
        FailureFilter(fingerprint=None),
        actor="ada@ops-1",
        note="known",
    )
    while worker.dispatcher.operations.step():
        pass

    assert {one.state for one in operator.dispatcher.operations.latest()[:1]} == {"finished"}


def test_retention_prunes_without_any_right_to_write_leads(world_as: WorldOf, roles_url: str) -> None:
    execute(roles_url, "UPDATE dispatcher.leads SET voicery_lead_id = 5 WHERE id = %s", lead_id(10))

    assert sum(world_as(E).dispatcher.pruner.prune(flows.timedelta(days=365), failed=False, actor="ada")) == 1


def test_a_worker_that_may_not_delete_does_everything_else_and_says_so(
    world_as: WorldOf, roles_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr("dispatcher.sweep.sweep.events.warning", lambda event, **more: said.append((event, more)))
    execute(roles_url, "UPDATE dispatcher.sweeps SET holder = NULL, held_until = NULL, pruned_at = NULL")
    execute(
        roles_url, "UPDATE dispatcher.leads SET finished_at = now() - interval '3 years' WHERE id = %s", lead_id(19)
    )
    world = world_as(W)
    sweeper = Sweep(
        world.database,
        Bell(),
        lambda _: Rate(),
        None,
        Pruning(world.database, world.services.settings),
        name="one",
        worker="host-1:99",
        settle_seconds=120,
        interval_seconds=1,
    )
    for _ in range(3):
        assert sweeper.once()

    ((event, more),) = said
    assert (event, more["duty"]) == ("sweep.not_permitted", "retention")
    assert "DELETE" in more["right"]
    assert "_retention" in more["right"]


# What each may not --------------------------------------------------------------------------------------------------

REFUSED = [
    # What an attacked shop would do: leads in doubt become free again, and others are called.
    (P, "UPDATE dispatcher.leads SET state = 'pending', failure_class = NULL WHERE state = 'failed'"),
    (P, "UPDATE dispatcher.leads SET phone_number = '+12025550199'"),
    (P, "DELETE FROM dispatcher.leads"),
    (P, "SELECT variables FROM dispatcher.leads"),
    (P, "SELECT * FROM dispatcher.lead_contacts"),
    (P, "SELECT response FROM dispatcher.lead_attempts"),
    (P, "SELECT * FROM dispatcher.failed_leads"),
    (P, "SELECT * FROM dispatcher.audit_log"),
    (P, "SELECT file_name FROM dispatcher.imports"),
    (P, "SELECT original FROM dispatcher.import_rejections"),
    (P, "UPDATE dispatcher.gates SET state = 'open'"),
    (P, "INSERT INTO dispatcher.audit_log (actor, action, subject) VALUES ('ada', 'replay', 'x')"),
    (P, "UPDATE dispatcher.idempotency_keys SET lead_id = gen_random_uuid()"),
    (W, "DELETE FROM dispatcher.leads"),
    (W, "INSERT INTO dispatcher.leads (voicery_lead_id) VALUES (1)"),
    (W, "DELETE FROM dispatcher.audit_log"),
    (W, "UPDATE dispatcher.audit_log SET actor = 'eve'"),
    (W, "TRUNCATE dispatcher.audit_log"),
    (W, "INSERT INTO dispatcher.audit_log (at, actor, action, subject) VALUES (now(), 'ada', 'replay', 'x')"),
    (W, "DELETE FROM dispatcher.lead_attempts"),
    (W, "CREATE TABLE dispatcher.mine ()"),
    (W, "ALTER TABLE dispatcher.leads DISABLE TRIGGER leads_legal_moves"),
    (O, "DELETE FROM dispatcher.leads"),
    (O, "UPDATE dispatcher.audit_log SET detail = '{}'"),
    (O, "DELETE FROM dispatcher.audit_log"),
    (O, "INSERT INTO dispatcher.leads (id) VALUES (gen_random_uuid())"),
    (R, "UPDATE dispatcher.gates SET state = 'open'"),
    (R, "INSERT INTO dispatcher.audit_log (actor, action, subject) VALUES ('ada', 'replay', 'x')"),
    (R, "SELECT FROM dispatcher.leads FOR UPDATE"),
    (E, "UPDATE dispatcher.leads SET state = 'pending'"),
    (E, "UPDATE dispatcher.leads SET phone_number = '+12025550199'"),
    (E, "UPDATE dispatcher.audit_log SET action = 'look'"),
    (E, "DELETE FROM dispatcher.audit_log"),
    (E, "DELETE FROM dispatcher.lead_attempts"),
    *((part, "UPDATE dispatcher.alembic_version SET version_num = '0001'") for part in (P, W, O, R, E)),
    *((part, "DELETE FROM dispatcher.database_roles") for part in (P, W, O, R, E)),
    *((part, "SELECT pg_read_file('/etc/passwd')") for part in Part),
    *((part, "COPY dispatcher.leads TO PROGRAM 'cat'") for part in Part),
]


@pytest.mark.parametrize(("part", "statement"), REFUSED, ids=lambda one: str(one)[:60])
def test_what_a_role_must_not_do_is_refused(
    installed: Installation, roles_url: str, part: Part, statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        execute(installed.url(roles_url, part), statement)

    assert refused.value.sqlstate == "42501"


def test_a_submitter_calls_one_function_reads_one_view_and_nobody_else_calls_it(
    installed: Installation, roles_url: str
) -> None:
    call = """SELECT dispatcher.submit_lead('{"phone_number": "+12025550190", "campaign_id": 42}')"""
    others = (
        "INSERT INTO dispatcher.inbox (id) VALUES (gen_random_uuid())",
        "SELECT dispatcher.prune_audit(now(), 'eve', 1)",
    )
    reads = [f"SELECT FROM dispatcher.{table}" for table in RIGHTS if table != "submissions"]
    refused = [(S, statement) for statement in (*reads, *others)] + [(part, call) for part in (W, O, R, E)]
    for part in (S, W, O, R, E):
        with psycopg.connect(installed.url(roles_url, part), autocommit=True) as connection:
            for statement in (statement for who, statement in refused if who is part):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)  # type: ignore[call-overload]
            if part is S:
                connection.execute(call)
                assert connection.execute("SELECT state FROM dispatcher.submissions WHERE lead_id IS NULL").fetchall()


SENTENCES = [
    (P, lambda world: world.dispatcher.cancel(lead_id(2)), "UPDATE", "leads", ("worker", "operator")),
    (P, lambda world: world.dispatcher.get(lead_id(2)), "SELECT", "leads", ("reader", "operator")),
    (R, lambda world: world.dispatcher.submit(PERSON), "INSERT", "leads", ("producer",)),
    (R, lambda world: world.dispatcher.submit(PERSON, idempotency_key="k"), "INSERT", "leads", ("producer",)),
    (R, lambda world: world.dispatcher.submit_many([PERSON]), "INSERT", "leads", ("producer",)),
    (R, lambda world: world.dispatcher.replay(lead_id(12)), "UPDATE", "leads", ("worker", "operator")),
    (R, lambda world: world.dispatcher.pause(42), "INSERT", "gates", ("worker", "operator")),
    (O, lambda world: world.dispatcher.submit(PERSON), "INSERT", "leads", ("producer",)),
    (
        O,
        lambda world: world.dispatcher.erasure.erase("+12025550109", actor="ada", without_proof=True),
        "UPDATE",
        "idempotency_keys",
        ("retention",),
    ),
    (E, lambda world: world.dispatcher.cancel(lead_id(2)), "UPDATE", "leads", ("worker", "operator")),
    (R, lambda world: world.queue.claim(1), "UPDATE", "leads", ("worker", "operator")),
]


@pytest.mark.parametrize(("part", "act", "privilege", "table", "give"), SENTENCES)
def test_the_refusal_names_the_login_the_right_and_the_grant(
    world_as: WorldOf,
    installed: Installation,
    part: Part,
    act: Callable[[World], object],
    privilege: str,
    table: str,
    give: tuple[str, ...],
) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        act(world_as(part))

    sentence = str(refused.value)
    assert f"The database role {installed.login(part)} lacks the right" in sentence
    assert privilege in sentence.split(" on ", maxsplit=1)[0]
    assert f"on dispatcher.{table};" in sentence
    for one in give:
        assert f'GRANT "{installed.names[Part(one)]}" TO "{installed.login(part)}"' in sentence
    assert "42501" in sentence
    assert "may or may not be stored" not in sentence
    assert not any(number in sentence for number in ("2025550", "Eve"))


# One table of rights ------------------------------------------------------------------------------------------------


def test_each_table_of_the_schema_has_its_row_of_rights(database_url: str) -> None:
    """A new table that nobody may use is noticed here, not by a worker."""
    relations = "SELECT relname FROM pg_class WHERE relnamespace = 'dispatcher'::regnamespace AND relkind IN ('r', 'v')"
    tables = {row[0] for row in execute(database_url, relations)}

    views = {f"{CONFINED_PREFIX}{table}" for table in CONFINED}
    assert tables == set(RIGHTS) | views, "dispatcher/store/rights.py needs a row for each table"
    for table, by_part in RIGHTS.items():
        assert Part.READER in by_part, f"who may read {table}?"
        assert Part.OWNER not in by_part


def test_each_column_that_is_granted_exists(roles_url: str) -> None:
    """A misspelt one would have been refused by GRANT; this holds that none was forgotten in making the roles."""
    granted = execute(
        roles_url,
        "SELECT table_name, grantee, privilege_type FROM information_schema.table_privileges"
        " WHERE table_schema = 'dispatcher' AND grantee LIKE '%%\\_worker' AND table_name = 'leads'",
    )

    assert {row[2] for row in granted} == {"SELECT", "UPDATE"}


def test_an_eraser_may_write_every_column_that_may_mention_a_number() -> None:
    granted = {(one.table, column) for one in rights_of(E) if one.privilege == "UPDATE" for column in one.columns}
    places = {(place.table, column) for place in PLACES for column in (*place.texts, *place.jsons)}

    assert places - granted == set()


@pytest.mark.parametrize(
    ("statement", "needed"),
    [
        ("SELECT id FROM dispatcher.leads FOR NO KEY UPDATE", {"SELECT", "UPDATE"}),
        ("INSERT INTO dispatcher.leads (id) VALUES (1)", {"INSERT"}),
        ("COPY dispatcher.leads (id) FROM STDIN", {"INSERT"}),
        ("DELETE FROM dispatcher.leads", {"SELECT", "DELETE"}),
        ("SELECT id FROM dispatcher.leads_of_mine", set()),
    ],
)
def test_what_a_statement_needs(statement: str, needed: set[str]) -> None:
    assert needed_by(statement, "leads") == needed


# Made again ---------------------------------------------------------------------------------------------------------


def acl(url: str) -> list[tuple[Any, ...]]:
    return execute(
        url,
        "SELECT relname, relowner::regrole::text, relacl::text, (SELECT string_agg(attname || attacl::text, ' '"
        " ORDER BY attnum) FROM pg_attribute WHERE attrelid = pg_class.oid) FROM pg_class"
        " WHERE relnamespace = 'dispatcher'::regnamespace ORDER BY 1",
    )


def test_made_again_they_are_the_same_and_a_right_that_was_added_by_hand_is_gone(
    installed: Installation, roles_url: str
) -> None:
    before = sorted(acl(roles_url))
    execute(roles_url, f"GRANT DELETE ON dispatcher.audit_log TO {installed.names[W]}")
    assert sorted(acl(roles_url)) != before

    upgrade(normal_database_url(roles_url), roles=installed.names)

    after = acl(roles_url)
    assert [(row[0], row[1], set(row[2].strip("{}").split(",") if row[2] else ()), row[3]) for row in after] == [
        (row[0], row[1], set(row[2].strip("{}").split(",") if row[2] else ()), row[3]) for row in before
    ]
    assert {row[1] for row in after} == {installed.names[Part.OWNER]}


def test_roles_of_an_earlier_version_are_kept_and_the_new_one_is_made_when_asked_for(
    installed: Installation, roles_url: str
) -> None:
    execute(roles_url, "DELETE FROM dispatcher.database_roles WHERE part = 'submitter'")

    upgrade(normal_database_url(roles_url))
    submits = "SELECT has_function_privilege(%s, oid, 'EXECUTE') FROM pg_proc WHERE proname = 'submit_lead'"
    assert execute(roles_url, submits, installed.names[P]) == [(True,)]
    upgrade(normal_database_url(roles_url), roles=installed.names)

    assert execute(roles_url, submits, installed.names[S]) == [(True,)]
    assert execute(roles_url, submits, installed.names[R]) == [(False,)]


def test_no_temporary_object_of_a_caller_stands_for_one_of_a_function_with_the_owners_rights(
    installed: Installation, roles_url: str
) -> None:
    """Unless pg_temp is named last, a temporary type comes before Postgres' own (CREATE FUNCTION, "Writing …")."""
    paths = execute(
        roles_url,
        "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'dispatcher'::regnamespace AND prosecdef",
    )
    assert len(paths) == 5
    assert {tuple(config) for _, config in paths} == {("search_path=pg_catalog, pg_temp",)}
    spied = """
        CREATE TABLE pg_temp.seen (who text);
        CREATE FUNCTION pg_temp.spy(text) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN INSERT INTO pg_temp.seen VALUES (current_user); RETURN true; END';
        CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (pg_temp.spy(value::text));
        GRANT ALL ON pg_temp.seen TO PUBLIC;
    """
    lead = """SELECT dispatcher.submit_lead('{"phone_number": "+12025550190", "campaign_id": 42}')"""
    with psycopg.connect(installed.url(roles_url, S), autocommit=True) as connection:
        connection.execute(spied)
        connection.execute(lead)  # type: ignore[call-overload]
        assert connection.execute("SELECT who FROM pg_temp.seen").fetchall() == []


def test_an_upgrade_gives_the_rights_again_without_being_asked(installed: Installation, roles_url: str) -> None:
    execute(roles_url, f"REVOKE SELECT ON dispatcher.leads FROM {installed.names[R]}")

    upgrade(normal_database_url(roles_url))

    assert execute(installed.url(roles_url, R), "SELECT count(*) > 0 FROM dispatcher.leads") == [(True,)]


@pytest.mark.parametrize("part", [Part.OWNER, W])
def test_a_login_with_the_owners_role_or_another_may_repeat_the_migration(
    installed: Installation, roles_url: str, part: Part
) -> None:
    """The owner's login upgrades; where nothing is to be done, nobody is refused."""
    before, after = upgrade(normal_database_url(installed.url(roles_url, part)))

    assert before == after


def test_the_command_makes_them_names_them_and_says_how_to_grant(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    names = {part: f"of_a_test_{part}" for part in Part} | {P: "the shop's"}
    try:
        made = CliRunner().invoke(
            app,
            ["migrate", "--with-roles", "--role-prefix", "of_a_test_", "--role", "producer=the shop's"],
            env={"COLUMNS": "1000"},
        )

        assert made.exit_code == 0, made.exception
        assert all(name in made.output and VERBS[part] in made.output for part, name in names.items())
        assert 'GRANT "the shop\'s" TO' in made.output
        logins = execute(
            empty_database_url, "SELECT bool_or(rolcanlogin) FROM pg_roles WHERE rolname LIKE 'of_a_test%%'"
        )
        assert logins == [(False,)]
    finally:
        execute(empty_database_url, "DROP SCHEMA IF EXISTS dispatcher CASCADE")
        for name in names.values():
            execute(empty_database_url, f'DROP ROLE IF EXISTS "{name}"')


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--role", "baker=x"], "--role baker=x names no role"),
        (["--role", "worker"], "PART=NAME"),
        (["--role", "worker=dispatcher_reader"], "Two roles would be called dispatcher_reader"),
        (["--role-prefix", "pg_"], "cannot be one in Postgres"),
        (["--role-prefix", "x" * 60], "cannot be one in Postgres"),
        (["--role", "worker="], "cannot be one in Postgres"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_done(options: list[str], said: str) -> None:
    refused = CliRunner().invoke(app, ["migrate", "--with-roles", *options], env={"DATABASE_URL": "postgresql:///none"})

    assert said in str(refused.exception)


def test_names_without_roles_are_a_misuse() -> None:
    refused = CliRunner().invoke(app, ["migrate", "--role-prefix", "x_"], env={"DATABASE_URL": "postgresql:///none"})

    assert "--with-roles" in str(refused.exception)


def test_a_login_that_may_not_make_roles_gets_the_statements_for_somebody_who_may(
    installed: Installation, roles_url: str
) -> None:
    names = {part: f"never_made_{part}" for part in Part}
    with pytest.raises(NotConfigured) as refused:
        upgrade(normal_database_url(installed.url(roles_url, Part.OWNER)), roles=names)

    assert 'CREATE ROLE "never_made_owner" NOLOGIN' in str(refused.value)
    assert "may not make roles" in str(refused.value)


def test_a_superuser_is_no_role_to_grant_to(roles_url: str, installed: Installation) -> None:
    (me,) = execute(roles_url, "SELECT CAST(current_user AS text)")
    with pytest.raises(Exception, match="is a superuser, whom no right binds"):
        upgrade(normal_database_url(roles_url), roles={**installed.names, R: me[0]})


# The doctor ---------------------------------------------------------------------------------------------------------

VERDICTS = [
    ((W, E), "good", "may deliver, read and delete", ""),
    ((W,), "doubtful", "not delete: what is old stays", 'GRANT "{retention}" TO "{login}"'),
    (
        (P,),
        "doubtful",
        "may submit, and not deliver",
        'GRANT "{worker}" TO "{login}"; GRANT "{retention}" TO "{login}"',
    ),
    ((R,), "doubtful", "may read, and not deliver", 'GRANT "{worker}" TO "{login}"'),
    ((O,), "doubtful", "may act on leads", 'GRANT "{worker}" TO "{login}"'),
]


@pytest.mark.parametrize(("parts", "verdict", "found", "advice"), VERDICTS, ids=lambda one: str(one)[:20])
def test_the_doctor_says_what_a_role_may(
    installed: Installation,
    roles_url: str,
    monkeypatch: pytest.MonkeyPatch,
    parts: tuple[Part, ...],
    verdict: str,
    found: str,
    advice: str,
) -> None:
    monkeypatch.setenv("DATABASE_URL", installed.url(roles_url, *parts))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    (check,) = [one for one in json.loads(result.stdout)["items"] if one["name"] == "Rights"]

    assert check["verdict"] == verdict
    assert found in check["found"]
    names = {part: installed.names[part] for part in Part}
    assert advice.format(login=installed.login(*parts), **names) in check["advice"]


def test_the_page_of_the_roles_is_fresh() -> None:
    generator = runpy.run_path(str(ROOT / "scripts" / "roles_page.py"))

    page = (ROOT / "docs" / "roles.md").read_text(encoding="utf-8")
    assert generator["page"]() == page, "docs/roles.md is old: run `python scripts/roles_page.py`"
