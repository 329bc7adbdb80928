"""Fingerprints are stored and grouped by for as long as failures are kept: a change of code must not split a group."""

import re

import pytest

from dispatcher.decisions.outcome import IN_DOUBT, Kind, Outcome, Rules, Sent, classify
from dispatcher.decisions.reply import Reply, WireFault

SENT = Sent(42, "+12025550101")
RULES = Rules(re.compile("duplicate"), safe_statuses=frozenset({503}))


def outcome(reply: Reply) -> Outcome:
    return classify(reply, SENT, RULES)


REPLIES = {
    "lease": Reply(fault=WireFault.LEASE),
    "bug": Reply(fault=WireFault.BUG, detail="ValueError"),
    "bug without detail": Reply(fault=WireFault.BUG),
    "refused connection": Reply(fault=WireFault.REFUSED),
    "read timeout": Reply(fault=WireFault.READ_TIMEOUT, written=True),
    "no id": Reply(status=200, body={"data": {}}),
    "safe status": Reply(status=503),
    "unknown status": Reply(status=500),
    "token": Reply(status=401),
    "duplicate": Reply(status=409),
    "rejected": Reply(status=422, body={"errors": {"phone_number": ["bad"]}}),
}
PINNED: dict[str, tuple[Kind, str]] = {
    "lease": (Kind.GIVEN_BACK, "0ee0e4a8989d5f3b"),
    "bug": (Kind.BUG, "27043c59e3128a19"),
    "bug without detail": (Kind.BUG, "c48b3a2c7465cced"),
    "refused connection": (Kind.NOT_SENT, "4fcb908bc2b3332c"),
    "read timeout": (Kind.UNKNOWN, "be764c9598a33a3b"),
    "no id": (Kind.CREATED_ID_UNKNOWN, "f0c68dee91ab2471"),
    "safe status": (Kind.NOT_SENT, "3cad71e09a20e246"),
    "unknown status": (Kind.UNKNOWN, "4deb0885b69c5e24"),
    "token": (Kind.UNAUTHORIZED, "f5737fe2b5ef7875"),
    "duplicate": (Kind.DUPLICATE, "78339b3772f4266c"),
    "rejected": (Kind.REJECTED, "1fe7fb24a887a5bc"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_fingerprint_stays_what_it_was(name: str) -> None:
    one = outcome(REPLIES[name])
    assert (one.kind, one.fingerprint) == PINNED[name]


def test_causes_that_differ_have_fingerprints_that_differ() -> None:
    assert len({fingerprint for _, fingerprint in PINNED.values()}) == len(PINNED)


def test_a_status_that_is_declared_safe_uses_up_an_attempt() -> None:
    assert outcome(REPLIES["safe status"]).counts


def test_a_bug_tells_what_it_was_if_that_is_known() -> None:
    assert "(ValueError)" in outcome(REPLIES["bug"]).message
    assert "(no detail)" in outcome(REPLIES["bug without detail"]).message


def test_two_kinds_leave_the_person_perhaps_called() -> None:
    assert frozenset({Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN}) == IN_DOUBT
