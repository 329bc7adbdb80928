"""Unknown outcomes: what a look-up proves, and what to do about it. Pure functions.

Three verdicts. A *match* is our lead. A *possible* row may be ours, and is never taken for absence. *Absent* is
neither, and is a proof only after two look-ups a settle time apart, with a control that shows that the list can be
believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from dispatcher.decisions.listing import ListedLead, Page
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.reply import is_number, same_number

GROWTH: Final = 2.0
"""Each interval between look-ups is this many times the one before: settle, 2 x settle, 4 x settle …"""


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
    """Compare a page with what was sent. `bound`: ids that are another lead's, or a contact's, of ours."""
    if page is None:
        return Judgement(Verdict.UNAVAILABLE)
    theirs = [
        row
        for row in page.rows
        if row.campaign_id in (None, doubt.campaign_id)
        and _may_be_same_person(row, doubt)
        and row.voicery_lead_id not in bound
    ]
    matches = {row.voicery_lead_id: row for row in theirs if row.voicery_lead_id is not None and _is_ours(doubt, row)}
    if matches:
        first = matches[min(matches)]
        by_reference = _reference_of(doubt, first) is not None
        return Judgement(Verdict.MATCH, first, by_reference=by_reference, several=len(matches) > 1)
    if theirs:
        return Judgement(Verdict.POSSIBLE, theirs[0])
    return Judgement(Verdict.ABSENT if page.complete else Verdict.UNAVAILABLE)


def _may_be_same_person(row: ListedLead, doubt: Doubt) -> bool:
    """Also a row whose number cannot be read, or is written without its country: such a row never proves absence."""
    if not is_number(row.phone_number) or same_number(row.phone_number, doubt.phone_number):
        return True
    national = _digits(row.phone_number).lstrip("0")
    full = _digits(doubt.phone_number)
    return _NATIONAL_MIN_DIGITS <= len(national) < len(full) and full.endswith(national)


def _is_ours(doubt: Doubt, row: ListedLead) -> bool:
    if row.voicery_lead_id is None or doubt.watermark is None or row.voicery_lead_id <= doubt.watermark:
        return False
    if row.campaign_id != doubt.campaign_id or not same_number(row.phone_number, doubt.phone_number):
        return False
    echoed = _reference_of(doubt, row)
    if doubt.reference is not None and echoed is not None:
        return echoed == doubt.reference[1]
    return _same_variables(doubt.variables, row.variables or {})


def _reference_of(doubt: Doubt, row: ListedLead) -> str | None:
    if doubt.reference is None or row.variables is None:
        return None
    value = row.variables.get(doubt.reference[0])
    return value if isinstance(value, str) else None


def _same_variables(sent: Mapping[str, object], echoed: Mapping[str, object]) -> bool:
    kept = {name: value for name, value in sent.items() if name in echoed}
    return _as_text(kept) == _as_text(echoed)


def _digits(number: str) -> str:
    return "".join(filter(str.isdigit, number))


_NATIONAL_MIN_DIGITS: Final = 6
"""Fewer digits at the end of a number name nobody."""


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

    `control`: a lead of ours accepted after the attempt ended was found by the same form of query in the same pass;
    `control_reference`: and its row carried its own reference.
    """

    at: datetime
    verdict: Verdict
    control: bool = False
    control_reference: bool = False


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
    """What the decision depends on besides the look-ups; durations in seconds."""

    kind: Kind  # unknown, created_id_unknown or duplicate
    on_unknown: OnUnknown
    allow_dupplicate: bool
    resends: int
    ended_at: datetime
    settle_seconds: float
    unknown_for_seconds: float
    reference_sent: bool


def decide(now_look: LookUp, earlier: Sequence[LookUp], case: Circumstances) -> Decision:
    """The step after a look-up, by the policy table of `docs/guarantees.md`."""
    looks = [*earlier, now_look]
    proof = is_proof(now_look, earlier, case)
    match now_look.verdict:
        case Verdict.MATCH:
            return Decision(Step.ACCEPT, "It was found at Voicery.")
        case Verdict.POSSIBLE | Verdict.ABSENT | Verdict.UNAVAILABLE:
            pass
        case _ as never:
            assert_never(never)
    match case.kind:
        case Kind.DUPLICATE if now_look.verdict is not Verdict.UNAVAILABLE or _patience_over(now_look, case):
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
    if _patience_over(now_look, case):
        said_yes = case.kind is Kind.CREATED_ID_UNKNOWN
        why = "Voicery said yes but gave no id" if said_yes else "It was sent, its answer was lost"
        return Decision(Step.FAIL, f"{why}, and it was not found in time.", proof=proof)
    return Decision(
        Step.AGAIN, "Look again later.", proof=proof, again_in_seconds=_interval(len(looks), now_look, case)
    )


def is_proof(now_look: LookUp, earlier: Sequence[LookUp], case: Circumstances) -> bool:
    """Absence twice, a settle time apart, with a control in this pass. Nothing proves a yes of Voicery wrong."""
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
    if case.kind is not Kind.UNKNOWN or case.resends >= 1:
        return False
    proven = proof and (not case.allow_dupplicate or (case.reference_sent and now_look.control_reference))
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


def _patience_over(now_look: LookUp, case: Circumstances) -> bool:
    return now_look.at - case.ended_at >= timedelta(seconds=case.unknown_for_seconds)


def _interval(looks: int, now_look: LookUp, case: Circumstances) -> float:
    interval: float = case.settle_seconds * GROWTH ** min(looks - 1, 32)
    left = case.unknown_for_seconds - (now_look.at - case.ended_at).total_seconds()
    return max(1.0, min(interval, left))
