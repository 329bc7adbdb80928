"""Taking leads in: valid, durable, de-duplicated, and only then announced (design sections 3 and 8)."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Final, TypeVar

import uuid_utils.compat
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from dispatcher.errors import FieldError, IdempotencyConflict, InvalidLead, StoreUnavailable
from dispatcher.failpoint import reach
from dispatcher.intake.announcement import Announcement, Bell
from dispatcher.leads.lead import Lead
from dispatcher.leads.options import SubmitOptions, check_account
from dispatcher.leads.submission import Submission
from dispatcher.logs.tracing import submitting
from dispatcher.migration import check
from dispatcher.store import submissions
from dispatcher.store.database import Database, OtherSchema, StatementRefused, TryAgain, translated

REPEAT_FOR_SECONDS: Final = 2.0
"""So long is a submit repeated under its own id when its commit was not acknowledged."""

_RACES: Final = 5  # two submits of one number meet once; five times in a row is a bug, not a race
_PAUSE_SECONDS: Final = 0.1


T = TypeVar("T")


class Intake:
    """Submits leads. `clock` is monotonic and counts seconds; `wait` sleeps them."""

    def __init__(
        self,
        database: Database,
        bell: Bell,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._bell = bell
        self._clock = clock
        self._wait = wait

    def submit(
        self,
        lead: Lead | Mapping[str, Any],
        options: SubmitOptions | Mapping[str, Any],
        *,
        account: str,
        session: Session | Connection | None = None,
    ) -> Submission:
        """Validate, store, announce. See `Dispatcher.submit` for the contract."""
        entry = valid_entry(lead, options, account)
        with submitting(entry.account, entry.lead.campaign_id) as tell:
            if session is None:
                stored = self._store_durably(entry)
                reach("submit.after_commit")
                if _is_news(stored):
                    self._bell.ring(entry.account, entry.lead.campaign_id)
            else:
                connection = session.connection() if isinstance(session, Session) else session
                with translated():
                    stored = self._store(entry, connection, connection.begin_nested)
                if isinstance(session, Session) and _is_news(stored):
                    Announcement.of(session, self._bell).add(entry.account, entry.lead.campaign_id)
            tell(stored.lead_id, stored.state)
        return Submission(stored.lead_id, stored.state, stored.created, stored.duplicate_of)

    def _store_durably(self, entry: submissions.Entry) -> submissions.Stored:
        """Store in a transaction of our own; repeat under the same id while nobody can tell if it was committed.

        Raises `SchemaOutOfDate` at once: then nothing was stored.
        """
        give_up = self._clock() + REPEAT_FOR_SECONDS
        repeated = False
        reach("submit.before_commit")
        while True:
            try:
                with self._database.autocommit() as connection:
                    stored = self._store(entry, connection, nullcontext)
                # Under an id that nobody else can have named, what a repetition finds is our own first try.
                ours = repeated and entry.options.id is None and stored.lead_id == entry.id
                return replace(stored, created=True) if ours else stored
            except OtherSchema:
                with self._database.autocommit() as connection:
                    check(connection)
                raise
            except StoreUnavailable as error:
                repeated = True
                if self._clock() >= give_up:
                    raise StoreUnavailable(
                        f"{error} The lead may or may not be stored: repeat with submit(lead, id={entry.id}).", entry.id
                    ) from None
                self._wait(_PAUSE_SECONDS)

    def _store(
        self,
        entry: submissions.Entry,
        connection: Connection,
        savepoint: Callable[[], AbstractContextManager[Any]],
    ) -> submissions.Stored:
        """One statement; more only when another transaction was faster with the same id, key or person."""
        payload_hash = entry.lead.payload_hash()
        for _ in range(_RACES):
            try:
                with translated(), savepoint():
                    stored = submissions.submit(connection, entry, payload_hash)
            except TryAgain:
                continue
            except StatementRefused as refusal:
                if refusal.constraint != "idempotency_keys_pkey":
                    raise StoreUnavailable(f"The lead could not be stored: {refusal}.", entry.id) from None
                continue
            stored = stored or submissions.find(connection, entry)
            if stored is not None:
                return _same_payload(stored, payload_hash)
        raise StoreUnavailable("Too many submits of this number at once; submit it again.", entry.id)


def valid_entry(
    lead: Lead | Mapping[str, Any], options: SubmitOptions | Mapping[str, Any], account: str
) -> submissions.Entry:
    """The lead with its options, ready to be stored. Raises `InvalidLead` with the faults of all three arguments."""
    faults: list[FieldError] = []

    def checked(check: Callable[[Any], T], value: object) -> T | None:
        try:
            return check(value)
        except InvalidLead as refusal:
            faults.extend(refusal.errors)
            return None

    valid_lead = checked(Lead.parse, lead)
    valid_options = checked(SubmitOptions.parse, options)
    valid_account = checked(check_account, account)
    if valid_lead is None or valid_options is None or valid_account is None:
        raise InvalidLead(faults)
    return submissions.Entry(valid_options.id or uuid_utils.compat.uuid7(), valid_account, valid_lead, valid_options)


def _is_news(stored: submissions.Stored) -> bool:
    return stored.created and stored.state == "pending"


def _same_payload(stored: submissions.Stored, payload_hash: str) -> submissions.Stored:
    if stored.payload_hash != payload_hash:
        raise IdempotencyConflict(stored.lead_id)
    return stored
