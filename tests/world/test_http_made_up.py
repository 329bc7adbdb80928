"""Made-up answers, by chance but repeatable: stock `requests` and our client read the same.

`FUZZ_ANSWERS=100000` makes it as long as one likes.
"""

import os
import random
import re

import pytest

from tests.world.wires import CHUNKED, JSON, LENGTH, YES, Wires, chunks, head, same, squeezed

ROWS = [
    JSON, LENGTH, LENGTH, LENGTH, CHUNKED, "Connection: close", "Connection: keep-alive", "Retry-After: 7", ": x",
    "X: y", "X-RateLimit-Limit:  5", "Date: Mon, 23 Nov 2026 06:00:00 GMT", " folded", "\tfolded", "X-Empty:",
    "Set-Cookie: a=b",
    "Content-Encoding: identity", "Content-Encoding: utf-8", "Transfer-Encoding: identity", "X-8-Bit: \xe9\xff",
    "Vary: *", "content-type:text/html", f"Content-Length: {len(YES)},{len(YES)}", "Content-Length: x",
]  # fmt: skip
STATUSES = [
    "HTTP/1.1 201 Created", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1  422  Nope", "HTTP/1.1 500 \xff",
    "HTTP/1.1 204 No",
    "HTTP/1.1 429 Too Many Requests", "HTTP/1.1\t302\tFound", "http/1.1 200 OK", "HTTP/1.1 304 Not", "HTTP/3 200 OK",
]  # fmt: skip


def made_up(chance: random.Random) -> bytes:
    """An answer of odd but likely parts; every third one has some bytes changed, dropped or doubled."""
    rows = chance.choices(ROWS, k=chance.randrange(7))
    chunked = any("chunked" in row for row in rows)
    body = chance.choice([YES, YES, YES, b"", b"<html>", YES + b"surplus", YES[:-9]])
    if chance.random() < 0.2:
        coding, window = chance.choice([("gzip", 31), ("x-gzip", 31), ("deflate", 15), ("deflate", -15)])
        body, rows = squeezed(body, window=window), [*rows, f"Content-Encoding: {coding}"]
        rows = [row.replace(f" {len(YES)}", f" {len(body)}") for row in rows]
    if chunked:
        body = chunks(
            body, chance.randrange(1, 99), upper=chance.random() < 0.5, extension=chance.choice(["", ";a", " "])
        )
    lead_in = chance.choice([b""] * 9 + [b"HTTP/1.1 100 Continue\r\n\r\n"])
    data = bytearray(lead_in + head(*rows, status=chance.choice(STATUSES)) + body)
    if chance.random() < 0.1:
        data = data.replace(b"\r\n", b"\n")
    for _ in range(chance.choice([0, 0, 1, 3])):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(128)
            case 1:
                del data[at]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 20)]
            case _:
                data[at:at] = chance.choice([b"\r\n", b"\n", b":", b" ", b",", b"\t", b"0"])
    return bytes(data[: chance.randrange(1, len(data) + 1)] if chance.random() < 0.1 else data)


def on_purpose(data: bytes) -> bool:
    """Whether an answer is of a kind that docs/http.md says is read otherwise."""
    start, end, _ = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = start.split(b"\n")
    interim = re.match(rb"\s*\S+\s+\+?0*1[0-9][0-9]\b", lines[0]) is not None
    without_body = re.match(rb"\s*\S+\s+\+?0*(204|304)\b", lines[-1 if interim else 0]) is not None
    broken = any(not re.match(rb"[!-9;-~]*:|[ \t]", line) for line in lines[1:])
    unfolded = re.sub(rb"\n[ \t]+", b" ", start)
    coded = re.search(rb"(?i)encoding:.*(gzip|deflate)", unfolded) is not None
    odd_length = re.search(rb"(?im)^content-length:(?!\s*\d+(\s*,\s*\d+)*\s*$)", unfolded) is not None
    return not end or b"\r" in start or interim or without_body or broken or coded or odd_length


@pytest.mark.parametrize("block", range(4))
def test_made_up_answers_are_read_as_stock_requests_reads_them(wires: Wires, block: int) -> None:
    count = int(os.environ.get("FUZZ_ANSWERS", "600")) // 4
    chance = random.Random(f"answers {block}")
    otherwise = []
    for _ in range(count):
        data = made_up(chance)
        stock, ours = wires.stock(data), wires.ours(data)
        if not same(stock, ours) and not on_purpose(data):
            otherwise.append((data, stock, ours))

    assert otherwise[:1] == []
