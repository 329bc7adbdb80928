"""The methods of `Dispatcher` for operators: look at leads, replay, resolve, pause, block and look up.

What a method needs beyond the values that it returns is imported by the method, as in `dispatcher.api`.
"""

import inspect
import os
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ParamSpec, TypeVar, Unpack
from uuid import UUID

from dispatcher.config.account import whoami
from dispatcher.errors import LeadNotFound
from dispatcher.lead.masking import mask_numbers
from dispatcher.lead.options import DEFAULT_ACCOUNT
from dispatcher.operator.failure_filter import MOST_LISTED, FailureFilter, FailureFilters
from dispatcher.wiring import Services, worker_name

if TYPE_CHECKING:
    from dispatcher.lookup.lookup import Finding
    from dispatcher.operator.blocks import Blocks, Unblocked
    from dispatcher.operator.campaigns import Campaigns
    from dispatcher.operator.corrections import Corrections
    from dispatcher.operator.erasure import Erasure
    from dispatcher.operator.failures import FailedLead, FailureGroup
    from dispatcher.operator.inbox_list import Inbox
    from dispatcher.operator.lead_record import LeadRecord
    from dispatcher.operator.leads import Reads
    from dispatcher.operator.operations import Operations
    from dispatcher.operator.overview import Overview, RateUse
    from dispatcher.operator.pause import Resumed
    from dispatcher.operator.person import People
    from dispatcher.operator.recovery import Recovery
    from dispatcher.operator.rekey import Rekeying
    from dispatcher.operator.replay import Replayed
    from dispatcher.operator.resolve import Resolved
    from dispatcher.operator.retention import Pruner
    from dispatcher.store.reading import Reading

P = ParamSpec("P")
R = TypeVar("R")


def _names_filters(method: Callable[P, R]) -> Callable[P, R]:
    """Show each filter of `FailureFilter` as a keyword parameter, in `help` and to `inspect.signature`."""
    own = inspect.signature(method)
    filters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in FailureFilter.parameters().items()
    ]
    others = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    method.__signature__ = own.replace(parameters=[*others, *filters])  # type: ignore[attr-defined]
    return method


class Operating:
    """What `Dispatcher` offers operators, the command line and the console."""

    _services: Services

    def get(self, id: UUID | str) -> "LeadRecord":
        """Return everything known about one lead: its contacts, attempts and failures.

        Args:
            id: the lead's id.

        Raises:
            LeadNotFound: no lead has this id.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> submission = dispatcher.submit({"phone_number": "+14155550100", "campaign_id": 42})
            >>> record = dispatcher.get(submission.id)
            >>> record.state.value, record.attempts
            ('pending', 0)
        """
        return self._services.reads.get(lead_id_of(id))

    def explain(self, id: UUID | str) -> str:
        """Return in plain words why a lead is in its state, and what happens next.

        Args:
            id: the lead's id.

        Raises:
            LeadNotFound: no lead has this id.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> submission = queue.submit({"phone_number": "+14155550100", "campaign_id": 42})
            >>> print(queue.explain(submission.id))
            It was submitted ...
        """
        return self._services.reads.explain(lead_id_of(id))

    def overview(self) -> "Overview":
        """Return the state of the whole queue: leads by state, closed gates, workers, rate limit, sweep.

        Raises:
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> overview = queue.overview()
            >>> overview.counts["failed"].value, overview.gates
            (1, ())
        """
        return self._services.overview()

    @_names_filters
    def failed(self, *, limit: int = MOST_LISTED, **filters: Unpack[FailureFilters]) -> "list[FailedLead]":
        """Return failures, the latest first. Every filter that is given must hold.

        Args:
            limit: the greatest number of failures to return.
            account: the name of the account.
            campaign_id: Voicery's id of the campaign.
            failure_class: why the leads failed, a `FailureClass` or its value, e.g. "rejected" (docs/states.md).
            http_status: the HTTP status that Voicery answered with.
            fingerprint: the cause, as `FailedLead.fingerprint` and `dispatcher failed --group` name it.
            text: occurs in the message, in upper or lower case.
            phone_number: the last digits of the number, or all of it.
            idempotency_key: your name for the submission.
            batch_id: the import or `submit_many` that the leads came with.
            variable: a (name, value) pair of one of the lead's variables; values are compared as text.
            attempts_from: the least number of attempts.
            replayed_before: True: leads that were replayed before and failed again; False: the others.
            submitted_since: submitted at this time or later, an aware datetime.
            submitted_before: submitted before this time.
            failed_since: failed at this time or later.
            failed_before: failed before this time.
            resolved: False: open failures; True: those already replayed, found or dismissed.

        Raises:
            ValueError: `failure_class` is none, or a filter has another name.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> for failure in dispatcher.failed(campaign_id=7, failure_class="rejected"):
            ...     print(failure.http_status, failure.message)
            422 Voicery refused the lead.
        """
        from dispatcher.operator import failures

        return self._services.database.read(failures.matching, FailureFilter.parse(filters), limit=limit)

    @_names_filters
    def failed_groups(self, **filters: Unpack[FailureFilters]) -> "list[FailureGroup]":
        """Return failures grouped by cause, the most frequent cause first. The filters are those of `failed`.

        Raises:
            ValueError: as in `failed`.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> for group in queue.failed_groups():
            ...     print(group.leads, group.message, group.campaigns)
            1 Voicery refused the lead. (7,)
        """
        from dispatcher.operator import failures

        return self._services.database.read(failures.groups, FailureFilter.parse(filters))

    @_names_filters
    def failed_ids(self, **filters: Unpack[FailureFilters]) -> list[UUID]:
        """Return the ids of all failed leads that the filters of `failed` match, the earliest failure first.

        `replay_all` takes them.

        Raises:
            ValueError: as in `failed`.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> len(queue.failed_ids(campaign_id=7))
            1
        """
        from dispatcher.operator import failures

        return self._services.database.read(failures.leads_matching, FailureFilter.parse(filters))

    def replay(
        self,
        id: UUID | str,
        *,
        even_if_called: bool = False,
        not_before: datetime | timedelta | None = None,
        actor: str | None = None,
        note: str | None = None,
    ) -> None:
        """Send a failed lead again, as if it were new.

        Refused where the person may have been called already: Voicery's API has no idempotency key, so a second POST
        is a second call (docs/guarantees.md).

        Args:
            id: the lead's id.
            even_if_called: replay although an earlier POST may have worked; recorded with `actor` in the audit log.
            not_before: earliest delivery, an aware datetime or a timedelta from the database's now.
            actor: who is responsible, e.g. "ada@ops-1". Default: the user of this process at this machine.
            note: why; kept with the failure.

        Raises:
            LeadNotFound: no lead has this id.
            NotAllowed: the lead has not failed, it expires before `not_before`, another live lead stands for its
                person, or an earlier POST may have worked. The last is lifted by `even_if_called`, or for 10 minutes by
                a look-up that proved the lead absent.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> for failure in dispatcher.failed(campaign_id=7):
            ...     dispatcher.replay(failure.lead_id, note="the campaign's assistant was corrected")
            >>> dispatcher.failed(campaign_id=7)
            []
        """
        self._services.failures.replay(
            lead_id_of(id),
            actor=actor or whoami(),
            even_if_called=even_if_called,
            note=note,
            not_before=not_before,
        )

    def replay_all(
        self,
        ids: Iterable[UUID | str],
        *,
        even_if_called: bool = False,
        not_before: datetime | timedelta | None = None,
        actor: str | None = None,
        note: str | None = None,
        dry_run: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> "Replayed":
        """Replay each lead by the rules of `replay`. A refusal is listed with its reason and does not raise.

        Args:
            ids: the leads' ids, e.g. of `failed_ids`.
            even_if_called: as in `replay`.
            not_before: as in `replay`.
            actor: as in `replay`.
            note: as in `replay`.
            dry_run: change nothing; return what would be replayed and refused.
            progress: called after each lead.

        Raises:
            StoreUnavailable: Postgres cannot be reached; the leads before are replayed.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> done = queue.replay_all(queue.failed_ids(campaign_id=7), dry_run=True)
            >>> len(done.replayed), len(done.refused)
            (1, 0)
        """
        return self._services.failures.replay_all(
            map(lead_id_of, ids),
            actor=actor or whoami(),
            even_if_called=even_if_called,
            note=note,
            not_before=not_before,
            dry_run=dry_run,
            progress=progress,
        )

    def resolve(self, id: UUID | str, as_: "Resolved", note: str, actor: str | None = None) -> None:
        """Settle a lead by an operator's decision, without sending it.

        Args:
            id: the lead's id.
            as_: "accepted": Voicery has the lead, whose outcome is unknown; "dismissed": it needs no more attention.
            note: how you know; kept with the lead. Must not be empty.
            actor: who is responsible. Default: the user of this process at this machine.

        Raises:
            LeadNotFound: no lead has this id.
            NotAllowed: the note is empty, or the lead's state leaves nothing to decide.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> (failure,) = dispatcher.failed(campaign_id=7)
            >>> dispatcher.resolve(failure.lead_id, "dismissed", note="the customer called us")
            >>> dispatcher.failed(campaign_id=7)
            []
        """
        self._services.failures.resolve(lead_id_of(id), as_, note=note, actor=actor or whoami())

    def cancel(self, id: UUID | str, actor: str | None = None) -> None:
        """Withdraw a lead that no worker has claimed yet.

        Args:
            id: the lead's id.
            actor: who is responsible. Default: the user of this process at this machine.

        Raises:
            LeadNotFound: no lead has this id.
            NotAllowed: the lead was claimed already, or has ended.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> submission = dispatcher.submit({"phone_number": "+14155550100", "campaign_id": 42})
            >>> dispatcher.cancel(submission.id)
            >>> dispatcher.get(submission.id).state.value
            'cancelled'
        """
        self._services.failures.cancel(lead_id_of(id), actor=actor or whoami())

    def pause(
        self,
        campaign_id: int | None = None,
        account: str = DEFAULT_ACCOUNT,
        reason: str | None = None,
        actor: str | None = None,
    ) -> int:
        """Hold back a campaign, or a whole account, until `resume`. No lead of it is claimed after this returns.

        Args:
            campaign_id: Voicery's id of the campaign, 1 to 2**63-1. Default: the whole account.
            account: the name of the account.
            reason: shown by `dispatcher status` and the console.
            actor: who is responsible. Default: the user of this process at this machine.

        Returns:
            The number of leads that workers claimed before: their POSTs end within `DISPATCHER_DEADLINE` seconds.

        Raises:
            NotAllowed: no account can have this name, or no campaign this id.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> dispatcher.pause(campaign_id=42, reason="the script is being changed")
            0
        """
        return self._services.gates.pause(campaign_id, account, reason=reason, actor=actor or whoami())

    def resume(
        self, campaign_id: int | None = None, account: str = DEFAULT_ACCOUNT, actor: str | None = None
    ) -> "Resumed":
        """Open the gate of a campaign, or of an account, whether `pause` or failures closed it.

        Args:
            campaign_id: Voicery's id of the campaign, 1 to 2**63-1. Default: the account's gate, and those gates of its
                campaigns that failures closed; a campaign that was paused stays paused.
            account: the name of the account.
            actor: who is responsible. Default: the user of this process at this machine.

        Returns:
            The gates that were opened, with the reason each was closed for, and the campaigns that stay paused.

        Raises:
            NotAllowed: no account can have this name, or no campaign this id.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> dispatcher.pause(campaign_id=42)
            0
            >>> [gate.reason.value for gate in dispatcher.resume(campaign_id=42).opened]
            ['paused']
        """
        return self._services.gates.resume(campaign_id, account, actor=actor or whoami())

    def block(
        self,
        phone_number: str,
        *,
        reason: str | None = None,
        source: str | None = None,
        until: datetime | timedelta | None = None,
        account: str | None = None,
        hash_only: bool = False,
        actor: str | None = None,
    ) -> bool:
        """Have nobody call a number. Once this has returned no lead to it is claimed; one claimed before is still sent.

        Leads that meet the block end as failed (`blocked`); nothing but `unblock` overrules it.

        Args:
            phone_number: the number, with + and the country code.
            reason: why, e.g. "asked by phone", up to 200 characters; the failures of its leads show it.
            source: where that is known from, e.g. "crm", up to 200 characters.
            until: an aware datetime, or a timedelta from the database's now. Default: for good.
            account: only leads of this account. Default: of all.
            hash_only: keep the keyed hash and not the number; needs `DISPATCHER_PRIVACY_KEY`.
            actor: who is responsible. Default: the user of this process at this machine.

        Returns:
            False if the number was blocked already, as long or longer; nothing was changed then.

        Raises:
            InvalidLead: it is not a phone number.
            NotAllowed: the account, the reason, the source or the time is not valid.
            NotConfigured: the key that `hash_only` needs is missing, or is not that of the blocks before.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> dispatcher.block("+12025550199", reason="asked by phone", source="crm")
            True
            >>> refused = dispatcher.submit(dispatcher.Lead(phone_number="+12025550199", campaign_id=42))
            >>> refused.state, dispatcher.get(refused.id).failure_class.value
            ('failed', 'blocked')
        """
        from dispatcher.operator.block_list import BlockTerms

        terms = BlockTerms(actor or whoami(), reason, source, account, until, hash_only)
        return self._services.blocks.add(phone_number, terms)

    def unblock(self, phone_number: str, *, account: str | None = None, actor: str | None = None) -> "Unblocked":
        """Remove the block of a number. The leads that it stopped can be replayed then; nothing is sent by itself.

        Args:
            phone_number: the number, with + and the country code.
            account: remove the block for this account. Default: the one for all accounts.
            actor: who is responsible. Default: the user of this process at this machine.

        Returns:
            The blocks that were removed, those of other scopes that are left, and the number of its failed leads.

        Raises:
            InvalidLead: it is not a phone number.
            NotAllowed: the number is not blocked for this scope.
            NotConfigured: this process lacks the key without which it cannot tell who is blocked.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> dispatcher.block("+12025550197")
            True
            >>> dispatcher.unblock("+12025550197").left
            ()
            >>> dispatcher.is_blocked("+12025550197")
            False
        """
        return self._services.blocks.remove(phone_number, actor=actor or whoami(), account=account)

    def is_blocked(self, phone_number: str, account: str = DEFAULT_ACCOUNT) -> bool:
        """Return whether leads of an account to this number are held back now.

        Args:
            phone_number: the number, with + and the country code.
            account: the name of the account.

        Raises:
            InvalidLead: it is not a phone number.
            NotAllowed: no account can have this name.
            NotConfigured: this process lacks the key without which it cannot tell who is blocked.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> dispatcher.is_blocked("+12025550198")
            False
        """
        return self._services.blocks.is_blocked(phone_number, account)

    def look_up(self, ids: Iterable[UUID | str] | None = None, *, most: int = 100) -> "list[Finding]":
        """Ask Voicery now whether leads arrived whose answer was lost. Each request counts against the rate limit.

        Args:
            ids: the leads to ask about; those whose outcome is known are left out. Default: the next `most` of all
                whose outcome is unknown.
            most: the greatest number of leads without `ids`.

        Raises:
            LeadNotFound: no lead has one of these ids.
            NotConfigured: a setting is missing, e.g. the token.
            LimiterUnavailable: Redis, which keeps the rate limit, cannot be reached; nothing was asked.
            NoPermit: the rate limit left no permit in time.
            StoreUnavailable: Postgres cannot be reached.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> [finding.verdict for finding in queue.look_up(most=10)]
            []
        """
        from dispatcher.lookup import doubts
        from dispatcher.worker.deliverer import Deliverer

        with self._services.database.autocommit() as connection:
            wanted = doubts.unknown_ids(connection, None, most=most) if ids is None else list(map(lead_id_of, ids))
            by_account = doubts.by_account(connection, wanted)
        deliverer = Deliverer(self._services, stopping=lambda: False, worker=worker_name(os.getpid()))
        return [finding for account, its_ids in by_account.items() for finding in deliverer.look_up(account, its_ids)]

    @property
    def operations(self) -> "Operations":
        """Bulk work that is stored and done by the workers."""
        return self._services.operations

    @property
    def corrections(self) -> "Corrections":
        """Correcting a failed lead, and sending it again."""
        return self._services.corrections

    @property
    def blocks(self) -> "Blocks":
        """The list of persons who must not be called."""
        return self._services.blocks

    @property
    def inbox(self) -> "Inbox":
        """What was submitted by SQL and waits, or was rejected."""
        return self._services.inbox

    @property
    def campaigns(self) -> "Campaigns":
        """The campaigns and their limits."""
        return self._services.campaigns

    @property
    def pruner(self) -> "Pruner":
        """Deleting what ended long ago."""
        return self._services.pruner

    @property
    def rekeying(self) -> "Rekeying":
        """Encrypting what is stored, under the first key."""
        return self._services.rekeying

    @property
    def recovery(self) -> "Recovery":
        """Holding what may have been sent since a backup, or before a failover."""
        return self._services.recovery

    @property
    def erasure(self) -> "Erasure":
        """Erasing a person."""
        return self._services.erasure

    @property
    def people(self) -> "People":
        """What is held of a person."""
        return self._services.people

    @property
    def reading(self) -> "Reading":
        """Where lists are read that may be as old as the replica of `DATABASE_READ_URL` is behind."""
        return self._services.reading

    @property
    def reads(self) -> "Reads":
        """Reads leads by id or any filter, and the whole queue."""
        return self._services.reads

    def rate_use(self) -> "tuple[RateUse, ...] | None":
        """Return the use of each window of the rate limit; empty without a limit, None without Redis.

        Example:
            >>> queue = dispatcher.Dispatcher(dispatcher.Settings.from_environment())
            >>> [(use.account, use.permits, use.seconds, use.used) for use in queue.rate_use()]
            [('default', 100, 60.0, 0), ('default', 20, 10.0, 0)]
        """
        return self._services.rate_use()


def lead_id_of(id: UUID | str) -> UUID:
    """Return the id; raise `LeadNotFound` if this is none."""
    if isinstance(id, UUID):
        return id
    try:
        return UUID(id)
    except (ValueError, AttributeError, TypeError):
        raise LeadNotFound(mask_numbers(str(id))) from None  # it may be a phone number
