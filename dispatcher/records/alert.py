"""An alert as a value: what a person should hear of, how it is worded, and how its receiver can trust it.

It names ids, accounts, campaigns and reasons; never a number, a variable or a text of Voicery's.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never
from uuid import UUID

import orjson

SIGNATURE_HEADER: Final = "Dispatcher-Signature"
ID_HEADER: Final = "Dispatcher-Alert-Id"
VERSION: Final = 1


class AlertKind(StrEnum):
    """What there are alerts for."""

    OUTCOME_UNKNOWN = "outcome_unknown"  # leads failed, and nobody knows whether they were called
    INCIDENT = "incident"  # something that must never happen
    GATE_CLOSED = "gate_closed"  # leads are held back; neither a pause nor a rate limit


@dataclass(frozen=True, slots=True)
class Alert:
    """Everything of one cause since its last alert. `id` is the first's and stays the same when it is sent again."""

    id: int
    kind: AlertKind
    account: str | None
    campaign_id: int | None
    reason: str | None
    lead_id: UUID | None
    count: int
    first_at: datetime
    last_at: datetime
    tries: int = 1

    @property
    def text(self) -> str:
        """One plain sentence."""
        match self.kind:
            case AlertKind.OUTCOME_UNKNOWN:
                leads = "1 lead has" if self.count == 1 else f"{self.count} leads have"
                return (
                    f"{leads} failed as outcome_unknown in campaign {self.campaign_id} of account {self.account}: "
                    "whether the person was called is not known. See `dispatcher failed --class outcome_unknown`."
                )
            case AlertKind.INCIDENT:
                times = "" if self.count == 1 else f" ({self.count} times)"
                return f"Incident {self.reason}{times}. See `dispatcher show {self.lead_id}`."
            case AlertKind.GATE_CLOSED:
                where = f"account {self.account}"
                if self.campaign_id is not None:
                    where = f"campaign {self.campaign_id} of {where}"
                return f"Leads of {where} are held back: {self.reason}. See `dispatcher status`."
            case _:
                assert_never(self.kind)

    def body(self) -> bytes:
        """The request's body: JSON. `text` alone suffices for receivers like Slack."""
        return orjson.dumps(
            {
                "version": VERSION,
                "id": str(self.id),
                "kind": self.kind,
                "text": self.text,
                "account": self.account,
                "campaign_id": self.campaign_id,
                "reason": self.reason,
                "lead_id": None if self.lead_id is None else str(self.lead_id),
                "count": self.count,
                "first_at": self.first_at.isoformat(),
                "last_at": self.last_at.isoformat(),
            }
        )


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """The value of `Dispatcher-Signature`: `t=<unix seconds>,v1=<hex>`, HMAC-SHA256 over `<t>.<body>`.

    A receiver computes it anew, compares in constant time, and refuses a `t` that is minutes old.
    """
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"
