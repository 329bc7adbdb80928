"""The body of an answer, read with distrust: bytes of any coding and JSON of any depth become a value or a fault."""

import json
import math
import re
import zlib
from dataclasses import dataclass
from typing import Final

from dispatcher.decisions.reply import BodyFault
from dispatcher.decisions.storable import BIGINT_MAX, BIGINT_MIN, MAX_DEPTH, storable, storable_text

TEXT_CAP: Final = 2048
"""Characters of a body kept for people to read."""

_INTEGER_CAP: Final = 20
"""Characters of -2^63: a longer integer is kept as the text that it came as, never converted (CVE-2020-10735)."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})
_NOT_UNDONE: Final = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
_CODINGS_MOST: Final = 5  # nested, as urllib3 allows
_MEMBERS_MOST: Final = 64  # of one gzip body; each costs a copy of the rest
_NOT_UTF_8: Final = (b"\xff\xfe", b"\xfe\xff")  # what UTF-16, and UTF-32, may begin with
_CHARSET: Final = re.compile(
    r"charset=[\"']?(iso-8859-\d{1,2}|latin-?1|windows-125\d|cp125\d|koi8-[ru]|shift_jis|euc-(?:jp|kr)|gb\w{1,5}|big5)"
)


@dataclass(frozen=True, slots=True)
class Body:
    """`value` is None exactly if `fault` is set or the JSON was `null`."""

    value: object
    text: str
    fault: BodyFault | None


def read(raw: bytes, *, coding: str, content_type: str, cap: int, fault: BodyFault | None = None) -> Body:
    """Undo the content codings (RFC 9110, 8.4.1) of `raw`, and parse what it holds.

    `coding` and `content_type` are the values of the header fields; `cap` is the most bytes that it may expand to.
    gzip, x-gzip and deflate are undone although identity was asked for; a coding of another name is taken for a wrong
    label, as `requests` takes it: the bytes are read as they are.
    """
    names = [name for part in coding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
    unreadable = BodyFault.NOT_JSON if _NOT_UNDONE.isdisjoint(names) else BodyFault.ENCODING
    known = [name for name in names if name in _CODINGS]
    if len(known) > _CODINGS_MOST:
        return Body(None, "", fault or BodyFault.ENCODING)
    for name in reversed(known):
        try:
            raw, ended = _expanded(raw, name, cap)
        except zlib.error:
            return Body(None, "", fault or BodyFault.ENCODING)
        if len(raw) > cap:
            return parse_body(raw[:cap], fault or BodyFault.OVERSIZE)
        if not ended:
            unreadable = BodyFault.TRUNCATED
    return parse_body(raw, fault, content_type=content_type, unreadable=unreadable)


def _expanded(raw: bytes, coding: str, cap: int) -> tuple[bytes, bool]:
    """Return `raw` expanded, at most one byte more than `cap`, and whether it has its end. Raises `zlib.error`."""
    if not raw:
        return raw, True
    if coding == "deflate":
        try:
            inflater = zlib.decompressobj()
            return inflater.decompress(raw, cap + 1), inflater.eof
        except zlib.error:  # some servers send it without the zlib wrapper of RFC 1950
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            return inflater.decompress(raw, cap + 1), inflater.eof
    expanded = bytearray()
    for member in range(_MEMBERS_MOST):
        inflater = zlib.decompressobj(_GZIP)
        try:
            expanded += inflater.decompress(raw, cap + 1 - len(expanded))
        except zlib.error:
            if member:  # garbage after the first member, which other readers of gzip ignore too
                break
            raise
        raw = inflater.unused_data
        if not inflater.eof:
            return bytes(expanded), False
        if not raw or len(expanded) > cap:
            break
    return bytes(expanded), True


def parse_body(
    raw: bytes, fault: BodyFault | None = None, *, content_type: str = "", unreadable: BodyFault = BodyFault.NOT_JSON
) -> Body:
    """Return `raw` as a storable value, and its start as text.

    With a `fault` of the wire only the text is kept; `unreadable` is the fault of a body that is no JSON.
    """
    decoded = _decoded(raw, content_type)
    text = storable_text(decoded[:TEXT_CAP])
    if fault is not None:
        return Body(None, text, fault)
    try:
        value = _DECODER.decode(decoded)
    except (ValueError, RecursionError):
        return Body(None, text, unreadable)
    return Body(storable(value) if _may_be_unstorable(decoded) else value, text, None)


def _decoded(raw: bytes, content_type: str) -> str:
    """Return `raw` as text: UTF-8, the UTF-16 or UTF-32 that JSON once allowed, else what the content type says."""
    encoding = json.detect_encoding(raw) if raw[:2] in _NOT_UTF_8 or b"\0" in raw[:4] else "utf-8"
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError:
        kind = content_type.lower()[:200]
    declared = _CHARSET.search(kind)
    charset = declared[1] if declared else "iso-8859-1" if kind.startswith("text/") else "utf-8"
    try:
        return raw.decode(charset, "replace").removeprefix("\ufeff")
    except LookupError:  # no such character set
        return raw.decode("utf-8", "replace").removeprefix("\ufeff")


def _may_be_unstorable(decoded: str) -> bool:
    """Return whether the JSON in `decoded` can hold a NUL, a lone surrogate or too deep a nesting.

    Numbers are harmless already. Walking every value of every answer costs more than decoding it.
    """
    return "\\u" in decoded or "\0" in decoded or decoded.count("[") + decoded.count("{") > MAX_DEPTH


def _integer(digits: str) -> int | str:
    if len(digits) > _INTEGER_CAP:
        return digits
    value = int(digits)
    return value if BIGINT_MIN <= value <= BIGINT_MAX else digits


def _number(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


# Not strict: a raw line break inside a message must not cost us the id beside it.
_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=_number, parse_constant=str, strict=False)
