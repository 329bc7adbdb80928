"""The bytes of an import: a file or standard input, gzip or not, in the encoding that they turn out to have.

A file is read twice: once for its digest and its encoding, once for its rows. What comes from a pipe is kept in a
temporary file of ours, without a name, in between.
"""

import codecs
import gzip
import io
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Final, cast

from dispatcher.errors import DispatcherError, FieldError


class UnreadableFile(DispatcherError):
    """The message names the line or column and the way out, and what was imported before it, if anything was."""


class UnwritableRejects(DispatcherError):
    """The account of refused rows cannot be written. The message says why, and in the end how far it came."""


class ImportStopped(DispatcherError):
    """Somebody asked it to stop. The message says how many rows are done and how to go on."""


TIME_REMEDY: Final = "write the date, the time and its distance from UTC, e.g. 2026-11-23T14:00+01:00"

_WHOLE: Final = re.compile(r"([+-]?\d{1,19})(?:\.0+)?")


def whole_of_cell(cell: str) -> int | str:
    """The number; what is none stays as it is, so that the lead or its options name the fault."""
    found = _WHOLE.fullmatch(cell)
    return cell if found is None else int(found[1])


def moment_of_cell(cell: str, field: str) -> datetime | FieldError:
    """The time, written in ISO 8601. One without its zone is refused: nobody knows whose clock was meant."""
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return FieldError(field, "is not a time in ISO 8601", TIME_REMEDY)
    if moment.utcoffset() is None:
        return FieldError(field, "has no time zone", TIME_REMEDY)
    return moment


@dataclass(frozen=True, slots=True)
class Row:
    """`line` is 1-based, the first of the row's; `text` as it stood; `cells` of a table, empty for a line of JSON.

    `fault` says why the row's cells cannot be told apart, or are not to be trusted.
    """

    line: int
    text: str
    cells: tuple[str, ...] = ()
    fault: FieldError | None = None

    def __repr__(self) -> str:
        return f"Row(line={self.line})"


STDIN: Final = "-"

_BLOCK: Final = 1 << 18
_GZIP: Final = b"\x1f\x8b"
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAVE: Final = "open it, save it as CSV (UTF-8), and import that"
_OTHER_KINDS: Final = (
    (b"PK\x03\x04", "an Excel or OpenDocument workbook, or another archive", _SAVE),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", _SAVE),
    (b"%PDF", "a PDF", _SAVE),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it, and import what is in it"),
    (b"\xfd7zXZ", "packed by xz", "unpack it on the way: xz -dc FILE | dispatcher import -"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it on the way: zstd -dc FILE | dispatcher import -"),
    *(
        (b"BZh%d1AY&" % level, "packed by bzip2", "unpack it on the way: bunzip2 -c FILE | dispatcher import -")
        for level in range(1, 10)
    ),
)
_NOT_IN_CP1252: Final = frozenset(b"\x81\x8d\x8f\x90\x9d")


@dataclass(frozen=True, slots=True)
class Source:
    """A text to import.

    digest     SHA-256 in hex of the uncompressed bytes: the same file again has the same
    encoding   as Python calls it: by the byte order mark, else utf-8 if all of it is, else cp1252 or latin-1
    lines      about how many there are
    """

    name: str
    digest: str
    encoding: str
    lines: int
    _bytes: IO[bytes]

    @contextmanager
    def text(self) -> Iterator[Iterator[str]]:
        """The lines from the beginning, with their ends as they are. They raise `UnreadableFile` where they break."""
        self._bytes.seek(0)
        reader = io.TextIOWrapper(self._bytes, encoding=self.encoding, newline="")
        try:
            yield self._lines(reader)
        finally:
            reader.detach()

    def is_at(self, path: Path) -> bool:
        """Whether this is the very file at the path, by whatever name."""
        try:
            return os.path.samestat(os.fstat(self._bytes.fileno()), path.stat())
        except OSError:
            return False

    def _lines(self, reader: io.TextIOWrapper) -> Iterator[str]:
        try:
            for line in reader:  # noqa: UP028 - `yield from` would close the reader together with this
                yield line
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise _unreadable(self.name, error) from None


@contextmanager
def open_source(path: str, stdin: IO[bytes] | None = None) -> Iterator[Source]:
    """The file at `path`, or standard input for `-`. Raises `UnreadableFile`."""
    name = "stdin" if path == STDIN else Path(path).name or path
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(_seekable(path, stdin))
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
            _refuse_other_kinds(name, unpacked)
            source = Source(name, *_survey(unpacked), unpacked)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(name, error) from None
        yield source  # outside of that: what fails while it is used is not the file's fault


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


def _refuse_other_kinds(name: str, file: IO[bytes]) -> None:
    begins = file.read(8)
    file.seek(0)
    for mark, kind, way_out in _OTHER_KINDS:
        if begins.startswith(mark):
            raise UnreadableFile(f"{name} is {kind}; {way_out}.")
    if len(begins) == 8 and b"\0" * 4 in (begins[::2], begins[1::2]):  # Latin letters, each with a zero beside it
        raise UnreadableFile(f"{name} is UTF-16 without its mark; {_SAVE}.")


def _survey(file: IO[bytes]) -> tuple[str, str, int]:
    """Digest, encoding and number of lines."""
    digest = sha256()
    marked: str | None = None
    utf8: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")()
    western = "cp1252"
    first = True
    lines = 0
    while block := file.read(_BLOCK):
        digest.update(block)
        lines += block.count(b"\n")
        if first:
            marked = next((name for mark, name in _MARKS if block.startswith(mark)), None)
            first = False
        if utf8 is not None and not _decodes(utf8, block):
            utf8 = None
        if western == "cp1252" and not _NOT_IN_CP1252.isdisjoint(block):
            western = "latin-1"
    if utf8 is not None and not _decodes(utf8, b"", final=True):
        utf8 = None
    return digest.hexdigest(), marked or ("utf-8" if utf8 is not None else western), lines


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True


def _unreadable(name: str, error: Exception) -> UnreadableFile:
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return UnreadableFile(f"{name} cannot be read: {error.strerror or type(error).__name__}.")
    return UnreadableFile(f"{name} is damaged or cut off ({type(error).__name__}); get it again from where it came.")
