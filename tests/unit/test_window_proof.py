"""What a window must show to prove absence: one case that is proven, and what each change of it makes of that."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.decisions.absence import Doubt
from dispatcher.decisions.listing import ListedLead
from dispatcher.decisions.window import NOTHING_BEFORE, Attempted, Ours, Proof, Window, prove

CAMPAIGN, OTHER = 42, 43
TOKEN = "ours"
T0 = datetime(2026, 11, 28, 12, tzinfo=UTC)
LOST = "+12025550199"
LOST_ANSWER = Doubt(CAMPAIGN, LOST, {"name": "Ada"}, 11)


def ours(voicery_lead_id: int, minute: float, **changes: Any) -> Ours:
    started = T0 + timedelta(minutes=minute)
    accepted = started + timedelta(seconds=1)
    number = f"+120255501{voicery_lead_id:02d}"
    one = Ours(uuid.UUID(int=voicery_lead_id), voicery_lead_id, CAMPAIGN, number, started, accepted, 9, TOKEN)
    return replace(one, **changes)


def row(voicery_lead_id: int, **changes: Any) -> ListedLead:
    return replace(ListedLead(voicery_lead_id, CAMPAIGN, f"+120255501{voicery_lead_id:02d}"), **changes)


@dataclass(frozen=True)
class Case:
    """The attempt of minute 0, after 10 and 11, which watermark 11 tells; 12 during it, 13 and 14 after it."""

    doubt: Doubt = LOST_ANSWER
    sent_with: str | None = TOKEN
    read_with: str | None = TOKEN
    fault: str | None = None
    window_of: int | None = CAMPAIGN
    ours: tuple[Ours, ...] = (ours(10, -2), ours(11, -1), ours(12, 0.1), ours(13, 2), ours(14, 3))
    rows: tuple[ListedLead, ...] = tuple(row(one) for one in (14, 13, 12, 11, 10))
    bound: frozenset[int] = field(default=frozenset({10, 11, 12, 13, 14}))

    def proof(self) -> Proof:
        attempt = Attempted(self.doubt, T0, T0 + timedelta(minutes=1), self.sent_with)
        return prove(attempt, Window(self.window_of, self.rows, 1, self.fault), self.ours, self.bound, self.read_with)

    def without_row(self, *ids: int) -> "Case":
        return replace(self, rows=tuple(one for one in self.rows if one.voicery_lead_id not in ids))

    def with_row(self, **changes: Any) -> "Case":
        return replace(self, rows=(row(15, phone_number="+12025550150", **changes), *self.rows))

    def with_ours(self, voicery_lead_id: int, **changes: Any) -> "Case":
        ours = tuple(replace(one, **changes) if one.voicery_lead_id == voicery_lead_id else one for one in self.ours)
        return replace(self, ours=ours)

    def without_ours(self, *ids: int) -> "Case":
        return replace(self, ours=tuple(one for one in self.ours if one.voicery_lead_id not in ids))


def test_a_window_that_shows_every_lead_of_ours_from_before_to_after_proves_absence() -> None:
    assert Case().proof() == Proof(True, "", before=11, after=13)


PROVEN: dict[str, Callable[[Case], Case]] = {
    "what was accepted before the one before need not be shown": lambda case: case.without_row(10),
    "what is newer than the window need not be shown": lambda case: case.without_row(14),
    "a strange lead of another person": lambda case: case.with_row(),
    "a later lead of another token beside one of ours": lambda case: case.with_ours(14, token="other"),
    "an account's window with rows of other campaigns": lambda case: replace(case, window_of=None).with_row(
        campaign_id=OTHER
    ),
    "rows without a campaign": lambda case: case.with_row(campaign_id=None),
    "a handed-back lead that is hidden": lambda case: case.with_ours(12, watermark=12).without_row(12),
}


@pytest.mark.parametrize("change", PROVEN.values(), ids=PROVEN)
def test_absence_is_proven_though(change: Callable[[Case], Case]) -> None:
    assert change(Case()).proof().proven


HIDDEN = "The list does not show lead {}, which Voicery accepted"
LATER = "No lead of this campaign has been accepted since"
UNPROVEN: dict[str, tuple[Callable[[Case], Case], str]] = {
    "a faulty window": (lambda case: replace(case, fault="Why"), "Why"),
    "sent with another token": (
        lambda case: replace(case, sent_with="other"),
        "It was sent with another token than the list is read with",
    ),
    "read with another token": (
        lambda case: replace(case, read_with="other"),
        "It was sent with another token than the list is read with",
    ),
    "ids that do not grow": (
        lambda case: replace(case, doubt=replace(case.doubt, watermark=None)),
        "Voicery's ids do not grow with time",
    ),
    "nothing of ours before": (lambda case: case.without_ours(10, 11), NOTHING_BEFORE),
    "only another token's before": (
        lambda case: case.without_ours(10).with_ours(11, token="other"),
        NOTHING_BEFORE,
    ),
    "accepted at the very moment of the claim": (
        lambda case: case.without_ours(10).with_ours(11, accepted_at=T0),
        NOTHING_BEFORE,
    ),
    "nothing later": (lambda case: case.without_ours(13, 14), LATER),
    "only what began before the attempt ended": (
        lambda case: case.without_ours(14).with_ours(13, started_at=T0 + timedelta(minutes=1)),
        LATER,
    ),
    "only a later one of another campaign": (
        lambda case: replace(case, window_of=None, rows=()).without_ours(14).with_ours(13, campaign_id=OTHER),
        LATER,
    ),
    "only another token's later": (
        lambda case: case.without_ours(14).with_ours(13, token="other"),
        LATER,
    ),
    "only a later one that was handed back": (
        lambda case: case.without_ours(14).with_ours(13, watermark=13),
        LATER,
    ),
    "only later ones whose ids are no greater": (
        lambda case: replace(case, doubt=replace(case.doubt, watermark=14)),
        LATER,
    ),
    "the one before is hidden, and a later one seems to be from before since the clock was set back": (
        lambda case: case.with_ours(12, accepted_at=T0 - timedelta(seconds=5)).without_row(11),
        HIDDEN.format(11),
    ),
    "the one before is hidden": (lambda case: case.without_row(11), HIDDEN.format(11)),
    "one of between is hidden": (lambda case: case.without_row(12), HIDDEN.format(12)),
    "the first later one is hidden": (lambda case: case.without_row(13), HIDDEN.format(13)),
    "all later ones are hidden": (lambda case: case.without_row(13, 14), HIDDEN.format(13)),
    "a lead of another campaign": (
        lambda case: case.with_row(campaign_id=OTHER),
        "The list does not heed the campaign it is asked for",
    ),
    "ours in another campaign": (
        lambda case: replace(case.without_row(13), window_of=None, rows=(row(13, campaign_id=OTHER), *case.rows)),
        "The list shows lead 13 in another campaign",
    ),
    "ours with another number": (
        lambda case: replace(case, rows=(row(14, phone_number="+12025550150"), *case.rows[1:])),
        "The list shows lead 14 with another number",
    ),
}


@pytest.mark.parametrize(("change", "missing"), UNPROVEN.values(), ids=UNPROVEN)
def test_nothing_is_proven_by(change: Callable[[Case], Case], missing: str) -> None:
    proof = change(Case()).proof()
    assert (proof.proven, proof.missing, proof.possible) == (False, missing, None)


STRANGE: dict[str, tuple[dict[str, Any], str, bool]] = {
    "the number": ({"phone_number": LOST}, "Lead 15 at Voicery may be it", True),
    "the number in another form": ({"phone_number": LOST[1:]}, "Lead 15 at Voicery may be it", True),
    "an unreadable number": ({"phone_number": "***"}, "The number of lead 15 at Voicery cannot be read", False),
    "the variables": ({"variables": {"name": "Ada"}}, "Lead 15 at Voicery has the same variables", False),
}


@pytest.mark.parametrize(("changes", "missing", "possible"), STRANGE.values(), ids=STRANGE)
def test_a_row_that_nobody_owns_may_be_it_by(changes: dict[str, Any], missing: str, *, possible: bool) -> None:
    rows = (replace(row(15, phone_number="+12025550150"), **changes), *Case().rows)
    proof = replace(Case(), rows=rows).proof()
    assert (proof.proven, proof.missing, proof.possible) == (False, missing, rows[0] if possible else None)
    assert replace(Case(), rows=rows, bound=Case().bound | {15}).proof().proven, "another lead of ours has that id"


def test_a_row_that_carries_the_reference_is_possible_whatever_its_number() -> None:
    case = Case().with_row(variables={"ref": "lost"})
    case = replace(case, doubt=replace(case.doubt, reference=("ref", "lost")))
    assert case.proof().possible == case.rows[0]
    assert replace(case, doubt=replace(case.doubt, reference=("ref", "another"))).proof().proven


@pytest.mark.parametrize(
    ("reference", "variables", "carried"),
    [
        ("ref", {"ref": str(uuid.UUID(int=13))}, True),
        ("ref", {"ref": "of another"}, False),
        ("ref", None, False),
        (None, {"ref": str(uuid.UUID(int=13))}, False),
    ],
)
def test_a_proof_is_by_reference_where_the_first_later_lead_carries_its_own(
    reference: str | None, variables: dict[str, object] | None, *, carried: bool
) -> None:
    case = Case().with_ours(13, reference=reference)
    proof = replace(case, rows=tuple(row(14 - n, variables=variables if n == 1 else None) for n in range(5))).proof()
    assert (proof.proven, proof.by_reference) == (True, carried)
