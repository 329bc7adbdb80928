"""The test servers themselves: isolation is what every other test relies on."""

import psycopg
import pytest
import redis

from dispatcher.config.settings import Settings
from dispatcher.embedded.postgres import EmbeddedPostgres
from dispatcher.embedded.redis import EmbeddedRedis


@pytest.mark.parametrize("_", range(2))
def test_a_test_meets_no_table_of_another_test(empty_database_url: str, _: int) -> None:
    """The second run would fail if both had the same database."""
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE TABLE left_behind (i int)")


@pytest.mark.parametrize("_", range(2))
def test_a_test_meets_no_key_of_another_test(redis_url: str, _: int) -> None:
    """The second run would fail if the first one's key were still there."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.incr("left_behind") == 1


def test_committed_work_survives_a_killed_test_server(own_postgres: EmbeddedPostgres) -> None:
    """fsync is off in tests; what was confirmed is there nevertheless, else no fault test could be believed."""
    with psycopg.connect(own_postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (i int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    before = own_postgres.url()

    own_postgres.kill()
    own_postgres.start()

    assert own_postgres.url() == before
    with psycopg.connect(own_postgres.url()) as connection:
        assert connection.execute("SELECT i FROM kept").fetchall() == [(1,)]


def test_a_killed_redis_comes_back_empty_on_the_same_url(own_redis: EmbeddedRedis) -> None:
    """As after a FLUSHALL: nothing may rely on what Redis remembers."""
    with redis.Redis.from_url(own_redis.url()) as client:
        client.set("forgotten", "1")
    before = own_redis.url()

    own_redis.kill()
    own_redis.start()

    assert own_redis.url() == before
    with redis.Redis.from_url(own_redis.url()) as client:
        assert client.dbsize() == 0


def test_the_schema_is_there_and_the_settings_lead_to_it(settings: Settings) -> None:
    """The template was made by the migrations, as a user's database is."""
    url = settings.require_database_url().replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM dispatcher.leads").fetchone() == (0,)
