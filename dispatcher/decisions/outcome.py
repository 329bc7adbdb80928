"""Classify a reply as the outcome of an attempt, by one pure function.

The one question behind every row is *may the POST have had an effect?* Where the answer is not a proven no, the outcome
is `UNKNOWN` or `CREATED_ID_UNKNOWN`, and the lead is not sent again before a look-up.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final

from dispatcher.decisions import refusal
from dispatcher.decisions.reply import (
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
_VALUES: Final = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s@]{1,64}@\S+")
_NOTHING: Final = re.compile(r"(?!)")


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

MAY_HAVE_BEEN_CALLED: Final = "; the person may have been called"


class Reason(StrEnum):
    """Why a gate is closed. A stored one that is none of these was written by a person, and only a person opens it."""

    PAUSED = "paused"
    THROTTLED = "throttled"
    OUTAGE = "outage"
    UNAUTHORIZED = "unauthorized"
    NO_BALANCE = "no_balance"
    FORBIDDEN = "forbidden"
    MISCONFIGURED = "misconfigured"
    REJECTING = "rejecting"

    @classmethod
    def _missing_(cls, _: object) -> "Reason":
        return cls.PAUSED


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
    balance: re.Pattern[str] = _NOTHING


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt turned out to be. `message` is a plain sentence; neither it nor the repr has personal data."""

    kind: Kind
    message: str
    http_status: int | None = None
    counts: bool = False  # uses up an attempt of the lead
    signal: Signal | None = None
    fingerprint: str = ""  # equal for equal causes
    response: str = field(default="", repr=False)  # the start of the body, for the failed-lead table
    voicery_lead_id: int | None = None
    voicery_status: str | None = None
    contacts: tuple[CreatedContact, ...] = ()
    evidence: Mapping[str, object] = field(default_factory=dict, repr=False)
    words: str = field(default="", repr=False)  # the part of `message` that is Voicery's own
    named: str = field(default="", repr=False)  # the field that Voicery names, which `message` repeats


def classify(reply: Reply, sent: Sent, rules: Rules) -> Outcome:
    """Decide one exchange. Rows are tried in this order: the wire, the status, the body."""
    if reply.fault is not None:
        return _no_answer(reply, reply.fault)
    status = reply.status
    if status is None:
        return _in_doubt(reply, "Voicery's answer had no status")
    if 200 <= status <= 299:
        return _yes(reply, sent)
    if 400 <= status <= 499:
        return _no(reply, status, rules)
    match status:
        case 301 | 307 | 308:
            return _nowhere(reply)
        case 511:  # RFC 6585, 6: never from Voicery itself, but perhaps from something that passed the lead on
            return _in_doubt(reply, "A network asked for a login (HTTP 511)", _ASTRAY)
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
            return _in_doubt(reply, refusal.stranger(reply) or f"Voicery answered HTTP {status}")


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

_UNTAKEN: Final[Mapping[WireFault, str]] = {
    WireFault.READ_TIMEOUT: "Voicery did not take the request in time; nothing was sent in full",
    WireFault.DEADLINE: "The exchange with Voicery took longer than its deadline; nothing was sent in full",
    WireFault.RESET: "The connection was reset; nothing was sent in full",
    WireFault.CLOSED: "The connection was closed; nothing was sent in full",
}
"""What ended a request whose last byte had not left."""


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
                message=f"{sentence} ({' '.join(reply.detail.split()) or 'no detail'}); nothing was sent.",
                counts=True,
                # A bug that every lead meets (an unreadable token file, say) must not drain the backlog into failed.
                signal=Signal(Reason.OUTAGE, Scope.CHANNEL),
                fingerprint=_fingerprint(Kind.BUG, None, reply.detail),
            )
        case _:
            return Outcome(
                kind=Kind.NOT_SENT,
                message=f"{_UNTAKEN.get(fault, sentence + '; nothing was sent')}.",
                counts=True,
                signal=Signal(Reason.OUTAGE, Scope.ACCOUNT),
                fingerprint=_fingerprint(Kind.NOT_SENT, None, fault),
            )


_CHANNEL_OUTAGE: Final = Signal(Reason.OUTAGE, Scope.CHANNEL)
_ASTRAY: Final = Signal(Reason.MISCONFIGURED, Scope.ACCOUNT)
"""Something stands between us and Voicery, or in its place: every lead of the account meets it."""


def _in_doubt(reply: Reply, sentence: str, signal: Signal = _CHANNEL_OUTAGE) -> Outcome:
    words = refusal.said(refusal.told(reply))
    return Outcome(
        kind=Kind.UNKNOWN,
        message=f"{sentence}, after the lead had been sent{MAY_HAVE_BEEN_CALLED}."
        + (f" It said: {words}" if words else ""),
        http_status=reply.status,
        counts=True,
        signal=signal,
        fingerprint=_fingerprint(Kind.UNKNOWN, reply.status, reply.fault or ""),
        response=reply.text,
        words=words,
    )


# The yes --------------------------------------------------------------------------------------------------------------


def _yes(reply: Reply, sent: Sent) -> Outcome:
    if refusal.is_document(reply):
        return _in_doubt(reply, refusal.stranger(reply), _ASTRAY)
    data = created_data(reply.body)
    if data is None or reply.body_fault is not None:
        return _id_unknown(reply, refusal.unusable(reply))
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
    words = refusal.said(refusal.told(reply))
    return Outcome(
        kind=Kind.CREATED_ID_UNKNOWN,
        message=f"Voicery said yes but gave no id: {why}." + (f" It said: {words}" if words else ""),
        http_status=reply.status,
        counts=True,
        signal=_CHANNEL_OUTAGE,
        fingerprint=_fingerprint(Kind.CREATED_ID_UNKNOWN, reply.status, why),
        response=reply.text,
        words=words,
    )


# The no ---------------------------------------------------------------------------------------------------------------


_LEADS_OWN: Final = frozenset({400, 413, 422, 451})
"""Statuses by which Voicery can refuse a single lead, if it is Voicery that answers."""
_PASSED_ON: Final = frozenset({408, 425, 460, 499})
"""Time-outs of servers and proxies (499 nginx, 460 AWS) that may have passed the lead on."""
_OUR_FORM: Final = frozenset({406, 407, 411, 414, 415, 417, 421, 426, 431})
"""What is wrong with the form of every request of ours, or with the way that it takes."""
_OF_THE_NUMBER: Final = ("phone_number", "phone", "number")


def _no(reply: Reply, status: int, rules: Rules) -> Outcome:
    """Decide a 400-499. The lead is at fault only where Voicery says so; anything else holds it back."""
    texts = refusal.told(reply)
    words = refusal.said(texts)
    stranger = refusal.stranger(reply)
    match status:
        case _ if status in _PASSED_ON:
            return _in_doubt(reply, stranger or f"Voicery answered HTTP {status}")
        case 402:
            return _no_balance(reply, words)
        case _ if _speaks_of_balance(reply, texts, rules.balance):
            return _no_balance(reply, words)
        case 401 | 440 | 498:
            sentence = "Voicery did not accept the API token"
            return _held(reply, Kind.UNAUTHORIZED, Reason.UNAUTHORIZED, Scope.ACCOUNT, sentence, stranger or words)
        case 420 | 429 | 430:
            return _held(reply, Kind.THROTTLED, Reason.THROTTLED, Scope.ACCOUNT, "Voicery asked us to slow down", words)
        case 403 | 413 if "retry-after" in reply.headers:  # RFC 9110, 10.2.3 and 15.5.14
            sentence = f"Voicery asked us to come back later (HTTP {status})"
            return _held(reply, Kind.THROTTLED, Reason.THROTTLED, Scope.ACCOUNT, sentence, words)
        case 403 if stranger:
            return _held(reply, Kind.FORBIDDEN, Reason.FORBIDDEN, Scope.ACCOUNT, stranger)
        case 403:
            sentence = "Voicery forbids this campaign to this token"
            return _held(reply, Kind.FORBIDDEN, Reason.FORBIDDEN, Scope.CHANNEL, sentence, words)
        case 404 | 405 | 410 if not refusal.is_page(reply):
            return _nowhere(reply)
        case 409 if not refusal.is_page(reply):
            return _duplicate(reply, words)
        case 400 | 422 if refusal.matches(rules.duplicate, refusal.general(texts, about=_OF_THE_NUMBER)):
            return _duplicate(reply, words)
        case _ if stranger:
            return _held(reply, Kind.MISCONFIGURED, _ASTRAY.reason, _ASTRAY.scope, stranger)
        case _ if status in _OUR_FORM:
            sentence = f"Voicery, or a proxy before it, does not take our requests (HTTP {status})"
            return _held(reply, Kind.MISCONFIGURED, _ASTRAY.reason, _ASTRAY.scope, sentence, words)
        case 400 | 422 if refusal.is_of_the_campaign(texts):
            sentence = f"Voicery does not take this campaign (HTTP {status})"
            return _held(reply, Kind.MISCONFIGURED, Reason.MISCONFIGURED, Scope.CHANNEL, sentence, words)
        case _ if status in _LEADS_OWN or any(field for field, _ in texts):
            return _refused(reply, texts, words)
        case _:
            sentence = f"Voicery does not take leads of this campaign (HTTP {status})"
            return _held(reply, Kind.MISCONFIGURED, Reason.MISCONFIGURED, Scope.CHANNEL, sentence, words)


def _nowhere(reply: Reply) -> Outcome:
    why, words = f"Voicery has no such address or campaign (HTTP {reply.status})", refusal.said(refusal.told(reply))
    return _held(reply, Kind.MISCONFIGURED, Reason.MISCONFIGURED, Scope.CHANNEL, why, words)


def _held(reply: Reply, kind: Kind, reason: Reason, scope: Scope, sentence: str, words: str = "") -> Outcome:
    return Outcome(
        kind=kind,
        message=f"{sentence}: {words}" if words else f"{sentence}.",
        http_status=reply.status,
        signal=Signal(reason, scope),
        fingerprint=_fingerprint(kind, reply.status),
        response=reply.text,
        words=words,
    )


def _speaks_of_balance(reply: Reply, texts: Sequence[refusal.Told], rule: re.Pattern[str]) -> bool:
    """Return whether the account has no balance: by its error code, or by words about no field of the lead."""
    codes = refusal.codes(reply)
    if "INSUFFICIENT BALANCE" in (code.upper() for code in codes):
        return True
    own = {field for field, _ in texts if field.partition(".")[0] not in refusal.OF_THE_LEAD}
    return refusal.matches(rule, [*codes, *refusal.general(texts, about=own - {""})])


def _no_balance(reply: Reply, words: str) -> Outcome:
    sentence = "The Voicery account has no balance left"
    return _held(reply, Kind.NO_BALANCE, Reason.NO_BALANCE, Scope.ACCOUNT, sentence, words)


def _duplicate(reply: Reply, words: str) -> Outcome:
    return Outcome(
        kind=Kind.DUPLICATE,
        message="Voicery refused the lead as a duplicate: " + (words or "no reason given."),
        http_status=reply.status,
        counts=True,
        fingerprint=_fingerprint(Kind.DUPLICATE, reply.status),
        response=reply.text,
        words=words,
    )


def _refused(reply: Reply, texts: Sequence[refusal.Told], words: str) -> Outcome:
    field_name, reason = refusal.first_of_a_field(texts)
    match field_name:
        case "":
            sentence = f"Voicery refused the lead (HTTP {reply.status}): {words or 'no reason given.'}"
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
        fingerprint=_fingerprint(Kind.REJECTED, reply.status, field_name, reason or words),
        response=reply.text,
        words=reason or words,
        named=field_name,
    )


def _fingerprint(kind: Kind, status: int | None = None, *causes: str) -> str:
    """Equal for equal causes: numbers, quoted values and addresses in a message are the lead's, not the cause's."""
    normal = "|".join(_NUMBERS.sub("#", _VALUES.sub("…", cause.casefold())) for cause in causes)
    return sha256(f"{kind}|{status or ''}|{normal}".encode()).hexdigest()[:16]
