"""Replaying failed leads: the rule, the write, and `Failures`, which acts on failed leads.

A person is not called twice by accident: a lead whose earlier POST may have worked is replayed only with a fresh proof
that it did not, or if an operator accepts the risk. The rule is `refusal`; there is no other. A replay takes three
statements: the facts, which lock the lead; the write; the line in the audit log. A set of leads takes the same three.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.broker.doorbell import Bell
from dispatcher.decisions.states import State
from dispatcher.errors import DispatcherError, InvalidLead, LeadNotFound, NotAllowed
from dispatcher.lead.options import Channel
from dispatcher.operator import lead_facts, resolve
from dispatcher.operator.lead_facts import OPEN_FAILURE, LeadFacts, refusing_rivals, rival_of
from dispatcher.operator.resolve import Resolved, why_not_failed
from dispatcher.store import audit
from dispatcher.store.blocks import NO_KEY, Screening
from dispatcher.store.database import Database, translated
from dispatcher.store.proof import FIRST_IN_QUEUE, IN_DOUBT_SINCE, PROVEN_AT
from dispatcher.store.statement import START, Start, start_values
from dispatcher.store.trouble import StatementRefused

BATCH: Final = 50
"""Leads that are replayed in one transaction: their rows are locked until it ends."""

_TRIES: Final = 3

_REPLAY = text(f"""
WITH judged AS (
    SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:doubts AS timestamptz[]), CAST(:failures AS bigint[]))
        AS judged (id, in_doubt_since, failure_id)
), moved AS (
    -- A new budget; `resends` stays: at most one automatic resend in a lead's life.
    UPDATE dispatcher.leads AS lead
    SET state = 'pending', failure_class = NULL, attempts = 0, first_attempt_at = NULL,
        -- What rests on a proof goes first and only while that holds; a replay for later is looked up again when due.
        proven_at = CASE WHEN judged.in_doubt_since IS NOT NULL OR {PROVEN_AT} IS NULL THEN NULL
            WHEN {START} > now() THEN to_timestamp(0) ELSE {PROVEN_AT} END,
        due_at = CASE WHEN {START} > now() OR judged.in_doubt_since IS NOT NULL OR {PROVEN_AT} IS NULL THEN {START}
            ELSE {FIRST_IN_QUEUE} END,
        expires_at = CASE WHEN lead.expires_at > now() THEN lead.expires_at END,
        last_error = NULL, finished_at = NULL, resolved_at = NULL, updated_at = now()
    FROM judged
    WHERE lead.id = judged.id AND lead.state = 'failed'
      -- The facts were read as of the start of a statement that may have waited for the lock: if they are others now,
      -- they are judged again.
      AND {IN_DOUBT_SINCE} IS NOT DISTINCT FROM judged.in_doubt_since
      AND {OPEN_FAILURE} IS NOT DISTINCT FROM judged.failure_id
    RETURNING lead.id
), closed AS (
    UPDATE dispatcher.failed_leads AS failure
    SET resolved_at = now(), resolution = 'replayed', resolved_by = :actor, note = :note
    FROM moved WHERE failure.lead_id = moved.id AND failure.resolved_at IS NULL
)
SELECT id FROM moved
""")


class RefusalKind(StrEnum):
    """Why a lead is not replayed."""

    NOT_FAILED = "not_failed"
    IN_DOUBT = "in_doubt"
    RIVAL = "rival"
    TWIN = "twin"
    TIME = "time"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a lead is not replayed; `text` says also what to do next."""

    kind: RefusalKind
    text: str


@dataclass(frozen=True, slots=True)
class ReplayTerms:
    """How leads are to be replayed.

    actor            who is responsible, e.g. `ada@ops-1`; written to the audit log
    even_if_called   also leads whose earlier POST may have worked
    not_before       they wait until then: an aware time, or a delay by the database's clock
    failure_id       only if this is the lead's open failure
    campaign_id      in this campaign instead of theirs; `prepare` has to move them
    screening        how it is checked who must not be called
    """

    actor: str
    note: str | None = None
    even_if_called: bool = False
    not_before: Start = None
    failure_id: int | None = None
    campaign_id: int | None = None
    screening: Screening = field(default=NO_KEY, repr=False)


@dataclass(frozen=True, slots=True)
class Replayed:
    """The leads that a bulk replay sent again, or with `dry_run` would have, and those refused, with the reason."""

    replayed: tuple[UUID, ...] = ()
    refused: tuple[tuple[UUID, str], ...] = ()
    dry_run: bool = False


# The rule -------------------------------------------------------------------------------------------------------------


def refusal(facts: LeadFacts, terms: ReplayTerms, *, twin: UUID | None = None) -> Refusal | None:
    """Return why this lead may not be replayed, None if it may. The only place of this rule.

    twin   another lead of the same person and campaign that is replayed before it, in the same set
    """
    match facts:
        case _ if terms.failure_id not in (None, facts.failure_id):
            return Refusal(RefusalKind.NOT_FAILED, DEALT_WITH)
        case LeadFacts(state=state) if state is not State.FAILED:
            return Refusal(RefusalKind.NOT_FAILED, f"Only a failed lead can be replayed; {why_not_failed(facts)}")
        case LeadFacts(blocked=str() as why):
            return Refusal(RefusalKind.BLOCKED, BLOCKED.format(why=why))
        case LeadFacts(moves=True, in_doubt_since=datetime() as since):
            return Refusal(RefusalKind.IN_DOUBT, FORGETS.format(since=since, lead_id=facts.id))
        case LeadFacts(in_doubt_since=datetime() as since) if not terms.even_if_called:
            return Refusal(
                RefusalKind.IN_DOUBT,
                f"The person may have been called: the POST of {since:%Y-%m-%d %H:%M:%S} UTC may have worked. "
                f"Run `dispatcher lookup {facts.id}` and replay within 10 minutes of a proof that it did not, or "
                "replay with --even-if-called if a second call is acceptable.",
            )
        case LeadFacts(stands=str() as stands):
            return Refusal(RefusalKind.RIVAL, stands)
        case LeadFacts(allow_dupplicate=False) if twin is not None:
            return Refusal(
                RefusalKind.TWIN,
                f"Lead {twin} of this selection is for the same person in the same campaign, and only one of them is "
                "replayed; dismiss the other.",
            )
        case LeadFacts(expires_at=datetime() as expires_at) if (
            terms.not_before is not None and facts.read_at < expires_at <= facts.starts_at
        ):
            return Refusal(
                RefusalKind.TIME,
                f"It expires at {expires_at:%Y-%m-%d %H:%M:%S} UTC, before it might go; choose an earlier time.",
            )
        case _:
            return None


FORGETS: Final = (
    "The person may have been called: the POST of {since:%Y-%m-%d %H:%M:%S} UTC may have worked, and a change would "
    "forget for whom. Run `dispatcher lookup {lead_id}` and correct it within 10 minutes of a proof that it did not; "
    "or dismiss it (`dispatcher resolve`) and submit the corrected lead as a new one, if a second call is acceptable."
)
BLOCKED: Final = "Not sent: {why}. Only `dispatcher unblock` overrules that; --even-if-called does not."
DEALT_WITH: Final = "Another operator dealt with this failure meanwhile; look at the lead again."


class Judge:
    """Judges the leads of one set in their order, so that of several leads of one person only the first is replayed."""

    def __init__(self, terms: ReplayTerms) -> None:
        self._terms = terms
        self._taken: dict[tuple[str, int, str], UUID] = {}

    def __call__(self, facts: LeadFacts) -> Refusal | None:
        """Return why this lead may not be replayed after those before it, None if it may."""
        taken = self._taken.get(facts.person)
        refused = refusal(facts, self._terms, twin=None if taken == facts.id else taken)
        if refused is None and not facts.allow_dupplicate:
            self._taken[facts.person] = facts.id
        return refused


# The act --------------------------------------------------------------------------------------------------------------

Prepare = Callable[[Connection, LeadFacts], None]
"""Changes a locked lead that may be replayed, before it is; raises what `change` raises."""


@dataclass(slots=True)
class Batch:
    """What became of the leads of one transaction: the facts of those replayed, and why the others were refused."""

    replayed: list[LeadFacts] = field(default_factory=list)
    refused: dict[UUID, DispatcherError] = field(default_factory=dict)


def replay_one(connection: Connection, lead_id: UUID, terms: ReplayTerms, prepare: Prepare | None = None) -> LeadFacts:
    """Replay one lead in the caller's transaction.

    Raises `LeadNotFound`, `NotAllowed`; `StatementRefused` of `leads_one_live` if a rival was committed meanwhile.
    """
    batch = _replay(connection, [lead_id], terms, prepare)
    for error in batch.refused.values():
        raise error
    return batch.replayed[0]


def replay_each(
    connection: Connection, lead_ids: Sequence[UUID], terms: ReplayTerms, prepare: Prepare | None = None
) -> Batch:
    """Replay each lead that may be, in the caller's transaction. A lead that is refused is not changed.

    All are written at once. With `prepare`, or if a rival of one of them was committed meanwhile, each is written in a
    savepoint of its own.
    """
    if prepare is None:
        try:
            with translated(), connection.begin_nested():
                return _replay(connection, lead_ids, terms)
        except StatementRefused:
            pass
    batch = Batch()
    for lead_id in sorted(set(lead_ids)):  # leads are locked in the order of their ids
        try:
            with translated(), connection.begin_nested():
                batch.replayed.append(replay_one(connection, lead_id, terms, prepare))
        except StatementRefused as error:
            batch.refused[lead_id] = rival_of(connection, lead_id, error)
        except (LeadNotFound, NotAllowed, InvalidLead) as error:
            batch.refused[lead_id] = error
    return batch


def _replay(
    connection: Connection, lead_ids: Sequence[UUID], terms: ReplayTerms, prepare: Prepare | None = None
) -> Batch:
    """Facts, write, audit. Leads whose facts were no longer true are judged again: now they are locked."""
    batch, judge = Batch(), Judge(terms)
    left = list(dict.fromkeys(lead_ids))
    for _ in range(_TRIES):
        judged = _judged(connection, left, terms, judge, lock=True)
        batch.refused |= judged.refused
        if prepare is not None:
            for facts in judged.replayed:
                prepare(connection, facts)
        written = _write(connection, judged.replayed, terms)
        batch.replayed += written
        left = [facts.id for facts in judged.replayed if facts not in written]
        if not left:
            break
    batch.refused |= {lead_id: NotAllowed("Its attempts are being changed; try again.") for lead_id in left}
    return batch


def _judged(connection: Connection, lead_ids: Sequence[UUID], terms: ReplayTerms, judge: Judge, *, lock: bool) -> Batch:
    """Return what `replay_each` would do with these leads now."""
    batch = Batch()
    found = lead_facts.read(
        connection,
        lead_ids,
        lock=lock,
        to_campaign=terms.campaign_id,
        not_before=terms.not_before,
        screening=terms.screening,
    )
    known = {facts.id: facts for facts in found}
    for lead_id in lead_ids:
        if lead_id not in known:
            batch.refused[lead_id] = LeadNotFound(lead_id)
        elif (refused := judge(known[lead_id])) is not None:
            batch.refused[lead_id] = NotAllowed(refused.text)
        else:
            batch.replayed.append(known[lead_id])
    return batch


def _write(connection: Connection, allowed: Sequence[LeadFacts], terms: ReplayTerms) -> list[LeadFacts]:
    """Move these leads from failed to pending; return those whose facts are still true.

    Raises `StatementRefused` of `leads_one_live` if a rival was committed meanwhile.
    """
    if not allowed:
        return []
    values = {
        "ids": [facts.id for facts in allowed],
        "doubts": [facts.in_doubt_since for facts in allowed],
        "failures": [facts.failure_id for facts in allowed],
        "actor": terms.actor,
        "note": terms.note,
        **start_values(terms.not_before),
    }
    moved = set(connection.execute(_REPLAY, values).scalars())
    written = [facts for facts in allowed if facts.id in moved]
    audit.note_all(connection, terms.actor, "replay", {str(facts.id): _detail(facts, terms) for facts in written})
    return written


def _detail(facts: LeadFacts, terms: ReplayTerms) -> Mapping[str, Any]:
    detail: dict[str, Any] = {"failure_class": facts.failure_class, "note": terms.note}
    if terms.not_before is not None:
        detail["not_before"] = str(terms.not_before)
    if facts.in_doubt_since is not None:
        detail |= {"even_if_called": True, "in_doubt_since": facts.in_doubt_since.isoformat()}
    return detail


class Failures:
    """Replays, resolves and cancels leads. `actor` is who is responsible, e.g. `ada@ops-1`."""

    def __init__(self, database: Database, bell: Bell, screening: Screening = NO_KEY) -> None:
        self._database = database
        self._bell = bell
        self._screening = screening

    def replay(
        self,
        lead_id: UUID,
        *,
        actor: str,
        even_if_called: bool = False,
        note: str | None = None,
        not_before: Start = None,
        failure_id: int | None = None,
    ) -> None:
        """Send a failed lead again, as if it were new.

        even_if_called   also if its earlier POST may have worked: the person may be called twice
        not_before       it waits until then: an aware time, or a delay by the database's clock
        failure_id       only if this is still its open failure

        Raises `LeadNotFound`, and `NotAllowed` for a lead that has not failed, whose earlier POST may have worked
        (unless `even_if_called`, or a look-up proved its absence in the last 10 minutes), whose person must not be
        called or has another live lead, or that expires before it may go.
        """
        terms = ReplayTerms(actor, note, even_if_called, not_before, failure_id, screening=self._screening)
        with refusing_rivals(self._database, lead_id):
            facts = self._database.again(replay_one, lead_id, terms)
        self._bell.ring(facts.channel)

    def replay_all(
        self,
        lead_ids: Iterable[UUID],
        *,
        actor: str,
        even_if_called: bool = False,
        note: str | None = None,
        not_before: Start = None,
        dry_run: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> Replayed:
        """Replay each lead by the rules of `replay`, 50 in a transaction; `dry_run` only judges.

        No refusal is raised: it is listed with its reason. `progress` is called after each lead. Each channel is rung
        once, at the end, also if Postgres is lost in between: the transactions before that are committed.
        """
        terms = ReplayTerms(actor, note, even_if_called, not_before, screening=self._screening)
        replayed: list[UUID] = []
        refused: list[tuple[UUID, str]] = []
        channels: dict[Channel, None] = {}
        judge = Judge(terms)
        try:
            start_values(not_before)
        except NotAllowed as fault:
            return Replayed(refused=tuple((one, str(fault)) for one in dict.fromkeys(lead_ids)), dry_run=dry_run)
        try:
            for some in _batches(dict.fromkeys(lead_ids)):
                if dry_run:
                    batch = self._database.again(_judged, some, terms, judge, lock=False)
                else:
                    batch = self._database.again(replay_each, some, terms)
                    channels |= dict.fromkeys(facts.channel for facts in batch.replayed)
                replayed += (facts.id for facts in batch.replayed)
                refused += ((lead_id, str(error)) for lead_id, error in batch.refused.items())
                for _ in some:
                    progress()
        finally:
            for channel in channels:
                self._bell.ring(channel)
        return Replayed(tuple(replayed), tuple(refused), dry_run=dry_run)

    def resolve(self, lead_id: UUID, as_: Resolved, *, note: str, actor: str) -> None:
        """Record an operator's decision: `accepted`, Voicery has it; `dismissed`, it needs no attention any more.

        Raises `LeadNotFound`; `NotAllowed` without a note, or if the lead's state leaves nothing to decide.
        """
        with refusing_rivals(self._database, lead_id):
            self._database.again(resolve.resolve, lead_id, as_, note=note, actor=actor)

    def cancel(self, lead_id: UUID, *, actor: str) -> None:
        """Withdraw a lead that has not been claimed. Raises `LeadNotFound`, `NotAllowed` with the reason."""
        self._database.again(resolve.cancel, lead_id, actor=actor)


def _batches(lead_ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    remaining = iter(lead_ids)
    while batch := list(islice(remaining, BATCH)):
        yield batch
