"""Status line and header fields (RFC 9112, sections 4 and 5), read in two steps so that a status outlives its headers.

The standard library's own reader takes a cut header for the last one, 103 for a final answer, and a third of the CPU
of a whole exchange for its mail parser. Its limits are kept: 64 KiB a line, 100 fields.
"""

import http.client
import re
from http import HTTPStatus
from typing import BinaryIO, Final

_LINE_CAP: Final = 65536  # bytes
_FIELD_CAP: Final = 100
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) +([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")


def read_status(reader: BinaryIO) -> tuple[int, int]:
    """The minor version and the status of the final answer; interim ones (RFC 9110, 15.2) are skipped.

    Raises `RemoteDisconnected` if nothing came, `BadStatusLine` if it is no HTTP/1.
    """
    while True:
        line = reader.readline(_LINE_CAP + 1)
        if not line:
            raise http.client.RemoteDisconnected("closed before an answer")
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise http.client.BadStatusLine("not HTTP/1")
        minor, status = int(match[1]), int(match[2])
        if status >= HTTPStatus.OK or status == HTTPStatus.SWITCHING_PROTOCOLS:
            return minor, status
        read_fields(reader)


def read_fields(reader: BinaryIO) -> dict[str, str]:
    """The header fields by lower-case name; what is given twice is joined by a comma (RFC 9110, 5.2).

    Raises `IncompleteRead` if the stream ends before the empty line, `LineTooLong` and `HTTPException` at the limits.
    """
    fields: dict[str, str] = {}
    for _ in range(_FIELD_CAP + 1):
        line = reader.readline(_LINE_CAP + 1)
        if len(line) > _LINE_CAP:
            raise http.client.LineTooLong("header line")
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(b"")
        if line in (b"\r\n", b"\n"):
            return fields
        name, colon, value = line.decode("latin-1").partition(":")
        if colon and not name[0].isspace():  # a folded or broken line says nothing that we need
            name, value = name.strip().lower(), value.strip()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    raise http.client.HTTPException("too many header fields")
