"""What closes a gate, how long it waits, what opens it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.settings import Settings
from dispatcher.decisions.gate import (
    BAD_PROBES_BEFORE_A_LEAD,
    Gate,
    GateState,
    Neighbours,
    after_acceptance,
    after_failure,
    after_outcome,
    after_probe,
    after_refusal,
    closed,
    is_of_account,
)
from dispatcher.decisions.outcome import Kind, Outcome, Reason, Scope, Signal

LIMITS = Settings().gate_limits
OPEN = Gate("default", 42)
AT_ONCE = [reason for reason in Reason if reason not in {Reason.OUTAGE, Reason.PAUSED, Reason.REJECTING}]


def shut(reason: Reason = Reason.OUTAGE, **more: object) -> Gate:
    return replace(OPEN, state=GateState.CLOSED, reason=reason, closings=1, wait_seconds=5.0, **more)  # type: ignore[arg-type]


def probing(reason: Reason = Reason.OUTAGE, closings: int = 1) -> Gate:
    return replace(OPEN, state=GateState.PROBING, reason=reason, closings=closings)


def failed(gate: Gate, reason: Reason = Reason.OUTAGE, *, retry_after_seconds: float | None = None) -> Gate:
    return after_failure(gate, reason, LIMITS, message="Why.", retry_after_seconds=retry_after_seconds)


def refused(gate: Gate, fingerprint: str = "f") -> Gate:
    return after_refusal(gate, fingerprint, LIMITS, message="Why.")


def repeated(change: Callable[[Gate], Gate], times: int, gate: Gate = OPEN) -> Gate:
    for _ in range(times):
        gate = change(gate)
    return gate


# Outages --------------------------------------------------------------------------------------------------------------


def test_four_failures_in_a_row_do_not_close_a_gate_and_five_do() -> None:
    assert repeated(failed, 4) == replace(OPEN, failures=4)

    gate = repeated(failed, 5)
    assert (gate.state, gate.reason, gate.wait_seconds, gate.note) == (GateState.CLOSED, Reason.OUTAGE, 5.0, "Why.")


def test_an_acceptance_between_starts_the_count_over() -> None:
    gate = after_acceptance(repeated(failed, 4))

    assert gate == OPEN
    assert repeated(failed, 4, gate).state is GateState.OPEN


@pytest.mark.parametrize("reason", AT_ONCE)
def test_every_other_reason_closes_at_once(reason: Reason) -> None:
    gate = failed(OPEN, reason)

    assert (gate.state, gate.reason, gate.closings) == (GateState.CLOSED, reason, 1)


def test_a_closed_gate_keeps_its_reason_and_its_wait() -> None:
    gate = shut(Reason.UNAUTHORIZED)

    assert failed(gate, Reason.THROTTLED, retry_after_seconds=1000) == gate
    assert refused(gate) == gate


def test_a_success_that_was_on_its_way_does_not_open_a_closed_gate() -> None:
    assert after_acceptance(shut()) == shut()


# Waits ----------------------------------------------------------------------------------------------------------------


def test_the_wait_doubles_with_each_failed_try_and_stops_at_the_longest() -> None:
    waits = []
    gate = failed(OPEN, Reason.FORBIDDEN)
    for _ in range(8):
        waits.append(gate.wait_seconds)
        gate = failed(after_probe(gate, answered=True, limits=LIMITS))

    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


def test_a_failed_probe_doubles_the_wait_too() -> None:
    gate = after_probe(failed(OPEN, Reason.FORBIDDEN), answered=False, limits=LIMITS)

    assert (gate.state, gate.wait_seconds, gate.probes) == (GateState.CLOSED, 10, 1)


def test_an_acceptance_while_probing_opens_and_resets_the_wait() -> None:
    gate = after_acceptance(probing(closings=6))

    assert gate == OPEN
    assert failed(gate, Reason.FORBIDDEN).wait_seconds == 5


def test_one_failure_while_probing_closes_for_longer_whatever_it_is() -> None:
    gate = failed(probing(closings=1))

    assert (gate.state, gate.closings, gate.wait_seconds, gate.probes) == (GateState.CLOSED, 2, 10, 0)


@pytest.mark.parametrize(
    ("reason", "retry_after", "wait"),
    [
        (Reason.THROTTLED, 60.0, 60.0),
        (Reason.THROTTLED, 1.0, 1.0),
        (Reason.THROTTLED, None, 5.0),
        (Reason.OUTAGE, 60.0, 60.0),
        (Reason.OUTAGE, 1.0, 5.0),
        (Reason.OUTAGE, None, 5.0),
    ],
)
def test_the_gate_waits_as_long_as_voicery_asked(reason: Reason, retry_after: float | None, wait: float) -> None:
    gate = closed(OPEN, reason, LIMITS, message="Why.", retry_after_seconds=retry_after)

    assert gate.wait_seconds == wait


# Refusals -------------------------------------------------------------------------------------------------------------


def test_ten_equal_refusals_in_a_row_close_the_channel() -> None:
    assert repeated(refused, 9).state is GateState.OPEN

    gate = repeated(refused, 10)
    assert (gate.state, gate.reason) == (GateState.CLOSED, Reason.REJECTING)


def test_other_refusals_between_start_the_count_over() -> None:
    gate = refused(repeated(refused, 9), "another")

    assert (gate.refusals, gate.refusal) == (1, "another")
    assert repeated(refused, 9, gate).state is GateState.OPEN


def test_an_acceptance_between_refusals_starts_the_count_over() -> None:
    assert repeated(refused, 9, after_acceptance(repeated(refused, 9))).state is GateState.OPEN


def test_a_refusal_is_an_answer_that_ends_an_outage() -> None:
    assert refused(repeated(failed, 4)).failures == 0
    assert refused(probing(Reason.OUTAGE)).state is GateState.OPEN
    assert refused(probing(Reason.OUTAGE, closings=3)).closings == 0, "the series of waits starts over"


def test_the_same_refusal_again_closes_a_channel_that_probes_for_refusals() -> None:
    gate = after_probe(repeated(refused, 10), answered=True, limits=LIMITS)
    assert gate.state is GateState.PROBING

    again = refused(gate)
    assert (again.state, again.wait_seconds) == (GateState.CLOSED, 10)


def test_another_refusal_opens_a_channel_that_probes_for_refusals_but_remembers_its_wait() -> None:
    gate = refused(after_probe(repeated(refused, 10), answered=True, limits=LIMITS), "another")

    assert (gate.state, gate.reason, gate.refusals, gate.closings) == (GateState.OPEN, None, 1, 1)


# Both gates of a channel ----------------------------------------------------------------------------------------------

ACCOUNT = Gate("default", None)
OF_ACCOUNT = Signal(Reason.UNAUTHORIZED, Scope.ACCOUNT)
DOUBT = Signal(Reason.OUTAGE, Scope.CHANNEL)
NO_CAMPAIGN = Signal(Reason.MISCONFIGURED, Scope.CHANNEL)
REFUSED = Signal(Reason.REJECTING, Scope.CHANNEL)


def account_probing(reason: Reason = Reason.OUTAGE, closings: int = 3) -> Gate:
    return replace(ACCOUNT, state=GateState.PROBING, reason=reason, closings=closings)


def both(account: Gate, channel: Gate, kind: Kind, signal: Signal | None = None) -> tuple[Gate, Gate]:
    return after_outcome(account, channel, Outcome(kind, "Why.", signal=signal, fingerprint="f"), LIMITS)


def states(pair: tuple[Gate, Gate]) -> tuple[str, str]:
    return pair[0].state.value, pair[1].state.value


@pytest.mark.parametrize(
    ("account", "channel", "kind", "signal", "after"),
    [
        (ACCOUNT, OPEN, Kind.UNKNOWN, DOUBT, ("open", "open")),
        (ACCOUNT, OPEN, Kind.MISCONFIGURED, NO_CAMPAIGN, ("open", "closed")),
        (ACCOUNT, OPEN, Kind.UNAUTHORIZED, OF_ACCOUNT, ("closed", "open")),
        (ACCOUNT, probing(), Kind.UNKNOWN, DOUBT, ("open", "closed")),
        (ACCOUNT, probing(), Kind.UNAUTHORIZED, OF_ACCOUNT, ("closed", "closed")),
        (account_probing(), OPEN, Kind.UNKNOWN, DOUBT, ("closed", "open")),
        (account_probing(), OPEN, Kind.MISCONFIGURED, NO_CAMPAIGN, ("closed", "closed")),
        (account_probing(), OPEN, Kind.UNAUTHORIZED, OF_ACCOUNT, ("closed", "open")),
        (account_probing(), probing(), Kind.UNKNOWN, DOUBT, ("closed", "closed")),
        (account_probing(), probing(), Kind.ACCEPTED, None, ("open", "open")),
        (account_probing(), probing(), Kind.DUPLICATE, None, ("open", "open")),
        (account_probing(), probing(), Kind.GIVEN_BACK, None, ("probing", "probing")),
        (account_probing(), OPEN, Kind.REJECTED, REFUSED, ("open", "open")),
        (account_probing(Reason.REJECTING), OPEN, Kind.REJECTED, REFUSED, ("closed", "open")),
        (ACCOUNT, OPEN, Kind.REJECTED, REFUSED, ("open", "open")),
    ],
)
def test_any_failure_closes_what_was_probing(
    account: Gate, channel: Gate, kind: Kind, signal: Signal | None, after: tuple[str, str]
) -> None:
    assert states(both(account, channel, kind, signal)) == after


SEEMS = [Reason.UNAUTHORIZED, Reason.NO_BALANCE, Reason.FORBIDDEN, Reason.MISCONFIGURED]


def after_others(account: Gate, channel: Gate, reason: Reason) -> tuple[Gate, Gate]:
    outcome = Outcome(Kind.FORBIDDEN, "Why.", signal=Signal(reason, Scope.ACCOUNT), fingerprint="f")
    return after_outcome(account, channel, outcome, LIMITS, others_accepted=True)


@pytest.mark.parametrize("reason", SEEMS)
def test_what_seems_to_be_of_the_account_closes_it_first_and_then_the_channel_that_gets_it_again(
    reason: Reason,
) -> None:
    account, channel = both(ACCOUNT, OPEN, Kind.FORBIDDEN, Signal(reason, Scope.ACCOUNT))
    assert (account.state, channel) == (GateState.CLOSED, replace(OPEN, failures=1))
    assert both(ACCOUNT, channel, Kind.FORBIDDEN, Signal(reason, Scope.ACCOUNT))[1] == channel, "counted once"
    assert both(ACCOUNT, shut(), Kind.FORBIDDEN, Signal(reason, Scope.ACCOUNT))[1] == shut()

    account, channel = after_others(ACCOUNT, channel, reason)
    assert (account, channel.state, channel.reason) == (ACCOUNT, GateState.CLOSED, reason)

    assert states(after_others(ACCOUNT, OPEN, reason)) == ("closed", "open"), "it is the channel's first"
    assert states(after_others(account_probing(), replace(OPEN, failures=1), reason)) == ("closed", "closed")


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.OUTAGE])
def test_a_rate_limit_and_a_voicery_that_is_not_reached_stay_the_accounts(reason: Reason) -> None:
    failing = replace(OPEN, failures=1)
    account, channel = after_others(replace(ACCOUNT, failures=4), failing, reason)
    assert (account.state, account.reason, channel) == (GateState.CLOSED, reason, failing)


def test_a_gate_that_probes_and_is_told_to_slow_down_keeps_its_reason_and_its_series() -> None:
    for retry_after, wait in ((60.0, 60.0), (1.0, 20.0), (None, 20.0)):
        gate = failed(probing(Reason.OUTAGE, closings=3), Reason.THROTTLED, retry_after_seconds=retry_after)
        assert (gate.state, gate.reason, gate.closings, gate.wait_seconds) == (GateState.CLOSED, Reason.OUTAGE, 3, wait)


def test_a_failure_counts_for_its_own_gate_only() -> None:
    account, channel = both(ACCOUNT, OPEN, Kind.UNKNOWN, DOUBT)
    assert (account, channel.failures) == (ACCOUNT, 1)

    not_reached = Signal(Reason.OUTAGE, Scope.ACCOUNT)
    account, channel = both(ACCOUNT, OPEN, Kind.NOT_SENT, not_reached)
    assert (account.failures, channel) == (1, OPEN)


@pytest.mark.parametrize(("signal", "closings"), [(DOUBT, 4), (NO_CAMPAIGN, 3), (OF_ACCOUNT, 4)])
def test_an_account_whose_probe_met_a_dead_campaign_waits_no_longer_than_before(signal: Signal, closings: int) -> None:
    account, _ = both(account_probing(closings=3), OPEN, Kind.UNKNOWN, signal)

    assert (account.closings, account.reason) == (closings, signal.reason)
    assert account.wait_seconds == 5.0 * 2 ** (closings - 1)


def test_an_account_that_probes_for_refusals_waits_no_longer_than_before() -> None:
    account, channel = both(account_probing(Reason.REJECTING, closings=2), OPEN, Kind.REJECTED, REFUSED)

    assert (account.reason, account.closings, channel.refusals) == (Reason.REJECTING, 2, 1)


def test_the_first_wait_of_an_account_is_no_shorter_than_the_shortest() -> None:
    account, _ = both(account_probing(closings=0), OPEN, Kind.MISCONFIGURED, NO_CAMPAIGN)

    assert (account.closings, account.wait_seconds, account.note) == (1, 5.0, "Why.")


def test_what_voicery_asked_for_holds_for_both_gates() -> None:
    outcome = Outcome(Kind.UNKNOWN, "Why.", signal=DOUBT)
    pair = after_outcome(account_probing(), probing(), outcome, LIMITS, retry_after_seconds=77.0)

    assert [gate.wait_seconds for gate in pair] == [77.0, 77.0]


# The account of failing channels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("untried", [False, True])
@pytest.mark.parametrize("accepted_since", [False, True])
@pytest.mark.parametrize("closed_alike", [2, 3, 200])
@pytest.mark.parametrize("reason", Reason)
def test_channels_that_fail_alike_close_their_account_unless_one_gets_through(
    reason: Reason, closed_alike: int, accepted_since: bool, untried: bool
) -> None:
    expected = closed_alike >= 3 and not accepted_since
    match reason:
        case Reason.OUTAGE:
            pass
        case Reason.FORBIDDEN | Reason.MISCONFIGURED | Reason.REJECTING:
            expected = expected and not untried
        case _:  # the account's own reasons close it by themselves, and a pause is a person's
            expected = False

    neighbours = Neighbours(closed_alike, accepted_since=accepted_since, untried=untried)
    assert is_of_account(reason, neighbours) is expected


# Probes ---------------------------------------------------------------------------------------------------------------


def test_an_answered_probe_lets_a_lead_try() -> None:
    gate = after_probe(shut(), answered=True, limits=LIMITS)

    assert (gate.state, gate.wait_seconds, gate.reason) == (GateState.PROBING, None, Reason.OUTAGE)


def test_after_three_bad_probes_a_lead_tries_anyway() -> None:
    gates = [shut()]
    for _ in range(BAD_PROBES_BEFORE_A_LEAD):
        gates.append(after_probe(gates[-1], answered=False, limits=LIMITS))

    assert [gate.state for gate in gates[1:]] == [GateState.CLOSED, GateState.CLOSED, GateState.PROBING]


@pytest.mark.parametrize("answered", [True, False])
def test_a_pause_is_never_probed(answered: bool) -> None:
    gate = shut(Reason.PAUSED)

    assert after_probe(gate, answered=answered, limits=LIMITS) == gate


@pytest.mark.parametrize("gate", [OPEN, probing()])
def test_only_a_closed_gate_is_probed(gate: Gate) -> None:
    assert after_probe(gate, answered=True, limits=LIMITS) == gate


def test_an_untroubled_gate_has_nothing_to_reset() -> None:
    assert OPEN.untroubled
    assert not failed(OPEN).untroubled
    assert not refused(OPEN).untroubled
    assert not shut().untroubled
    assert not probing().untroubled
    assert not replace(OPEN, closings=1).untroubled


# Properties -----------------------------------------------------------------------------------------------------------

events = st.one_of(
    st.just(("acceptance",)),
    st.tuples(st.just("failure"), st.sampled_from(Reason), st.none() | st.floats(1, 3600)),
    st.tuples(st.just("refusal"), st.sampled_from(["f", "g"])),
    st.tuples(st.just("probe"), st.booleans()),
)


def happened(gate: Gate, event: tuple[object, ...]) -> Gate:
    match event:
        case ("acceptance",):
            return after_acceptance(gate)
        case ("failure", Reason() as reason, retry_after):
            return after_failure(gate, reason, LIMITS, message="Why.", retry_after_seconds=retry_after)  # type: ignore[arg-type]
        case ("refusal", str() as fingerprint):
            return refused(gate, fingerprint)
        case ("probe", answered):
            return after_probe(gate, answered=bool(answered), limits=LIMITS)
    raise AssertionError(event)


@given(st.lists(events, max_size=60))
def test_no_history_breaks_the_rules_of_a_gate(history: list[tuple[object, ...]]) -> None:
    gate = OPEN
    for event in history:
        before, gate = gate, happened(gate, event)
        assert (gate.state is GateState.OPEN) == (gate.reason is None)
        assert (gate.account, gate.campaign_id) == ("default", 42)
        if before.state is GateState.CLOSED:
            assert gate.state is not GateState.OPEN, "a closed gate opens by a probe or a person only"
            assert event[0] == "probe" or gate == before
        if before.state is GateState.CLOSED and before.reason is Reason.PAUSED:
            assert gate == before
        if before.state is GateState.OPEN:
            assert gate.state is not GateState.PROBING
        if gate.state is GateState.CLOSED:
            assert gate.wait_seconds is not None
            assert 0 < gate.wait_seconds <= max(3600, LIMITS.wait_max_seconds)
