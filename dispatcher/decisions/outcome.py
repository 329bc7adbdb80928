"""What an attempt turned out to be: one pure function from a reply to an outcome.

The one question behind every row is *may the POST have had an effect?* Where the answer is not a proven no, the outcome
is `UNKNOWN` or `CREATED_ID_UNKNOWN`, and nobody is called again before somebody has looked.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final

from dispatcher.decisions.evidence import first_field_error, said, speaks_of_duplicate
from dispatcher.decisions.reply import (
    BodyFault,
    CreatedContact,
    Reply,
    WireFault,
    created_data,
    is_number,
    match_contacts,
    same_number,
    text_of,
    usable_id,
)

_NUMBERS: Final = re.compile(r"\d+")
_VALUES: Final = re.compile(r"\"[^\"]*\"|'[^']*'|\S+@\S+")


class Kind(StrEnum):
    """What an attempt turned out to be; stored as `lead_attempts.outcome`."""

    ACCEPTED = "accepted"
    CREATED_ID_UNKNOWN = "created_id_unknown"  # Voicery said yes, but not which id
    UNKNOWN = "unknown"  # sent, and no usable answer
    NOT_SENT = "not_sent"  # proven: its last byte never left this machine
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    NO_BALANCE = "no_balance"
    FORBIDDEN = "forbidden"
    MISCONFIGURED = "misconfigured"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    BUG = "bug"  # an error of ours before the first byte
    GIVEN_BACK = "given_back"  # no byte left: too little of the lease remained, or the worker was stopping


IN_DOUBT: Final = frozenset({Kind.UNKNOWN, Kind.CREATED_ID_UNKNOWN})
"""After these the person may have been called."""


class Reason(StrEnum):
    """Why a gate is closed."""

    PAUSED = "paused"
    THROTTLED = "throttled"
    OUTAGE = "outage"
    UNAUTHORIZED = "unauthorized"
    NO_BALANCE = "no_balance"
    FORBIDDEN = "forbidden"
    MISCONFIGURED = "misconfigured"
    REJECTING = "rejecting"


class Scope(StrEnum):
    """How far a gate reaches."""

    CHANNEL = "channel"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Signal:
    """What an outcome says about a gate."""

    reason: Reason
    scope: Scope


@dataclass(frozen=True, slots=True)
class Sent:
    """What the POST carried, as far as the answer is compared with it."""

    campaign_id: int
    phone_number: str
    contacts: Sequence[str] = ()  # numbers in the order submitted


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that classification depends on."""

    duplicate: re.Pattern[str]
    safe_statuses: frozenset[int] = frozenset()  # 5xx that this deployment has proven free of effect


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt turned out to be. `message` is a plain sentence without personal data."""

    kind: Kind
    message: str
    http_status: int | None = None
    counts: bool = False  # uses up an attempt of the lead
    signal: Signal | None = None
    fingerprint: str = ""  # equal for equal causes
    response: str = ""  # the start of the body, for the failed-lead table
    voicery_lead_id: int | None = None
    voicery_status: str | None = None
    contacts: tuple[CreatedContact, ...] = ()
    evidence: Mapping[str, object] = field(default_factory=dict)


def classify(reply: Reply, sent: Sent, rules: Rules) -> Outcome:
    """Decide one exchange. Rows are tried in this order: the wire, the status, the body."""
    if reply.fault is not None:
        return _no_answer(reply, reply.fault)
    status = reply.status
    if status is None:
        return _in_doubt(reply, "Voicery's answer had no status")
    if 200 <= status <= 299:
        return _yes(reply, sent)
    match status:
        case 401:
            return _held(
                reply, Kind.UNAUTHORIZED, Reason.UNAUTHORIZED, Scope.ACCOUNT, "Voicery did not accept the API token"
            )
        case 402:
            return _no_balance(reply)
        case 403:
            return _held(
                reply, Kind.FORBIDDEN, Reason.FORBIDDEN, Scope.CHANNEL, "Voicery forbids this campaign to this token"
            )
        case 404 | 405 | 410 | 301 | 307 | 308:
            sentence = f"Voicery has no such address or campaign (HTTP {status})"
            return _held(reply, Kind.MISCONFIGURED, Reason.MISCONFIGURED, Scope.CHANNEL, sentence)
        case 408 | 425:
            return _in_doubt(reply, f"Voicery answered HTTP {status}")
        case 429:
            return _held(reply, Kind.THROTTLED, Reason.THROTTLED, Scope.ACCOUNT, "Voicery asked us to slow down")
        case _ if 400 <= status <= 499:
            return _refused(reply, rules)
        case _ if status in rules.safe_statuses:
            return Outcome(
                kind=Kind.NOT_SENT,
                message=f"Voicery answered HTTP {status}, which this deployment has proven to have no effect.",
                http_status=status,
                counts=True,
                signal=Signal(Reason.OUTAGE, Scope.CHANNEL),
                fingerprint=_fingerprint(Kind.NOT_SENT, status),
                response=reply.text,
            )
        case _:
            return _in_doubt(reply, f"Voicery answered HTTP {status}")


# The wire -------------------------------------------------------------------------------------------------------------

_WIRE_SENTENCES: Final[Mapping[WireFault, str]] = {
    WireFault.DNS: "Voicery's host name could not be resolved",
    WireFault.REFUSED: "Voicery refused the connection",
    WireFault.CONNECT_TIMEOUT: "Voicery could not be reached in time",
    WireFault.TLS: "No secure connection to Voicery could be made",
    WireFault.CONNECTION: "No connection to Voicery could be made",
    WireFault.READ_TIMEOUT: "Voicery did not answer in time",
    WireFault.DEADLINE: "The exchange with Voicery took longer than its deadline",
    WireFault.RESET: "The connection was reset",
    WireFault.CLOSED: "The connection was closed",
    WireFault.PROTOCOL: "What came back is not HTTP",
    WireFault.LEASE: "Given back before sending: too little of the lease was left",
    WireFault.BUG: "An error of the dispatcher itself",
}


def _no_answer(reply: Reply, fault: WireFault) -> Outcome:
    sentence = _WIRE_SENTENCES[fault]
    if reply.written or reply.status is not None:
        return _in_doubt(reply, sentence)
    match fault:
        case WireFault.LEASE:
            return Outcome(kind=Kind.GIVEN_BACK, message=f"{sentence}.", fingerprint=_fingerprint(Kind.GIVEN_BACK))
        case WireFault.BUG:
            return Outcome(
                kind=Kind.BUG,
                message=f"{sentence} ({reply.detail or 'no detail'}); nothing was sent.",
                counts=True,
                # A bug that every lead meets (an unreadable token file, say) must not drain the backlog into failed.
                signal=Signal(Reason.OUTAGE, Scope.CHANNEL),
                fingerprint=_fingerprint(Kind.BUG, None, reply.detail),
            )
        case _:
            return Outcome(
                kind=Kind.NOT_SENT,
                message=f"{sentence}; nothing was sent.",
                counts=True,
                signal=Signal(Reason.OUTAGE, Scope.ACCOUNT),
                fingerprint=_fingerprint(Kind.NOT_SENT, None, fault),
            )


def _in_doubt(reply: Reply, sentence: str) -> Outcome:
    return Outcome(
        kind=Kind.UNKNOWN,
        message=f"{sentence}, after the lead had been sent; the person may have been called.",
        http_status=reply.status,
        counts=True,
        signal=Signal(Reason.OUTAGE, Scope.CHANNEL),
        fingerprint=_fingerprint(Kind.UNKNOWN, reply.status, reply.fault or ""),
        response=reply.text,
    )


# The yes --------------------------------------------------------------------------------------------------------------


def _yes(reply: Reply, sent: Sent) -> Outcome:
    data = created_data(reply.body)
    if data is None or reply.body_fault is not None:
        return _id_unknown(reply, _body_sentence(reply.body_fault))
    voicery_lead_id = usable_id(data.get("id"))
    if voicery_lead_id is None:
        return _id_unknown(reply, "its answer has no usable id")
    if (echo := usable_id(data.get("campaign_id"))) is not None and echo != sent.campaign_id:
        return _id_unknown(reply, "its answer speaks of another campaign")
    echoed_number = data.get("phone_number")
    if is_number(echoed_number) and not same_number(str(echoed_number), sent.phone_number):
        return _id_unknown(reply, "its answer speaks of another phone number")
    contacts, evidence = match_contacts(data.get("secondary_contacts"), sent.contacts)
    return Outcome(
        kind=Kind.ACCEPTED,
        message="Voicery accepted the lead.",
        http_status=reply.status,
        counts=True,
        voicery_lead_id=voicery_lead_id,
        voicery_status=text_of(data.get("status")),
        contacts=contacts,
        evidence=evidence,
        response=reply.text if evidence else "",
    )


def _id_unknown(reply: Reply, why: str) -> Outcome:
    return Outcome(
        kind=Kind.CREATED_ID_UNKNOWN,
        message=f"Voicery said yes but gave no id: {why}.",
        http_status=reply.status,
        counts=True,
        signal=Signal(Reason.OUTAGE, Scope.CHANNEL),
        fingerprint=_fingerprint(Kind.CREATED_ID_UNKNOWN, reply.status, why),
        response=reply.text,
    )


def _body_sentence(fault: BodyFault | None) -> str:
    match fault:
        case BodyFault.TRUNCATED:
            return "its answer was cut off"
        case BodyFault.OVERSIZE:
            return "its answer was larger than we read"
        case BodyFault.DEADLINE:
            return "its answer did not end in time"
        case BodyFault.ENCODING:
            return "its answer was encoded in a way we did not ask for"
        case BodyFault.FRAMING:
            return "its answer announced two different lengths"
        case BodyFault.BUG:
            return "its answer could not be read because of an error of ours"
        case BodyFault.NOT_JSON | None:
            return "its answer is not the JSON that we know"


# The no ---------------------------------------------------------------------------------------------------------------


def _held(reply: Reply, kind: Kind, reason: Reason, scope: Scope, sentence: str) -> Outcome:
    words = said(reply.body)
    return Outcome(
        kind=kind,
        message=f"{sentence}: {words}" if words else f"{sentence}.",
        http_status=reply.status,
        signal=Signal(reason, scope),
        fingerprint=_fingerprint(kind, reply.status),
        response=reply.text,
    )


def _no_balance(reply: Reply) -> Outcome:
    return _held(reply, Kind.NO_BALANCE, Reason.NO_BALANCE, Scope.ACCOUNT, "The Voicery account has no balance left")


def _refused(reply: Reply, rules: Rules) -> Outcome:
    body: Mapping[object, object] = reply.body if isinstance(reply.body, Mapping) else {}
    if reply.status == 422 and body.get("error_code") == "INSUFFICIENT_BALANCE":
        return _no_balance(reply)
    if reply.status == 409 or (reply.status in {400, 422} and speaks_of_duplicate(body, rules.duplicate)):
        return Outcome(
            kind=Kind.DUPLICATE,
            message="Voicery refused the lead as a duplicate: " + (said(body) or "no reason given."),
            http_status=reply.status,
            counts=True,
            fingerprint=_fingerprint(Kind.DUPLICATE, reply.status),
            response=reply.text,
        )
    field_name, reason = first_field_error(body)
    match field_name:
        case "":
            sentence = f"Voicery refused the lead (HTTP {reply.status}): {said(body) or 'no reason given.'}"
        case "phone_number":
            sentence = f"Voicery refused the phone number: {reason}"
        case "campaign_id":
            sentence = f"Voicery refused the campaign: {reason}"
        case _:
            sentence = f"Voicery refused {field_name}: {reason}"
    return Outcome(
        kind=Kind.REJECTED,
        message=sentence,
        http_status=reply.status,
        counts=True,
        signal=Signal(Reason.REJECTING, Scope.CHANNEL),
        fingerprint=_fingerprint(Kind.REJECTED, reply.status, field_name, reason or said(body)),
        response=reply.text,
    )


def _fingerprint(kind: Kind, status: int | None = None, *causes: str) -> str:
    """Equal for equal causes: numbers, quoted values and addresses in a message are the lead's, not the cause's."""
    normal = "|".join(_NUMBERS.sub("#", _VALUES.sub("…", cause.casefold())) for cause in causes)
    return sha256(f"{kind}|{status or ''}|{normal}".encode()).hexdigest()[:16]
