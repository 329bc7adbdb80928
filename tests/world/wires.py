"""Stock `requests` and our client before one server, which gives both the same bytes."""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import requests

from dispatcher.decisions.reply import BodyFault
from dispatcher.decisions.storable import storable_text
from dispatcher.voicery.client import VoiceryClient
from tests.voicery.peer import Call

LEAD = b'{"phone_number": "+12025550100", "campaign_id": 42}'
YES = json.dumps({"message": "Lead created", "data": {"id": 7, "campaign_id": 42, "note": "x" * 40}}).encode()
KEPT = ("content-type", "date", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
SILENCE_SECONDS = 0.5
LENGTH = f"Content-Length: {len(YES)}"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"


@dataclass(frozen=True)
class Seen:
    """What came of one answer: `how` is "answer", "cut off" (a status, no body) or "refused" (no status)."""

    how: str
    status: int | None = None
    value: Any = None  # the JSON
    text: str = ""  # of a body that is none
    fields: dict[str, str] = field(default_factory=dict)


class Wires:
    """One server for all answers, and the two clients that ask it."""

    url: str
    client: VoiceryClient

    def __init__(self) -> None:
        self.data = b""
        self.keep = False

    def serve(self, call: Call) -> None:
        call.read_request()
        call.send(self.data)
        if self.keep:
            call.hold()

    def stock(self, data: bytes, *, keep: bool = False) -> Seen:
        self.data, self.keep = data, keep
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            try:
                reply = session.post(
                    self.url,
                    LEAD,
                    headers=headers,
                    allow_redirects=False,
                    timeout=SILENCE_SECONDS if keep else 10,
                    stream=True,
                )
            except requests.RequestException:
                return Seen("refused")
            fields = {name: value for name in KEPT if (value := _plain(reply.headers.get(name, "")))}
            try:
                content = reply.content
            except (requests.RequestException, OSError, ValueError):
                return Seen("cut off", reply.status_code, fields=fields)
            try:
                return Seen("answer", reply.status_code, reply.json(), fields=fields)
            except (ValueError, RecursionError):
                text = storable_text(content.decode("utf-8", "replace").removeprefix("\ufeff")[:2048])
                return Seen("answer", reply.status_code, None, text, fields)

    def ours(self, data: bytes, *, keep: bool = False) -> Seen:
        self.data, self.keep = data, keep
        reply = self.client.create_lead(LEAD)
        assert reply.written
        if reply.status is None:
            return Seen("refused")
        fields = {name: _plain(value) for name, value in reply.headers.items() if name in KEPT}
        if reply.body_fault not in (None, BodyFault.NOT_JSON):
            return Seen("cut off", reply.status, fields=fields)
        return Seen("answer", reply.status, reply.body, reply.text if reply.body_fault else "", fields)


def _plain(value: str) -> str:
    return storable_text(" ".join(value.split()))[:200]


def _ascii(text: str) -> str:
    """The characters that no guess at a character set changes."""
    return "".join(char for char in text if char.isascii())


def head(*lines: str, status: str = "HTTP/1.1 201 Created") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


def chunks(
    data: bytes, size: int = 50, *, upper: bool = False, extension: str = "", end: bytes = b"0\r\n\r\n"
) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    form = "%X%s\r\n" if upper else "%x%s\r\n"
    return b"".join((form % (len(piece), extension)).encode() + piece + b"\r\n" for piece in pieces) + end


def squeezed(data: bytes, *, window: int) -> bytes:
    squeezer = zlib.compressobj(wbits=window)
    return squeezer.compress(data) + squeezer.flush()


def same(stock: Seen, ours: Seen) -> bool:
    """Whether we read whatever stock requests read: its status, its value, and each field that it saw."""
    if stock.how == "refused":
        return True
    if stock.status != ours.status:
        return False
    if stock.how == "cut off":
        return True
    if not (ours.how == "answer" and stock.fields.items() <= ours.fields.items()):
        return False
    if stock.value is not None:
        return stock.value == ours.value
    return ours.value is not None or _ascii(stock.text) == _ascii(ours.text)


def better(stock: Seen, ours: Seen) -> bool:
    """Whether we read JSON where stock requests has none."""
    return ours.value is not None and (stock.value is None or stock.status != ours.status)
