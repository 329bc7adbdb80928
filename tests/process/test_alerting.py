"""An alert's whole way: trigger, sweep, webhook; and a worker with the rights of its roles and the documented ACL."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from sqlalchemy.exc import ProgrammingError

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_database_url
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.store.migration import upgrade
from dispatcher.store.rights import Part
from dispatcher.store.roles import names_of
from tests.process.conftest import StartSandbox
from tests.process.rig import Rig
from tests.support.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, object]]]]:
    got: list[dict[str, object]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_refused_token_reaches_the_webhook_and_figures_and_is_delivered_after_resume(
    rig: Rig, hook: tuple[str, list[dict[str, object]]]
) -> None:
    url, got = hook
    rig.start_worker(DISPATCHER_ALERT_WEBHOOK_URL=url, VOICERY_BASE_URL=rig.sandbox.url + "/nowhere")
    rig.submit(1)
    wait_until(lambda: got, 30, lambda: str(rig.query("SELECT * FROM dispatcher.alerts")))
    assert (got[0]["kind"], got[0]["reason"]) == ("gate_closed", "misconfigured")
    wait_until(lambda: rig.query("SELECT FROM dispatcher.tallies WHERE name = 'alerts' AND label = 'sent'"), 15)


def test_the_documented_roles_and_acl_suffice(
    database_url: str,
    environment: dict[str, str],
    own_redis: EmbeddedRedis,
    start_sandbox: StartSandbox,
    worker: object,
) -> None:
    (acl,) = [line for line in PAGE.splitlines() if line.startswith("ACL SETUSER")]
    with redis.Redis.from_url(own_redis.url()) as client:
        client.execute_command(*acl.split())
    where = own_redis.url().removeprefix("redis://").rsplit("@", 1)[-1]
    address = f"redis://dispatcher:password@{where}"
    with redis.Redis.from_url(address) as client, pytest.raises(redis.ResponseError, match="permissions"):
        client.flushall()
    names = names_of(f"{urlsplit(database_url).path[1:]}_")
    upgrade(normal_database_url(database_url), roles=names)
    logins = {"worker": (Part.WORKER, Part.RETENTION), "producer": (Part.PRODUCER,)}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for login, parts in logins.items():
            connection.execute(f"CREATE ROLE {names[Part.OWNER]}_{login} LOGIN PASSWORD 'password'")
            for part in parts:
                connection.execute(f"GRANT {names[part]} TO {names[Part.OWNER]}_{login}")

    def as_role(login: str) -> dict[str, str]:
        rest = database_url.split("//", 1)[1].rsplit("@", 1)[-1]
        url = f"postgresql://{names[Part.OWNER]}_{login}:password@{rest}"
        return {"DATABASE_URL": url, "REDIS_URL": address}

    rig = Rig({**environment, **as_role("worker")}, start_sandbox(), worker)  # type: ignore[arg-type]
    rig.start_worker(DISPATCHER_RATE_LIMIT="100/minute")  # the limiter's script needs its rights too
    producer = Dispatcher(Settings.from_environment({**rig.environment, **as_role("producer")}))
    for number in range(3):
        lead = {"phone_number": f"+1202555010{number}", "campaign_id": 42}
        producer.submit(lead, idempotency_key=f"k{number}")
        producer.submit(lead, idempotency_key=f"k{number}")
        assert producer.submit(lead).state == "duplicate"
    with producer.database.engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
        connection.exec_driver_sql("DELETE FROM dispatcher.leads")
    producer.close()
    wait_until(lambda: rig.states()["accepted"] == 3, 40, lambda: str(rig.states()))
