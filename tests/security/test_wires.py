"""The doctor speaks of a Redis or a Postgres beyond this machine that is open or not encrypted."""

import pytest
import redis

from dispatcher.cli import doctor_wires
from dispatcher.cli.doctor import Grade
from dispatcher.cli.doctor_wires import judge_postgres, judge_redis
from dispatcher.config.settings import Settings
from dispatcher.embedded.redis import EmbeddedRedis

DOUBTFUL = ["Postgres encryption"]


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("postgresql+psycopg://u:p@db.example/d", DOUBTFUL),
        ("postgresql://u:p@db.example/d?sslmode=prefer", DOUBTFUL),
        ("postgresql://u:p@db.example/d?sslmode=disable", DOUBTFUL),
        ("postgresql://u:p@db.example/d?sslmode=allow", DOUBTFUL),
        ("postgresql://u:p@127.0.0.1,db.example/d", DOUBTFUL),
        ("postgresql://u:p@/d?host=10.0.0.7", DOUBTFUL),
        ("postgresql://u:p@db.example/d?sslmode=require", []),
        ("postgresql://u:p@db.example/d?sslmode=verify-full", []),
        ("postgresql://u:p@127.0.0.1:5432/d", []),
        ("postgresql://u:p@[::1]/d", []),
        ("postgresql://u:p@localhost/d?sslmode=disable", []),
        ("postgresql:///d?host=/run/postgresql", []),
        ("postgresql:///d", []),
    ],
)
def test_a_postgres_beyond_this_machine_is_encrypted(
    monkeypatch: pytest.MonkeyPatch, url: str, names: list[str]
) -> None:
    for name in ("PGHOST", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    found = list(judge_postgres(url))

    assert [check.name for check in found] == names
    assert all(check.verdict is Grade.DOUBTFUL and "verify-full" in check.advice for check in found)


def test_the_environment_of_libpq_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert list(judge_postgres("postgresql://u:p@db.example/d")) == []
    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.setenv("PGHOST", "db.example")
    assert [check.name for check in judge_postgres("postgresql:///d")] == DOUBTFUL


@pytest.mark.parametrize(
    ("url", "open_to_all", "names"),
    [
        ("redis://redis.example/0", False, ["Redis password", "Redis encryption"]),
        ("redis://:secret@redis.example/0", False, ["Redis encryption"]),
        ("rediss://redis.example/0", False, ["Redis password"]),
        ("rediss://user:secret@redis.example/0", True, ["Redis password"]),
        ("rediss://user:secret@redis.example/0", False, []),
        ("redis://127.0.0.1:6379/0", True, []),
        ("redis://localhost/0", True, []),
        ("unix:///run/redis.sock", True, []),
    ],
)
def test_a_redis_beyond_this_machine_has_a_password_and_tls(url: str, open_to_all: bool, names: list[str]) -> None:
    found = list(judge_redis(url, open_to_all=open_to_all))

    assert [check.name for check in found] == names
    assert not any("secret" in f"{check.found} {check.advice}" for check in found)


def test_a_redis_that_answers_without_the_password_of_the_url_is_open(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user of the URL may have a password while `default` has none: then the Redis is open."""
    monkeypatch.setattr(doctor_wires, "is_loopback", lambda _: False)
    settings = Settings(redis_url=own_redis.url())
    assert [check.name for check in doctor_wires.wires(settings)] == ["Redis encryption"]

    with redis.Redis.from_url(own_redis.url()) as client:
        client.acl_setuser("us", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"])
        client.acl_setuser("default", enabled=True, nopass=True)

    port = own_redis.port
    found = [check.name for check in doctor_wires.wires(Settings(redis_url=f"redis://us:secret@127.0.0.1:{port}/0"))]
    assert found == ["Redis password", "Redis encryption"]
