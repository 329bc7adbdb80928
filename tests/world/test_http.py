"""Whatever stock `requests` reads, we read: both adapters over real sockets, on odd answers.

Sources: RFC 9110 and RFC 9112 for what is legal; the code of http.client and urllib3 for what is read nevertheless."""

import gzip
from pathlib import Path

import pytest

from tests.world.wires import CHUNKED, JSON, LENGTH, YES, Wires, better, chunks, head, same, squeezed

DOCS = Path(__file__).parents[2] / "docs" / "http.md"


def coded(coding: str, body: bytes) -> bytes:
    return head(JSON, f"Content-Encoding: {coding}", f"Content-Length: {len(body)}") + body


PLAIN = head(JSON, LENGTH) + YES
GZIP = gzip.compress(YES)

ANSWERS: dict[str, bytes] = {
    # Where the body ends.
    "plain": PLAIN,
    "two equal lengths": head(LENGTH, LENGTH) + YES,
    "a list of equal lengths": head(f"{LENGTH}, {len(YES)}") + YES,
    "three equal lengths, one with spaces": head(LENGTH, f"{LENGTH} ,  {len(YES)}") + YES,
    "two different lengths": head(LENGTH, "Content-Length: 5") + YES,
    "a list of different lengths": head(f"{LENGTH}, 5") + YES,
    "a length with a plus": head(f"Content-Length: +{len(YES)}") + YES,
    "a length with zeros before it": head(f"Content-Length: 000{len(YES)}") + YES,
    "a negative length": head("Content-Length: -5") + YES,
    "a length of letters": head("Content-Length: many") + YES,
    "a length and garbage in a list": head(f"{LENGTH}, x") + YES,
    "a length and garbage in two fields": head(LENGTH, "Content-Length: x") + YES + b"surplus",
    "garbage and a length": head("Content-Length: x", LENGTH) + YES,
    "an empty length": head("Content-Length:") + YES,
    "a length in hexadecimal": head(f"Content-Length: 0x{len(YES):x}") + YES,
    "a fractional length": head(f"Content-Length: {len(YES)}.0") + YES,
    "a length of 5000 digits": head("Content-Length: " + "9" * 5000) + YES,
    "a length of 20 digits": head("Content-Length: " + "9" * 20) + YES,
    "a body shorter than said": head(f"Content-Length: {len(YES) + 9}") + YES,
    "a body longer than said": head(LENGTH) + YES + b"surplus",
    "no length, until the close": head(JSON) + YES,
    "no length, and keep-alive": head("Connection: keep-alive") + YES,
    "length zero": head("Content-Length: 0"),
    "an empty body until the close": head(),
    # Chunks.
    "chunked": head(JSON, CHUNKED) + chunks(YES),
    "chunked in one piece": head(CHUNKED) + chunks(YES, 9999),
    "chunked in pieces of one byte": head(CHUNKED) + chunks(YES, 1),
    "chunk sizes in upper case": head(CHUNKED) + chunks(YES, 0x2B, upper=True),
    "chunk sizes with zeros before them": head(CHUNKED) + b"000%x\r\n%b\r\n0000\r\n\r\n" % (len(YES), YES),
    "chunk extensions": head(CHUNKED) + chunks(YES, extension=";a=b;c"),
    "chunk extensions after spaces": head(CHUNKED) + chunks(YES, extension='  ; a="b;c"'),
    "spaces after the chunk sizes": head(CHUNKED) + chunks(YES, extension="   "),
    "trailers": head(CHUNKED, "Trailer: X-A") + chunks(YES, end=b"0\r\nX-A: 1\r\nX-B: 2\r\n\r\n"),
    "no line after the last chunk": head(CHUNKED) + chunks(YES, end=b"0\r\n"),
    "no last chunk": head(CHUNKED) + chunks(YES, end=b""),
    "a chunk cut off": head(CHUNKED) + chunks(YES)[:-30],
    "a chunk size of letters": head(CHUNKED) + b"zz\r\n" + YES,
    "a negative chunk size": head(CHUNKED) + b"-5\r\n" + YES,
    "a chunk size with 0x": head(CHUNKED) + b"0x%x\r\n%b\r\n0\r\n\r\n" % (len(YES), YES),
    "chunk lines that end with LF": head(CHUNKED) + chunks(YES, 9999).replace(b"\r\n", b"\n"),
    "chunked, upper case": head("TRANSFER-ENCODING: CHUNKED") + chunks(YES),
    "chunked and a length": head(CHUNKED, "Content-Length: 3") + chunks(YES),
    "a length and chunked": head(LENGTH, CHUNKED) + chunks(YES),
    "chunked twice": head(CHUNKED, CHUNKED) + chunks(YES),
    "chunked twice in a list": head("Transfer-Encoding: chunked, chunked") + chunks(YES),
    "transfer coding identity": head("Transfer-Encoding: identity", LENGTH) + YES,
    "transfer coding identity, until the close": head("Transfer-Encoding: identity") + YES,
    "transfer coding of no name": head("Transfer-Encoding:", LENGTH) + YES,
    "a transfer coding unknown to us": head("Transfer-Encoding: x-foo", LENGTH) + YES,
    "a transfer coding of gzip that is none": head("Transfer-Encoding: gzip, chunked") + chunks(YES),
    "a transfer coding of gzip": head("Transfer-Encoding: gzip, chunked") + chunks(GZIP),
    "spaces around chunked": head("Transfer-Encoding:   chunked  ") + chunks(YES),
    # Content codings that were not asked for.
    "gzip": coded("gzip", GZIP),
    "GZIP": coded("GZIP", GZIP),
    "x-gzip": coded("x-gzip", GZIP),
    "a folded content coding": head("Content-Encoding:", " gzip", f"Content-Length: {len(GZIP)}") + GZIP,
    "gzip, chunked": head("Content-Encoding: gzip", CHUNKED) + chunks(GZIP),
    "gzip, until the close": head("Content-Encoding: gzip") + GZIP,
    "gzip in two members": coded("gzip", gzip.compress(YES[:30]) + gzip.compress(YES[30:])),
    "gzip with garbage after it": coded("gzip", GZIP + b"garbage"),
    "gzip without its end": coded("gzip", GZIP[:-8]),
    "gzip cut in the middle": coded("gzip", GZIP[: len(GZIP) // 2]),
    "gzip with a wrong checksum": coded("gzip", GZIP[:-8] + b"\0" * 8),
    "gzip that is none": coded("gzip", YES),
    "gzip of nothing": coded("gzip", b""),
    "deflate with its wrapper": coded("deflate", squeezed(YES, window=15)),
    "deflate without its wrapper": coded("deflate", squeezed(YES, window=-15)),
    "gzip twice": coded("gzip, gzip", gzip.compress(GZIP)),
    "deflate, then gzip": coded("deflate, gzip", gzip.compress(squeezed(YES, window=15))),
    "gzip six times": coded(", ".join(["gzip"] * 6), YES),
    "a list of gzip and a name unknown to us": coded("gzip, x-foo", GZIP),
    "content coding identity": coded("identity", YES),
    "content coding of no name": coded("", YES),
    "a character set as the content coding": coded("UTF-8", YES),
    "a content coding unknown to us": coded("x-foo", YES),
    "brotli by name only": coded("br", YES),
    "brotli": coded("br", b"\x0b\x02\x80{}\x03"),
    "gzip larger than the cap": coded("gzip", gzip.compress(b'{"a": "' + b" " * 400_000 + b'"}')),
    # Status lines.
    "no reason phrase": head(LENGTH, status="HTTP/1.1 201") + YES,
    "a space and no reason phrase": head(LENGTH, status="HTTP/1.1 201 ") + YES,
    "spaces in the status line": head(LENGTH, status="HTTP/1.1   201    Created  ") + YES,
    "tabs in the status line": head(LENGTH, status="HTTP/1.1\t201\tCreated") + YES,
    "spaces before the status line": head(LENGTH, status="  HTTP/1.1 201 Created") + YES,
    "a reason of odd bytes": head(LENGTH, status="HTTP/1.1 201 \x80\xe9\xff\x01") + YES,
    "a reason of 8 bits": head(LENGTH, status="HTTP/1.1 201 Cr\xe9\xe9") + YES,
    "a reason of 60000 bytes": head(LENGTH, status="HTTP/1.1 201 " + "x" * 60_000) + YES,
    "a reason of 70000 bytes": head(LENGTH, status="HTTP/1.1 201 " + "x" * 70_000) + YES,
    "lower case": head(LENGTH, status="http/1.0 201 created") + YES,
    "HTTP/1.0": head(LENGTH, status="HTTP/1.0 201 Created") + YES,
    "HTTP/1.0 and keep-alive": head(LENGTH, "Connection: keep-alive", status="HTTP/1.0 201 Created") + YES,
    "HTTP/1.2": head(LENGTH, status="HTTP/1.2 201 Created") + YES,
    "HTTP/1.10": head(LENGTH, status="HTTP/1.10 201 Created") + YES,
    "HTTP/0.9": head(LENGTH, status="HTTP/0.9 201 Created") + YES,
    "HTTP/2": head(LENGTH, status="HTTP/2 201 Created") + YES,
    "ICY": head(LENGTH, status="ICY 200 OK") + YES,
    "a status of two digits": head(LENGTH, status="HTTP/1.1 20 OK") + YES,
    "a status of four digits": head(LENGTH, status="HTTP/1.1 2010 OK") + YES,
    "a status with zeros before it": head(LENGTH, status="HTTP/1.1 0201 OK") + YES,
    "status 999": head(LENGTH, status="HTTP/1.1 999 Request denied") + YES,
    "status 600": head(LENGTH, status="HTTP/1.1 600 What") + YES,
    "a status line cut off": b"HTTP/1.1 201 Cre",
    "nothing": b"",
    "a line break before the status line": b"\r\n" + PLAIN,
    "two line breaks before the status line": b"\r\n\r\n" + PLAIN,
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTML without a head": b"<html><body>502 Bad Gateway</body></html>",
    # Interim answers.
    "100 before the answer": head(status="HTTP/1.1 100 Continue") + PLAIN,
    "100 twice": head("X: y", status="HTTP/1.1 100 Continue") * 2 + PLAIN,
    "102 before the answer": head(status="HTTP/1.1 102 Processing") + PLAIN,
    "103 before the answer": head("Link: </a>", status="HTTP/1.1 103 Early Hints") + PLAIN,
    "103 and nothing more": head(status="HTTP/1.1 103 Early Hints"),
    "101": head("Upgrade: websocket", status="HTTP/1.1 101 Switching Protocols"),
    # Answers without a body.
    "204 with a body": head(LENGTH, status="HTTP/1.1 204 No Content") + YES,
    "204 and chunked": head(CHUNKED, status="HTTP/1.1 204 No Content") + chunks(YES),
    "304 with a body": head(LENGTH, status="HTTP/1.1 304 Not Modified") + YES,
    "205 with a body": head(LENGTH, status="HTTP/1.1 205 Reset Content") + YES,
    # Header fields.
    "line ends of LF": PLAIN.replace(b"\r\n", b"\n"),
    "line ends of both kinds": head(LENGTH).replace(b"Created\r\n", b"Created\n") + YES,
    "a field without a name": head(": x", JSON, LENGTH) + YES,
    "a field of a colon alone": head(":", JSON, LENGTH) + YES,
    "a field without a value": head("X-Empty:", "Retry-After:", JSON, LENGTH) + YES,
    "a field without a colon": head(JSON, "garbage", LENGTH) + YES,
    "a space before the colon": head(JSON, LENGTH.replace(":", " :")) + YES,
    "no space after the colon": head("Content-Type:application/json", LENGTH.replace(" ", "")) + YES,
    "tabs and spaces around values": head("Content-Type: \t application/json \t", LENGTH.replace(" ", "\t ")) + YES,
    "a folded field": head("X-Long: a", "  b", "\tc", JSON, LENGTH) + YES,
    "a folded content type": head("Content-Type: application/json;", " charset=utf-8", LENGTH) + YES,
    "a folded length": head("Content-Length:", f" {len(YES)}") + YES,
    "a fold before any field": head(" folded", JSON, LENGTH) + YES,
    "a fold after a field without a name": head(": x", " y", JSON, LENGTH) + YES,
    "fields in Latin-1": head("X-Name: Ren\xe9", "Date: l\xfcndi", JSON, LENGTH) + YES,
    "fields in upper case": head("CONTENT-TYPE: application/json", "RETRY-AFTER: 7", LENGTH.upper()) + YES,
    "the same field twice": head("Retry-After: 7", "retry-after: 8", "X-RateLimit-Limit: 5", LENGTH) + YES,
    "99 fields": head(*[f"X-{n}: {n}" for n in range(98)], LENGTH) + YES,
    "100 fields": head(*[f"X-{n}: {n}" for n in range(99)], LENGTH) + YES,
    "101 fields": head(*[f"X-{n}: {n}" for n in range(100)], LENGTH) + YES,
    "a field of 60000 bytes": head("X-Long: " + "x" * 60_000, JSON, LENGTH) + YES,
    "a field of 70000 bytes": head("X-Long: " + "x" * 70_000, JSON, LENGTH) + YES,
    "nine fields of 60000 bytes": head(*["X-Long: " + "x" * 60_000] * 9, JSON, LENGTH) + YES,
    "a NUL in a field": head("X-Nul: a\0b", JSON, LENGTH) + YES,
    "control characters in a field": head("X-Control: a\x07\x1b[31m", JSON, LENGTH) + YES,
    "a carriage return in a field": head("X-A: a\rRetry-After: 9", JSON, LENGTH) + YES,
    "fields cut off": b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Le",
    "no empty line": b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n",
    # Connections.
    "Connection: close": head(LENGTH, "Connection: close") + YES,
    "Connection: CLOSE": head(LENGTH, "Connection: CLOSE") + YES,
    "Connection: keep-alive, and it closes": head(LENGTH, "Connection: keep-alive", "Keep-Alive: timeout=5") + YES,
    "Connection: keep-alive, Upgrade": head(LENGTH, "Connection: keep-alive, Upgrade") + YES,
    "Connection, twice": head(LENGTH, "Connection: keep-alive", "Connection: close") + YES,
    "Connection of no value": head(LENGTH, "Connection:") + YES,
    "Proxy-Connection": head(LENGTH, "Proxy-Connection: keep-alive") + YES,
    # Bodies.
    "a byte order mark": head(f"Content-Length: {len(YES) + 3}") + b"\xef\xbb\xbf" + YES,
    "UTF-16": head(JSON) + YES.decode().encode("utf-16"),
    "UTF-16 without a mark": head(JSON) + YES.decode().encode("utf-16-le"),
    "UTF-32": head(JSON) + YES.decode().encode("utf-32"),
    "Latin-1, declared": head("Content-Type: application/json; charset=ISO-8859-1") + b'{"message": "Ren\xe9"}',
    "windows-1252, declared": head('Content-Type: text/json; charset="windows-1252"') + b'{"message": "\x80 5"}',
    "a character set unknown to all": head("Content-Type: application/json; charset=x-foo") + YES,
    "HTML": head("Content-Type: text/html") + b"<html><title>Moved</title></html>",
    "text": head("Content-Type: text/plain") + b"created",
    "an error page of 500": head("Content-Type: text/html", status="HTTP/1.1 500 Oops") + b"<html>500</html>",
    "401": head(JSON, LENGTH, status="HTTP/1.1 401 Unauthorized") + YES,
    "a redirect": head("Location: /login", LENGTH, status="HTTP/1.1 302 Found") + YES,
}  # fmt: skip

OTHERWISE = {
    "gzip larger than the cap": "more than 256 KiB of an answer to a POST, or 4 MiB of a list",
    "nine fields of 60000 bytes": "more than 256 KiB beside the body",
    "a carriage return in a field": "a bare carriage return inside a header line",
    "102 before the answer": "an interim status",
    "103 before the answer": "an interim status",
    "103 and nothing more": "an interim status",
    "204 and chunked": "a body after 204 or 304",
    "fields cut off": "headers that end without their empty line",
    "no empty line": "headers that end without their empty line",
    "a status line cut off": "headers that end without their empty line",
    "gzip cut in the middle": "a coding without its end",
    "brotli": "brotli and zstd",
}
"""What stock `requests` reads and we read otherwise, on purpose; each reason stands in docs/http.md."""

BETTER = {
    "a folded content coding",
    "a list of gzip and a name unknown to us",
    "102 before the answer",
    "103 before the answer",
    "UTF-16",
    "UTF-16 without a mark",
    "UTF-32",
}
"""What we read and stock `requests` does not."""


@pytest.mark.parametrize("name", ANSWERS)
def test_what_stock_requests_reads_we_read(wires: Wires, name: str) -> None:
    stock, ours = wires.stock(ANSWERS[name]), wires.ours(ANSWERS[name])

    assert same(stock, ours) != (name in OTHERWISE), (stock, ours)
    assert better(stock, ours) == (name in BETTER), (stock, ours)


@pytest.mark.parametrize(
    "name",
    [
        "two equal lengths",
        "a list of equal lengths",
        "a space before the colon",
        "a field without a colon",
        "a folded length",
        "chunked",
        "spaces around chunked",
        "204 with a body",
        "no line after the last chunk",
    ],
)
def test_an_answer_whose_end_was_announced_is_read_though_the_server_keeps_the_connection(
    wires: Wires, name: str
) -> None:
    """Where stock `requests` waits for the close instead, the person was called and nobody knows it."""
    ours = wires.ours(ANSWERS[name], keep=True)

    assert ours.how == ("answer" if name != "no line after the last chunk" else "cut off")
    assert same(wires.stock(ANSWERS[name], keep=True), ours)


def test_each_answer_that_is_read_otherwise_is_documented_with_its_reason() -> None:
    page = DOCS.read_text()

    assert set(OTHERWISE) | BETTER <= set(ANSWERS)
    assert [reason for reason in OTHERWISE.values() if reason not in page] == []
