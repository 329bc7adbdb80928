"""A user of the console who is confined to accounts sees, counts and changes nothing of any other account."""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from dispatcher.config.setting import Secret
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.console.app import Console, build
from dispatcher.console.auth import Role, Sessions, User, Users
from dispatcher.console.guard import reached_at
from dispatcher.console.login import Login
from dispatcher.console.rendering import Renderer
from dispatcher.console.routes import ROUTES
from dispatcher.errors import NotConfigured
from dispatcher.operator.block_list import BlockTerms
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.operation_work import OperationKind
from dispatcher.operator.operations import Operations
from dispatcher.store.confinement import CLOSED, SHARED, NotConfinable, OutOfReach, confined
from dispatcher.store.database import Database
from dispatcher.store.rights import CONFINED, CONFINED_PREFIX, RIGHTS
from dispatcher.web.throttle import Throttle
from dispatcher.wiring import Services
from tests.console.conftest import BASE, Browser
from tests.support.databases import Databases
from tests.support.doubles import Clock
from tests.support.rows import Rows

NOBODY = uuid.UUID("00000000-0000-4000-8000-000000000000")
NO_NUMBER = 987_654_321
HASH = f"scrypt.15.8.1.{'A' * 22}.{'A' * 43}"
USERS = Secret(f"owner:admin:{HASH} ada:admin:{HASH}:acme both:admin:{HASH}:acme,globex vic:viewer:{HASH}:acme")


@dataclass(frozen=True)
class Tenant:
    """What one account holds; every text in it has the account's name."""

    account: str
    campaign: int
    phone: str
    failed: uuid.UUID
    doubtful: uuid.UUID
    pending: uuid.UUID
    batch: uuid.UUID
    import_id: int
    incident: int
    block: int
    operation: uuid.UUID
    done_operation: uuid.UUID
    failure: int
    voicery_id: int
    rejected: uuid.UUID

    def marks(self) -> list[str]:
        ids = [self.failed, self.doubtful, self.pending, self.operation, self.done_operation, self.batch]
        ids.append(self.rejected)
        numbers = [self.campaign, self.voicery_id, self.import_id, self.incident, self.block, self.failure]
        return [self.account, self.phone, *map(str, numbers), *map(str, ids)]


def tenant(services: Services, account: str, campaign: int, phone: str, voicery_id: int) -> Tenant:
    rows = Rows(services.database)
    for table in ("imports", "incidents", "blocks", "failed_leads"):  # ids that occur nowhere else
        rows.run(f"ALTER SEQUENCE dispatcher.{table}_id_seq RESTART WITH {voicery_id + len(table)}")
    batch = uuid.uuid4()
    where: dict[str, Any] = {
        "account": account,
        "campaign_id": campaign,
        "variables": json.dumps({"customer_name": f"{account}-name"}),
    }
    failed = rows.failed(
        phone=phone,
        message=f"{account}-message",
        fingerprint=f"{account}-cause",
        idempotency_key=f"{account}-reference",
        batch_id=batch,
        **where,
    )
    doubtful = rows.failed_unknown(
        phone=f"{phone[:-2]}91", message=f"{account}-doubt", evidence={"seen": f"{account}-evidence"}, **where
    )
    pending = rows.lead(phone=f"{phone[:-2]}92", **where)
    rows.lead("accepted", phone=f"{phone[:-2]}93", voicery_lead_id=voicery_id, **where)
    rows.unknown(phone=f"{phone[:-2]}94", **where)
    values = {"account": account, "campaign": campaign, "failed": failed, "batch": batch}
    rows.run(
        "INSERT INTO dispatcher.idempotency_keys (account, key, lead_id, payload_hash, state)"
        " VALUES (:account, :account || '-reference', :failed, 'hash', 'failed')",
        **values,
    )
    rows.run("INSERT INTO dispatcher.channels (account, campaign_id) VALUES (:account, :campaign)", **values)
    rows.run(
        "INSERT INTO dispatcher.lead_revisions (lead_id, revision, campaign_id, phone_number, variables, payload_hash,"
        " replaced_by, note) SELECT id, 1, campaign_id, phone_number, variables, 'hash', 'who', :account || '-revision'"
        " FROM dispatcher.leads WHERE id = :failed",
        **values,
    )
    rows.run(
        "INSERT INTO dispatcher.incidents (kind, lead_id, message, evidence)"
        " VALUES ('late_answer', :failed, :account || '-incident', '{}')",
        **values,
    )
    rows.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor, submitted, rejected)"
        " VALUES (:batch, :account || '.csv', :account, :account || '-importer', 3, 1)",
        **values,
    )
    rows.run(
        "INSERT INTO dispatcher.import_rejections (import_id, line, field, reason, original)"
        " SELECT id, 2, 'phone_number', :account || '-reason', '{}' FROM dispatcher.imports WHERE account = :account",
        **values,
    )
    services.gates.pause(campaign, account, reason=f"{account}-pause", actor=f"{account}-pauser")
    services.blocks.add(f"{phone[:-2]}95", BlockTerms("who", f"{account}-block", f"{account}-list", account))
    operations = Operations(services.database)
    dismissed, replayed = (
        operations.start(
            uuid.uuid4(), kind, FailureFilter(account=account), actor=f"{account}-actor", note=f"{account}-note"
        )
        for kind in (OperationKind.DISMISS, OperationKind.REPLAY)
    )
    operations.stop(replayed.id, actor=f"{account}-stopper")

    rejected = rows.one(
        "INSERT INTO dispatcher.inbox (id, account, lead, bytes, caller, state, ended_at, reasons) VALUES"
        " (gen_random_uuid(), :account, jsonb_build_object('campaign_id', CAST(:campaign AS bigint)), 1,"
        " :account || '-caller', 'rejected', now(), '[]') RETURNING id",
        account=account,
        campaign=campaign,
    ).id

    def number(table: str) -> int:
        return int(rows.one(f"SELECT max(id) AS id FROM dispatcher.{table}").id)

    return Tenant(
        account,
        campaign,
        phone,
        failed,
        doubtful,
        pending,
        batch,
        number("imports"),
        number("incidents"),
        number("blocks"),
        dismissed.id,
        replayed.id,
        rows.failure_of(failed).id,
        voicery_id,
        rejected,
    )


class Office:
    """One console, over a database in which two accounts hold the same kinds of things."""

    def __init__(self, services: Services, own: Tenant | None = None) -> None:
        """`own`: what the first account holds, where that is there already."""
        self.services = services
        self.rows = Rows(services.database)
        self.own = own or tenant(services, "acme", 4242, "+12025550111", 7_001_101)
        self.pages: dict[str, str] = {}
        people = Users(USERS, None)
        clock = Clock()
        self.people = people
        self.console = Console(
            services,
            Login(people, None, Throttle(clock)),
            Sessions(1800, clock),
            reached_at("127.0.0.1", 8321, users=True),
            Renderer(),
        )
        self.app = build(self.console)

    def browser(self, name: str) -> Browser:
        """The browser of a user who sees numbers, where the role may."""
        person = self.people.find(name)
        assert person is not None
        client = TestClient(self.app, base_url=BASE, follow_redirects=False)
        cookie, session = self.console.sessions.begin(person)
        client.cookies.set(self.console.cookie, cookie)
        self.console.sessions.reveal(session)
        return Browser(client, session)

    def stored(self) -> dict[str, list[str]]:
        """All that is stored of the other account, by table."""
        tables = sorted(CONFINED - {"audit_log", "workers", "sweeps"})
        return {table: list(map(str, self.other.database.read(_all_of, table))) for table in tables}

    @property
    def other(self) -> Services:
        """The database as far as the other account goes."""
        return self.services.confined(frozenset({"globex"}))


def _all_of(connection: Any, table: str) -> list[Any]:
    return sorted(connection.execute(text(f"SELECT * FROM dispatcher.{table}")).all(), key=str)


@pytest.fixture(scope="module")
def office(databases: Databases, template_database: str) -> Iterator[Office]:
    with databases.one(template_database) as url:
        settings = Settings(
            database_url=normal_database_url(url),
            rate_limit=(),
            accounts={name: {"token": "t" * 40} for name in ("default", "acme", "globex")},
        )
        services = Services(settings)
        yield Office(services)
        services.close()


@pytest.fixture(scope="module")
def globex(office: Office) -> Tenant:
    """The other account. What a user of the first sees before and after is the same."""
    ada = office.browser("ada")
    office.pages = {address: plain(ada.get(address).text) for address in addresses(office.own)}
    return tenant(office.services, "globex", 7373, "+12025550122", 9_002_202)


@pytest.fixture(scope="module")
def ada(office: Office, globex: Tenant) -> Browser:
    """The admin who is confined to the first account."""
    return office.browser("ada")


def plain(html: str) -> str:
    """A page without what differs at each request: tokens, new ids, the time that has passed."""
    html = re.sub(r'name="(csrf|action)" value="[^"]*"', "", html)
    html = re.sub(r"<time[^>]*>[^<]*</time>|[0-9:.]+ ?(s|min|UTC)\b", "", html)
    return re.sub(r"\d\d:\d\d", "", html)


# What a user asks of each page: of the own account, or of another's, or of nothing that exists.
GETS: Mapping[str, Callable[[Tenant], list[str]]] = {
    "/": lambda one: ["/"],
    "/search": lambda one: [
        f"/search?q={text}"
        for text in (one.phone.replace("+", "%2B"), f"{one.account}-reference", str(one.failed), str(one.voicery_id))
    ],
    "/failed": lambda one: ["/failed", f"/failed?account={one.account}", f"/failed?cause={one.account}-cause"],
    "/failed/rows": lambda one: [
        "/failed/rows",
        *(
            f"/failed/rows?{query}"
            for query in (
                f"account={one.account}",
                f"campaign={one.campaign}",
                f"phone={one.phone[-8:]}",
                f"reference={one.account}-reference",
                f"batch={one.batch}",
                f"text={one.account}-message",
                f"variable=customer_name={one.account}-name",
                f"cause={one.account}-cause",
            )
        ),
    ],
    "/leads": lambda one: [
        "/leads",
        *(
            f"/leads?{query}"
            for query in (
                f"account={one.account}",
                f"campaign={one.campaign}",
                f"phone={one.phone[-8:]}",
                f"reference={one.account}-reference",
                f"batch={one.batch}",
                f"id={str(one.failed)[-8:]}",
                f"text={one.account}-message",
            )
        ),
    ],
    "/leads/{id}": lambda one: [f"/leads/{one.failed}", f"/leads/{one.doubtful}", f"/leads/{one.pending}"],
    "/leads/{id}/correct": lambda one: [f"/leads/{one.failed}/correct"],
    "/campaigns": lambda one: ["/campaigns"],
    "/blocked": lambda one: ["/blocked", f"/blocked?before={one.block + 1}"],
    "/operations": lambda one: ["/operations"],
    "/operations/{id}": lambda one: [f"/operations/{one.operation}", f"/operations/{one.done_operation}"],
    "/imports": lambda one: ["/imports"],
    "/imports/{number}": lambda one: [f"/imports/{one.import_id}"],
    "/imports/upload": lambda one: ["/imports/upload"],
    "/imports/uploads/{id}": lambda one: [f"/imports/uploads/{one.failed}"],
    "/inbox": lambda one: ["/inbox"],
    "/incidents": lambda one: ["/incidents"],
    "/workers": lambda one: ["/workers"],
    "/audit": lambda one: [
        "/audit",
        f"/audit?subject={one.failed}",
        f"/audit?subject={one.operation}",
        f"/audit?actor={one.account}-actor",
        f"/audit?subject=account:{one.account}/campaign:{one.campaign}",
    ],
}

Fields = dict[str, object]

# What a user sends to each address, so that it would do something to the account.
POSTS: Mapping[str, Callable[[Tenant], tuple[str, Fields]]] = {
    "/failed/preview": lambda one: ("/failed/preview", {"verb": "replay", "lead": one.failed}),
    "/failed/export": lambda one: ("/failed/export", {"format": "json", "filters": f"account={one.account}"}),
    "/leads/{id}/correct": lambda one: (
        f"/leads/{one.failed}/correct",
        {"phone_number": "+12025550150", "failure": one.failure},
    ),
    "/leads/{id}/replay": lambda one: (f"/leads/{one.failed}/replay", {"failure": one.failure}),
    "/leads/{id}/replay-even-if-called": lambda one: (f"/leads/{one.doubtful}/replay-even-if-called", {"sure": "yes"}),
    "/leads/{id}/look-up": lambda one: (f"/leads/{one.doubtful}/look-up", {"action": one.operation}),
    "/leads/{id}/resolve": lambda one: (f"/leads/{one.failed}/resolve", {"as": "dismissed", "note": "x"}),
    "/leads/{id}/cancel": lambda one: (f"/leads/{one.pending}/cancel", {}),
    "/campaigns/{account}/{campaign}/pause": lambda one: (f"/campaigns/{one.account}/{one.campaign}/pause", {}),
    "/campaigns/{account}/{campaign}/resume": lambda one: (f"/campaigns/{one.account}/{one.campaign}/resume", {}),
    "/campaigns/{account}/{campaign}/limit": lambda one: (
        f"/campaigns/{one.account}/{one.campaign}/limit",
        {"rate_limit": "7/minute"},
    ),
    "/accounts/{account}/pause": lambda one: (f"/accounts/{one.account}/pause", {}),
    "/accounts/{account}/resume": lambda one: (f"/accounts/{one.account}/resume", {}),
    "/blocked": lambda one: ("/blocked", {"phone_number": "+12025550151", "account": one.account}),
    "/blocked/{number}/remove": lambda one: (f"/blocked/{one.block}/remove", {}),
    "/leads/{id}/block": lambda one: (f"/leads/{one.failed}/block", {}),
    "/operations": lambda one: (
        "/operations",
        {"verb": "replay", "lead": one.failed, "total": 1, "action": one.done_operation},
    ),
    "/operations/{id}/stop": lambda one: (f"/operations/{one.operation}/stop", {}),
    "/imports/{number}/export": lambda one: (f"/imports/{one.import_id}/export", {}),
    "/imports/upload": lambda one: ("/imports/upload", {"account": one.account}),
    "/imports/uploads/{id}/plan": lambda one: (f"/imports/uploads/{one.failed}/plan", {"account": one.account}),
    "/imports/uploads/{id}/import": lambda one: (f"/imports/uploads/{one.failed}/import", {"version": 1}),
    "/imports/uploads/{id}/discard": lambda one: (f"/imports/uploads/{one.failed}/discard", {}),
    "/imports/uploads/{id}/refused": lambda one: (f"/imports/uploads/{one.failed}/refused", {}),
    "/inbox": lambda one: ("/inbox", {"action": "discard", "row": one.rejected}),
    "/incidents/seen": lambda one: ("/incidents/seen", {"incident": one.incident}),
    "/leads/bulk/preview": lambda one: ("/leads/bulk/preview", {"verb": "cancel", "lead": one.pending}),
    # These concern the user alone.
    "/filters": lambda one: ("/filters", {"page": "leads", "name": "mine", "filters": f"account={one.account}"}),
    "/filters/{number}/remove": lambda one: (f"/filters/{NO_NUMBER}/remove", {}),
    "/reveal": lambda one: ("/reveal", {}),
    "/mask": lambda one: ("/mask", {}),
    "/theme": lambda one: ("/theme", {"theme": "dark"}),
}

NOTHING = Tenant(
    "nobodys",
    654_321,
    "+12025550100",
    NOBODY,
    NOBODY,
    NOBODY,
    NOBODY,
    NO_NUMBER,
    NO_NUMBER,
    NO_NUMBER,
    NOBODY,
    NOBODY,
    NO_NUMBER,
    NO_NUMBER,
    NOBODY,
)


def addresses(one: Tenant) -> list[str]:
    return [address for asked in GETS.values() for address in asked(one)]


def without(html: str, one: Tenant) -> str:
    """A page without the names that the address had."""
    for mark in sorted([*one.marks(), one.phone[-8:], str(one.failed)[-8:], str(one.block + 1)], key=len, reverse=True):
        html = html.replace(mark, "…").replace(quote(mark), "…").replace(mark.replace("+", "&#43;"), "…")
    return plain(html)


def test_every_route_has_its_case() -> None:
    assert {route.path for route in ROUTES if route.method == "GET"} == set(GETS)
    assert {route.path for route in ROUTES if route.method == "POST"} == set(POSTS)


def test_the_own_account_is_there(office: Office, ada: Browser) -> None:
    """Else nothing would be proven by what is not there."""
    for path in set(GETS) - {"/", "/workers", "/imports/uploads/{id}"}:  # an uploaded file is of its user
        pages = [ada.get(address) for address in GETS[path](office.own)]
        assert all(page.status_code in {200, 303} for page in pages), path
        assert any("acme" in page.text or str(office.own.failed) in str(page.headers) for page in pages), path


@pytest.mark.parametrize("path", GETS)
def test_a_page_shows_nothing_of_another_account(ada: Browser, globex: Tenant, path: str) -> None:
    for address, nowhere in zip(GETS[path](globex), GETS[path](NOTHING), strict=True):
        page, none = ada.get(address), ada.get(nowhere)
        asked = {mark for mark in globex.marks() if mark in unquote(address)}
        assert page.status_code == none.status_code, address
        assert without(page.text, globex) == without(none.text, NOTHING), f"{address} tells that there is something"
        for mark in set(globex.marks()) - asked:
            assert mark not in page.text, f"{address} shows {mark}"


def test_no_page_changes_with_what_another_account_has(office: Office, globex: Tenant) -> None:
    again = office.browser("ada")
    for address, before in office.pages.items():
        if not address.startswith("/audit"):  # the reveal, the look-ups of a person: the user's own acts
            assert plain(again.get(address).text) == before, address


@pytest.mark.parametrize("path", POSTS)
def test_an_act_does_nothing_to_another_account(office: Office, ada: Browser, globex: Tenant, path: str) -> None:
    before, said = office.stored(), office.rows.audited()
    (address, fields), (nowhere, none) = POSTS[path](globex), POSTS[path](NOTHING)
    refused, unknown = ada.post(address, fields), ada.post(nowhere, none)
    assert office.stored() == before
    assert refused.status_code == unknown.status_code, refused.text
    assert without(refused.text, globex) == without(unknown.text, NOTHING)
    shown = refused.text + ada.get("/theme-notices-of-the-next-page").text + ada.get("/").text
    for mark in globex.marks():
        assert mark in address or mark not in shown, mark
    for _, action, subject, detail in office.rows.audited()[len(said) :]:
        assert detail.get("accounts") == ["acme"], f"{action} of {subject}"


def test_the_same_acts_succeed_on_the_own_account(office: Office, ada: Browser) -> None:
    """As far as one act leaves the next one possible."""
    one, rows = office.own, office.rows
    in_vain = ("/failed/preview", "/failed/export", "/imports/{number}/export")
    for path in in_vain:
        answer = ada.post(*POSTS[path](one))
        assert answer.status_code == 200, answer.text
    assert "acme-message" in ada.post(*POSTS["/failed/export"](one)).text
    for path in ("/incidents/seen", "/leads/{id}/block", "/blocked/{number}/remove", "/leads/{id}/cancel"):
        ada.post(*POSTS[path](one))
    assert rows.of(one.pending).state == "cancelled"
    assert rows.one("SELECT seen_by FROM dispatcher.incidents WHERE id = :id", id=one.incident).seen_by == "ada@console"
    blocks = rows.rows("SELECT number, account FROM dispatcher.blocks WHERE account = 'acme'")
    assert [(block.number, block.account) for block in blocks] == [(one.phone, "acme")]
    ada.post(*POSTS["/campaigns/{account}/{campaign}/resume"](one))
    assert not rows.rows("SELECT FROM dispatcher.gates WHERE account = 'acme' AND state <> 'open'")
    ada.post(*POSTS["/campaigns/{account}/{campaign}/limit"](one))
    assert rows.one("SELECT rate_limit FROM dispatcher.channels WHERE account = 'acme'").rate_limit == "7/minute"
    for path in ("/accounts/{account}/pause", "/accounts/{account}/resume", "/operations/{id}/stop"):
        assert ada.post(*POSTS[path](one)).status_code == 303, path
    assert ada.post(*POSTS["/leads/{id}/look-up"](one)).status_code == 303
    started = rows.one("SELECT * FROM dispatcher.operations WHERE kind = 'look_up'")
    assert (started.accounts, started.total) == (["acme"], 1)
    assert "look up" in ada.get(f"/operations/{started.id}").text.lower()


def test_an_operation_of_several_accounts_is_seen_by_who_has_them_all(office: Office, globex: Tenant) -> None:
    given = [office.own.doubtful, globex.doubtful]
    mixed = Operations(office.services.database).start(uuid.uuid4(), OperationKind.LOOK_UP, given, actor="owner")
    address = f"/operations/{mixed.id}"
    assert [office.browser(name).get(address).status_code for name in ("ada", "both", "owner")] == [409, 200, 200]


def test_a_block_for_all_accounts_is_not_for_a_confined_user_to_make_or_remove(office: Office) -> None:
    office.services.blocks.add("+12025550196", BlockTerms("owner", "for all", "list", None))
    everywhere = office.rows.one("SELECT id FROM dispatcher.blocks WHERE account IS NULL").id
    ada, both = office.browser("ada"), office.browser("both")
    ada.post(f"/blocked/{everywhere}/remove")
    ada.post("/blocked", {"phone_number": "+12025550197", "account": ""})
    both.post("/blocked", {"phone_number": "+12025550198"})
    assert "Choose the account" in both.get("/blocked").text
    found = office.rows.rows("SELECT number, account FROM dispatcher.blocks WHERE number > '+12025550195' ORDER BY 1")
    assert [tuple(row) for row in found] == [("+12025550196", None), ("+12025550197", "acme")]
    with pytest.raises(OutOfReach):
        office.services.confined(frozenset({"acme"})).blocks.add("+12025550199", BlockTerms("x", "x", "x", None))


def test_a_lead_is_held_back_by_a_block_for_all_accounts_whoever_replays_it(office: Office, globex: Tenant) -> None:
    lead_id = office.rows.failed(phone="+12025550186", account="acme", campaign_id=4242)
    office.services.blocks.add("+12025550186", BlockTerms("owner", "for all", "list", None))
    office.browser("ada").post(f"/leads/{lead_id}/replay", {"failure": office.rows.failure_of(lead_id).id})
    assert office.rows.of(lead_id).state == "failed"


def test_entries_behind_many_of_other_accounts_are_on_a_later_page(
    office: Office, globex: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.console.pages.records.MOST_READ", 40)
    office.services.gates.pause(4242, "acme", reason="before the others", actor="pauser")
    for _ in range(60):
        office.services.gates.pause(7373, "globex", reason="many", actor="pauser")
    ada, address, pages = office.browser("ada"), "/audit?actor=pauser", []
    while address and len(pages) < 9:
        pages.append(ada.get(address).text)
        older = re.search(r'href="(/audit\?[^"]*before=\d+[^"]*)"', pages[-1])
        address = older[1].replace("&amp;", "&") if older else ""
    assert not any("many" in page for page in pages)
    assert "before the others" not in pages[0]
    assert any("before the others" in page for page in pages[1:])


def test_workers_are_shown_without_their_names_and_figures(office: Office, ada: Browser) -> None:
    office.rows.run("INSERT INTO dispatcher.workers (name, claims) VALUES ('host-of-globex:1', 737373)")
    for address in ("/", "/workers"):
        page = ada.get(address).text
        assert "host-of-globex" not in page
        assert "737373" not in page.replace("\u202f", "")
    assert "worker 1" in ada.get("/workers").text
    assert "host-of-globex" in office.browser("owner").get("/workers").text


# The mechanism --------------------------------------------------------------------------------------------------------


def test_each_table_is_confined_shared_or_closed(database_url: str) -> None:
    assert set(RIGHTS) == CONFINED | SHARED | CLOSED, "may a confined user see it? See store/confinement.py"
    assert len(RIGHTS) == len(CONFINED) + len(SHARED) + len(CLOSED)
    with Database(normal_database_url(database_url)).autocommit() as connection:
        columns = connection.execute(
            text(
                "SELECT table_name, array_agg(column_name ORDER BY ordinal_position) FROM"
                " information_schema.columns WHERE table_schema = 'dispatcher' GROUP BY table_name"
            )
        )
        of = {row.table_name: row.array_agg for row in columns}
    assert {name.removeprefix(CONFINED_PREFIX) for name in of if name.startswith(CONFINED_PREFIX)} == CONFINED
    for table in CONFINED:
        assert of[CONFINED_PREFIX + table] == of[table], "create the view of the table again in the migration"


@pytest.mark.parametrize(
    ("statement", "sent"),
    [
        ("SELECT * FROM dispatcher.leads", "SELECT * FROM dispatcher.confined_leads"),
        ("INSERT INTO dispatcher.gates(id)", "INSERT INTO dispatcher.confined_gates(id)"),
        (
            "-- it's dispatcher.leads\nDELETE FROM dispatcher . leads",
            "-- it's dispatcher.leads\nDELETE FROM dispatcher.confined_leads",
        ),
        ("SELECT hashtextextended('dispatcher.blocks', 0)", "SELECT hashtextextended('dispatcher.blocks', 0)"),
        ("SELECT 'it''s dispatcher.leads'", "SELECT 'it''s dispatcher.leads'"),
        ("FROM dispatcher.blocks_of(lead.account)", "FROM dispatcher.blocks_of(lead.account)"),
        ("EXISTS (SELECT FROM dispatcher.blocks /* whole */)", "EXISTS (SELECT FROM dispatcher.blocks /* whole */)"),
        ("SELECT * FROM dispatcher.privacy_key", "SELECT * FROM dispatcher.privacy_key"),
    ],
)
def test_what_is_sent_for_a_confined_user(statement: str, sent: str) -> None:
    assert confined(statement) == sent


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM dispatcher.a_table_of_tomorrow",
        "SELECT * FROM dispatcher.tallies",
        'SELECT * FROM "dispatcher".leads',
        'SELECT * FROM dispatcher."leads"',
        "SELECT dispatcher.next_takes_place(:id)",
        "SELECT most_common_vals FROM pg_stats",
        "DO $$ BEGIN DELETE FROM dispatcher.leads; END $$",
    ],
)
def test_what_cannot_be_confined_is_not_sent(statement: str) -> None:
    with pytest.raises(NotConfinable):
        confined(statement)


def test_a_session_without_the_setting_sees_nothing(database_url: str) -> None:
    database = Database(normal_database_url(database_url))
    Rows(database).lead()
    with pytest.raises(Exception, match=r"42704|SQLSTATE"), database.transaction() as connection:
        connection.execute(text("SELECT * FROM dispatcher.confined_leads"))
    with database.transaction() as connection:
        connection.execute(text("SELECT set_config('dispatcher.accounts', '', true)"))
        assert connection.execute(text("SELECT * FROM dispatcher.confined_leads")).all() == []
    database.close()


# The users ------------------------------------------------------------------------------------------------------------


def test_a_line_of_the_users_may_name_accounts() -> None:
    people = Users(USERS, None)
    found = {name: people.find(name) for name in ("owner", "ada", "both")}
    assert {name: one and one.accounts for name, one in found.items()} == {
        "owner": None,
        "ada": frozenset({"acme"}),
        "both": frozenset({"acme", "globex"}),
    }


@pytest.mark.parametrize("listed", ["", ",", "acme,", "Acme", "acme:globex", "*"])
def test_a_list_of_accounts_that_cannot_be_read_confines_nobody_by_accident(listed: str) -> None:
    with pytest.raises(NotConfigured, match=r"User 1 of the console .* NAME:ROLE:ACCOUNT"):
        Users(Secret(f"ada:admin:{HASH}:{listed}"), None)


def test_a_session_ends_when_the_accounts_of_its_user_change(office: Office) -> None:
    person = office.people.find("ada")
    assert person is not None
    client = TestClient(office.app, base_url=BASE, follow_redirects=False)
    cookie, _ = office.console.sessions.begin(User("ada", Role.ADMIN, person.stamp, frozenset({"acme", "globex"})))
    client.cookies.set(office.console.cookie, cookie)
    assert client.get("/").headers["location"] == "/login"
