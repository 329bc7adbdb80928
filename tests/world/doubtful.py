"""A queue on a real Postgres, the real client and delivery run, and a sandbox that loses answers and lies in its list.

Time passes by moving everything that is stored into the past.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dispatcher.config.settings import Settings
from dispatcher.decisions.absence import OnUnknown
from dispatcher.decisions.reply import Reply
from dispatcher.delivery.delivery import DeliveryRun, Slots
from dispatcher.delivery.recorder import Recorder
from dispatcher.delivery.width import Width
from dispatcher.lead.options import Channel
from dispatcher.lookup.lookup import Finding, LookUpRun
from dispatcher.sandbox.fault import FaultName, Rule, When
from dispatcher.sandbox.server import Sandbox
from dispatcher.voicery.client import VoiceryClient
from tests.database.queue import Queue, phone
from tests.support.doubles import Bell, Rate
from tests.voicery.conftest import CLOCKS

SETTLE = 120.0
CAMPAIGN = 42
ADA = 7  # the number of the person whose answer is lost
MOVED = {
    "leads": ("due_at", "expires_at", "first_attempt_at", "lease_until", "created_at", "finished_at", "proven_at"),
    "gates": ("closed_at", "until", "moved_at"),
    "failed_leads": ("failed_at", "resolved_at"),
}


@dataclass(frozen=True)
class Terms:
    """The settings of a world that its tests differ in."""

    on_unknown: OnUnknown = OnUnknown.AUTO
    reference_variable: str | None = None
    token: str = "token-of-the-first-workspace"


class Doubtful:
    """One account. Numbers of persons are those of `tests.database.queue.phone`."""

    def __init__(self, queue: Queue, sandbox: Sandbox, terms: Terms) -> None:
        self.queue = queue
        self.sandbox = sandbox
        self.settings = Settings(
            settle_seconds=SETTLE,
            on_unknown=terms.on_unknown,
            reference_variable=terms.reference_variable,
            run_for_seconds=5,
        )
        self.clients: list[VoiceryClient] = []
        self.use_token(terms.token)
        self.bell = Bell()
        self.rate = Rate()

    def use_token(self, token: str) -> None:
        """Send and ask with this token from now on."""
        self.token = token
        client = VoiceryClient(base_url=self.sandbox.base_url, token=lambda: token, **CLOCKS)
        self.client: VoiceryClient | ListShownAs = client
        self.clients.append(client)

    # Delivery ---------------------------------------------------------------------------------------------------------

    def deliver(self, campaign_id: int = CAMPAIGN) -> int:
        """Send what is due in a campaign. Returns how many leads were claimed."""
        channel = Channel("default", campaign_id)
        recorder = Recorder(
            self.queue.database,
            channel,
            self.settings,
            worker="test:1",
            uniform=lambda low, _high: low,
            clock=time.monotonic,
            token=self.token,
        )
        run = DeliveryRun(
            channel,
            self.settings,
            recorder=recorder,
            client=self.client,
            rate=self.rate,  # type: ignore[arg-type]
            bell=self.bell,  # type: ignore[arg-type]
            slots_of=lambda work: Slots(Width(4), work),
            clock=time.monotonic,
            stopping=lambda: False,
        )
        return run.run()

    def submit(self, number: int, *, flag: bool = False, campaign_id: int = CAMPAIGN, **columns: Any) -> uuid.UUID:
        variables = columns.pop("variables", f'{{"customer_name": "Person {number}"}}')
        return self.queue.put(number, allow_dupplicate=flag, campaign_id=campaign_id, variables=variables, **columns)

    def accept(self, *numbers: int, campaign_id: int = CAMPAIGN) -> list[int]:
        """Leads that Voicery accepts, one after the other. Returns their ids at Voicery."""
        leads = []
        for number in numbers:
            leads.append(self.submit(number, campaign_id=campaign_id))
            self.deliver(campaign_id)
            self.later(1)
        return [self.queue.lead(lead_id).voicery_lead_id for lead_id in leads]

    def lose(
        self, *, created: bool, number: int = ADA, campaign_id: int = CAMPAIGN, rule: Rule | None = None, **lead: Any
    ) -> uuid.UUID:
        """A lead whose answer is lost, after Voicery created it or before."""
        lead_id = self.submit(number, campaign_id=campaign_id, **lead)
        self.sandbox.faults.add(
            rule or Rule(fault=FaultName.CLOSE, when=When.AFTER if created else When.BEFORE, phone=_digits(number))
        )
        self.deliver(campaign_id)
        self.later(1)
        assert self.queue.lead(lead_id).state == "unknown"
        return lead_id

    def later(self, seconds: float) -> None:
        """So many seconds pass."""
        for table, columns in MOVED.items():
            moves = ", ".join(f"{column} = {column} - make_interval(secs => :seconds)" for column in columns)
            self.queue.run(f"UPDATE dispatcher.{table} SET {moves}", seconds=seconds)
        self.queue.run(
            """
            UPDATE dispatcher.lead_attempts
            SET started_at = started_at - make_interval(secs => :seconds),
                ended_at = ended_at - make_interval(secs => :seconds),
                finished_at = finished_at - make_interval(secs => :seconds),
                evidence = CASE WHEN evidence ? 'lookups' THEN evidence || jsonb_build_object('lookups', (
                    SELECT jsonb_agg(one || jsonb_build_object('at',
                        CAST(one ->> 'at' AS timestamptz) - make_interval(secs => :seconds)) ORDER BY place)
                    FROM jsonb_array_elements(evidence -> 'lookups') WITH ORDINALITY AS look (one, place)))
                    ELSE evidence END || CASE WHEN evidence ? 'reopened_at' THEN jsonb_build_object('reopened_at',
                        CAST(evidence ->> 'reopened_at' AS timestamptz) - make_interval(secs => :seconds)) ELSE '{}' END
            """,
            seconds=seconds,
        )

    # Look-ups ---------------------------------------------------------------------------------------------------------

    def look(self, **settings: Any) -> int:
        """Look up what is due."""
        return self.resolution(**settings).run()

    def look_up(self, lead_id: uuid.UUID) -> Finding:
        """Look one lead up, due or not."""
        (finding,) = self.resolution().look_up([lead_id])
        return finding

    def show_list_as(self, change: Callable[..., Any]) -> None:
        """From now on the list is what `change` makes of the body of each answer."""
        self.client = ListShownAs(self.clients[-1], change)

    def resolution(self, **settings: Any) -> LookUpRun:
        return LookUpRun(
            self.queue.database,
            self.settings.model_copy(update=settings),
            self.client,
            self.rate,  # type: ignore[arg-type]
            self.bell,  # type: ignore[arg-type]
            account="default",
            token=self.token,
            clock=lambda: 0.0,
            stopping=lambda: False,
            wait=lambda _seconds: None,
        )

    def look_twice(self) -> None:
        """Two look-ups, each a settle time after what came before."""
        for _ in range(2):
            self.later(SETTLE)
            self.look()

    def sent_to(self, number: int = ADA) -> int:
        """How many POSTs of this person arrived."""
        return sum(entry.method == "POST" and entry.body["phone_number"] == phone(number) for entry in self.sandbox.log)

    def created(self, number: int = ADA) -> int:
        """How many leads Voicery has of this person, in any campaign."""
        return sum(lead.phone_number == phone(number) for lead in self.sandbox.leads)

    def missing(self, lead_id: uuid.UUID) -> str:
        """What the last look-up says is missing for a proof."""
        attempt = self.queue.attempt(self.queue.lead(lead_id).attempt_id)
        looks = attempt.evidence.get("lookups", [])
        return str(looks[-1].get("missing", "")) if looks else ""


class ListShownAs:
    """A client whose list is what `change` makes of the body of each answer; the query is given by name."""

    def __init__(self, client: VoiceryClient, change: Callable[..., Any]) -> None:
        self._client = client
        self._change = change

    def create_lead(self, *body: Any, **options: Any) -> Reply:
        return self._client.create_lead(*body, **options)

    def list_leads(self, **query: Any) -> Reply:
        reply = self._client.list_leads(**query)
        return replace(reply, body=self._change(reply.body, **query))


@contextmanager
def doubtful(queue: Queue, terms: Terms | None = None, **options: Any) -> Iterator[Doubtful]:
    """A world with a sandbox of its own."""
    with Sandbox(**options) as sandbox:
        world = Doubtful(queue, sandbox, terms or Terms())
        try:
            yield world
        finally:
            for client in world.clients:
                client.close()


def _digits(number: int) -> str:
    return phone(number).removeprefix("+")
