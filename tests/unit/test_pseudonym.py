"""Pseudonyms: one keyed hash in Python and in SQL, and a key that is never shown."""

import hashlib
import hmac
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.environment import UnusableSettings
from dispatcher.config.settings import Settings
from dispatcher.errors import NotConfigured
from dispatcher.store.pseudonym import Pseudonyms

KEY = "CANARY-0123456789abcdef0123456789"
NUMBER = "+12025550123"


@given(key=st.text(min_size=32, max_size=200).map(str.strip).filter(lambda key: len(key) >= 32), message=st.binary())
def test_a_pseudonym_is_the_hmac_of_the_standard(key: str, message: bytes) -> None:
    assert Pseudonyms(key).digest_of(message) == hmac.digest(key.encode(), message, hashlib.sha256)


def test_another_key_is_another_pseudonym_and_another_id() -> None:
    one, other = Pseudonyms(KEY), Pseudonyms(KEY + "x")

    assert one.digest(NUMBER) != other.digest(NUMBER)
    assert one.key_id != other.key_id


def test_a_key_in_a_file_is_the_same_key_and_its_line_break_is_not_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")

    assert Pseudonyms.of(Settings(privacy_key_file=file)).key_id == Pseudonyms.of(Settings(privacy_key=KEY)).key_id


def test_without_a_key_there_is_no_pseudonym_and_the_refusal_says_how_to_make_one() -> None:
    without = Pseudonyms.of(Settings())

    assert without.key_id is None
    assert without.pads() == {"inner_pad": None, "outer_pad": None}
    with pytest.raises(NotConfigured, match=r"DISPATCHER_PRIVACY_KEY, which is not set; make one with `openssl"):
        without.digest(NUMBER)


@pytest.mark.parametrize("content", ["", "too short", "\xff" * 40], ids=["empty", "short", "not text"])
def test_a_file_without_a_key_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content.encode("latin-1"))

    with pytest.raises(NotConfigured, match="DISPATCHER_PRIVACY_KEY_FILE") as caught:
        Pseudonyms.of(Settings(privacy_key_file=file))

    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)][1:]
    assert not content or content not in f"{caught.value!r} {[frame.f_locals for frame in frames]!r}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match=r"DISPATCHER_PRIVACY_KEY_FILE: the file cannot be read \(No such file"):
        Pseudonyms.of(Settings(privacy_key_file=tmp_path / "none"))


def test_a_short_key_and_a_key_beside_its_file_are_refused_without_their_text() -> None:
    for environ in (
        {"DISPATCHER_PRIVACY_KEY": "CANARY"},
        {"DISPATCHER_PRIVACY_KEY": KEY, "DISPATCHER_PRIVACY_KEY_FILE": "/run/key"},
    ):
        with pytest.raises(UnusableSettings) as caught:
            Settings.from_environment(environ)

        assert [error.field for error in caught.value.errors] == ["DISPATCHER_PRIVACY_KEY"]
        assert "CANARY" not in str(caught.value)


def test_the_key_is_shown_by_nothing() -> None:
    pseudonyms = Pseudonyms.of(Settings(privacy_key=KEY))

    assert KEY not in repr(pseudonyms)
    assert KEY.encode() not in repr(pseudonyms.__dict__).encode()
