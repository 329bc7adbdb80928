"""The bytes of an import: a file or standard input, gzip or not, a workbook or a text in the encoding that it has.

A file is read twice: once for its digest and its encoding, once for its rows. What comes from a pipe is kept in a
temporary file of ours, without a name, in between.
"""

import gzip
import io
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from dispatcher.errors import DispatcherError
from dispatcher.importing.encoding import KEEP_BROKEN, Encoding, Survey, encoding_of_start

if TYPE_CHECKING:
    from dispatcher.importing.sheet import Sheet


class UnreadableFile(DispatcherError):
    """The message names the line or column and the way out, and what was imported before it, if anything was."""


class UnclearSheet(UnreadableFile):
    """A workbook has several sheets. `names` are those that `sheet` may name."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        super().__init__(text)
        self.names = tuple(names)


class UnwritableRejects(DispatcherError):
    """The account of refused rows cannot be written. The message says why, and in the end how far it came."""


class ImportStopped(DispatcherError):
    """The import was asked to stop. The message says how many rows are done and how to go on."""


STDIN: Final = "-"

_BLOCK: Final = 1 << 18
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_OLE: Final = b"\xd0\xcf\x11\xe0"
_SAVE: Final = "open it, save it as CSV (UTF-8) or as .xlsx, and import that"
_OTHER_KINDS: Final = (
    (b"PK\x05\x06", "an empty zip archive", "get it again from where it came"),
    (b"%PDF", "a PDF", "export its table as .xlsx or as CSV (UTF-8), and import that"),
    *((mark, "a web page", _SAVE) for mark in (b"<html", b"<!doct", b"<table", b"<?xml ")),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it, and import what is in it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it, and import what is in it"),
    (b"PAR1", "a Parquet file", "write it as CSV (UTF-8) or as .xlsx, and import that"),
    (b"SQLite format 3\0", "an SQLite database", "export its table as CSV (UTF-8), and import that"),
    *((mark, "a picture", "import the table that it shows") for mark in (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8")),
    (b"\xfd7zXZ", "packed by xz", "unpack it on the way: xz -dc FILE | dispatcher import -"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it on the way: zstd -dc FILE | dispatcher import -"),
    *(
        (b"BZh%d1AY&" % level, "packed by bzip2", "unpack it on the way: bunzip2 -c FILE | dispatcher import -")
        for level in range(1, 10)
    ),
)
MAX_LINE: Final = 1 << 21
"""Characters of a line that are read at most; a lead with all its variables and contacts has a tenth of it."""
MAX_EXPANSION: Final = 250
"""A gzip file may be as many times as large when it is unpacked; tables shrink to a tenth."""
_SMALL: Final = 1 << 26  # bytes that any file may expand to
_START: Final = 4096  # bytes that zeros are looked for in


@dataclass(frozen=True, slots=True)
class Source:
    """A text to import.

    digest     SHA-256 in hex of the uncompressed bytes: the same file again has the same
    lines      about how many there are
    sheet      the sheet to import, where it is a workbook and no text
    """

    name: str
    digest: str
    encoding: Encoding
    lines: int
    _bytes: IO[bytes]
    sheet: "Sheet | None" = None

    @contextmanager
    def text(self) -> Iterator[Iterator[str]]:
        """Return the lines from the beginning with their ends. They raise `UnreadableFile` where they break."""
        self._bytes.seek(0)
        reader = io.TextIOWrapper(self._bytes, encoding=self.encoding.name, errors=KEEP_BROKEN, newline="")
        try:
            yield self._lines(reader)
        finally:
            reader.detach()

    def is_at(self, path: Path) -> bool:
        """Return whether this is the very file at the path, by whatever name."""
        try:
            return os.path.samestat(os.fstat(self._bytes.fileno()), path.stat())
        except OSError:
            return False

    def _lines(self, reader: io.TextIOWrapper) -> Iterator[str]:
        number = 0
        try:
            while line := reader.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise UnreadableFile(
                        f"{self.name} has more than {MAX_LINE:,} characters in line {number + 1}; break the line where "
                        "its rows end, or remove it."
                    )
                number += 1
                yield line.removeprefix("\ufeff") if number == 1 else line
        except (OSError, EOFError, zlib.error, UnicodeError) as error:
            raise _unreadable(self.name, error) from None


@contextmanager
def open_source(
    path: str, stdin: IO[bytes] | None = None, *, encoding: str | None = None, sheet: str | None = None
) -> Iterator[Source]:
    """Open the file at `path`, or standard input for `-`. Raises `UnreadableFile`.

    encoding   how a text is read, as `check_encoding` returns it; None: as the file shows
    sheet      which sheet of a workbook; None: the only one that has a value
    """
    name = "stdin" if path == STDIN else Path(path).name or path
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(_seekable(path, stdin))
        except OSError as error:
            raise _unreadable(name, error) from None
        yield stack.enter_context(source_of(name, raw, encoding=encoding, sheet=sheet))


@contextmanager
def source_of(name: str, raw: IO[bytes], *, encoding: str | None = None, sheet: str | None = None) -> Iterator[Source]:
    """Return the source that an open, seekable file is; its kind is told by its content. Otherwise as `open_source`."""
    with ExitStack() as stack:
        try:
            raw.seek(0)
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
            most = max(_SMALL, os.fstat(raw.fileno()).st_size * MAX_EXPANSION)
            begins = unpacked.read(16)
            unpacked.seek(0)
            if begins.startswith(_ZIP):
                source = stack.enter_context(_workbook(name, unpacked, packed=packed, most=most, sheet=sheet))
            elif sheet is not None:
                raise UnreadableFile(f"{name} is a text, and has no sheets; leave out --sheet.")
            else:
                _refuse_other_kinds(name, begins, unpacked)
                source = _surveyed(name, unpacked, most if packed else sys.maxsize, encoding)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(name, error) from None
        yield source  # outside of that: what fails while it is used is not the file's fault


@contextmanager
def _workbook(name: str, file: IO[bytes], *, packed: bool, most: int, sheet: str | None) -> Iterator[Source]:
    from dispatcher.importing.workbook import open_sheet  # a text needs none of it

    with ExitStack() as stack:
        seekable = stack.enter_context(_kept(name, file, most)) if packed else file
        read = stack.enter_context(open_sheet(name, seekable, most, sheet))
        yield Source(name, read.digest, Encoding("utf-8"), read.rows, file, read)


@contextmanager
def _kept(name: str, file: IO[bytes], most: int) -> Iterator[IO[bytes]]:
    """Return a temporary file with what this one unpacks to."""
    with tempfile.TemporaryFile() as kept:
        while block := file.read(_BLOCK):
            if kept.tell() + len(block) > most:
                raise _too_large(name)
            kept.write(block)
        yield kept


@contextmanager
def _seekable(path: str, stdin: IO[bytes] | None) -> Iterator[IO[bytes]]:
    if path != STDIN:
        with Path(path).open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(stdin or sys.stdin.buffer, kept, _BLOCK)
        kept.seek(0)
        yield kept


def _refuse_other_kinds(name: str, begins: bytes, file: IO[bytes]) -> None:
    if begins.startswith(_OLE):
        if _occurs("EncryptedPackage".encode("utf-16-le"), file):
            raise UnreadableFile(f"{name} is protected by a password; save it without one, and import that.")
        raise UnreadableFile(f"{name} is an old Excel workbook (.xls) or another old Office file; {_SAVE}.")
    shown = begins.removeprefix(b"\xef\xbb\xbf").lower()
    for mark, kind, way_out in _OTHER_KINDS:
        if begins.startswith(mark) or shown.startswith(mark):
            raise UnreadableFile(f"{name} is {kind}; {way_out}.")


def _occurs(text: bytes, file: IO[bytes]) -> bool:
    kept = b""
    while block := file.read(_BLOCK):
        if text in kept + block:
            return True
        kept = block[-len(text) :]
    return False


def _surveyed(name: str, file: IO[bytes], most: int, encoding: str | None) -> Source:
    """Return the source, after one pass over its bytes. Raises `UnreadableFile` for more than `most`."""
    digest, survey = sha256(), Survey()
    start = b""
    size = lines = 0
    while block := file.read(_BLOCK):
        size += len(block)
        if size > most:
            raise _too_large(name)
        digest.update(block)
        lines += block.count(b"\n") or block.count(b"\r")
        start = start or block[:_START]
        survey.add(block)
    survey.add(b"", final=True)
    shown = encoding or encoding_of_start(start)
    found = Encoding(shown) if shown is not None else survey.encoding()
    if found is None:
        raise UnreadableFile(f"{name} is not UTF-8, nor is its encoding clear; name it, e.g. --encoding shift_jis.")
    return Source(name, digest.hexdigest(), found, lines, file)


def _too_large(name: str) -> UnreadableFile:
    return UnreadableFile(
        f"{name} is unpacked to more than {MAX_EXPANSION} times its size; if that is right, unpack it first: "
        "gzip -dc FILE | dispatcher import -"
    )


def _unreadable(name: str, error: Exception) -> UnreadableFile:
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return UnreadableFile(f"{name} cannot be read: {error.strerror or type(error).__name__}.")
    return UnreadableFile(f"{name} is damaged or cut off ({type(error).__name__}); get it again from where it came.")
