"""With encryption at rest on, a dump of the whole database after every flow: what is encrypted is plain nowhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from dispatcher.decisions.reply import Reply, WireFault
from dispatcher.http_intake.mappings import Mappings, WebhookMapping
from dispatcher.intake.inbox_taking import Taking
from dispatcher.intake.submit import Intake
from dispatcher.store.blocks import NO_KEY
from dispatcher.store.database import Database
from tests.database.queue import Queue, phone
from tests.database.test_delivery_run import Setting
from tests.database.test_encryption import OLD, database, everything
from tests.database.test_inbox import Sql, sql
from tests.http_intake.conftest import serving
from tests.support.doubles import Bell, Line

__all__ = ["database", "sql"]

NAME, MAIL, CONTACT, SAID = "Kassandra", "kassandra@example.com", "+12025550177", "sibylline"
SECRETS = (NAME, NAME.lower(), CONTACT[2:], SAID)
VARIABLES = {"customer_name": NAME, "email": MAIL}

_WORDS = {
    "message": f"{SAID} {NAME}",
    "code": SAID,
    "detail": [{"loc": ["body", "variables", SAID], "msg": f"{MAIL} is {SAID}", "input": MAIL}],
}
ANSWERS = (
    *(
        Reply(status=status, body=body, text=json.dumps(body), headers={"retry-after": SAID}, written=True)
        for status in (201, 301, 401, 402, 403, 404, 409, 422, 429, 500)
        for body in (_WORDS, {"error": f"insufficient balance, {SAID}"}, [SAID], {"data": {"id": SAID, "name": NAME}})
    ),
    Reply(fault=WireFault.PROTOCOL, detail="garbage", written=True),
)


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Line:
    for name, value in {**environment, "DISPATCHER_ENCRYPTION_KEYS": OLD.hex()}.items():
        monkeypatch.setenv(name, value)
    return Line()


def lead(number: int, **more: Any) -> dict[str, Any]:
    contact = {"phone_number": CONTACT, "variables": {"customer_name": NAME}}
    return {
        "phone_number": phone(number),
        "campaign_id": 42,
        "variables": VARIABLES,
        "secondary_contacts": [contact],
    } | more


def told_by(database: Database) -> list[str]:
    """The rows, by table, that tell a secret."""
    return [row for row in everything(database).split("\n") if any(secret in row for secret in SECRETS)]


def test_whatever_is_answered(queue: Queue, database: Database) -> None:
    setting, states = Setting(database), set[str]()
    for number, answer in enumerate(ANSWERS):
        Intake(database, Bell()).submit(lead(number), {}, account="default")
        setting.client._answer = lambda _, said=answer: said
        setting.run()
        assert told_by(database) == [], answer
        states |= queue.states().keys()
        queue.run("DELETE FROM dispatcher.gates")
    assert states >= {"failed", "unknown", "pending"}
    assert len(setting.client.posts) >= len(ANSWERS)


def test_however_it_came_and_whatever_was_done_to_it(
    queue: Queue, database: Database, database_url: str, sql: Sql, run: Line, tmp_path: Path
) -> None:
    keys = OLD.hex()
    by_sql = [sql.submit(lead(1)), sql.submit(lead(2, campaign_id=NAME)), sql.submit(lead(3, variables=[NAME]))]
    Taking(database, Bell(), lambda: NO_KEY).step()

    with serving(database_url, encryption_keys=keys) as served:
        mapping = WebhookMapping(
            "default", "crm", {"phone_number": "tel", "variables.email": "mail"}, {"campaign_id": 42}
        )
        Mappings(database).put(mapping, actor="test")
        key = served.key().secret
        for body in ({"tel": phone(4), "mail": MAIL}, {"tel": NAME, "mail": MAIL}, {"tel": phone(5), "mail": [MAIL]}):
            served.ask("POST", "/v1/hooks/crm", key, json=body)
        served.submit(key, lead(6), "k6")
        served.submit(key, lead(6, variables={**VARIABLES, "plan": NAME}), "k6")

    file = tmp_path / "leads.csv"
    file.write_text(
        "phone_number,campaign_id,customer_name,email\n"
        f"{phone(7)},42,{NAME},{MAIL}\n{NAME},42,{NAME},{MAIL}\n{phone(8)},{NAME},{NAME},{MAIL}\n"
        f"{phone(9)},42,{NAME},{MAIL},{CONTACT},{SAID}\n"
    )
    run("import", str(file))
    assert queue.states() == {"pending": 5}
    assert queue.one("SELECT count(*) AS rows FROM dispatcher.import_rejections").rows >= 3
    assert queue.one("SELECT count(*) AS rows FROM dispatcher.inbox").rows == 2
    assert told_by(database) == []

    setting = Setting(database)
    setting.client._answer = lambda _: Reply(status=422, body=_WORDS, text=json.dumps(_WORDS), written=True)
    setting.run()
    failed = str(by_sql[0])
    for command in (
        ["edit", failed, "--set", f"variables.plan={NAME}"],
        ["failed", "--reveal", "--export", str(tmp_path / "failed.csv")],
        ["replay", "--all", "--yes"],
        ["inbox", "retry", "--all", "--yes"],
        ["list", "--phone", phone(1)[-4:], "--json", "--reveal"],
        ["show", failed, "--reveal"],
        ["person", "-"],
        ["block", "-", "--reason", "said no"],
    ):
        run.ok(*command, stdin=f"{CONTACT}\n")
    Taking(database, Bell(), lambda: NO_KEY).step()
    setting.run()
    assert NAME in (tmp_path / "failed.csv").read_text()
    assert told_by(database) == [row for row in told_by(database) if f'"number": "{CONTACT}"' in row], "the block"

    run.ok("erase", "-", "--yes", "--without-proof", stdin=f"{phone(1)}\n")
    run.ok("unblock", "-", stdin=f"{CONTACT}\n")
    assert told_by(database) == []
