"""One account on a real Postgres, delivered by runs that a test starts, to a Voicery whose answers it decides."""

import json
import time
from collections.abc import Callable
from typing import Any

from dispatcher.decisions.reply import Reply, WireFault
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.delivery import DeliveryRun, Job, Slots
from dispatcher.delivery.recorder import Recorder
from dispatcher.delivery.results import Finished
from dispatcher.delivery.width import Width
from dispatcher.lead.options import Channel
from dispatcher.store.database import Database
from tests.database.queue import CHANNEL, SETTINGS, Queue, ids
from tests.support.doubles import Bell, Rate

DEAD = Reply(status=404, written=True)
HANGS_UP = Reply(fault=WireFault.CLOSED, written=True)
FULL_STOP = Reply(fault=WireFault.REFUSED)


class Voicery:
    """Accepts every lead, but those of `campaigns`, which it answers as said there."""

    def __init__(self) -> None:
        self.campaigns: dict[int, Reply] = {}
        self.posts: list[dict[str, Any]] = []

    def create_lead(self, body: bytes, *, before_write: Callable[[], bool]) -> Reply:
        assert before_write()
        lead = json.loads(body)
        self.posts.append(lead)
        accepted = Reply(status=200, body={"data": {"id": 1000 + len(self.posts)}}, written=True)
        return self.campaigns.get(lead["campaign_id"], accepted)

    def posted(self, campaign_id: int) -> int:
        return sum(lead["campaign_id"] == campaign_id for lead in self.posts)


class World:
    """One account at one Voicery; workers are runs that a test starts one after the other."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queue = Queue(database)
        self.voicery = Voicery()
        self.bell = Bell()
        self.rate = Rate()

    def recorder(self, channel: Channel = CHANNEL) -> Recorder:
        return Recorder(
            self.database, channel, SETTINGS, worker="test:1", uniform=lambda _, high: high, clock=time.monotonic
        )

    def run(self, campaign_id: int = 42, *, slots: int = 4) -> int:
        """One delivery run; the number of leads it claimed."""

        def slots_of(work: Callable[[Job], Finished]) -> Slots[Job, Finished]:
            return Slots(Width(slots), work)

        channel = Channel("default", campaign_id)
        return DeliveryRun(
            channel,
            SETTINGS.model_copy(update={"run_for_seconds": 30.0}),
            recorder=self.recorder(channel),
            client=self.voicery,
            rate=self.rate,
            bell=self.bell,
            slots_of=slots_of,
            clock=time.monotonic,
            stopping=lambda: False,
            wait=lambda _: None,
        ).run()

    def claim(self, wanted: int = 4, campaign_id: int = 42) -> tuple[Claimed, ...]:
        """One turn that claims; the leads that may be POSTed."""
        return self.recorder(Channel("default", campaign_id)).turn((), ids(wanted)).opened

    def gate(self, campaign_id: int | None = None) -> tuple[str, str | None]:
        """State and reason of a gate, open where it has no row."""
        rows = self.queue.rows(
            "SELECT state, reason FROM dispatcher.gates WHERE COALESCE(campaign_id, 0) = :key", key=campaign_id or 0
        )
        return (rows[0].state, rows[0].reason) if rows else ("open", None)
