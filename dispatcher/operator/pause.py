"""Pause and resume an account, or one campaign of it."""

from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from dispatcher.decisions.gate import Gate, GateState
from dispatcher.decisions.outcome import Reason
from dispatcher.delivery import gates
from dispatcher.errors import NotAllowed
from dispatcher.lead.options import ACCOUNT_NAME, MAX_CAMPAIGN_ID
from dispatcher.store import audit
from dispatcher.store.database import Database


def check_scope(account: str, campaign_id: int | None) -> None:
    """Raise `NotAllowed` for an invalid account name or campaign id."""
    if ACCOUNT_NAME.fullmatch(account) is None:
        raise NotAllowed("The account is not a name of an account; use 1 to 40 of a-z, 0-9 and _.")
    if campaign_id is not None and not 1 <= campaign_id <= MAX_CAMPAIGN_ID:
        raise NotAllowed("The campaign's id is not between 1 and 2**63-1; pass it as Voicery shows it, e.g. 42.")


DEFAULT_REASON: Final = "no reason given"


@dataclass(frozen=True, slots=True)
class Opened:
    """A gate that `resume` opened, and the reason for which it had been closed."""

    account: str
    campaign_id: int | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class Resumed:
    """The gates that `resume` opened, and the campaigns that stay paused because an operator paused each of them."""

    opened: tuple[Opened, ...] = ()
    still_paused: tuple[int, ...] = ()


class GateKeeper:
    """Pauses and resumes. `actor` is written to the audit log, e.g. `ada@ops-1`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pause(self, campaign_id: int | None, account: str, *, reason: str | None, actor: str) -> int:
        """Stop claims of a campaign, or with `campaign_id` None of the whole account, until `resume`.

        Return the number of leads that are still being sent: they were claimed before, and their requests end within
        the deadline. No lead is claimed after this has returned. Raises `NotAllowed` for an invalid scope.
        """
        check_scope(account, campaign_id)
        note = (reason or "").strip() or DEFAULT_REASON
        return self._database.again(lambda connection: self._pause(connection, campaign_id, account, note, actor))

    def resume(self, campaign_id: int | None, account: str, *, actor: str) -> Resumed:
        """Open the gate of a campaign, or of the account, whatever the reason it was closed for.

        For an account, also open the gates of its campaigns that were closed automatically; campaigns that an operator
        paused stay paused.
        """
        check_scope(account, campaign_id)
        return self._database.again(lambda connection: self._resume(connection, campaign_id, account, actor))

    def _pause(self, connection: Connection, campaign_id: int | None, account: str, note: str, actor: str) -> int:
        gates.hold_claims(connection, account)
        gates.ensure(connection, account, campaign_id)
        (gate,) = (one for one in gates.lock_all(connection, account) if one.campaign_id == campaign_id)
        gates.save(
            connection,
            replace(gate, state=GateState.CLOSED, reason=Reason.PAUSED, wait_seconds=None, by=actor, note=note),
        )
        on_their_way = gates.on_their_way(connection, account, campaign_id)
        detail = {"reason": note, "on_their_way": on_their_way, "was": gate.state, "was_reason": gate.reason}
        audit.note(connection, actor, "pause", _subject(account, campaign_id), detail)
        return on_their_way

    def _resume(self, connection: Connection, campaign_id: int | None, account: str, actor: str) -> Resumed:
        shut = [gate for gate in gates.lock_all(connection, account) if gate.state is not GateState.OPEN]
        meant = [gate for gate in shut if _means(gate, campaign_id)]
        for gate in meant:
            gates.save(connection, Gate(gate.account, gate.campaign_id))
        opened = tuple(Opened(gate.account, gate.campaign_id, gate.reason) for gate in meant if gate.reason is not None)
        beside = [gate for gate in shut if campaign_id is None and gate not in meant]
        still_paused = tuple(gate.campaign_id for gate in beside if gate.campaign_id is not None)
        detail = {"opened": [{"campaign_id": one.campaign_id, "reason": one.reason} for one in opened]}
        audit.note(connection, actor, "resume", _subject(account, campaign_id), detail)
        return Resumed(opened, still_paused)


def _means(gate: Gate, campaign_id: int | None) -> bool:
    """Return whether resuming this scope opens this gate."""
    if gate.campaign_id == campaign_id:
        return True
    return campaign_id is None and gate.reason is not Reason.PAUSED


def _subject(account: str, campaign_id: int | None) -> str:
    return f"account:{account}" + ("" if campaign_id is None else f"/campaign:{campaign_id}")
