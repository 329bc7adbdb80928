"""What one exchange with Voicery came to, as a value: the adapter makes it, `outcome.classify` reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class WireFault(StrEnum):
    """Why no complete answer arrived. `Reply.written` says whether the request may have been seen."""

    DNS = "dns"  # the name did not resolve
    REFUSED = "refused"  # nobody listens, or no route
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"  # handshake failed, stalled, or the certificate is wrong
    CONNECTION = "connection"  # any other failure before the first byte
    READ_TIMEOUT = "read_timeout"  # the connection was silent for the read timeout
    DEADLINE = "deadline"  # the whole exchange took longer than its deadline
    RESET = "reset"
    CLOSED = "closed"  # closed before the answer was complete
    PROTOCOL = "protocol"  # what came back is not HTTP
    LEASE = "lease"  # given back before the first byte: too little of the lease was left
    BUG = "bug"  # an exception of our own


class BodyFault(StrEnum):
    """Why the body of an answer that had a status line is unusable."""

    TRUNCATED = "truncated"  # closed, reset or silent before the announced end
    OVERSIZE = "oversize"
    DEADLINE = "deadline"
    ENCODING = "encoding"  # a content encoding that we did not ask for, or cannot undo
    NOT_JSON = "not_json"
    BUG = "bug"  # an exception of our own after the status line


@dataclass(frozen=True, slots=True)
class Reply:
    """One exchange. Exactly one of `status` and `fault` is set.

    `body` is parsed JSON made storable (no NUL, no lone surrogate, no NaN); `text` is the start of the body as
    storable text, for people to read. Header names are lower case. Nothing here holds the token or the URL.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    text: str = ""
    body_fault: BodyFault | None = None
    fault: WireFault | None = None
    detail: str = ""  # one technical phrase without addresses or values, e.g. "certificate verify failed"
    written: bool = False  # True as soon as any byte of the request may have left this machine
    elapsed_seconds: float = 0.0
