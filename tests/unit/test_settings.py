"""How settings are read, what is refused together, and that no secret is ever shown."""

import copy
import io
import logging
import pickle
import runpy
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.traceback import Traceback

from dispatcher.config.account import AccountSettings, RateWindow, parse_rate_limit
from dispatcher.config.environment import UnusableSettings, variable
from dispatcher.config.setting import Secret
from dispatcher.config.settings import Settings
from dispatcher.errors import NotConfigured

ROOT = Path(__file__).parents[2]
CANARY = "CANARY0123456789"


def read(**environ: str) -> Settings:
    return Settings.from_environment(environ)


def faults(environ: Mapping[str, str]) -> dict[str, str]:
    with pytest.raises(UnusableSettings) as caught:
        Settings.from_environment(environ)
    return {error.field: error.fault for error in caught.value.errors}


def test_an_empty_environment_is_enough_for_the_defaults_of_the_design() -> None:
    settings = read()

    assert settings.rate_limit == (RateWindow(100, 60), RateWindow(20, 10))
    assert settings.concurrency == 64
    assert settings.max_attempts == 8
    assert settings.retry_for_seconds == 86_400
    assert (settings.backoff_base_seconds, settings.backoff_max_seconds) == (2, 900)
    assert (settings.connect_timeout_seconds, settings.read_timeout_seconds, settings.deadline_seconds) == (5, 20, 30)
    assert (settings.lease_seconds, settings.settle_seconds, settings.unknown_for_seconds) == (90, 120, 3600)
    assert (settings.on_unknown, settings.reference_variable, settings.sweep_interval_seconds) == ("auto", None, 1)
    assert (settings.gate_wait_seconds, settings.gate_wait_max_seconds) == (5, 300)
    assert (settings.outage_after, settings.rejecting_after, settings.park_seconds) == (5, 10, 30)
    assert settings.key_retention_days == 400
    assert settings.safe_statuses == frozenset()
    assert settings.accounts == {"default": AccountSettings()}
    assert settings.unknown_names == ()


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_LEASE", "123.5")

    assert Settings.from_environment().lease_seconds == 123.5


def test_direct_construction_never_looks_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_LEASE", "123.5")
    monkeypatch.setenv("VOICERY_API_TOKEN", CANARY)

    settings = Settings(database_url="postgresql://db/x", redis_url="redis://r")

    assert settings.lease_seconds == 90
    assert not settings.accounts["default"].has_token
    assert settings.require_database_url() == "postgresql+psycopg://db/x"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert read(DATABASE_URL="", DISPATCHER_LEASE=" ", VOICERY_API_TOKEN="") == read()


def test_settings_cannot_be_changed() -> None:
    settings = read()

    with pytest.raises(Exception, match="frozen"):
        settings.lease_seconds = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.accounts["x"] = AccountSettings()  # type: ignore[index]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("database_url", "DATABASE_URL"),
        ("redis_url", "REDIS_URL"),
        ("lease_seconds", "DISPATCHER_LEASE"),
        ("on_unknown", "DISPATCHER_ON_UNKNOWN"),
        ("retention_days", "DISPATCHER_RETENTION_DAYS"),
    ],
)
def test_a_setting_is_named_after_its_variable(setting: str, name: str) -> None:
    assert variable(setting) == name


def test_every_setting_says_what_it_is_and_how_it_is_written() -> None:
    names = set(Settings.model_fields) - {"accounts", "unknown_names"}

    assert set(Settings.expectations()) == names
    assert all(Settings.model_fields[name].description for name in names)
    assert len({variable(name) for name in names}) == len(names)


# The stores


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "POSTGRES"])
def test_every_spelling_of_postgres_names_our_driver(scheme: str) -> None:
    url = read(DATABASE_URL=f"{scheme}://u:p%40#s@h:5/d?sslmode=require").require_database_url()

    assert url == "postgresql+psycopg://u:p%40#s@h:5/d?sslmode=require"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/d",
        "postgresql+asyncpg://h/d",
        "postgresql+psycopg2://h/d",
        "h:5432/d",
        "postgres:h",
        "postgres://a b",
        "postgres://u:p@[::1/d",
        "postgres://u:p@h:port/d",
    ],
)
def test_another_database_is_refused(url: str) -> None:
    assert list(faults({"DATABASE_URL": url})) == ["DATABASE_URL"]


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("redis://localhost", "redis://localhost"),
        ("REDIS://:pw@h:6380/3?client_name=leads", "redis://:pw@h:6380/3?client_name=leads"),
        ("rediss://u:p%2F@h", "rediss://u:p%2F@h"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix://:pw@/run/redis.sock", "unix://:pw@/run/redis.sock"),
    ],
)
def test_one_redis_server_is_taken(url: str, normal: str) -> None:
    assert read(REDIS_URL=url).require_redis_url() == normal


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://h",
        "redis-cluster://h",
        "rediss+cluster://h",
        "redis://a:1,b:2",
        "redis://a;redis://b",
        "redis://h?cluster=true",
        "rediss://clustercfg.shop.use1.cache.amazonaws.com:6379",
    ],
)
def test_a_redis_cluster_is_refused_and_called_one(url: str) -> None:
    assert "cluster" in faults({"REDIS_URL": url})["REDIS_URL"]


@pytest.mark.parametrize(
    "url",
    ["amqp://h", "sentinel://h", "redis://", "redis://h/name", "redis://h:99999", "redis://[h", "unix://x", "h:6379"],
)
def test_what_is_no_redis_server_is_refused(url: str) -> None:
    assert list(faults({"REDIS_URL": url})) == ["REDIS_URL"]


def test_a_missing_store_is_told_at_use_with_the_way_out() -> None:
    settings = read()

    with pytest.raises(NotConfigured, match=r"DATABASE_URL is not set.*dispatcher up"):
        settings.require_database_url()
    with pytest.raises(NotConfigured, match=r"REDIS_URL is not set.*dispatcher up"):
        settings.require_redis_url()


# Accounts and tokens


def test_a_suffix_names_another_account_in_either_case() -> None:
    settings = read(VOICERY_API_TOKEN="a", VOICERY_API_TOKEN__SALES="b", VOICERY_API_TOKEN__north_1="c")

    tokens = {name: account.read_token() for name, account in settings.accounts.items()}

    assert tokens == {"default": "a", "sales": "b", "north_1": "c"}


def test_an_account_without_a_base_url_goes_where_the_default_goes() -> None:
    settings = read(
        VOICERY_BASE_URL="http://127.0.0.1:8080/api",
        VOICERY_API_TOKEN__SALES="b",
        VOICERY_BASE_URL__NORTH="https://north.example/api",
    )

    assert settings.account("sales").base_url == "http://127.0.0.1:8080/api"
    assert settings.account("north").base_url == "https://north.example/api"


@pytest.mark.parametrize("suffix", ["a-b", "", "x" * 41, "Ä"])
def test_a_suffix_that_is_no_name_is_refused(suffix: str) -> None:
    assert list(faults({f"VOICERY_API_TOKEN__{suffix}": "t"})) == [f"VOICERY_API_TOKEN__{suffix}"]


def test_one_account_written_twice_with_different_tokens_is_refused() -> None:
    assert faults({"VOICERY_API_TOKEN__SALES": "a", "VOICERY_API_TOKEN__sales": "b"}) == {
        "VOICERY_API_TOKEN__sales": "is set twice, with different values"
    }
    assert faults({"VOICERY_API_TOKEN": "a", "VOICERY_API_TOKEN__DEFAULT": "b"})


def test_a_token_and_a_file_together_are_refused() -> None:
    assert faults({"VOICERY_API_TOKEN__SALES": "a", "VOICERY_API_TOKEN_FILE__SALES": "/x"}) == {
        "VOICERY_API_TOKEN__SALES": "is set beside the file"
    }


@pytest.mark.parametrize("token", ["a b", "a\r\nX-Evil: 1", "tökén", "a\0"])
def test_a_token_that_could_not_be_one_header_is_refused(token: str) -> None:
    assert list(faults({"VOICERY_API_TOKEN": token})) == ["VOICERY_API_TOKEN"]


def test_a_rotated_token_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    account = read(VOICERY_API_TOKEN_FILE=str(file)).account("default")

    assert account.has_token
    assert account.read_token() == "first"
    file.write_text("second\n")
    assert account.read_token() == "second"


@pytest.mark.parametrize("content", ["", "\n", "a b", "two\nlines", "x" * 5000, "tök"])
def test_a_file_without_exactly_one_token_is_told_by_its_variable(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    account = read(VOICERY_API_TOKEN_FILE__SALES=str(file)).account("sales")

    with pytest.raises(NotConfigured, match=r"^VOICERY_API_TOKEN_FILE__SALES: what the file holds is not a token"):
        account.read_token()


def test_a_missing_token_file_is_told_at_use(tmp_path: Path) -> None:
    account = read(VOICERY_API_TOKEN_FILE=str(tmp_path / "gone")).account("default")

    with pytest.raises(NotConfigured, match=r"^VOICERY_API_TOKEN_FILE: the file cannot be read"):
        account.read_token()


def test_an_account_without_a_token_is_told_at_use() -> None:
    with pytest.raises(NotConfigured, match=r"^VOICERY_API_TOKEN is not set"):
        read().account("default").read_token()
    with pytest.raises(NotConfigured, match="VOICERY_API_TOKEN__SALES"):
        read().account("sales")


@pytest.mark.parametrize("url", ["http://example.com/api", "https://user@example.com", "ftp://x", "https://x/?a=1"])
def test_a_base_url_that_must_not_have_the_token_is_refused(url: str) -> None:
    assert list(faults({"VOICERY_BASE_URL__SALES": url})) == ["VOICERY_BASE_URL__SALES"]


def test_plain_http_elsewhere_needs_a_word() -> None:
    settings = read(VOICERY_BASE_URL="http://sandbox:8080", DISPATCHER_ALLOW_HTTP="true")

    assert settings.accounts["default"].base_url == "http://sandbox:8080"


def test_direct_accounts_are_named_by_their_key() -> None:
    settings = Settings(accounts={"sales": AccountSettings(token=Secret("t"))})

    assert settings.account("sales").variable("VOICERY_API_TOKEN") == "VOICERY_API_TOKEN__SALES"
    with pytest.raises(NotConfigured):
        Settings(accounts={"No Name": AccountSettings(token=Secret("t"))})


# Single settings


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("100/minute; 20/10 seconds", [(100, 60), (20, 10)]),
        ("5/second", [(5, 1)]),
        ("1 / 0.5 seconds", [(1, 0.5)]),
        ("1000/2 Hours;9/day", [(1000, 7200), (9, 86400)]),
        ("off", []),
        ("OFF", []),
    ],
)
def test_a_rate_limit_is_read(text: str, windows: list[tuple[int, float]]) -> None:
    assert read(DISPATCHER_RATE_LIMIT=text).rate_limit == tuple(RateWindow(*window) for window in windows)


@pytest.mark.parametrize(
    "text",
    ["0/minute", "-1/minute", "100", "100/", "100/fortnight", "1/minute;", "1/2 days", "1/0 seconds", "9999999/day"],
)
def test_what_is_no_rate_limit_is_refused(text: str) -> None:
    assert list(faults({"DISPATCHER_RATE_LIMIT": text})) == ["DISPATCHER_RATE_LIMIT"]


@given(st.lists(st.tuples(st.integers(1, 100_000), st.integers(1, 86_400)), min_size=1, max_size=4))
def test_a_rate_limit_reads_back_as_it_is_written(windows: list[tuple[int, int]]) -> None:
    made = tuple(RateWindow(permits, float(seconds)) for permits, seconds in windows)

    assert parse_rate_limit("; ".join(map(str, made))) == made


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.endswith("_seconds")])
@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "5s", "1e99", "1 minute"])
def test_a_duration_is_a_positive_finite_number_of_seconds(name: str, text: str) -> None:
    assert list(faults({variable(name): text})) == [variable(name)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DISPATCHER_CONCURRENCY", "0"),
        ("DISPATCHER_CONCURRENCY", "257"),
        ("DISPATCHER_CONCURRENCY", "8.5"),
        ("DISPATCHER_MAX_ATTEMPTS", "0"),
        ("DISPATCHER_ON_UNKNOWN", "retry"),
        ("DISPATCHER_REFERENCE_VARIABLE", "9 lives"),
        ("DISPATCHER_SAFE_STATUSES", "404"),
        ("DISPATCHER_SAFE_STATUSES", "503;504"),
        ("DISPATCHER_DUPLICATE_RULE", "("),
        ("DISPATCHER_DUPLICATE_RULE", "x?"),
        ("DISPATCHER_ALLOW_HTTP", "perhaps"),
        ("DISPATCHER_PROXY", "socks5://h"),
        ("DISPATCHER_RETENTION_DAYS", "0"),
        ("DISPATCHER_LOG_FORMAT", "xml"),
        ("DISPATCHER_OUTAGE_AFTER", "never"),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused_by_name(name: str, text: str) -> None:
    assert list(faults({name: text})) == [name]


def test_safe_statuses_are_read() -> None:
    assert read(DISPATCHER_SAFE_STATUSES="502, 503").safe_statuses == {502, 503}


@pytest.mark.parametrize("text", ["Duplicate lead", "the duppplicate", "already exists", "already in this campaign"])
def test_the_default_rule_knows_a_refused_duplicate(text: str) -> None:
    assert read().duplicate_rule.search(text)


# Settings together


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"DISPATCHER_LEASE": "38"}, "DISPATCHER_LEASE"),
        ({"DISPATCHER_DEADLINE": "80"}, "DISPATCHER_LEASE"),
        ({"DISPATCHER_CONNECT_TIMEOUT": "31"}, "DISPATCHER_CONNECT_TIMEOUT"),
        ({"DISPATCHER_READ_TIMEOUT": "31"}, "DISPATCHER_READ_TIMEOUT"),
        ({"DISPATCHER_BACKOFF_MAX": "1"}, "DISPATCHER_BACKOFF_MAX"),
        ({"DISPATCHER_GATE_WAIT": "301"}, "DISPATCHER_GATE_WAIT_MAX"),
        ({"DISPATCHER_SETTLE": "1801"}, "DISPATCHER_UNKNOWN_FOR"),
        ({"DISPATCHER_KEY_RETENTION_DAYS": "89"}, "DISPATCHER_KEY_RETENTION_DAYS"),
        ({"DISPATCHER_ALERT_WEBHOOK_SECRET": "x"}, "DISPATCHER_ALERT_WEBHOOK_SECRET"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(environ: dict[str, str], name: str) -> None:
    assert list(faults(environ)) == [name]


@pytest.mark.parametrize(
    "environ",
    [
        {"DISPATCHER_LEASE": "38.5"},
        {"DISPATCHER_READ_TIMEOUT": "30"},
        {"DISPATCHER_BACKOFF_MAX": "2"},
        {"DISPATCHER_GATE_WAIT": "300"},
        {"DISPATCHER_SETTLE": "1800"},
        {"DISPATCHER_KEY_RETENTION_DAYS": "90"},
    ],
)
def test_settings_at_the_edge_of_a_contradiction_are_taken(environ: dict[str, str]) -> None:
    Settings.from_environment(environ)


def test_every_fault_is_told_at_once() -> None:
    environ = {
        "DATABASE_URL": f"mysql://{CANARY}",
        "REDIS_URL": f"redis+cluster://{CANARY}",
        "VOICERY_API_TOKEN": f"{CANARY} {CANARY}",
        "VOICERY_API_TOKEN__-": CANARY,
        "VOICERY_BASE_URL__SALES": f"https://{CANARY}@h",
        "DISPATCHER_LEASE": "1",
        "DISPATCHER_BACKOFF_BASE": CANARY,
        "DISPATCHER_ALERT_WEBHOOK_SECRET": CANARY,
    }

    assert faults(environ).keys() == environ.keys()


def test_a_broken_setting_is_not_blamed_on_others() -> None:
    assert list(faults({"DISPATCHER_DEADLINE": "soon", "DISPATCHER_LEASE": "10"})) == ["DISPATCHER_DEADLINE"]


def test_a_misspelt_attribute_is_told_its_nearest_name() -> None:
    with pytest.raises(NotConfigured, match=r"lease: is not a setting; did you mean lease_seconds\?"):
        Settings(lease=3)  # type: ignore[call-arg]


def test_unknown_names_are_collected_with_the_nearest_and_never_an_error() -> None:
    settings = read(DISPATCHER_LEASES="5", dispatcher_lease="5", DISPATCHER_PORT_6379_TCP_ADDR="10.0.0.1", OTHER="x")

    assert {name.name: name.nearest for name in settings.unknown_names} == {
        "DISPATCHER_LEASES": "DISPATCHER_LEASE",
        "dispatcher_lease": "DISPATCHER_LEASE",
        "DISPATCHER_PORT_6379_TCP_ADDR": None,
    }
    assert settings.lease_seconds == 90


# Secrets


def full_of_secrets(**more: str) -> dict[str, str]:
    return {
        "DATABASE_URL": f"postgresql://u:{CANARY}@h/d",
        "REDIS_URL": f"redis://:{CANARY}@h",
        "VOICERY_API_TOKEN": CANARY,
        "VOICERY_API_TOKEN__SALES": CANARY,
        "DISPATCHER_PROXY": f"http://u:{CANARY}@h",
        "DISPATCHER_ALERT_WEBHOOK_URL": f"https://h/{CANARY}",
        "DISPATCHER_ALERT_WEBHOOK_SECRET": CANARY,
    } | more


def test_no_secret_is_shown_by_settings(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.from_environment(full_of_secrets())
    console = Console(file=io.StringIO(), width=10_000)

    console.print(settings)
    logging.getLogger("test").warning("%s %r", settings, settings)

    shown = f"{settings!r} {settings!s} {settings} {settings.model_dump()!r} {settings.model_dump_json()} {caplog.text}"
    assert CANARY not in shown + console.file.getvalue()  # type: ignore[attr-defined]
    assert settings.account("sales").read_token() == CANARY


@pytest.mark.parametrize(
    "fault", [{"DISPATCHER_LEASE": "1"}, {"DISPATCHER_LEASE": "x"}, {"DATABASE_URL": f"x://{CANARY}"}]
)
def test_no_secret_is_shown_by_an_error_even_with_local_variables(
    fault: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in full_of_secrets(**fault).items():
        monkeypatch.setenv(name, text)
    console = Console(file=io.StringIO(), width=500)

    with pytest.raises(NotConfigured) as caught:
        Settings.from_environment()
    error, ours = caught.value, caught.tb.tb_next  # without this test's own frame
    frames = [frame for frame, _ in traceback.walk_tb(ours)]
    console.print(Traceback.from_exception(NotConfigured, error, ours, show_locals=True))

    assert frames
    assert CANARY not in repr([frame.f_locals for frame in frames])
    assert CANARY not in f"{error!r} {error} {error.__context__!r} {error.__cause__!r}"
    assert CANARY not in console.file.getvalue()  # type: ignore[attr-defined]


def test_no_secret_is_pickled() -> None:
    settings = Settings.from_environment(full_of_secrets())

    for value in (settings, settings.account("sales"), Secret(CANARY)):
        with pytest.raises(TypeError):
            pickle.dumps(value)
    assert copy.deepcopy(Secret(CANARY)).reveal() == CANARY


def test_a_token_file_that_holds_something_else_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{CANARY} {CANARY}")

    with pytest.raises(NotConfigured) as caught:
        AccountSettings(token_file=file).read_token()

    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)][1:]
    assert CANARY not in f"{caught.value!r} {[frame.f_locals for frame in frames]!r}"


# Documentation


def test_the_page_of_settings_is_current() -> None:
    generator: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "settings_page.py"))

    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == generator["page"](), (
        "docs/settings.md is old: run `python scripts/settings_page.py`"
    )
