"""Probing: a closed gate whose wait is over asks Voicery's list whether it answers this account at all (section 9)."""

from typing import Protocol

from sqlalchemy import Connection

from dispatcher.logs import events
from dispatcher.resolution.asking import LeadList
from dispatcher.rules.gate import Gate, GateLimits, GateState, after_probe
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
