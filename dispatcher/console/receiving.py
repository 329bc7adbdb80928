"""A form with a file: its fields, and the file in a temporary one without a name."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import IO, Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from dispatcher.console.request import BadRequest, Form

_FIELDS: Final = 20
_LONGEST_NAME: Final = 200
_BESIDE: Final = 64 * 1024
"""Bytes that the fields and the marks around the file may take."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that a form brought. The repr names nobody."""

    name: str = field(repr=False)
    file: IO[bytes] = field(repr=False)
    size: int


def body_most(upload_mb: int) -> int:
    """Return the bytes of the largest body with a file of so many MB."""
    return upload_mb * 1_000_000 + _BESIDE


def is_multipart(http: Request) -> bool:
    """Return whether a form may bring a file."""
    return http.headers.get("content-type", "").split(";")[0].strip() == "multipart/form-data"


async def receive(http: Request, upload_mb: int) -> tuple[Form, ReceivedFile | None]:
    """Return the fields and the file of a form; no file where none was chosen. Raises `BadRequest`."""
    try:
        form = await MultiPartParser(
            http.headers, _bounded(http, upload_mb), max_files=1, max_fields=_FIELDS, max_part_size=_BESIDE
        ).parse()
    except (MultiPartException, UnicodeError, KeyError):
        raise BadRequest("That form cannot be read.") from None
    except ClientDisconnect:
        raise BadRequest("The file did not arrive whole; upload it again.") from None
    fields = tuple((name, value) for name, value in form.multi_items() if isinstance(value, str))
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files or not files[0].size:
        await form.close()
        return Form(fields), None
    name = (files[0].filename or "file").replace("\\", "/").rpartition("/")[2][-_LONGEST_NAME:]
    # The file itself, without starlette's wrapper, which closes it behind the request.
    kept = os.fdopen(os.dup(files[0].file.fileno()), "r+b")
    await form.close()
    return Form(fields), ReceivedFile(name or "file", kept, files[0].size)


async def _bounded(http: Request, upload_mb: int) -> AsyncGenerator[bytes, None]:
    left = body_most(upload_mb)
    async for chunk in http.stream():
        left -= len(chunk)
        if left < 0:
            raise BadRequest(f"The file has more than {upload_mb} MB (DISPATCHER_CONSOLE_UPLOAD_MB); split it.")
        yield chunk
