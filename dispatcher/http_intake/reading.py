"""The body of a request: its form, its bounds in bytes and time, and the items of a batch as they arrive."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request

from dispatcher.http_intake.bodies import JSON, LINES, UnreadableBody, raw_decode, read_json, text_of, unreadable
from dispatcher.http_intake.problems import ACCEPT, BAD_REQUEST, MEDIA, SLOW, TOO_LARGE, Problem

LEAD_BYTES: Final = 512 * 1024
"""A lead with ten contacts whose variables are as large as they may be has 176 KiB, and more where text is escaped."""

BATCH_BYTES: Final = 32 * 1024 * 1024
BATCH_ITEMS: Final = 10_000
CHUNK_ITEMS: Final = 500
"""Items of a batch that are stored together, in one transaction."""

BODY_SECONDS: Final = 20.0
BATCH_SECONDS: Final = 120.0

_BLOCK_BYTES: Final = 64 * 1024
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER_OR_SPACE: Final = re.compile(r"[-+.eE0-9]*[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class BodyBounds:
    """Largest size in bytes, and the longest time until the body has arrived, in seconds."""

    most_bytes: int = LEAD_BYTES
    seconds: float = BODY_SECONDS


def media_type(request: Request, allowed: tuple[str, ...]) -> str:
    """Return the media type of the body. Raises `Problem` for another, another charset than UTF-8, or a coding."""
    accepted = {"Accept-Post": ", ".join(allowed)}
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):  # RFC 7694, section 3
        raise Problem(MEDIA, "Compressed bodies are not read; send it as it is.", {}, {"Accept-Encoding": "identity"})
    kind, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    if kind not in allowed:
        raise Problem(MEDIA, f"Send the body as {' or '.join(allowed)}.", {}, accepted)
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in ("utf-8", "utf8", "us-ascii"):
            raise Problem(MEDIA, "Send the body in UTF-8.", {}, accepted)
    return kind


def check_accept(request: Request) -> None:
    """Raise `Problem` where the client takes no JSON (RFC 9110, section 12.5.1)."""
    given = ",".join(request.headers.getlist("accept"))
    if given and not any(map(_takes_json, given.split(","))):
        raise Problem(ACCEPT)


def _takes_json(accepted: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in accepted.split(";"))
    weights = [value.strip() for name, _, value in (one.partition("=") for one in parameters) if name.strip() == "q"]
    try:
        refused = any(float(weight) == 0 for weight in weights)
    except ValueError:
        refused = False
    return not refused and kind in ("*/*", "application/*", JSON, "application/problem+json", "")


async def whole(request: Request, bounds: BodyBounds) -> bytes:
    """Return the body. Raises `Problem` where it is too large or too slow."""
    return b"".join([block async for block in blocks(request, bounds)])


async def blocks(request: Request, bounds: BodyBounds) -> AsyncIterator[bytes]:
    """Yield the body in blocks of some size, so that a body in many small pieces is not read anew with each."""
    length = request.headers.get("content-length", "0")
    # Checked for its length first: Python refuses to read very long numbers.
    if not (length.isascii() and length.isdecimal()):
        raise Problem(BAD_REQUEST, "Content-Length is not a number.")
    if len(length) > 20 or int(length) > bounds.most_bytes:
        raise _too_large(bounds)
    ends_at = asyncio.get_running_loop().time() + bounds.seconds
    stream = aiter(request.stream())
    total, block = 0, bytearray()
    while True:
        try:
            async with asyncio.timeout_at(ends_at):
                piece = await anext(stream, None)
        except TimeoutError:
            raise Problem(SLOW, "", {}, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise Problem(BAD_REQUEST, "The body did not arrive whole.") from None
        if piece is None:
            break
        total += len(piece)
        if total > bounds.most_bytes:
            raise _too_large(bounds)
        block += piece
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _too_large(bounds: BodyBounds) -> Problem:
    detail = f"This path takes up to {bounds.most_bytes // 1024} KiB; send the leads in several requests."
    return Problem(TOO_LARGE, detail, {"most_bytes": bounds.most_bytes}, {"Connection": "close"})


Item = object
"""A value of JSON, or an `UnreadableBody` in place of one that cannot be read."""


class Items:
    """Takes the body of a batch block by block, and gives its items.

    In JSON Lines a line that cannot be read is one bad item. An array ends at its first fault: where the next item
    begins cannot be told, and `read` raises `UnreadableBody`.
    """

    def __init__(self, kind: str) -> None:
        self._lines = kind in LINES
        self._rest = b""
        self._array = _Array()

    def read(self, block: bytes, *, last: bool = False) -> Iterator[Item]:
        """Yield the items that are complete with this block; with `last`, those that are left."""
        if not self._lines:
            yield from self._array.read(block, last=last)
            return
        *lines, rest = (self._rest + block).split(b"\n")
        if last:
            lines.append(rest)
            rest = b""
        for line in lines:
            if line.strip():
                yield _item(line)
        if len(rest) > LEAD_BYTES:
            raise UnreadableBody(f"has a line of more than {LEAD_BYTES // 1024} KiB", "write one lead a line")
        self._rest = rest


def _item(line: bytes) -> Item:
    try:
        return read_json(text_of(line))
    except UnreadableBody as fault:
        return fault


class _Array:
    """The items of a JSON array whose text arrives in blocks; what is not whole yet is kept."""

    def __init__(self) -> None:
        self._bytes = b""
        self._text = ""
        self._began = self._ended = False
        self._first = True

    def read(self, block: bytes, *, last: bool) -> Iterator[Item]:
        self._take(block, last=last)
        place = 0
        while True:
            place = self._skip(place)
            if place == len(self._text):
                break
            if self._ended:
                raise UnreadableBody("goes on after the end of the array", "send one array")
            if not self._began:
                if self._text[place] != "[":
                    raise UnreadableBody("is not an array", "send an array of leads, or JSON Lines")
                self._began = True
                place += 1
                continue
            if self._text[place] == "]" and self._first:
                self._ended = True
                place += 1
                continue
            start = place
            try:
                value, place = raw_decode(self._text, place)
                after = self._skip(place)
            except json.JSONDecodeError as error:
                if last:
                    raise unreadable(error) from None
                place = self._wait(start)
                break
            if not last and _NUMBER_OR_SPACE.fullmatch(self._text, place):  # `1.` may become `1.5`
                place = self._wait(start)
                break
            following = self._text[after : after + 1]
            if not following:
                raise _cut_off()
            if following not in ",]":
                raise UnreadableBody("is not JSON: an item is not followed by , or ]", "send a valid array")
            self._first = False
            self._ended = following == "]"
            place = after + 1
            yield value
            if following == "," and self._text[self._skip(place) : self._skip(place) + 1] == "]":
                raise UnreadableBody("is not JSON: a comma is followed by ]", "send a valid array")
        self._text = self._text[place:]
        if last and not self._ended:
            raise _cut_off()

    def _take(self, block: bytes, *, last: bool) -> None:
        raw = self._bytes + block
        try:
            text, used = raw.decode("utf-8"), len(raw)
        except UnicodeDecodeError as error:
            if last or len(raw) - error.start > 3:  # a character may be cut off at the end of the block
                raise UnreadableBody("is not UTF-8", "encode the text as UTF-8") from None
            text, used = raw[: error.start].decode("utf-8"), error.start
        self._bytes = raw[used:]
        self._text += text

    def _wait(self, start: int) -> int:
        """Return where the item that is not whole yet begins. Each block reads it anew, so that it has a bound."""
        if len(self._text) - start > LEAD_BYTES:
            raise UnreadableBody(f"has an item that is no JSON within {LEAD_BYTES // 1024} KiB", "send valid leads")
        return start

    def _skip(self, place: int) -> int:
        return _SPACE.match(self._text, place).end()  # type: ignore[union-attr]  # it matches nothing, too


def _cut_off() -> UnreadableBody:
    return UnreadableBody("ends before its array does", "send a whole array")
