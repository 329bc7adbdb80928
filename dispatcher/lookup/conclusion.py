"""Conclusions: the decision after one look-up, made and stored under a lock on the lead.

During the request to Voicery's list another look-up, a late answer or an operator may have changed the lead, so the
evidence is read again after its row is locked.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from dispatcher.broker.doorbell import Bell
from dispatcher.config.settings import Settings
from dispatcher.decisions.absence import Circumstances, Decision, Judgement, LookUp, OnUnknown, Step, Verdict, decide
from dispatcher.decisions.outcome import Kind
from dispatcher.decisions.reply import match_contacts
from dispatcher.decisions.states import State
from dispatcher.decisions.window import Proof, Window
from dispatcher.failpoint import reach
from dispatcher.lead.options import Channel
from dispatcher.logs import events
from dispatcher.lookup import doubts
from dispatcher.lookup.doubts import InDoubt
from dispatcher.store import audit
from dispatcher.store.audit import IncidentKind
from dispatcher.store.database import Database
from dispatcher.store.trouble import StatementRefused

_ONE_LIVE: Final = "leads_one_live"


@dataclass(frozen=True, slots=True)
class Sight:
    """The stored result of one look-up of a lead; `window`: the window, if one was read for it."""

    look: LookUp
    judgement: Judgement
    window: Window | None = None
    proof: Proof = field(default_factory=Proof)


def circumstances(doubt: InDoubt, settings: Settings) -> Circumstances:
    """Return the facts besides the look-ups on which the decision about `doubt` depends."""
    reopened_at = doubt.evidence.get("reopened_at")
    on_unknown = OnUnknown(settings.on_unknown)
    if on_unknown is OnUnknown.RESEND and "recovered_since" in doubt.evidence:
        on_unknown = OnUnknown.AUTO  # the setting is about single lost answers, not about all that a backup forgot
    return Circumstances(
        kind=Kind(doubt.outcome),
        on_unknown=on_unknown,
        allow_dupplicate=doubt.allow_dupplicate,
        resends=doubt.resends,
        ended_at=doubt.ended_at,
        settle_seconds=settings.settle_seconds,
        unknown_for_seconds=settings.unknown_for_seconds,
        reference_sent=doubt.reference is not None,
        granted=doubt.granted,
        looked_since=None if reopened_at is None else datetime.fromisoformat(reopened_at),
    )


class Conclusions:
    """Decides the next step of leads after look-ups, and stores it."""

    def __init__(self, database: Database, bell: Bell, settings: Settings) -> None:
        self._database = database
        self._bell = bell
        self._settings = settings

    def conclude(self, doubt: InDoubt, sight: Sight) -> Decision:
        """Take the step that the evidence allows, and store the evidence. Raises `StoreUnavailable`."""
        reach("lookup.before_decision")
        try:
            decision = self._database.again(lambda connection: self._decide(connection, doubt, sight))
        except StatementRefused as refusal:
            decision = self._overtaken(doubt, sight, refusal)
        reach("lookup.after_decision")
        if decision.step is Step.RESEND:
            self._bell.ring(Channel(doubt.account, doubt.campaign_id))
        if decision.step is Step.FAIL:
            events.warning("lead.outcome_unknown", lead_id=str(doubt.lead_id), campaign_id=doubt.campaign_id)
        return decision

    def _decide(self, connection: Connection, doubt: InDoubt, sight: Sight) -> Decision:
        """Make and store one decision while the lead and its attempt are locked."""
        now = doubts.hold(connection, doubt)
        if now is None:
            return Decision(Step.STAY, "It was decided elsewhere meanwhile.")
        earlier, judgement = earlier_looks(now), sight.judgement
        decision = decide(sight.look, earlier, circumstances(now, self._settings), missing=sight.proof.missing)
        if now.state is not State.UNKNOWN and decision.step is not Step.ACCEPT:
            decision = Decision(Step.STAY, "It has failed; only a person sends it again.", proof=decision.proof)
        doubts.note(connection, now, _evidence(now, sight, decision))
        if judgement.several or (
            judgement.verdict is Verdict.POSSIBLE and not any(one.verdict is Verdict.POSSIBLE for one in earlier)
        ):
            self._report(connection, now, judgement)
        self._move(connection, now, judgement, decision)
        return decision

    def _overtaken(self, doubt: InDoubt, sight: Sight, refusal: StatementRefused) -> Decision:
        """Handle a refused acceptance: the id now belongs to another lead, or another lead stands for this person."""
        events.warning("lookup.overtaken", lead_id=str(doubt.lead_id), constraint=refusal.constraint)
        found = sight.judgement.row.voicery_lead_id if sight.judgement.row is not None else None
        twice = refusal.constraint == _ONE_LIVE
        why = "Voicery has it, and another lead of ours stands for this person." if twice else "Look again."
        decision = Decision(Step.STAY, why)

        def keep(connection: Connection) -> None:
            now = doubts.hold(connection, doubt)
            if now is None:
                return
            doubts.note(connection, now, _evidence(now, sight, decision))
            if twice and "called_twice" not in now.evidence:
                doubts.note(connection, now, {"called_twice": found})
                audit.open_incident(connection, IncidentKind.CALLED_TWICE, now.lead_id, why, {"voicery_lead_id": found})
            doubts.look_again(connection, now, seconds=self._settings.settle_seconds)

        self._database.again(keep)
        return decision

    def _move(self, connection: Connection, doubt: InDoubt, judgement: Judgement, decision: Decision) -> None:
        match decision.step:
            case Step.ACCEPT if judgement.row is not None and judgement.row.voicery_lead_id is not None:
                contacts, _ = match_contacts(list(judgement.row.contacts), doubt.contacts)
                doubts.accept(
                    connection,
                    doubt,
                    voicery_lead_id=judgement.row.voicery_lead_id,
                    voicery_status=judgement.row.status,
                    contacts=contacts,
                    why=decision.why,
                )
            case Step.RESEND:
                doubts.resend(connection, doubt, proven=decision.proof)
            case Step.DUPLICATE:
                doubts.duplicate(connection, doubt, decision.why)
            case Step.FAIL:
                doubts.fail(connection, doubt, decision.why, cause=f"{doubt.outcome}:{judgement.verdict}")
            case Step.AGAIN | Step.ACCEPT:
                doubts.look_again(connection, doubt, seconds=decision.again_in_seconds)
            case Step.STAY:
                pass

    def _report(self, connection: Connection, doubt: InDoubt, judgement: Judgement) -> None:
        found = judgement.row.voicery_lead_id if judgement.row is not None else None
        if judgement.several:
            kind, message = IncidentKind.CALLED_TWICE, "Voicery holds more than one lead that matches this one."
        else:
            kind, message = IncidentKind.POSSIBLE_MATCH, "Voicery holds a lead of this person that may be this one."
        audit.open_incident(connection, kind, doubt.lead_id, message, {"voicery_lead_id": found})
        events.error(f"incident.{kind.value}", lead_id=str(doubt.lead_id), voicery_lead_id=found)


def earlier_looks(doubt: InDoubt) -> list[LookUp]:
    """Return the earlier look-ups of the attempt, the first one first."""
    kept = doubt.evidence.get("lookups", [])
    return [
        LookUp(
            at=datetime.fromisoformat(one["at"]),
            verdict=Verdict(one["verdict"]),
            control=bool(one.get("control")),
            control_reference=bool(one.get("control_reference")),
            answered=bool(one.get("answered", one["verdict"] != "unavailable")),
        )
        for one in kept
    ]


def _evidence(doubt: InDoubt, sight: Sight, decision: Decision) -> dict[str, object]:
    look, judgement, proof = sight.look, sight.judgement, sight.proof
    this: dict[str, object] = {
        "at": look.at.isoformat(),
        "verdict": look.verdict.value,
        "control": look.control,
        "control_reference": look.control_reference,
        "answered": look.answered,
        "step": decision.step.value,
    }
    if judgement.row is not None:
        this["voicery_lead_id"] = judgement.row.voicery_lead_id
        this["by_reference"] = judgement.by_reference
    if sight.window is not None:
        this["window"] = {
            "pages": sight.window.pages,
            "rows": len(sight.window.rows),
            "before": proof.before,
            "after": proof.after,
        }
    if proof.missing:
        this["missing"] = proof.missing
    lookups = [*doubt.evidence.get("lookups", []), this]
    return {"lookups": lookups, "proof": decision.proof, "decision": decision.step.value, "why": decision.why}
