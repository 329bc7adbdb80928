"""What a look-up proves, and what follows, as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.decisions.absence import (
    Circumstances,
    Decision,
    Doubt,
    LookUp,
    OnUnknown,
    Step,
    Verdict,
    decide,
    is_proof,
    judge,
    may_prove,
)
from dispatcher.decisions.listing import ListedLead, Page
from dispatcher.decisions.outcome import Kind

ADA = "+12025550101"
SENT = {"customer_name": "Ada", "age": 36, "vip": True}
DOUBT = Doubt(42, ADA, SENT, watermark=1000)
REFERRED = replace(DOUBT, variables={**SENT, "ref": "lead-1"}, reference=("ref", "lead-1"))
ROW = ListedLead(1001, 42, ADA, "created", SENT)
NOBODY: frozenset[int] = frozenset()

ENDED = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTLE = 120.0
CASE = Circumstances(
    kind=Kind.UNKNOWN,
    on_unknown=OnUnknown.AUTO,
    allow_dupplicate=False,
    resends=0,
    ended_at=ENDED,
    settle_seconds=SETTLE,
    unknown_for_seconds=3600.0,
    reference_sent=False,
)


def page(*rows: ListedLead, complete: bool = True) -> Page:
    return Page(rows, complete, last_page=1 if complete else 2)


def look(verdict: Verdict, settles: float, *, control: bool = False, reference: bool = False) -> LookUp:
    """A look-up so many settle times after the attempt ended."""
    at = ENDED + timedelta(seconds=SETTLE * settles)
    return LookUp(at, verdict, control, reference, answered=verdict is not Verdict.UNAVAILABLE)


def looked_until(settles: float, verdict: Verdict = Verdict.ABSENT) -> list[LookUp]:
    """Look-ups as they are planned, before so many settle times."""
    return [look(verdict, at) for at in (1, 2, 4, 8, 16, 32, 64, 128) if at < settles]


ABSENT_FIRST = look(Verdict.ABSENT, 1)
ABSENT_AGAIN = look(Verdict.ABSENT, 2, control=True)


# judge ----------------------------------------------------------------------------------------------------------------


MATCHES = {
    "as sent": ROW,
    "number without its plus": replace(ROW, phone_number="12025550101"),
    "number with separators": replace(ROW, phone_number="+1 (202) 555-0101"),
    "unknown names were dropped": replace(ROW, variables={"customer_name": "Ada"}),
    "scalars as text": replace(ROW, variables={"customer_name": "Ada", "age": "36", "vip": "1"}),
}


@pytest.mark.parametrize("row", MATCHES.values(), ids=MATCHES)
def test_a_row_is_ours_if(row: ListedLead) -> None:
    judgement = judge(DOUBT, page(row), NOBODY)
    assert (judgement.verdict, judgement.row, judgement.several) == (Verdict.MATCH, row, False)


POSSIBLE = {
    "an id at the watermark": replace(ROW, voicery_lead_id=1000),
    "an id that is no integer": replace(ROW, voicery_lead_id=None),
    "other variables": replace(ROW, variables={"customer_name": "Bob"}),
    "a variable that we did not send": replace(ROW, variables={**SENT, "more": "x"}),
    "no variables": replace(ROW, variables=None),
    "empty variables": replace(ROW, variables={}),
    "a campaign that was not said": replace(ROW, campaign_id=None),
    "another campaign": replace(ROW, campaign_id=43),
    "no number that can be read": replace(ROW, phone_number=""),
    "a masked number": replace(ROW, phone_number="***"),
    "the number without its country": replace(ROW, phone_number="(202) 555-0101"),
    "the last digits alone": replace(ROW, phone_number="0101"),
}


@pytest.mark.parametrize("row", POSSIBLE.values(), ids=POSSIBLE)
def test_a_row_is_possible_and_never_absence_with(row: ListedLead) -> None:
    assert judge(DOUBT, page(row), NOBODY).verdict is Verdict.POSSIBLE


STRANGERS = {
    "another number": replace(ROW, phone_number="+12025550102"),
    "a longer number that contains ours": replace(ROW, phone_number="+120255501012"),
    "a longer number that ends like ours": replace(ROW, phone_number="+9912025550101"),
    "a short number that is not the end of ours": replace(ROW, phone_number="50102"),
}


@pytest.mark.parametrize("row", STRANGERS.values(), ids=STRANGERS)
def test_a_row_is_no_reason_to_doubt_absence_with(row: ListedLead) -> None:
    assert judge(DOUBT, page(row), NOBODY).verdict is Verdict.ABSENT


def test_a_row_that_is_another_leads_of_ours_says_nothing() -> None:
    assert judge(DOUBT, page(ROW), frozenset({1001})).verdict is Verdict.ABSENT


def test_a_page_that_is_not_all_proves_presence_but_not_absence() -> None:
    assert judge(DOUBT, page(complete=False), NOBODY).verdict is Verdict.UNAVAILABLE
    assert judge(DOUBT, page(ROW, complete=False), NOBODY).verdict is Verdict.MATCH


def test_without_a_page_nothing_is_said() -> None:
    assert judge(DOUBT, None, NOBODY).verdict is Verdict.UNAVAILABLE


def test_with_the_watermark_off_every_unbound_row_is_possible() -> None:
    for doubt in (DOUBT, REFERRED):
        row = replace(ROW, variables=doubt.variables)
        assert judge(replace(doubt, watermark=None), page(row), NOBODY).verdict is Verdict.POSSIBLE
    assert judge(replace(DOUBT, watermark=None), page(), NOBODY).verdict is Verdict.ABSENT


def test_of_several_matches_the_smallest_id_counts_and_it_is_said() -> None:
    rows = [replace(ROW, voicery_lead_id=number) for number in (1003, 1001, 1002)]
    judgement = judge(DOUBT, page(*rows), NOBODY)
    assert (judgement.row, judgement.several) == (rows[1], True)


def test_two_matches_are_several() -> None:
    assert judge(DOUBT, page(ROW, replace(ROW, voicery_lead_id=1002)), NOBODY).several


def test_a_fraction_is_not_its_whole_number() -> None:
    sent = replace(DOUBT, variables={"score": 36.5})

    assert judge(sent, page(replace(ROW, variables={"score": "36.5"})), NOBODY).verdict is Verdict.MATCH
    assert judge(sent, page(replace(ROW, variables={"score": 36})), NOBODY).verdict is Verdict.POSSIBLE


@pytest.mark.parametrize(
    ("number", "verdict"), [("550101", Verdict.POSSIBLE), ("50101", Verdict.POSSIBLE), ("50102", Verdict.ABSENT)]
)
def test_the_last_digits_may_be_the_person_however_few_they_are(number: str, verdict: Verdict) -> None:
    assert judge(DOUBT, page(replace(ROW, phone_number=number)), NOBODY).verdict is verdict


def test_what_was_not_seen_is_not_claimed() -> None:
    nothing = judge(DOUBT, page(), NOBODY)
    unlooked, undecided = LookUp(ENDED, Verdict.ABSENT), Decision(Step.STAY, "A sentence.")

    assert (nothing.row, nothing.by_reference, nothing.several) == (None, False, False)
    assert (unlooked.control, unlooked.control_reference) == (False, False)
    assert (undecided.proof, undecided.again_in_seconds) == (False, 0.0)


def test_a_doubt_shows_nobody_when_it_is_printed() -> None:
    assert "0101" not in repr(REFERRED)
    assert "Ada" not in repr(REFERRED)
    assert "lead-1" not in repr(REFERRED)


def test_one_lead_listed_twice_is_not_several() -> None:
    assert not judge(DOUBT, page(ROW, ROW), NOBODY).several


def test_the_reference_decides_where_it_is_echoed() -> None:
    ours = replace(ROW, variables={"customer_name": "changed by hand", "ref": "lead-1"})
    theirs = replace(ROW, variables={**SENT, "ref": "lead-2"})
    judgement = judge(REFERRED, page(ours), NOBODY)
    assert (judgement.verdict, judgement.by_reference) == (Verdict.MATCH, True)
    assert judge(REFERRED, page(theirs), NOBODY).verdict is Verdict.POSSIBLE


def test_a_row_without_the_reference_that_was_sent_is_no_match() -> None:
    assert judge(REFERRED, page(ROW), NOBODY).verdict is Verdict.POSSIBLE


def test_a_row_with_the_reference_is_never_overlooked_whatever_its_number() -> None:
    row = replace(ROW, phone_number="+4915123456789", variables={"ref": "lead-1"})
    assert judge(REFERRED, page(row), NOBODY).verdict is Verdict.POSSIBLE


def test_without_variables_nothing_tells_our_lead_from_one_made_by_hand() -> None:
    assert judge(replace(DOUBT, variables={}), page(replace(ROW, variables={})), NOBODY).verdict is Verdict.POSSIBLE


NAMES = st.sampled_from(["customer_name", "age", "vip", "city"])
SCALARS = st.one_of(st.text(max_size=4), st.integers(-5, 5), st.booleans(), st.none())
ROWS = st.builds(
    ListedLead,
    voicery_lead_id=st.one_of(st.none(), st.integers(998, 1005)),
    campaign_id=st.sampled_from([None, 42, 43]),
    phone_number=st.sampled_from([ADA, "12025550101", "+12025550102", "", "2025550101"]),
    status=st.none(),
    variables=st.one_of(st.none(), st.dictionaries(NAMES, SCALARS, max_size=3)),
)


@given(st.lists(ROWS, max_size=4), st.frozensets(st.integers(998, 1005)), st.booleans(), st.permutations(range(4)))
def test_a_verdict_depends_on_the_rows_and_not_on_their_order(
    rows: list[ListedLead], bound: frozenset[int], complete: bool, order: list[int]
) -> None:
    shuffled = [rows[place] for place in order if place < len(rows)]
    assert judge(DOUBT, page(*rows, complete=complete), bound).verdict is (
        judge(DOUBT, page(*shuffled, complete=complete), bound).verdict
    )


@given(st.lists(ROWS, max_size=4), ROWS, st.frozensets(st.integers(998, 1005)))
def test_a_further_row_never_makes_absence(rows: list[ListedLead], more: ListedLead, bound: frozenset[int]) -> None:
    before = judge(DOUBT, page(*rows), bound).verdict
    after = judge(DOUBT, page(*rows, more), bound).verdict
    assert after is not Verdict.ABSENT or before is Verdict.ABSENT


@given(st.lists(ROWS, max_size=4), st.frozensets(st.integers(998, 1005)))
def test_what_is_bound_or_below_the_watermark_is_never_a_match(rows: list[ListedLead], bound: frozenset[int]) -> None:
    judgement = judge(DOUBT, page(*rows), bound)
    if judgement.verdict is Verdict.MATCH:
        assert judgement.row is not None
        assert judgement.row.voicery_lead_id is not None
        assert judgement.row.voicery_lead_id > 1000
        assert judgement.row.voicery_lead_id not in bound
        assert judgement.row.campaign_id == 42


# is_proof -------------------------------------------------------------------------------------------------------------


def test_absence_twice_a_settle_time_apart_with_a_control_is_proof() -> None:
    assert is_proof(ABSENT_AGAIN, [ABSENT_FIRST], CASE)


NO_PROOF = {
    "once": (ABSENT_AGAIN, []),
    "without a control": (look(Verdict.ABSENT, 2), [ABSENT_FIRST]),
    "too soon after the first": (look(Verdict.ABSENT, 1.99, control=True), [ABSENT_FIRST]),
    "the first before the settle time": (look(Verdict.ABSENT, 1.9, control=True), [look(Verdict.ABSENT, 0.9)]),
    "a control of the first only": (look(Verdict.ABSENT, 2), [look(Verdict.ABSENT, 1, control=True)]),
    "the first without an answer": (ABSENT_AGAIN, [look(Verdict.UNAVAILABLE, 1)]),
    "the last without an answer": (look(Verdict.UNAVAILABLE, 2, control=True), [ABSENT_FIRST]),
    "a possible row before": (
        look(Verdict.ABSENT, 3, control=True),
        [look(Verdict.POSSIBLE, 1), look(Verdict.ABSENT, 2)],
    ),
    "a possible row now": (look(Verdict.POSSIBLE, 2, control=True), [ABSENT_FIRST]),
}


@pytest.mark.parametrize(("now_look", "earlier"), NO_PROOF.values(), ids=NO_PROOF)
def test_it_is_no_proof(now_look: LookUp, earlier: list[LookUp]) -> None:
    assert not is_proof(now_look, earlier, CASE)


@pytest.mark.parametrize("kind", [Kind.CREATED_ID_UNKNOWN, Kind.DUPLICATE])
def test_nothing_proves_a_yes_or_a_refused_duplicate_wrong(kind: Kind) -> None:
    assert not is_proof(ABSENT_AGAIN, [ABSENT_FIRST], replace(CASE, kind=kind))


def test_a_window_is_read_only_where_one_more_absence_could_prove_something() -> None:
    """Its pages take from the look-ups' share of the rate."""
    second = ENDED + timedelta(seconds=2 * SETTLE)

    assert may_prove([ABSENT_FIRST], second, CASE)
    assert not may_prove([ABSENT_FIRST], second - timedelta(seconds=1), CASE)
    assert not may_prove([], second, CASE)
    assert not may_prove([look(Verdict.POSSIBLE, 1), ABSENT_FIRST], second, CASE)
    for kind in (Kind.CREATED_ID_UNKNOWN, Kind.DUPLICATE, Kind.NOT_SENT):
        assert not may_prove([ABSENT_FIRST], second, replace(CASE, kind=kind))


# decide ---------------------------------------------------------------------------------------------------------------

POLICY = [
    # on_unknown, flag, proven, by reference -> sent again
    (OnUnknown.AUTO, False, True, False, True),
    (OnUnknown.AUTO, False, False, False, False),
    (OnUnknown.AUTO, True, True, True, True),
    (OnUnknown.AUTO, True, True, False, False),
    (OnUnknown.AUTO, True, False, True, False),
    (OnUnknown.HOLD, False, True, True, False),
    (OnUnknown.HOLD, True, True, True, False),
    (OnUnknown.RESEND, False, True, False, True),
    (OnUnknown.RESEND, False, False, False, True),
    (OnUnknown.RESEND, True, True, True, True),
    (OnUnknown.RESEND, True, True, False, False),
    (OnUnknown.RESEND, True, False, False, False),
]


@pytest.mark.parametrize(("on_unknown", "flag", "proven", "by_reference", "again"), POLICY)
def test_the_policy_table(on_unknown: OnUnknown, *, flag: bool, proven: bool, by_reference: bool, again: bool) -> None:
    case = replace(CASE, on_unknown=on_unknown, allow_dupplicate=flag, reference_sent=True)
    decision = decide(look(Verdict.ABSENT, 2, control=proven, reference=by_reference), [ABSENT_FIRST], case)
    assert (decision.step is Step.RESEND) is again
    assert decision.proof is proven


def test_by_reference_needs_that_one_was_sent() -> None:
    case = replace(CASE, allow_dupplicate=True, reference_sent=False)
    assert decide(look(Verdict.ABSENT, 2, control=True, reference=True), [ABSENT_FIRST], case).step is Step.AGAIN


@pytest.mark.parametrize("on_unknown", OnUnknown)
@pytest.mark.parametrize("flag", [False, True])
def test_a_match_is_accepted_whatever_the_setting_and_a_possible_row_is_held(
    on_unknown: OnUnknown, *, flag: bool
) -> None:
    case = replace(CASE, on_unknown=on_unknown, allow_dupplicate=flag)
    assert decide(look(Verdict.MATCH, 1), [], case).step is Step.ACCEPT
    assert decide(look(Verdict.POSSIBLE, 2), [ABSENT_FIRST], case).step is Step.FAIL


def test_resend_needs_two_look_ups_that_were_answered_after_the_settle_time() -> None:
    case = replace(CASE, on_unknown=OnUnknown.RESEND)
    assert decide(look(Verdict.ABSENT, 1), [], case).step is Step.AGAIN
    assert decide(look(Verdict.ABSENT, 2), [look(Verdict.UNAVAILABLE, 1)], case).step is Step.AGAIN
    assert decide(look(Verdict.ABSENT, 1.5), [look(Verdict.ABSENT, 0.5)], case).step is Step.AGAIN
    assert (
        decide(look(Verdict.ABSENT, 3), [look(Verdict.POSSIBLE, 1), look(Verdict.ABSENT, 2)], case).step is Step.AGAIN
    )
    assert decide(look(Verdict.ABSENT, 2), [look(Verdict.ABSENT, 1)], case).step is Step.RESEND


@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_a_lead_is_sent_again_by_itself_at_most_once(on_unknown: OnUnknown) -> None:
    case = replace(CASE, on_unknown=on_unknown, resends=1)
    assert decide(ABSENT_AGAIN, [ABSENT_FIRST], case).step is Step.AGAIN


@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_a_yes_without_an_id_is_never_sent_again(on_unknown: OnUnknown) -> None:
    case = replace(CASE, kind=Kind.CREATED_ID_UNKNOWN, on_unknown=on_unknown)
    assert decide(ABSENT_AGAIN, [ABSENT_FIRST], case).step is Step.AGAIN
    assert decide(look(Verdict.POSSIBLE, 2), [ABSENT_FIRST], case).step is Step.AGAIN
    over = decide(look(Verdict.ABSENT, 30, control=True), looked_until(30), case)
    assert over.step is Step.FAIL
    assert over.why.startswith("Voicery said yes but gave no id")


DUPLICATES = [
    (Verdict.MATCH, 1, Step.ACCEPT),
    (Verdict.POSSIBLE, 1, Step.DUPLICATE),
    (Verdict.ABSENT, 1, Step.DUPLICATE),
    (Verdict.UNAVAILABLE, 1, Step.AGAIN),
    (Verdict.UNAVAILABLE, 30, Step.AGAIN),
]


@pytest.mark.parametrize(("verdict", "settles", "step"), DUPLICATES)
def test_a_duplicate_refused_after_an_unknown(verdict: Verdict, settles: float, step: Step) -> None:
    assert decide(look(verdict, settles), [], replace(CASE, kind=Kind.DUPLICATE)).step is step


def test_patience_ends_where_nothing_is_proven() -> None:
    assert decide(look(Verdict.ABSENT, 29.9), looked_until(29.9), CASE).step is Step.AGAIN
    assert decide(look(Verdict.ABSENT, 30), looked_until(30), CASE).step is Step.FAIL


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """No worker ran for hours: the first answer, usable or not, is one look-up and not the end of the patience."""
    for verdict in (Verdict.ABSENT, Verdict.UNAVAILABLE):
        assert decide(look(verdict, 60), [], CASE).step is Step.AGAIN
        assert decide(look(verdict, 90), [look(verdict, 1), look(verdict, 2)], CASE).step is Step.AGAIN


def test_a_list_that_does_not_answer_is_waited_for_four_times_as_long() -> None:
    silent = looked_until(128, Verdict.UNAVAILABLE)
    assert decide(look(Verdict.UNAVAILABLE, 30), looked_until(30, Verdict.UNAVAILABLE), CASE).step is Step.AGAIN
    assert decide(look(Verdict.UNAVAILABLE, 119), silent, CASE).step is Step.AGAIN
    assert decide(look(Verdict.UNAVAILABLE, 120), silent, CASE).step is Step.FAIL


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.UNKNOWN])
def test_only_a_lost_answer_is_a_reason_to_send_again(kind: Kind) -> None:
    case = replace(CASE, kind=kind, on_unknown=OnUnknown.RESEND)
    assert decide(ABSENT_AGAIN, [ABSENT_FIRST], case).step is not Step.RESEND


def test_two_answers_end_a_patience_in_which_the_list_was_mostly_silent() -> None:
    silent = looked_until(29, Verdict.UNAVAILABLE)
    one, two = look(Verdict.ABSENT, 29), look(Verdict.ABSENT, 30)

    assert decide(two, silent, CASE).step is Step.AGAIN
    assert decide(two, [*silent, one], CASE).step is Step.FAIL


def test_a_list_that_is_silent_when_patience_ends_is_asked_again_as_planned_and_not_at_once() -> None:
    """What is left of the patience shortens the wait; where nothing is left, the waits go on growing."""
    silent = looked_until(30, Verdict.UNAVAILABLE)

    before = decide(look(Verdict.UNAVAILABLE, 29.995), silent, CASE)
    at_the_end = decide(look(Verdict.UNAVAILABLE, 30), silent, CASE)

    assert (before.again_in_seconds, at_the_end.again_in_seconds) == (1.0, SETTLE * 32)


def test_a_look_up_at_the_moment_from_which_patience_counts_is_not_part_of_it() -> None:
    """It is the one that found the proof too old: the next come after one, two, four … settle times, as at first."""
    since = ENDED + timedelta(seconds=10 * SETTLE)
    case = replace(CASE, looked_since=since)
    reopened = look(Verdict.ABSENT, 10)

    assert decide(look(Verdict.UNAVAILABLE, 11), [reopened], case).again_in_seconds == SETTLE
    assert (
        decide(look(Verdict.UNAVAILABLE, 12), [reopened, look(Verdict.ABSENT, 11)], case).again_in_seconds == SETTLE * 2
    )
    short = replace(case, unknown_for_seconds=2.5 * SETTLE)
    assert decide(look(Verdict.ABSENT, 14), [reopened, look(Verdict.ABSENT, 11)], short).step is Step.AGAIN


def test_what_is_missing_for_a_proof_is_said() -> None:
    again = decide(look(Verdict.ABSENT, 2), [ABSENT_FIRST], CASE, missing="No lead has been accepted since")
    assert again.why == "Look again later. Absence is not proven: No lead has been accepted since."
    over = decide(look(Verdict.ABSENT, 30), looked_until(30), CASE, missing="The list lost leads")
    assert over.why.endswith("it was not found in time. Absence is not proven: The list lost leads.")


@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_a_resend_that_was_granted_waits_only_for_a_fresh_proof(on_unknown: OnUnknown) -> None:
    case = replace(CASE, on_unknown=on_unknown, resends=1, granted="policy", looked_since=ENDED + timedelta(hours=2))
    looked = looked_until(30)
    proven, unproven = look(Verdict.ABSENT, 60.1, control=True), look(Verdict.ABSENT, 60.1)
    assert decide(proven, looked, case).step is Step.RESEND
    assert decide(unproven, looked, case).step is Step.AGAIN
    assert decide(look(Verdict.POSSIBLE, 60.1), looked, case).step is Step.FAIL
    flag = replace(case, allow_dupplicate=True)
    assert decide(proven, looked, flag).step is Step.AGAIN
    assert decide(proven, looked, replace(flag, granted="person")).step is Step.RESEND


def test_look_ups_are_a_second_apart_at_least_and_stop_growing() -> None:
    soon = replace(CASE, settle_seconds=0.25)
    tiny = replace(CASE, settle_seconds=1e-9)
    now_look = look(Verdict.UNAVAILABLE, 1)

    assert decide(now_look, [], soon).again_in_seconds == 1.0
    patient = replace(tiny, unknown_for_seconds=1e9)
    assert decide(now_look, [now_look] * 40, patient).again_in_seconds == pytest.approx(1e-9 * 2**32)


def test_the_intervals_grow_and_the_last_ends_with_the_patience() -> None:
    earlier: list[LookUp] = []
    now_look, waits = look(Verdict.ABSENT, 1), []
    while (decision := decide(now_look, earlier, CASE)).step is Step.AGAIN:
        waits.append(decision.again_in_seconds)
        earlier.append(now_look)
        now_look = LookUp(now_look.at + timedelta(seconds=decision.again_in_seconds), Verdict.ABSENT)
    assert waits == [120, 240, 480, 960, 1680]
    assert now_look.at - ENDED == timedelta(seconds=3600)


LOOKS = st.lists(
    st.builds(
        look,
        st.sampled_from(Verdict),
        st.floats(0, 40),
        control=st.booleans(),
        reference=st.booleans(),
    ),
    min_size=1,
    max_size=6,
).map(lambda looks: sorted(looks, key=lambda one: one.at))
CASES = st.builds(
    replace,
    st.just(CASE),
    kind=st.sampled_from([Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN, Kind.DUPLICATE]),
    on_unknown=st.sampled_from(OnUnknown),
    allow_dupplicate=st.booleans(),
    resends=st.integers(0, 2),
    reference_sent=st.booleans(),
)


@given(LOOKS, CASES)
def test_nobody_is_called_again_without_proof_or_an_explicit_setting(looks: list[LookUp], case: Circumstances) -> None:
    *earlier, now_look = looks
    decision = decide(now_look, earlier, case)
    if decision.step is Step.RESEND:
        assert case.kind is Kind.UNKNOWN
        assert case.resends == 0
        assert case.on_unknown is not OnUnknown.HOLD
        assert now_look.verdict is Verdict.ABSENT
        assert not any(one.verdict is Verdict.POSSIBLE for one in looks)
        assert decision.proof or (case.on_unknown is OnUnknown.RESEND and not case.allow_dupplicate)
        assert now_look.at - ENDED >= timedelta(seconds=2 * SETTLE)


@given(LOOKS, CASES)
def test_every_decision_moves_on_within_the_patience(looks: list[LookUp], case: Circumstances) -> None:
    *earlier, now_look = looks
    decision = decide(now_look, earlier, case)
    if decision.step is Step.AGAIN:
        assert 1 <= decision.again_in_seconds <= 3600
