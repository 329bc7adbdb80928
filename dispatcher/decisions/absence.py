"""Unknown outcomes: what a look-up proves, and what to do about it. Pure functions.

Three verdicts. A *match* is our lead. A *possible* row may be ours, and is never taken for absence. *Absent* is
neither, and is a proof only after two look-ups a settle time apart, the last with a window that shows all that it must
show (`dispatcher.decisions.window`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from dispatcher.decisions.likeness import Likeness, likeness
from dispatcher.decisions.listing import ListedLead, Page
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.reply import same_number

GROWTH: Final = 2.0
"""Each interval between look-ups is this many times the one before: settle, 2 x settle, 4 x settle …"""
ANSWERED_FEWEST: Final = 2
"""Before this many look-ups were answered, patience is not over."""
UNANSWERED_TIMES: Final = 4.0
"""A list that does not answer is waited for this many times as long as patience lasts."""


class Verdict(StrEnum):
    """What one look-up says."""

    MATCH = "match"
    POSSIBLE = "possible"
    ABSENT = "absent"
    UNAVAILABLE = "unavailable"  # the list could not be had, or not on one page: this proves nothing


class OnUnknown(StrEnum):
    """The setting `DISPATCHER_ON_UNKNOWN`."""

    AUTO = "auto"
    HOLD = "hold"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A POST whose effect is not known, as far as a look-up compares it. The repr names no person."""

    campaign_id: int
    phone_number: str = field(repr=False)
    variables: Mapping[str, object] = field(repr=False)
    watermark: int | None  # None: switched off for the account
    reference: tuple[str, str] | None = field(default=None, repr=False)  # (variable, value) if one was sent


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a page says. `row`: the match, or the first possible row. `several`: more than one row matches."""

    verdict: Verdict
    row: ListedLead | None = None
    by_reference: bool = False
    several: bool = False


def judge(doubt: Doubt, page: Page | None, bound: frozenset[int]) -> Judgement:
    """Compare what the list shows of a number with what was sent: one page, of one campaign or of all.

    bound   ids that are another lead's, or a contact's, of ours
    """
    if page is None:
        return Judgement(Verdict.UNAVAILABLE)
    # Also a row whose number cannot be read, or is written otherwise, or in another campaign: it never proves absence.
    theirs = [
        row
        for row in page.rows
        if row.voicery_lead_id not in bound
        and (
            likeness(row.phone_number, doubt.phone_number) is not Likeness.OTHER
            or (doubt.reference is not None and _reference_of(doubt, row) == doubt.reference[1])
        )
    ]
    matches = {row.voicery_lead_id: row for row in theirs if row.voicery_lead_id is not None and _is_ours(doubt, row)}
    if matches:
        first = matches[min(matches)]
        by_reference = _reference_of(doubt, first) is not None
        return Judgement(Verdict.MATCH, first, by_reference=by_reference, several=len(matches) > 1)
    if theirs:
        return Judgement(Verdict.POSSIBLE, theirs[0])
    return Judgement(Verdict.ABSENT if page.complete else Verdict.UNAVAILABLE)


def same_nonempty_variables(sent: Mapping[str, object], echoed: Mapping[str, object] | None) -> bool:
    """Whether a row has the variables that were sent, as far as their names were kept. Without any nothing is told."""
    kept = {name: value for name, value in sent.items() if name in (echoed or {})}
    return bool(kept) and _as_text(kept) == _as_text(echoed)


def _is_ours(doubt: Doubt, row: ListedLead) -> bool:
    if row.voicery_lead_id is None or doubt.watermark is None or row.voicery_lead_id <= doubt.watermark:
        return False
    if row.campaign_id != doubt.campaign_id or not same_number(row.phone_number, doubt.phone_number):
        return False
    if doubt.reference is not None:
        return _reference_of(doubt, row) == doubt.reference[1]
    return same_nonempty_variables(doubt.variables, row.variables)


def _reference_of(doubt: Doubt, row: ListedLead) -> str | None:
    if doubt.reference is None or row.variables is None:
        return None
    value = row.variables.get(doubt.reference[0])
    return value if isinstance(value, str) else None


def _as_text(value: object) -> object:
    match value:
        case None:
            return ""
        case bool():
            return "1" if value else "0"
        case float() if value.is_integer():
            return str(int(value))
        case Mapping():
            return {str(name): _as_text(item) for name, item in value.items()}
        case list() | tuple():
            return [_as_text(item) for item in value]
        case _:
            return str(value)


@dataclass(frozen=True, slots=True)
class LookUp:
    """One look-up as it is kept on the attempt; `at` is when Voicery was asked, by the database's clock.

    control             the list showed in the same pass all that it must show (`dispatcher.decisions.window`)
    control_reference   and a lead of ours that was accepted after the attempt carried its own reference
    answered            the list answered, if only that there is no list
    """

    at: datetime
    verdict: Verdict
    control: bool = False
    control_reference: bool = False
    answered: bool = True


class Step(StrEnum):
    """What to do next."""

    ACCEPT = "accept"
    RESEND = "resend"
    AGAIN = "again"
    FAIL = "fail"
    DUPLICATE = "duplicate"
    STAY = "stay"  # it is not waiting for a look-up: what was seen is kept, and only a person moves it


@dataclass(frozen=True, slots=True)
class Decision:
    """`proof`: absence is proven. `again_in_seconds`: with AGAIN, from now. `why` is a plain sentence."""

    step: Step
    why: str
    proof: bool = False
    again_in_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the decision depends on besides the look-ups; durations in seconds.

    granted       a resend that was granted before and waits only for a fresh proof: by a `person` or by `policy`
    looked_since  from when patience counts: the end of the attempt, or when a proof of it had grown too old
    """

    kind: Kind  # unknown, created_id_unknown or duplicate
    on_unknown: OnUnknown
    allow_dupplicate: bool
    resends: int
    ended_at: datetime
    settle_seconds: float
    unknown_for_seconds: float
    reference_sent: bool
    granted: str | None = None
    looked_since: datetime | None = None


def decide(now_look: LookUp, earlier: Sequence[LookUp], case: Circumstances, *, missing: str = "") -> Decision:
    """The step after a look-up, by the policy table of `docs/guarantees.md`. `missing`: why absence is not proven."""
    looks = [*earlier, now_look]
    unproven = f" Absence is not proven: {missing}." if missing else ""
    proof = is_proof(now_look, earlier, case)
    match now_look.verdict:
        case Verdict.MATCH:
            return Decision(Step.ACCEPT, "It was found at Voicery.")
        case Verdict.POSSIBLE | Verdict.ABSENT | Verdict.UNAVAILABLE:
            pass
        case _ as never:
            assert_never(never)
    match case.kind:
        case Kind.DUPLICATE if now_look.verdict is not Verdict.UNAVAILABLE or _patience_over(looks, case):
            return Decision(
                Step.DUPLICATE, "Voicery refused it as a duplicate, and the one it has is not provably ours."
            )
        case Kind.DUPLICATE | Kind.CREATED_ID_UNKNOWN:
            pass
        case _ if now_look.verdict is Verdict.POSSIBLE:
            why = "Voicery has a lead of this person that may be ours and may not; look at it, then resolve or replay."
            return Decision(Step.FAIL, why)
        case _ if _may_resend(now_look, earlier, case, proof=proof):
            why = "It was not found, and the list can be believed: absence is proven."
            return Decision(
                Step.RESEND, why if proof else "It was not found, and the setting says resend.", proof=proof
            )
        case _:
            pass
    if _patience_over(looks, case):
        said_yes = case.kind is Kind.CREATED_ID_UNKNOWN
        why = "Voicery said yes but gave no id" if said_yes else "It was sent, its answer was lost"
        return Decision(Step.FAIL, f"{why}, and it was not found in time.{unproven}", proof=proof)
    return Decision(Step.AGAIN, f"Look again later.{unproven}", proof=proof, again_in_seconds=_interval(looks, case))


def may_prove(looks: Sequence[LookUp], asked_at: datetime, case: Circumstances) -> bool:
    """Whether one more absence at `asked_at` could prove something: only then is a window worth its requests."""
    now_look = LookUp(asked_at, Verdict.ABSENT)
    return case.kind is Kind.UNKNOWN and _absent_twice(now_look, looks, case)


def is_proof(now_look: LookUp, earlier: Sequence[LookUp], case: Circumstances) -> bool:
    """Absence twice, a settle time apart, with a window in this pass. Nothing proves a yes of Voicery wrong."""
    return case.kind is Kind.UNKNOWN and now_look.control and _absent_twice(now_look, earlier, case)


def _absent_twice(now_look: LookUp, earlier: Sequence[LookUp], case: Circumstances) -> bool:
    """The first of the two when Voicery had had its settle time, the second another one later; no possible row ever."""
    if now_look.verdict is not Verdict.ABSENT or any(look.verdict is Verdict.POSSIBLE for look in earlier):
        return False
    settle = timedelta(seconds=case.settle_seconds)
    return any(
        look.verdict is Verdict.ABSENT and look.at >= case.ended_at + settle and now_look.at - look.at >= settle
        for look in earlier
    )


def _may_resend(now_look: LookUp, earlier: Sequence[LookUp], case: Circumstances, *, proof: bool) -> bool:
    if case.kind is not Kind.UNKNOWN:
        return False
    proven = proof and (not case.allow_dupplicate or (case.reference_sent and now_look.control_reference))
    if case.granted is not None:
        return proof if case.granted == "person" else proven
    if case.resends >= 1:
        return False
    match case.on_unknown:
        case OnUnknown.HOLD:
            return False
        case OnUnknown.AUTO:
            return proven
        case OnUnknown.RESEND if case.allow_dupplicate:
            return proven
        case OnUnknown.RESEND:
            # A look-up that was not answered is none: `resend` waives the control, not the looking.
            return _absent_twice(now_look, earlier, case)
        case _ as never:
            assert_never(never)


def _patience_over(looks: Sequence[LookUp], case: Circumstances) -> bool:
    """Whether it was looked for long enough: only time in which look-ups were made counts, and two must be answered.

    A list that never answers is waited for `UNANSWERED_TIMES` as long.
    """
    looked = _looked_for(looks, case)
    if looked < case.unknown_for_seconds:
        return False
    answered = sum(look.answered for look in looks)
    return answered >= ANSWERED_FEWEST or looked >= UNANSWERED_TIMES * case.unknown_for_seconds


def _looked_for(looks: Sequence[LookUp], case: Circumstances) -> float:
    """Return the seconds of looking: between two look-ups at most the planned time counts."""
    since = case.looked_since or case.ended_at
    counted = [look.at for look in looks if look.at > since]
    looked = 0.0
    for place, (before, at) in enumerate(zip([since, *counted], counted, strict=False)):
        looked += min((at - before).total_seconds(), _planned(place, case))
    return looked


def _planned(looks: int, case: Circumstances) -> float:
    """Return the time until the next look-up."""
    return float(case.settle_seconds * GROWTH ** min(max(looks - 1, 0), 32))


def _interval(looks: Sequence[LookUp], case: Circumstances) -> float:
    since = case.looked_since or case.ended_at
    planned = _planned(sum(look.at > since for look in looks), case)
    left = case.unknown_for_seconds - _looked_for(looks, case)
    return max(1.0, min(planned, left) if left > 0 else planned)
