"""Announcing leads that were stored in a caller's session: once per channel, when its transaction is committed."""

from typing import Final, Protocol

from sqlalchemy import event
from sqlalchemy.orm import Session

_KEY: Final = "dispatcher.announcement"


class Bell(Protocol):
    """Says that a channel has work. May fail silently: the sweep rings too."""

    def ring(self, account: str, campaign_id: int) -> bool:
        """Whether the bell is now rung."""
        ...


class Announcement:
    """The channels that a session's next commit announces. One for each session, kept in its `info`.

    A savepoint that is rolled back may leave a channel here: a ring too many is harmless.
    """

    def __init__(self, session: Session, bell: Bell) -> None:
        self._bell = bell
        self._channels: dict[tuple[str, int], None] = {}
        event.listen(session, "after_commit", self._committed)
        event.listen(session, "after_rollback", self._rolled_back)

    @classmethod
    def of(cls, session: Session, bell: Bell) -> "Announcement":
        """The announcement of this session and bell, made by the first call."""
        known: dict[Bell, Announcement] = session.info.setdefault(_KEY, {})
        if bell not in known:
            known[bell] = cls(session, bell)
        return known[bell]

    def add(self, account: str, campaign_id: int) -> None:
        """Ring this channel after the commit."""
        self._channels[account, campaign_id] = None

    def _committed(self, session: Session) -> None:
        # Also called when a savepoint is released, while nobody else can see anything yet.
        if session.in_nested_transaction():
            return
        channels, self._channels = self._channels, {}
        for account, campaign_id in channels:
            self._bell.ring(account, campaign_id)

    def _rolled_back(self, session: Session) -> None:
        if not session.in_nested_transaction():
            self._channels.clear()
