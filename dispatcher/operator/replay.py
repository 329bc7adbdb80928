"""What an operator may do about a lead: replay, resolve, cancel.

Never a second call by accident: what may have reached the person is replayed only with proof, or because somebody said
so.
Every action is one transaction with its line in the audit log, and its refusal says why and what to do next.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, assert_never
from uuid import UUID

from sqlalchemy import Connection

from dispatcher.broker.doorbell import Bell
from dispatcher.decisions.states import FailureClass, State
from dispatcher.errors import DispatcherError, LeadNotFound, NotAllowed
from dispatcher.lead.options import Channel
from dispatcher.operator import decided, failures
from dispatcher.operator.decided import Locked
from dispatcher.operator.failures import MOST_LISTED, FailureFilter, FailureGroup
from dispatcher.operator.lead_record import FailedLead
from dispatcher.operator.overview import Count
from dispatcher.store import audit
from dispatcher.store.database import Database, StatementRefused, translated
from dispatcher.store.statement import Start

MOST_COUNTED: Final = 1_000_000
MOST_READ: Final = 10_000

Resolved = Literal["accepted", "dismissed"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a bulk replay did, or with `dry_run` would do."""

    replayed: tuple[UUID, ...] = ()
    refused: tuple[tuple[UUID, str], ...] = ()  # with the reason
    dry_run: bool = False


class Failures:
    """Reads the failed leads and acts on them. `actor` is who is responsible, e.g. `ada@ops-1`."""

    def __init__(self, database: Database, bell: Bell) -> None:
        self._database = database
        self._bell = bell

    # Reading ----------------------------------------------------------------------------------------------------------

    def failed(
        self, wanted: FailureFilter, *, limit: int = MOST_LISTED, after: tuple[datetime, int] | None = None
    ) -> list[FailedLead]:
        """The failures that the filter matches, the latest first, at most `limit`; `after`: behind that (time, id)."""
        with self._database.autocommit() as connection:
            return failures.matching(connection, wanted, limit=limit, after=after)

    def count(self, wanted: FailureFilter) -> Count:
        """How many failures the filter matches; not exact above a limit, a lower one where each has to be read."""
        most = MOST_READ if wanted.reads_each else MOST_COUNTED
        with self._database.autocommit() as connection:
            count = failures.count_matching(connection, wanted, most=most)
        return Count(count, exact=count < most)

    def groups(self, wanted: FailureFilter) -> list[FailureGroup]:
        """The failures that the filter matches, by cause, the most frequent first."""
        with self._database.autocommit() as connection:
            return failures.groups(connection, wanted)

    def leads(self, wanted: FailureFilter) -> list[UUID]:
        """The ids of all leads with an open failure that the filter matches, the longest failed first."""
        with self._database.autocommit() as connection:
            return failures.leads_matching(connection, wanted)

    # Acting -----------------------------------------------------------------------------------------------------------

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
        """Send a failed lead again, as if it were new. `failure_id`: only if this is still its open failure.

        not_before   it waits until then: aware, or a delay by the database's clock

        Raises `LeadNotFound`, and `NotAllowed` for a lead that has not failed, whose earlier POST may have worked
        (unless `even_if_called`, or a look-up proved its absence in the last 10 minutes), whose person another live
        lead stands for, or that expires before it may go.
        """

        def act(connection: Connection) -> Locked:
            self.check_same(connection, lead_id, failure_id)
            return self._replay(connection, lead_id, actor, note, even_if_called=even_if_called, not_before=not_before)

        with self._alone(lead_id):
            lead = self._database.again(act)
        self._bell.ring(Channel(lead.account, lead.campaign_id))

    def replay_within(
        self,
        connection: Connection,
        lead_id: UUID,
        *,
        actor: str,
        even_if_called: bool = False,
        note: str | None = None,
    ) -> None:
        """`replay` in the caller's transaction, undone alone where it is refused. Nobody is rung: the sweep does it."""
        with self.apart(connection, lead_id):
            self._replay(connection, lead_id, actor, note, even_if_called=even_if_called)

    def dismiss_within(self, connection: Connection, lead_id: UUID, *, actor: str, note: str) -> None:
        """`resolve` as dismissed, in the caller's transaction, undone alone where it is refused."""
        with self.apart(connection, lead_id):
            self._resolve(connection, lead_id, "dismissed", note, actor)

    def check_same(self, connection: Connection, lead_id: UUID, failure_id: int | None) -> None:
        """Refuse if `failure_id` is not the lead's open failure any more: two clicks on one button are one replay.

        Holds the lead until the transaction ends. Raises `LeadNotFound`, `NotAllowed`.
        """
        _locked(connection, lead_id)
        if failure_id is None:
            return
        if not any(one.id == failure_id and one.resolved_at is None for one in failures.of_lead(connection, lead_id)):
            raise NotAllowed("Somebody dealt with this failure meanwhile; look at the lead again.")

    @contextmanager
    def apart(self, connection: Connection, lead_id: UUID) -> Iterator[None]:
        """A savepoint: what is refused inside leaves the rest of the transaction as it was."""
        try:
            with translated(), connection.begin_nested():
                yield
        except StatementRefused as refusal:
            if refusal.constraint == "leads_one_live":
                _refuse_rival(connection, lead_id)
                raise NotAllowed("Another live lead stands for this person; dismiss this one.") from None
            raise DispatcherError(f"Postgres refused: {refusal}. This is a bug; nothing was changed.") from None

    def check_replay(self, lead_id: UUID, *, even_if_called: bool = False, not_before: Start = None) -> None:
        """Raise what `replay` would raise now; change nothing."""
        self._database.again(
            lambda connection: self._may_replay(
                connection, lead_id, even_if_called=even_if_called, not_before=not_before
            )
        )

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
        """Replay each by the rules of `replay`, each in a transaction of its own; `dry_run` only asks.

        Never raises for one lead: it is listed with the reason. `progress` is called after each.
        """
        replayed: list[UUID] = []
        refused: list[tuple[UUID, str]] = []
        for lead_id in dict.fromkeys(lead_ids):
            try:
                if dry_run:
                    self.check_replay(lead_id, even_if_called=even_if_called, not_before=not_before)
                else:
                    self.replay(lead_id, actor=actor, even_if_called=even_if_called, note=note, not_before=not_before)
            except (LeadNotFound, NotAllowed) as refusal:
                refused.append((lead_id, str(refusal)))
            else:
                replayed.append(lead_id)
            progress()
        return Replayed(tuple(replayed), tuple(refused), dry_run=dry_run)

    def resolve(self, lead_id: UUID, as_: Resolved, *, note: str, actor: str) -> None:
        """Decide what nobody else can: `accepted`, Voicery has it; `dismissed`, it needs no attention any more.

        Raises `LeadNotFound`; `NotAllowed` without a note, or where the lead's state leaves nothing to decide.
        """
        if not note.strip():
            raise NotAllowed("A resolution needs a note that says how you know; add one.")
        with self._alone(lead_id):
            self._database.again(lambda connection: self._resolve(connection, lead_id, as_, note.strip(), actor))

    def cancel(self, lead_id: UUID, *, actor: str) -> None:
        """Withdraw a lead that has not been claimed. Raises `LeadNotFound`, `NotAllowed` with the reason."""
        self._database.again(lambda connection: self._cancel(connection, lead_id, actor))

    # In the transaction -----------------------------------------------------------------------------------------------

    def _replay(
        self,
        connection: Connection,
        lead_id: UUID,
        actor: str,
        note: str | None,
        *,
        even_if_called: bool,
        not_before: Start = None,
    ) -> Locked:
        lead, doubt = self._may_replay(connection, lead_id, even_if_called=even_if_called, not_before=not_before)
        decided.replay(connection, lead, actor=actor, note=note, not_before=not_before, overruled=doubt is not None)
        detail: dict[str, Any] = {"failure_class": lead.failure_class, "note": note}
        if not_before is not None:
            detail["not_before"] = str(not_before)
        if doubt is not None:
            detail |= {"even_if_called": True, "in_doubt_since": doubt.isoformat()}
        audit.note(connection, actor, "replay", str(lead_id), detail)
        return lead

    def _may_replay(
        self, connection: Connection, lead_id: UUID, *, even_if_called: bool, not_before: Start = None
    ) -> tuple[Locked, datetime | None]:
        """The lead and, if somebody takes the risk, since when it is in doubt. Raises `LeadNotFound`, `NotAllowed`."""
        lead = _locked(connection, lead_id)
        if lead.state is not State.FAILED:
            raise NotAllowed(f"Only a failed lead can be replayed; {_why_not_failed(lead)}")
        doubt = decided.in_doubt_since(connection, lead)
        if doubt is not None and not even_if_called:
            raise NotAllowed(
                f"The person may have been called: the POST of {doubt:%Y-%m-%d %H:%M:%S} UTC may have worked. "
                f"Run `dispatcher lookup {lead_id}` and replay within 10 minutes of a proof that it did not, or replay "
                "with --even-if-called if a second call is acceptable."
            )
        _refuse_rival(connection, lead_id)
        _refuse_too_late(connection, lead_id, not_before)
        return lead, doubt

    def _resolve(self, connection: Connection, lead_id: UUID, as_: Resolved, note: str, actor: str) -> None:
        lead = _locked(connection, lead_id)
        decide = self._accept if as_ == "accepted" else self._dismiss
        if not decide(connection, lead, note, actor):
            raise NotAllowed(f"{_resolvable(as_)}; {_why_not_failed(lead)}")
        detail = {"as": as_, "note": note, "from": lead.state}
        audit.note(connection, actor, "resolve", str(lead_id), detail)

    def _accept(self, connection: Connection, lead: Locked, note: str, actor: str) -> bool:
        if lead.state is State.FAILED:
            _refuse_rival(connection, lead.id)
        return decided.accept(connection, lead, actor=actor, note=note)

    def _dismiss(self, connection: Connection, lead: Locked, note: str, actor: str) -> bool:
        if lead.state is State.UNKNOWN:
            return decided.give_up(connection, lead, actor=actor, note=note)
        return decided.dismiss(connection, lead, actor=actor, note=note)

    def _cancel(self, connection: Connection, lead_id: UUID, actor: str) -> None:
        lead = _locked(connection, lead_id)
        if not decided.cancel(connection, lead_id):
            raise NotAllowed(f"Only a pending lead can be cancelled; {_why_not_pending(lead)}")
        audit.note(connection, actor, "cancel", str(lead_id), {})

    @contextmanager
    def _alone(self, lead_id: UUID) -> Iterator[None]:
        """The unique index is the rule of one live lead; who loses the race for it is told against whom."""
        try:
            yield
        except StatementRefused as refusal:
            if refusal.constraint != "leads_one_live":
                raise DispatcherError(f"Postgres refused: {refusal}. This is a bug; nothing was changed.") from None
            with self._database.autocommit() as connection:
                _refuse_rival(connection, lead_id)
            raise NotAllowed("Another lead of this person became live and is gone again; try once more.") from None


def _locked(connection: Connection, lead_id: UUID) -> Locked:
    lead = decided.lock(connection, lead_id)
    if lead is None:
        raise LeadNotFound(lead_id)
    return lead


def _refuse_rival(connection: Connection, lead_id: UUID) -> None:
    rival = decided.rival(connection, lead_id)
    if rival is not None:
        raise NotAllowed(
            f"Lead {rival} already stands for this person in this campaign; dismiss this one, or cancel that one first."
        )


def _refuse_too_late(connection: Connection, lead_id: UUID, not_before: Start) -> None:
    expires_at = None if not_before is None else decided.expires_before(connection, lead_id, not_before)
    if expires_at is not None:
        raise NotAllowed(
            f"It expires at {expires_at:%Y-%m-%d %H:%M:%S} UTC, before it might go; choose an earlier time."
        )


def _resolvable(as_: Resolved) -> str:
    match as_:
        case "accepted":
            return "Only a lead whose outcome is unknown can be resolved as accepted"
        case "dismissed":
            return "Only an open failure or an unknown lead can be dismissed"
        case _ as never:
            assert_never(never)


def _why_not_failed(lead: Locked) -> str:
    match lead.state:
        case State.PENDING:
            return "this one is pending and goes by itself."
        case State.SENDING:
            return "this one is on its way; ask again in a minute."
        case State.UNKNOWN:
            return f"this one is unknown and is being looked up; `dispatcher explain {lead.id}` tells how far that is."
        case State.ACCEPTED:
            return "this one was accepted: Voicery has it."
        case State.DUPLICATE:
            return f"this one is a duplicate{_of(lead)}; submit it with allow_dupplicate=true if both are wanted."
        case State.FAILED if lead.dismissed:
            return "this failure has been dismissed already."
        case State.FAILED if lead.failure_class is not FailureClass.OUTCOME_UNKNOWN:
            return f"this one failed as {lead.failure_class}, which means that Voicery does not have it; dismiss it."
        case State.FAILED:
            return "this one has failed."
        case State.CANCELLED:
            return "this one was cancelled; submit it anew."
        case _ as never:
            assert_never(never)


def _why_not_pending(lead: Locked) -> str:
    match lead.state:
        case State.PENDING:
            return "this one was claimed just now."
        case State.SENDING:
            return "this one is on its way to Voicery and can no longer be held back."
        case State.UNKNOWN:
            return "this one has been sent, and whether it arrived is being looked up."
        case State.ACCEPTED:
            return "this one was accepted; withdraw it at Voicery."
        case State.DUPLICATE:
            return f"this one is a duplicate{_of(lead)} and calls nobody."
        case State.FAILED:
            return "this one has failed and calls nobody; dismiss it with `dispatcher resolve`."
        case State.CANCELLED:
            return "this one is cancelled already."
        case _ as never:
            assert_never(never)


def _of(lead: Locked) -> str:
    return "" if lead.duplicate_of is None else f" of lead {lead.duplicate_of}"
