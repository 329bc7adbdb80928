"""The embedded Redis: private, refusing rather than forgetting, never twice in one directory."""

import shutil
import stat
from pathlib import Path

import psutil
import pytest
import redis

from dispatcher.embedded import postgres
from dispatcher.embedded import redis as embedded_redis
from dispatcher.embedded.child import StackError
from dispatcher.embedded.redis import EmbeddedRedis
from dispatcher.errors import NotConfigured


def test_a_full_redis_refuses_and_evicts_nothing(server_dir: Path) -> None:
    with EmbeddedRedis(server_dir / "small", maxmemory="2mb") as server, redis.Redis.from_url(server.url()) as client:
        client.set("kept", "1")
        with pytest.raises(redis.OutOfMemoryError):
            client.execute_command("SET", "large", "x" * 3_000_000)
        assert client.get("kept") == b"1"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    server.remove()


def test_nobody_gets_in_without_the_password(own_redis: EmbeddedRedis) -> None:
    with (
        redis.Redis.from_url(own_redis.url().replace("redis://:", "redis://:not-")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_the_password_is_in_no_process_list(own_redis: EmbeddedRedis) -> None:
    password = own_redis.url().split(":")[2].split("@")[0]
    directory = own_redis.log_path.parent
    assert stat.S_IMODE((directory / "redis.conf").stat().st_mode) == 0o600
    process = psutil.Process(own_redis.pid)
    assert not any(password in argument for argument in (*process.cmdline(), *process.parent().cmdline()))


def test_a_second_one_in_the_same_directory_is_refused(own_redis: EmbeddedRedis) -> None:
    with pytest.raises(StackError, match="already running"):
        EmbeddedRedis(own_redis.log_path.parent).start()


def test_without_any_redis_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(embedded_redis, "find_spec", lambda _: None)
    with pytest.raises(NotConfigured, match=r"pip install 'voicery-dispatcher\[embedded\]'"):
        embedded_redis.redis_server()


def test_without_any_postgres_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda _: None)
    with pytest.raises(NotConfigured, match=r"pip install 'voicery-dispatcher\[embedded\]'"):
        postgres.postgres_bin_dir(None)


def test_a_redis_on_the_machine_is_taken_before_the_one_in_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "valkey-server"
    mine.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded_redis.redis_server() == mine
