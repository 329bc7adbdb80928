"""Probe the closed gates of an account by a request to Voicery's list."""

from sqlalchemy import Connection

from dispatcher.broker.doorbell import Bell
from dispatcher.decisions.gate import Gate, GateLimits, GateState, after_probe, closed
from dispatcher.decisions.outcome import Reason
from dispatcher.delivery import gates
from dispatcher.lead.options import Channel
from dispatcher.logs import events
from dispatcher.lookup.asking import LeadList
from dispatcher.store import accounts
from dispatcher.store.database import Database


def probe_gates(database: Database, leads: LeadList, bell: Bell, limits: GateLimits, account: str) -> None:
    """Probe the due gates of the account: each lets one lead through, or waits longer. Raises as `LeadList.page`.

    The list is requested once, for the campaign whose leads are most likely to be accepted: many gates that are due at
    once must not use up the look-ups' share of the rate.
    """
    with database.autocommit() as connection:
        waiting = gates.waiting_for_probe(connection, account)
        if not waiting:
            return
        likeliest = gates.likeliest(connection, account)
        ask_about = likeliest or waiting[-1] or accounts.any_campaign(connection, account)
    answered = _answers(leads, ask_about)
    for campaign_id in waiting:
        probed = _move(database, account, campaign_id, limits, answered=answered)
        if campaign_id is not None and not leads.missing:
            if answered:
                _relieve(database, Channel(account, campaign_id), limits)
            elif leads.down:
                _spread(database, Channel(account, campaign_id), limits)
        events.info("gate.probed", account=account, campaign_id=campaign_id, answered=answered)
        if probed.state is GateState.PROBING and campaign_id is not None:
            bell.ring(Channel(account, campaign_id))
    if None in waiting and likeliest is not None:
        bell.ring(Channel(account, likeliest))


def _answers(leads: LeadList, campaign_id: int | None) -> bool:
    """Return whether a lead may be tried: the list answers, or there is no list."""
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


def _spread(database: Database, channel: Channel, limits: GateLimits) -> None:
    """Close the account for an outage that its list shares with one of its campaigns, unless others are accepted."""

    def spread(connection: Connection) -> bool:
        of_account, of_channel = gates.lock(connection, channel)
        down = of_channel.reason is Reason.OUTAGE and of_account.state is GateState.OPEN
        if not down or gates.accepted_since_failing(connection, channel):
            return False
        why = f"Campaign {channel.campaign_id} is held back, and Voicery's list does not answer either."
        gates.save(connection, closed(of_account, Reason.OUTAGE, limits, message=why))
        return True

    if database.again(spread):
        events.warning("gate.closed", account=channel.account, campaign_id=None, reason=Reason.OUTAGE.value)


def _relieve(database: Database, channel: Channel, limits: GateLimits) -> None:
    """Let an account that an outage closed probe too: the list has answered for one of its campaigns."""

    def relieve(connection: Connection) -> bool:
        of_account, _ = gates.lock(connection, channel)
        if of_account.state is not GateState.CLOSED or of_account.reason is not Reason.OUTAGE:
            return False
        gates.save(connection, after_probe(of_account, answered=True, limits=limits))
        return True

    if database.again(relieve):
        events.info("gate.probing", account=channel.account, campaign_id=None, reason=Reason.OUTAGE.value)
