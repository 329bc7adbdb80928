"""Probing: a closed gate whose wait is over asks Voicery's list whether it answers this account at all (section 9)."""

from typing import Protocol

from sqlalchemy import Connection

from dispatcher.answers.outcome import Reason
from dispatcher.logs import events
from dispatcher.resolution.asking import LeadList
from dispatcher.rules.gate import Gate, GateLimits, GateState, after_probe, closed
from dispatcher.store import accounts, gates
from dispatcher.store.database import Database


class Bell(Protocol):
    """Rings a channel. Never raises."""

    def ring(self, account: str, campaign_id: int) -> bool:
        """Say that the channel has work."""


def probe_gates(database: Database, leads: LeadList, bell: Bell, limits: GateLimits, account: str) -> None:
    """Let each gate of the account that is due try one lead, or wait longer. Raises as `LeadList.page`."""
    with database.autocommit() as connection:
        waiting = gates.waiting_for_probe(connection, account)
        any_campaign = accounts.any_campaign(connection, account)
    for campaign_id in waiting:
        ask_about = campaign_id or any_campaign
        answered = _answers(leads, ask_about)
        probed = _move(database, account, campaign_id, limits, answered=answered)
        if campaign_id is not None and not leads.missing:
            if answered:
                _relieve(database, account, campaign_id, limits)
            elif leads.down:
                _spread(database, account, campaign_id, limits)
        events.note("gate.probed", account=account, campaign_id=campaign_id, answered=answered)
        if probed.state is GateState.PROBING and ask_about is not None:
            bell.ring(account, ask_about)


def _answers(leads: LeadList, campaign_id: int | None) -> bool:
    """Whether a lead may try: the list answers, or there is none to ask."""
    if leads.missing or campaign_id is None:
        return True
    return leads.page(campaign_id, None) is not None or leads.missing


def _move(database: Database, account: str, campaign_id: int | None, limits: GateLimits, *, answered: bool) -> Gate:
    def move(connection: Connection) -> Gate:
        gate = gates.lock_one(connection, account, campaign_id)
        probed = after_probe(gate, answered=answered, limits=limits)
        if probed != gate:
            gates.save(connection, probed)
        return probed

    return database.again(move)


def _spread(database: Database, account: str, campaign_id: int, limits: GateLimits) -> None:
    """Close the account for an outage that its list shares with one of its campaigns, unless others get through."""

    def spread(connection: Connection) -> bool:
        of_account, of_channel = gates.lock(connection, account, campaign_id)
        down = of_channel.reason is Reason.OUTAGE and of_account.state is GateState.OPEN
        if not down or gates.accepted_since_closed(connection, account, campaign_id):
            return False
        why = f"Campaign {campaign_id} is held back, and Voicery's list does not answer either."
        gates.save(connection, closed(of_account, Reason.OUTAGE, limits, message=why))
        return True

    if database.again(spread):
        events.warn("gate.closed", account=account, campaign_id=None, reason=Reason.OUTAGE.value)


def _relieve(database: Database, account: str, campaign_id: int, limits: GateLimits) -> None:
    """Let an account that an outage closed try a lead too: the list has just answered one of its campaigns."""

    def relieve(connection: Connection) -> bool:
        of_account, _ = gates.lock(connection, account, campaign_id)
        if of_account.state is not GateState.CLOSED or of_account.reason is not Reason.OUTAGE:
            return False
        gates.save(connection, after_probe(of_account, answered=True, limits=limits))
        return True

    if database.again(relieve):
        events.note("gate.probing", account=account, campaign_id=None, reason=Reason.OUTAGE.value)
