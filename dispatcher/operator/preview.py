"""Preview a bulk action: count the leads by the answer that the single action would give."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, assert_never

from sqlalchemy import Connection

from dispatcher.decisions.states import FailureClass, State
from dispatcher.operator import lead_facts
from dispatcher.operator import leads as lead_list
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.operator.lead_facts import LeadFacts
from dispatcher.operator.lead_filter import LeadFilter
from dispatcher.operator.operation_work import OperationKind, Selection
from dispatcher.operator.record import Record
from dispatcher.operator.replay import Judge, RefusalKind, ReplayTerms
from dispatcher.operator.resolve import dismissible
from dispatcher.store.blocks import NO_KEY, Screening


@dataclass(frozen=True, slots=True)
class Preview(Record):
    """The number of leads by the outcome that the action would have.

    safe            the action would be done
    needs_look_up   their earlier POST may have worked: refused until a look-up proves that it did not
    gone            no longer failed, in doubt, or pending, where it has to be; or deleted
    rivals          another live lead stands for the person
    twins           the person occurs in the selection before; the first occurrence is counted as safe
    not_in_doubt    nothing to look up
    blocked         the person must not be called
    """

    JSON: ClassVar = ("total", "safe", "needs_look_up", "refused", "why_refused")

    total: int
    safe: int
    needs_look_up: int = 0
    gone: int = 0
    rivals: int = 0
    twins: int = 0
    not_in_doubt: int = 0
    blocked: int = 0

    @property
    def refused(self) -> int:
        """The number of leads that would be left as they are, without those that need a look-up."""
        return self.gone + self.rivals + self.twins + self.not_in_doubt + self.blocked

    @property
    def why_refused(self) -> dict[str, int]:
        """The number of refused leads by reason."""
        names = ("gone", "rivals", "twins", "not_in_doubt", "blocked")
        return {name: getattr(self, name) for name in names}


_REPLAY: Final = {
    None: "safe",
    RefusalKind.NOT_FAILED: "gone",
    RefusalKind.IN_DOUBT: "needs_look_up",
    RefusalKind.RIVAL: "rivals",
    RefusalKind.TWIN: "twins",
    RefusalKind.TIME: "gone",
    RefusalKind.BLOCKED: "blocked",
}


def preview(
    connection: Connection,
    kind: OperationKind,
    leads: Selection,
    *,
    even_if_called: bool = False,
    campaign_id: int | None = None,
    screening: Screening = NO_KEY,
) -> Preview:
    """Return what `kind` would do to these leads now, in `campaign_id` if given. Deleted leads count as gone."""
    if isinstance(leads, LeadFilter):
        pending = lead_list.count_pending(connection, leads)
        return Preview(total=pending, safe=pending)
    if not isinstance(leads, FailureFilter):
        leads = list(dict.fromkeys(leads))
    found = lead_facts.read(connection, leads, to_campaign=campaign_id, screening=screening)
    terms = ReplayTerms("", even_if_called=even_if_called, campaign_id=campaign_id)
    counts = Counter(_counted(kind, found, terms))
    total = len(found) if isinstance(leads, FailureFilter) else len(leads)
    counts["gone"] += total - len(found)
    return Preview(total=total, **{"safe": 0, **counts})


def _counted(kind: OperationKind, found: Iterable[LeadFacts], terms: ReplayTerms) -> Iterable[str]:
    """Yield for each lead the field of `Preview` that counts it."""
    match kind:
        case OperationKind.REPLAY:
            judge = Judge(terms)
            for facts in found:
                refused = judge(facts)
                yield _REPLAY[None if refused is None else refused.kind]
        case OperationKind.DISMISS:
            yield from ("safe" if dismissible(facts) else "gone" for facts in found)
        case OperationKind.LOOK_UP:
            yield from ("safe" if _in_doubt(facts) else "not_in_doubt" for facts in found)
        case OperationKind.CANCEL:
            yield from ("safe" if facts.state is State.PENDING else "gone" for facts in found)
        case _ as never:
            assert_never(never)


def _in_doubt(facts: LeadFacts) -> bool:
    """Return whether the look-up task asks Voicery about the lead."""
    return facts.state is State.UNKNOWN or facts.failure_class is FailureClass.OUTCOME_UNKNOWN
