"""The queue as tests see it: leads in, claims and results through the store, rows out."""

import uuid
from typing import Any

import uuid_utils.compat
from sqlalchemy import Connection

from dispatcher.config.settings import Settings
from dispatcher.decisions.outcome import Kind, Outcome
from dispatcher.decisions.policy import Move
from dispatcher.decisions.states import FailureClass, State
from dispatcher.delivery import claims, results
from dispatcher.delivery.claimed import Claimed
from dispatcher.delivery.claims import Claim, Claimer
from dispatcher.delivery.results import Recorded, Result
from dispatcher.lead.options import Channel
from tests.support.rows import Store

CHANNEL = Channel("default", 42)
SETTINGS = Settings()


def claim(connection: Connection, wanted: int = 1, channel: Channel = CHANNEL, *, probing: bool = False) -> Claim:
    """Claim as a worker does."""
    claimer = Claimer(channel, SETTINGS, "test:1")
    return claimer.park(connection, claimer.claim(connection, ids(wanted), probing=probing))


def phone(number: int) -> str:
    """One of the numbers that nobody has: 100 for each of many areas."""
    area, line = divmod(number, 100)
    return f"+1{202 + area}5550{100 + line:03d}"


def ids(count: int) -> list[uuid.UUID]:
    """Ids as workers make them."""
    return [uuid_utils.compat.uuid7() for _ in range(count)]


def result(
    claimed: Claimed,
    state: State,
    kind: Kind,
    *,
    failure_class: FailureClass | None = None,
    due_in: float = 0.0,
    give_back: bool = False,
    ended_ago: float = 0.0,
    settle: float = 0.0,
    **outcome: Any,
) -> Result:
    """What a worker would record for a claimed lead; `outcome`: further fields of the `Outcome`."""
    return Result(
        claimed,
        Outcome(kind, **{"message": "A sentence.", **outcome}),
        Move(state, failure_class, due_in if state is State.PENDING else None, give_back),
        took=0.0,
        ended_ago=ended_ago,
        settle=settle,
    )


def accepted(claimed: Claimed, voicery_lead_id: int = 1001, **more: Any) -> Result:
    """A yes."""
    return result(
        claimed,
        State.ACCEPTED,
        Kind.ACCEPTED,
        **{"voicery_lead_id": voicery_lead_id, "voicery_status": "created", **more},
    )


def rejected(claimed: Claimed, **more: Any) -> Result:
    """A no."""
    return result(
        claimed,
        State.FAILED,
        Kind.REJECTED,
        **{"failure_class": FailureClass.REJECTED, "fingerprint": "f", "http_status": 422, **more},
    )


def unknown(claimed: Claimed, **more: Any) -> Result:
    """No answer."""
    return result(claimed, State.UNKNOWN, Kind.UNKNOWN, **more)


class Queue(Store):
    """One database, as producers and workers use it."""

    def put(self, number: int = 0, state: str = "pending", *, due_in: float = -1.0, **columns: Any) -> uuid.UUID:
        """A lead of `phone(number)`, due for a second."""
        due_at = f"now() + make_interval(secs => {due_in})"
        return self.insert_lead({"due_at": due_at}, phone_number=phone(number), state=state, **columns)

    def claim(self, wanted: int = 1, channel: Channel = CHANNEL, *, probing: bool = False) -> Claim:
        """Claim and commit."""
        with self.database.transaction() as connection:
            claims.hold_pauses(connection, channel.account)
            return claim(connection, wanted, channel, probing=probing)

    def claimed(self, number: int = 0, **columns: Any) -> Claimed:
        """A lead on its way."""
        lead_id = self.put(number, **columns)
        (one,) = self.claim().opened
        assert one.lead_id == lead_id
        return one

    def record(self, *rows: Result) -> Recorded:
        """Record and commit."""
        with self.database.transaction() as connection:
            return results.record(connection, rows)

    def lead(self, lead_id: uuid.UUID) -> Any:
        """The row of a lead."""
        return self.one("SELECT * FROM dispatcher.leads WHERE id = :id", id=lead_id)

    def attempt(self, attempt_id: uuid.UUID) -> Any:
        """The row of an attempt."""
        return self.one("SELECT * FROM dispatcher.lead_attempts WHERE id = :id", id=attempt_id)

    def states(self) -> dict[str, int]:
        """How many leads are in each state."""
        return {
            row.state: row.n for row in self.rows("SELECT state, count(*) AS n FROM dispatcher.leads GROUP BY state")
        }

    def gate(
        self, state: str, reason: str | None, campaign_id: int | None = None, *, until_in: float | None = None
    ) -> None:
        """A gate of the account, or of a channel; `until_in` seconds from now."""
        self.run(
            """
            INSERT INTO dispatcher.gates (account, campaign_id, state, reason, until)
            VALUES ('default', CAST(:campaign_id AS bigint), :state, CAST(:reason AS text),
                now() + make_interval(secs => CAST(:until_in AS float8)))
            ON CONFLICT (account, COALESCE(campaign_id, 0))
            DO UPDATE SET state = excluded.state, reason = excluded.reason, until = excluded.until
            """,
            campaign_id=campaign_id,
            state=state,
            reason=reason,
            until_in=until_in,
        )
