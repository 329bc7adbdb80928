"""`submit` without stores: the leads are validated by the rules of `submit`, and kept in a list."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import dispatcher
from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.errors import IdempotencyConflict
from dispatcher.intake.bulk import ChunkResult, batch_id_of, summed
from dispatcher.intake.submit import Entry, valid_entry
from dispatcher.intake.together import StoredTogether
from dispatcher.lead.candidate import BatchIds, Candidate, Rejection, read_items
from dispatcher.lead.lead import Lead
from dispatcher.lead.masking import mask_numbers
from dispatcher.lead.options import BatchResult, Submission, SubmitOptions, check_account
from dispatcher.wiring import Services


@dataclass(frozen=True, slots=True)
class CapturedLead:
    """One lead that was submitted, with the options of `submit` and what was answered."""

    id: UUID
    account: str
    lead: Lead
    options: SubmitOptions
    submission: Submission
    session: object = field(default=None, repr=False)

    @property
    def phone_number(self) -> str:
        """The number in E.164."""
        return self.lead.phone_number


class CapturedLeads(list[CapturedLead]):
    """What was submitted, in order. Repeated submissions of one id or key are one lead, as in the database."""

    def to(self, phone_number: str) -> list[CapturedLead]:
        """Return the leads of a number in E.164."""
        return [one for one in self if one.phone_number == phone_number]

    def assert_submitted_once(self, phone_number: str) -> CapturedLead:
        """Return the only lead of a number; raise `AssertionError` if there is none or more than one."""
        found = self.to(phone_number)
        if len(found) != 1:
            raise AssertionError(
                f"{len(found)} leads were submitted for {mask_numbers(phone_number)}, not one; "
                f"{len(self)} were submitted in all."
            )
        return found[0]

    def assert_none(self) -> None:
        """Raise `AssertionError` if a lead was submitted."""
        if self:
            raise AssertionError(f"{len(self)} leads were submitted, none was expected.")


class _Intake:
    """Has of `Intake` and `Bulk` what a producer calls."""

    def __init__(self, captured: CapturedLeads) -> None:
        self._captured = captured
        self._held: dict[object, CapturedLead] = {}

    def submit(
        self,
        lead: Lead | Mapping[str, Any],
        options: SubmitOptions | Mapping[str, Any],
        *,
        account: str,
        session: object = None,
    ) -> Submission:
        return self._keep(valid_entry(lead, options, account), session)

    def store(self, entry: Entry, *, repeated: bool) -> Submission:
        del repeated
        return self._keep(entry, None)

    def submit_many(
        self,
        items: Iterable[Any],
        *,
        account: str,
        batch_id: UUID | str | None = None,
        session: object = None,
    ) -> BatchResult:
        batch = batch_id_of(batch_id)
        chunks = self.validated(items, account=account, batch_id=batch, chunk_items=1000)
        return summed(batch, [self.join(chunk, session, account=account, batch_id=batch) for chunk in chunks])

    def validated(
        self, items: Iterable[Any], *, account: str, batch_id: UUID, chunk_items: int
    ) -> Iterator[tuple[int, Any, tuple[list[Candidate], list[Rejection]]]]:
        del chunk_items
        ids = BatchIds.of(check_account(account), batch_id)
        for index, item in enumerate(items):
            yield index, item, read_items([item], index, ids)

    def join(
        self,
        chunk: tuple[int, Any, tuple[list[Candidate], list[Rejection]]],
        session: object,
        *,
        account: str,
        batch_id: UUID,
    ) -> ChunkResult:
        del batch_id
        index, item, (candidates, rejections) = chunk
        if rejections:
            return ChunkResult(index + 1, 0, 0, 0, tuple(rejections))
        (candidate,) = candidates
        lead = Lead.parse(item[0] if isinstance(item, tuple) else item)
        try:
            stored = self._keep(Entry(candidate.id, account, lead, candidate.options), session)
        except IdempotencyConflict as conflict:
            fault = dispatcher.FieldError("idempotency_key", str(conflict), "submit it under a key of its own")
            return ChunkResult(index + 1, 0, 0, 0, ((index, (fault,)),))
        new, duplicate = stored.created, stored.state == "duplicate"
        return ChunkResult(index + 1, int(new and not duplicate), int(new and duplicate), int(not new), ())

    def _keep(self, entry: Entry, session: object) -> Submission:
        key, person = entry.options.idempotency_key, (entry.account, entry.lead.campaign_id, entry.lead.phone_number)
        names = [entry.id, *([(entry.account, key)] if key is not None else [])]
        for name in names:
            if name in self._held:
                first = self._held[name]
                if first.lead.payload_hash() != entry.lead.payload_hash():
                    raise IdempotencyConflict(first.id)
                return Submission(
                    first.id, first.submission.state, created=False, duplicate_of=first.submission.duplicate_of
                )
        live = None if entry.lead.allow_dupplicate else self._held.get(person)
        state, original = ("pending", None) if live is None else ("duplicate", live.id)
        submission = Submission(entry.id, state, created=True, duplicate_of=original)
        kept = CapturedLead(entry.id, entry.account, entry.lead, entry.options, submission, session)
        self._captured.append(kept)
        self._held.update(dict.fromkeys(names, kept))
        if live is None and not entry.lead.allow_dupplicate:
            self._held[person] = kept
        return submission


class _Apart:
    """Has of `Together` what `asubmit` calls, and leaves each lead to be stored by itself."""

    def submit(self, _entries: object) -> StoredTogether:
        return StoredTogether({})


class _Services(Services):
    """The services of a producer without stores."""

    def __init__(self, captured: CapturedLeads) -> None:
        super().__init__(Settings())
        intake = _Intake(captured)
        self.__dict__.update(intake=intake, bulk=intake, together=_Apart())

    def warm_up(self, connections: int = 1) -> None:
        """Do nothing: there is nothing to connect to."""


class _Capturing(Dispatcher):
    def __init__(self, captured: CapturedLeads) -> None:
        super().__init__(Settings())
        self._services = _Services(captured)


@contextmanager
def capturing() -> Iterator[CapturedLeads]:
    """Let `dispatcher.submit` and the other functions keep leads in what this yields."""
    captured = CapturedLeads()
    before, dispatcher._default = dispatcher._default, _Capturing(captured)  # noqa: SLF001 - the one default
    try:
        yield captured
    finally:
        dispatcher._default.close()  # noqa: SLF001
        dispatcher._default = before  # noqa: SLF001
