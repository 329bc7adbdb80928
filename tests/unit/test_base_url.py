"""Which base URLs may be given the token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.urls import check_base_url, endpoint, is_loopback

GOOD = [
    "https://app.voicery.ai/api",
    "https://app.voicery.ai/api/",
    "https://app.voicery.ai",
    "https://app.voicery.ai:8443/a-b_c.d~e/v2",
    "https://xn--bcher-kva.example/api",
    "https://10.0.0.5/api",
    "https://[2001:db8::1]:8443/api",
    "HTTPS://App.Voicery.AI/api",
    "http://127.0.0.1:8000/api",
    "http://localhost:8000/api",
    "http://[::1]:8000/api",
]

HOSTILE = [
    "",
    "app.voicery.ai/api",
    "//app.voicery.ai/api",
    "https://",
    "https:///api",
    "https:/app.voicery.ai/api",
    "ftp://app.voicery.ai/api",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
    "http://app.voicery.ai/api",
    "http://10.0.0.5/api",
    "http://localhost.evil.example/api",
    "http://127.0.0.1.evil.example/api",
    "https://api@evil.example",
    "https://app.voicery.ai:pw@evil.example/api",
    "https://@evil.example/api",
    "https://app.voicery.ai\\@evil.example/api",
    "https://app.voicery.ai\\.evil.example/api",
    "https://app.voicery.ai/api#@evil.example",
    "https://app.voicery.ai/api#",
    "https://app.voicery.ai/api?x=1",
    "https://app.voicery.ai/api?",
    "https://app.voicery.ai/../admin",
    "https://app.voicery.ai/./api",
    "https://app.voicery.ai//evil.example",
    "https://app.voicery.ai/api//x",
    "https://app.voicery.ai/%2e%2e/admin",
    "https://app.voicery.ai/api;x=1",
    "https://app.voicery.ai/a b",
    "https://app.voicery.ai/api\r\nX-Evil: 1",
    "https://app.voicery.ai/api\t",
    " https://app.voicery.ai/api",
    "https://app.voicery.ai:0/api",
    "https://app.voicery.ai:/api",
    "https://app.voicery.ai:65536/api",
    "https://app.voicery.ai:https/api",
    "https://b\u00fccher.example/api",
    "https://app.voicery.a\u0131/api",
    "https://app.voicery\u3002ai/api",
    "https://169.254.169.254/latest",
    "https://[fe80::1]/api",
    "https://[::ffff:169.254.169.254]/latest",
    "https://0.0.0.0/api",
    "https://[::]/api",
    "https://224.0.0.1/api",
    "https://2130706433/api",
    "https://127.1/api",
    "https://0x7f.0x1/api",
    "https://0177.0.0.1/api",
    "https://app..voicery.ai/api",
    "https://-app.voicery.ai/api",
    "https://app_.voicery.ai/api",
    "https://app.voicery.ai./api",
    "https://[::1/api",
    "https://[vF.x]/api",
    "https://[2001:db8::1%25eth0]/api",
    "https://app.voicery.ai%2eevil.example/api",
    "https://" + "a" * 64 + ".ai/api",
    "https://app.voicery.ai/" + "a" * 2048,
]


@pytest.mark.parametrize("url", GOOD)
def test_a_usable_base_url_has_no_fault(url: str) -> None:
    assert check_base_url(url) == []


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_base_url_is_refused_without_repeating_it(url: str) -> None:
    faults = check_base_url(url)

    assert faults
    assert not url or not any(url in fault for fault in faults)


def test_plain_http_elsewhere_needs_an_explicit_word() -> None:
    assert check_base_url("http://voicery.test:8000/api")
    assert check_base_url("http://voicery.test:8000/api", allow_http=True) == []


def test_every_fault_is_told_at_once() -> None:
    assert len(check_base_url("ftp://a:b@voicery.ai//x?y")) == 4


@given(st.text(max_size=60) | st.text(alphabet="htps:/@[].#?%\\0x1a", max_size=40).map(lambda tail: "https://" + tail))
def test_no_text_makes_the_check_fail_itself(url: str) -> None:
    assert all(isinstance(fault, str) for fault in check_base_url(url))


@pytest.mark.parametrize("base", ["https://app.voicery.ai/api", "https://app.voicery.ai/api/"])
def test_a_path_is_joined_with_one_slash(base: str) -> None:
    assert endpoint(base, "user/lead") == "https://app.voicery.ai/api/user/lead"


@pytest.mark.parametrize(
    ("host", "expected"), [("127.8.8.8", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)]
)
def test_loopback_is_known_by_its_form(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
