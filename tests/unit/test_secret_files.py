"""Secrets from files and from systemd's credentials: each secret, what wins, and that no content is ever shown."""

import os
from pathlib import Path

import pytest

from dispatcher.config.environment import TOKENS, UnusableSettings, variable
from dispatcher.config.secret_files import secrets
from dispatcher.config.settings import Settings

VALUES = {
    "encryption_keys": "0123456789abcdef" * 4,
    "database_url": "postgresql://canary:CANARY0123456789@localhost/queue",
    "database_read_url": "postgresql://canary:CANARY0123456789@localhost/queue",
    "redis_url": "redis://:CANARY0123456789@localhost/0",
    "proxy": "http://canary:CANARY0123456789@localhost:3128",
    "alert_webhook_url": "https://hooks.example/CANARY0123456789",
}
READ_NOW = sorted(name for name, has_setting in secrets(Settings.model_fields).items() if not has_setting)
READ_LATER = sorted(name for name, has_setting in secrets(Settings.model_fields).items() if has_setting)
NEEDED = {
    "alert_webhook_secret": {"DISPATCHER_ALERT_WEBHOOK_URL": VALUES["alert_webhook_url"]},
    "alert_webhook_secret_next": {
        "DISPATCHER_ALERT_WEBHOOK_URL": VALUES["alert_webhook_url"],
        "DISPATCHER_ALERT_WEBHOOK_SECRET": "another",
    },
}


def value_of(name: str) -> str:
    return VALUES.get(name, "CANARY0123456789")


def faults(environ: dict[str, str]) -> str:
    with pytest.raises(UnusableSettings) as refusal:
        Settings.from_environment(environ)
    assert "CANARY" not in str(refusal.value)
    return str(refusal.value)


def test_the_secrets_are_those_that_are_known() -> None:
    assert {"database_url", "redis_url", "alert_webhook_secret", "metrics_token"} <= set(READ_NOW)
    assert {"console_users", "privacy_key"} <= set(READ_LATER)


@pytest.mark.parametrize("name", READ_NOW)
@pytest.mark.parametrize("way", ["file", "credential"])
def test_a_secret_comes_from_a_file_or_a_credential(name: str, way: str, tmp_path: Path) -> None:
    (tmp_path / variable(name)).write_text(value_of(name) + "\n")
    where = {
        "file": {f"{variable(name)}_FILE": str(tmp_path / variable(name))},
        "credential": {"CREDENTIALS_DIRECTORY": str(tmp_path)},
    }[way]

    settings = Settings.from_environment({**where, **NEEDED.get(name, {})})

    direct = Settings.from_environment({variable(name): value_of(name), **NEEDED.get(name, {})})
    assert getattr(settings, name).reveal() == getattr(direct, name).reveal()
    assert settings.unknown_names == ()


@pytest.mark.parametrize("name", READ_LATER)
def test_what_is_read_at_each_use_gets_the_path_of_its_credential(name: str, tmp_path: Path) -> None:
    path = tmp_path / variable(name)
    path.write_text("CANARY0123456789")

    settings = Settings.from_environment({"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert getattr(settings, f"{name}_file") == path
    assert getattr(settings, name) is None


@pytest.mark.parametrize("suffix", ["", "__SALES", "__sales"])
@pytest.mark.parametrize("token", TOKENS)
def test_tokens_of_every_account_come_from_credentials(token: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"{token}{suffix}").write_text("from-the-credential")
    account = "sales" if suffix else "default"
    first = {f"VOICERY_API_TOKEN{suffix}": "first"} if token.endswith("NEXT") else {}

    settings = Settings.from_environment({"CREDENTIALS_DIRECTORY": str(tmp_path), **first}).account(account)

    read = settings.read_next_token() if token.endswith("NEXT") else settings.read_token()
    assert read == "from-the-credential"


@pytest.mark.parametrize("suffix", ["", "__SALES"])
def test_a_variable_wins_over_a_credential(suffix: str, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", f"VOICERY_API_TOKEN{suffix}"):
        (tmp_path / name).write_text("CANARY, which is neither")

    settings = Settings.from_environment(
        {
            "CREDENTIALS_DIRECTORY": str(tmp_path),
            "DATABASE_URL": "postgresql://localhost/queue",
            f"VOICERY_API_TOKEN{suffix}": "by-the-variable",
        }
    )

    assert settings.account("sales" if suffix else "default").read_token() == "by-the-variable"
    assert settings.require_database_url() == "postgresql+psycopg://localhost/queue"


def test_credentials_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tls.key").write_text("CANARY")
    (tmp_path / "DISPATCHER_LEASE").write_text("1")

    settings = Settings.from_environment({"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert settings == Settings.from_environment({})


def test_a_directory_of_credentials_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    assert Settings.from_environment({"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")}) == Settings()


def test_a_secret_and_its_file_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(VALUES["database_url"])

    told = faults({"DATABASE_URL": VALUES["database_url"], "DATABASE_URL_FILE": str(tmp_path / "url")})

    assert "DATABASE_URL: is set beside DATABASE_URL_FILE" in told


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe CANARY", b"CANARY" * 20_000])
def test_a_file_without_a_secret_is_told_by_its_variable(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "CANARY"
    if content is not None:
        path.write_bytes(content)

    assert "REDIS_URL_FILE: names a file" in faults({"REDIS_URL_FILE": str(path)})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_told_by_its_variable(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("CANARY")
    path.chmod(0)

    assert "cannot be read (Permission denied)" in faults({"REDIS_URL_FILE": str(path)})


def test_the_content_of_a_file_is_judged_as_the_variable_would_be(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("mysql://canary:CANARY@localhost/queue")

    assert "DATABASE_URL: is not a Postgres address" in faults({"DATABASE_URL_FILE": str(tmp_path / "url")})
