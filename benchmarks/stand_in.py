"""A stand-in for the Voicery API that is too cheap to be measured: one process, uvloop and httptools where they are.

It answers every POST with a new id, at once or after a while, and remembers when each request was there. Nothing is
checked and nothing is kept over a restart: for anything but speed there is `dispatcher.sandbox`.

    python benchmarks/stand_in.py --port 9000

    POST /api/user/lead      200 with an id
    GET  /api/user/leads     an empty page of the list
    POST /reset?delay=0.1    forget what was counted; answer after so many seconds from now on
         &dead=1000          from now on leads of campaign 1000 and above are answered with 404 and not counted
    GET  /wait?count=4000    answers when so many leads have been counted
    GET  /stats              {"count", "first_at", "last_at", "open", "most_open"}, by the monotonic clock
    GET  /log                [[seconds, phone number, campaign], …] of all that was counted
    GET  /ports              [[port of the client, seconds], …]: when each connection brought its first lead
"""

import argparse
import asyncio
import time
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import orjson

_HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_OK = b"200 OK"
_NO_CAMPAIGN = b"404 Not Found", b'{"message":"Not found."}'
_EMPTY_PAGE = orjson.dumps({"data": [], "meta": {"current_page": 1, "last_page": 1, "per_page": 100, "total": 0}})


class Book:
    """What was received since the last reset."""

    def __init__(self) -> None:
        self.delay_seconds = 0.0
        self.last_id = 0
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.reset(0.0, None)

    def reset(self, delay_seconds: float, dead_from: int | None) -> None:
        """Forget all but the ids."""
        self.delay_seconds = delay_seconds
        self.dead_from = dead_from
        self.refused: list[tuple[float, int]] = []
        self.received: list[tuple[float, str, int]] = []
        self.first_by_port: dict[int, float] = {}
        self.answered = self.most_open = 0

    def take(self, body: bytes) -> tuple[bytes, bytes]:
        """Note one lead; the status and the body of the answer to it."""
        lead = orjson.loads(body)
        if self.dead_from is not None and lead["campaign_id"] >= self.dead_from:
            self.refused.append((time.monotonic(), lead["campaign_id"]))
            return _NO_CAMPAIGN
        self.received.append((time.monotonic(), lead["phone_number"], lead["campaign_id"]))
        self.most_open = max(self.most_open, self.open)
        self.last_id += 1
        if self.waiting and self.waiting[0][0] <= len(self.received):
            for count, future in self.waiting:
                if count <= len(self.received) and not future.done():
                    future.set_result(None)
            self.waiting = [one for one in self.waiting if not one[1].done()]
        return _OK, orjson.dumps(
            {
                "message": "Lead created successfully",
                "data": {
                    "id": self.last_id,
                    "campaign_id": lead["campaign_id"],
                    "phone_number": lead["phone_number"],
                    "variables": lead["variables"],
                    "status": "created",
                    "created_at": "2025-06-30 11:53:20",
                    "updated_at": "2025-06-30 11:53:20",
                    "campaign": {"id": lead["campaign_id"], "name": "Benchmark"},
                    "secondary_contacts": [],
                },
            }
        )

    @property
    def open(self) -> int:
        """Requests that wait for their answer."""
        return len(self.received) - self.answered

    def stats(self) -> dict[str, float | int | None]:
        """The sums."""
        return {
            "count": len(self.received),
            "first_at": self.received[0][0] if self.received else None,
            "last_at": self.received[-1][0] if self.received else None,
            "open": self.open,
            "most_open": self.most_open,
            "refused": len(self.refused),
        }

    async def reached(self, count: int) -> None:
        """Return when `count` leads were received."""
        if len(self.received) < count:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append((count, future))
            self.waiting.sort(key=lambda one: one[0])
            await future


class Peer(asyncio.Protocol):
    """One connection, kept alive. Clients of ours send one request at a time and a `Content-Length`."""

    transport: asyncio.Transport

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = b""
        self._new = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Cut requests out of the stream."""
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            start = head.find(b"\r\ncontent-length:")
            length = int(head[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            target = self._buffer[: self._buffer.index(b"\r\n")].split(b" ")
            self._buffer = self._buffer[end + 4 + length :]
            if target[1].startswith(b"/api/user/leads"):
                self._answer(_OK, _EMPTY_PAGE)
            elif target[1].startswith(b"/api/user/lead"):
                self._lead(body)
            else:
                self._control(target[1].decode())

    def _lead(self, body: bytes) -> None:
        if self._new:
            self._new = False
            self._book.first_by_port[self.transport.get_extra_info("peername")[1]] = time.monotonic()
        answer = self._book.take(body)
        if self._book.delay_seconds:
            asyncio.get_running_loop().call_later(self._book.delay_seconds, self._answer_lead, *answer)
        else:
            self._answer_lead(*answer)

    def _answer_lead(self, status: bytes, body: bytes) -> None:
        self._book.answered += status == _OK
        self._answer(status, body)

    def _answer(self, status: bytes, body: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(_HEAD % (status, len(body), body))

    def _control(self, target: str) -> None:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        match parts.path:
            case "/reset":
                dead = query.get("dead")
                self._book.reset(float(query.get("delay", "0")), int(dead) if dead else None)
                self._answer(_OK, b"{}")
            case "/wait":
                self._waiting = asyncio.get_running_loop().create_task(self._wait(int(query["count"])))
            case "/log":
                self._answer(_OK, orjson.dumps(self._book.received))
            case "/ports":
                self._answer(_OK, orjson.dumps(list(self._book.first_by_port.items())))
            case _:
                self._answer(_OK, orjson.dumps(self._book.stats()))

    async def _wait(self, count: int) -> None:
        await self._book.reached(count)
        self._answer(_OK, orjson.dumps(self._book.stats()))


async def serve(port: int) -> None:
    """Answer for ever."""
    book = Book()
    server = await asyncio.get_running_loop().create_server(lambda: Peer(book), "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve on the port that is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(port))
    else:
        uvloop.run(serve(port))


if __name__ == "__main__":
    main()
