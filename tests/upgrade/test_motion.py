"""The version before and this one, side by side on one database while it is migrated."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dispatcher.config.urls import normal_database_url
from dispatcher.store.migration import head, upgrade
from tests.migration.upgrades import fill
from tests.support.databases import Databases
from tests.support.environment import clean_environment
from tests.upgrade import flows_of, release
from tests.upgrade.motion import run
from tests.upgrade.release import NoHistory, Release


@pytest.fixture(scope="module")
def old(server_dir: Path) -> Release:
    """The version before, unpacked."""
    try:
        return release.previous(server_dir / "release-before")
    except NoHistory as error:
        pytest.skip(str(error))


def test_an_upgrade_under_load_loses_nothing_calls_nobody_twice_and_no_submit_fails(old: Release) -> None:
    account = run(1, old, latency_seconds=0.02, chaos=0.02)

    assert account.violations == []
    assert account.sent["created"] >= account.states["accepted"] > 100
    assert account.old.errors + account.new.errors == []
    assert len(account.old.ids) > 50
    assert account.new.ids
    assert account.dead == []
    assert account.complaints == []


@pytest.fixture(scope="module")
def upgraded(databases: Databases) -> Iterator[str]:
    """The name of a database with rows in every state, at head."""
    name = databases.create()
    fill(databases.url(name))
    upgrade(normal_database_url(databases.url(name)))
    yield name
    databases.drop(name)


def failed_flows(old: Release, databases: Databases, template: str, *flows: str) -> str:
    command = [sys.executable, flows_of.__file__, databases.url("postgres"), template, *flows]
    environment = old.environment(clean_environment())
    ended = subprocess.run(
        command, env=environment, cwd=old.tree, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_everything_that_the_version_before_does_works_on_the_new_schema(
    old: Release, databases: Databases, upgraded: str
) -> None:
    assert failed_flows(old, databases, upgraded) == ""


def test_a_column_that_the_version_before_does_not_fill_is_noticed(
    old: Release, databases: Databases, upgraded: str
) -> None:
    with databases.one(upgraded) as url:
        with psycopg.connect(url) as connection:
            connection.execute("ALTER TABLE dispatcher.leads ADD COLUMN region text DEFAULT '' NOT NULL")
            connection.execute("ALTER TABLE dispatcher.leads ALTER region DROP DEFAULT")

        assert failed_flows(old, databases, url.rpartition("/")[2], "submit").startswith("submit ")


def test_a_worker_of_this_version_waits_for_the_migration_with_one_sentence(
    databases: Databases, environment: dict[str, str]
) -> None:
    with databases.one() as url:
        fill(url)
        ended = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "-c", "1"],
            env={**clean_environment(), **environment, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert ended.returncode == 1
    sentence = f"Error: The database is at revision 0001, this version needs {head()}. Run `dispatcher migrate`."
    assert ended.stderr.splitlines()[-1] == sentence
    assert "Traceback" not in ended.stderr


def test_a_directory_without_history_of_its_own_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.setattr(release, "ROOT", tmp_path / "inner")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for _ in ("none", "that of another project"):
        with pytest.raises(NoHistory, match="no git checkout"):
            release.previous(tmp_path / "old")
        subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)


def test_the_newest_tag_before_this_commit_is_the_version_before(
    old: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("clone", "--quiet", "--shared", str(release.ROOT), "clone")
    for tag, commit in (("v0.9.0", f"{old.commit}~2"), ("v0.9.1", f"{old.commit}~1"), ("v1.0.0", "HEAD")):
        git("-C", "clone", "tag", tag, commit)
    monkeypatch.setattr(release, "ROOT", tmp_path / "clone")

    found = release.previous(tmp_path / "before")

    expected = subprocess.check_output(["git", "rev-parse", "v0.9.1"], cwd=tmp_path / "clone", text=True).strip()
    assert (found.commit, found.revision) == (expected, old.revision)


def test_a_shallow_clone_is_told(old: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = ["git", "clone", "--quiet", "--depth", "1", f"file://{release.ROOT}", str(tmp_path / "clone")]
    subprocess.run(clone, check=True, capture_output=True)
    monkeypatch.setattr(release, "ROOT", tmp_path / "clone")
    with pytest.raises(NoHistory, match="unshallow"):
        release.previous(tmp_path / "old")
