"""The dispatcher broken on purpose, one promise at a time: the model must notice each, or it proves nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from dispatcher.config.settings import Settings
from dispatcher.decisions import absence, window
from dispatcher.decisions.absence import Circumstances, Decision, Doubt, Judgement, LookUp, Verdict
from dispatcher.decisions.gate import CHANNELS_BEFORE_ACCOUNT, Neighbours
from dispatcher.decisions.outcome import Reason
from dispatcher.decisions.states import State
from dispatcher.decisions.window import Attempted, Ours, Proof, Window
from tests.model.simulation import SOUND, Sabotage


def _possible_is_absent(doubt: Doubt, page: object, bound: frozenset[int]) -> Judgement:
    judgement = absence.judge(doubt, page, bound)  # type: ignore[arg-type]
    return Judgement(Verdict.ABSENT) if judgement.verdict is Verdict.POSSIBLE else judgement


def _yes_is_forgotten(now_look: LookUp, earlier: list[LookUp], case: Circumstances) -> Decision:
    return absence.decide(now_look, earlier, replace(case, kind=absence.Kind.UNKNOWN))


def _resent_for_ever(now_look: LookUp, earlier: list[LookUp], case: Circumstances) -> Decision:
    return absence.decide(now_look, earlier, replace(case, resends=0))


def _three_channels_are_the_account(_reason: Reason, neighbours: Neighbours) -> bool:
    return neighbours.closed_alike >= CHANNELS_BEFORE_ACCOUNT


def _believed(*_: object) -> Proof:
    return Proof(proven=True, by_reference=True)


def _control_from_anywhere(attempt: Attempted, seen: Window, ours: Sequence[Ours], *told: Any) -> Proof:
    """Any lead of ours that the list shows vouches for it, of whatever campaign and age."""
    proof = window.prove(attempt, seen, ours, *told)
    shown = {row.voicery_lead_id for row in seen.rows}
    if proof.possible is None and any(one.voicery_lead_id in shown for one in ours):
        return Proof(proven=True, by_reference=True)
    return proof


def _later_from_any_campaign(attempt: Attempted, seen: Window, ours: Sequence[Ours], *told: Any) -> Proof:
    campaign = attempt.doubt.campaign_id
    return window.prove(attempt, seen, [replace(one, campaign_id=campaign) for one in ours], *told)


def _own_settings(own: Settings, _stored: Mapping[str, object]) -> Settings:
    return own


def _whatever_it_shows(*told: Any) -> Proof:
    proof = window.prove(*told)
    return replace(proof, proven=True, possible=None) if proof.possible is not None else proof


SABOTAGES: Final[Mapping[str, Sabotage]] = MappingProxyType(
    {
        "no open-attempt indexes and no fence": replace(SOUND, one_open=False, fenced=False),
        "a claim without the list of blocks": replace(SOUND, heeds_blocks=False),
        "500 is safe": replace(SOUND, safe_statuses=frozenset({500})),
        "a lease end is pending": replace(SOUND, lease_ends_in=State.PENDING),
        "no settle time": replace(SOUND, settle=0.0),
        "a possible row is absence": replace(SOUND, judge=_possible_is_absent, prove=_whatever_it_shows),
        "any list is believed": replace(SOUND, prove=_believed),
        "control from anywhere": replace(SOUND, prove=_control_from_anywhere),
        "settings of a shell without the workers'": replace(SOUND, agree=_own_settings),
        "a proof is good for ever": replace(SOUND, proof_for=math.inf),
        "a lead in doubt is corrected": replace(SOUND, edit_in_doubt=True),
        "a yes without an id is unknown": replace(SOUND, decide=_yes_is_forgotten),
        "account closed by three channels": replace(SOUND, is_of_account=_three_channels_are_the_account),
        "resent again and again": replace(SOUND, decide=_resent_for_ever),
    }
)

NOTICED_BY: Final[Mapping[str, int]] = MappingProxyType(
    {
        "no settle time": 1825,
        "a possible row is absence": 170,
        "a proof is good for ever": 124,
        "a lead in doubt is corrected": 783,
        "a yes without an id is unknown": 1201,
    }
)
"""Where to begin the search for a seed that notices: it saves half a minute, and an entry that is stale costs that."""
