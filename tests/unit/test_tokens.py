"""Two tokens of one account: which one is used, and what a refusal changes."""

from pathlib import Path

import pytest

from dispatcher.config.account import AccountSettings, Token
from dispatcher.config.environment import UnusableSettings
from dispatcher.config.settings import Settings
from dispatcher.errors import NotConfigured
from dispatcher.voicery.tokens import Tokens

OLD, NEW, NEWEST = Token.of("old"), Token.of("new"), Token.of("newest")


@pytest.fixture
def account(tmp_path: Path) -> AccountSettings:
    (tmp_path / "token").write_text("old\n")
    (tmp_path / "next").write_text("new\n")
    return AccountSettings(token_file=tmp_path / "token", next_token_file=tmp_path / "next")


def test_the_first_token_is_used_until_it_is_refused(account: AccountSettings) -> None:
    tokens = Tokens(account)
    assert tokens.current() == OLD
    assert tokens.refused(OLD)
    assert tokens.current() == NEW
    assert tokens.refused(OLD), "answers to what was on its way come later"
    assert tokens.current() == NEW


def test_once_both_are_refused_nothing_is_left_and_the_first_is_tried_again(account: AccountSettings) -> None:
    tokens = Tokens(account)
    tokens.refused(OLD)
    assert not tokens.refused(NEW)
    assert tokens.current() == OLD


@pytest.mark.parametrize("settings", [AccountSettings(), AccountSettings(token="old")])  # type: ignore[arg-type]
def test_a_lone_token_leaves_nothing_to_try(settings: AccountSettings) -> None:
    assert not Tokens(settings).refused(OLD)


def test_a_token_that_was_written_into_the_file_meanwhile_is_the_other_one(account: AccountSettings) -> None:
    tokens = Tokens(account.model_copy(update={"next_token_file": None}))
    assert tokens.current() == OLD
    assert account.token_file is not None
    account.token_file.write_text("newest")
    assert tokens.refused(OLD)
    assert tokens.current() == NEWEST


def test_the_files_may_change_places(account: AccountSettings) -> None:
    assert account.token_file is not None
    assert account.next_token_file is not None
    tokens = Tokens(account)
    tokens.refused(OLD)
    account.token_file.write_text("new")
    account.next_token_file.write_text("")
    assert tokens.current() == NEW
    assert not tokens.refused(NEW)


@pytest.mark.parametrize("content", [None, "", "two words"])
def test_a_second_file_without_a_token_never_stops_the_first(content: str | None, account: AccountSettings) -> None:
    assert account.next_token_file is not None
    account.next_token_file.unlink()
    if content is not None:
        account.next_token_file.write_text(content)
    tokens = Tokens(account)
    assert tokens.current() == OLD
    assert not tokens.refused(OLD)
    if content == "two words":
        with pytest.raises(NotConfigured, match="VOICERY_API_TOKEN_NEXT_FILE"):
            account.read_next_token()
    else:
        assert account.read_next_token() is None


def test_a_second_token_without_a_first_is_refused() -> None:
    with pytest.raises(UnusableSettings, match="VOICERY_API_TOKEN_NEXT__SALES: is set without a first token"):
        Settings.from_environment({"VOICERY_API_TOKEN_NEXT__SALES": "new"})


def test_a_token_shows_itself_nowhere() -> None:
    assert "newest" not in f"{NEWEST} {NEWEST!r}"
    assert len({OLD.fingerprint, NEW.fingerprint, NEWEST.fingerprint}) == 3
