"""The states of a lead, and the only ways from one to another; the letters are those of `docs/states.md`.

The table is the contract. The database enforces it too (a trigger built from `LEGAL_MOVES`), so that neither a bug nor
a person with a SQL prompt can take a lead somewhere it may not go.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a lead is. Each says who moves it on, and what remains if that process dies."""

    PENDING = "pending"
    """Waits for `due_at`. A delivery run claims it. Nothing is in flight; a crash changes nothing."""
    SENDING = "sending"
    """Claimed: lease set, attempt row open. The run records the outcome; if it dies, the sweep makes it `unknown`."""
    UNKNOWN = "unknown"
    """A POST left and its effect is not known. Only a look-up or an operator moves it; never re-sent without proof."""
    ACCEPTED = "accepted"
    """Voicery holds the lead; its ids and statuses are stored. Final."""
    DUPLICATE = "duplicate"
    """Another lead stands for this person; this one calls nobody, unless that one ends without a call (r)."""
    FAILED = "failed"
    """Will not be sent by itself; one open row in `failed_leads` says why. An operator replays or resolves it."""
    CANCELLED = "cancelled"
    """Withdrawn before it was claimed. Final."""


class FailureClass(StrEnum):
    """Why a lead failed; decides what a person may safely do next."""

    REJECTED = "rejected"  # Voicery refused the lead's content: correct it, then replay
    EXHAUSTED = "exhausted"  # never reached Voicery within the attempts and the time: replay is safe
    OUTCOME_UNKNOWN = "outcome_unknown"  # may have worked: look up before anything else
    EXPIRED = "expired"  # `expires_at` passed before a claim: replay is safe, if still wanted
    BUG = "bug"  # a fault of ours before the first byte: report it, replay after the fix
    BLOCKED = "blocked"  # on the list of those who must not be called: replay is refused until it is unblocked


class Resolution(StrEnum):
    """How an open row of `failed_leads` was closed."""

    REPLAYED = "replayed"
    FOUND = "found"
    DISMISSED = "dismissed"
    ERASED = "erased"


LEGAL_MOVES: Final[frozenset[tuple[State, State]]] = frozenset(
    {
        (State.PENDING, State.SENDING),  # c
        (State.SENDING, State.ACCEPTED),  # d
        (State.SENDING, State.PENDING),  # e
        (State.SENDING, State.DUPLICATE),  # f, p
        (State.SENDING, State.FAILED),  # g
        (State.SENDING, State.UNKNOWN),  # h
        (State.UNKNOWN, State.ACCEPTED),  # i, o
        (State.UNKNOWN, State.PENDING),  # j
        (State.UNKNOWN, State.FAILED),  # k, o
        (State.FAILED, State.PENDING),  # l
        (State.PENDING, State.CANCELLED),  # m
        (State.PENDING, State.FAILED),  # m
        (State.FAILED, State.ACCEPTED),  # n
        (State.UNKNOWN, State.DUPLICATE),  # p
        (State.PENDING, State.UNKNOWN),  # q
        (State.DUPLICATE, State.PENDING),  # r
    }
)
BIRTH_STATES: Final[frozenset[State]] = frozenset({State.PENDING, State.DUPLICATE, State.FAILED})  # a, b, s

FINAL_STATES: Final[frozenset[State]] = frozenset({State.ACCEPTED, State.CANCELLED})
LIVE_STATES: Final[frozenset[State]] = frozenset({State.PENDING, State.SENDING, State.UNKNOWN, State.ACCEPTED})
"""States that stand for a person in the duplicate rule; an unresolved failed(`outcome_unknown`) does too."""


def may_move(leaving: State, entering: State) -> bool:
    """Whether the table of states has this edge."""
    return (leaving, entering) in LEGAL_MOVES
