"""The zip archive that a workbook is: its parts are read block by block, within one bound for all of them.

XML of strangers is parsed by expat without a document type: an entity that expands itself, or names a file, is none.
"""

import posixpath
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Final
from xml.parsers import expat

from dispatcher.importing.source import UnreadableFile

MAX_PARTS: Final = 10_000
_BLOCK: Final = 1 << 16
_MOST_TAG: Final = 1 << 20  # not whole yet it is read anew with each block (in expat before 2.6): 64 MiB took minutes
_MOST_DEPTH: Final = 1_000  # expat keeps each open tag: 38 kB of them took 1.6 GB
_MOST_NAMES: Final = 10_000  # expat keeps each name of a tag, an attribute or a namespace: ten times what it reads
_ENTRY: Final = b"PK\x01\x02"  # before each entry of an archive's list

Start = Callable[[str, dict[str, str]], None]
"""Called with the local name of an element, and its attributes: those with a prefix as `namespace name`."""
End = Callable[[str], None]
Characters = Callable[[str], None]


class LocalNames(dict[str, str]):
    """`namespace name` → `name`, remembered: expat gives each name as one string, a million times."""

    def __missing__(self, name: str) -> str:
        if len(self) >= _MOST_NAMES:
            raise _TooMuch(f"more than {_MOST_NAMES:,} kinds of tags")
        local = self[name] = name.rpartition(" ")[2]
        return local


class _TooMuch(Exception):
    """The XML of a part has what no spreadsheet program writes, and what memory does not suffice for."""


class Archive:
    """Reads the parts of an archive. Every method raises `UnreadableFile` where it is damaged, or grows too large.

    most   bytes that all reading together may unpack
    """

    def __init__(self, name: str, file: IO[bytes], most: int) -> None:
        self.name = name
        self._left = most
        file.seek(0)
        if _entries(file) > MAX_PARTS:
            raise UnreadableFile(f"{name} has more than {MAX_PARTS:,} parts; save it anew, or as CSV (UTF-8).")
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise self._damaged(error) from None
        self.parts = frozenset(self._zip.namelist())
        self.locked = any(part.flag_bits & 1 for part in self._zip.infolist())

    def blocks(self, part: str) -> Iterator[bytes]:
        """Yield the bytes of a part."""
        try:
            # Spreadsheets know these two alone (ISO/IEC 29500-2, annex C; ODF 1.3, part 2), and the other methods of
            # `zipfile` unpack whatever they were given at once: 2 kB made 1 GiB.
            if self._zip.getinfo(part).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UnreadableFile(f"{self.name} is packed as no spreadsheet program packs; save it anew.")
            with self._zip.open(part) as file:
                while block := file.read(_BLOCK):
                    self._left -= len(block)
                    if self._left < 0:
                        raise UnreadableFile(
                            f"{self.name} unpacks to far more than its size, as no list of leads does; "
                            "open it, save it as CSV (UTF-8), and import that."
                        )
                    yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError, OSError) as error:
            raise self._damaged(error) from None

    def start_of(self, part: str, most: int = 4096) -> bytes:
        """Return the first bytes of a part; of one that does not exist, none."""
        return next(self.blocks(part), b"")[:most] if part in self.parts else b""

    def parse(self, part: str, start: Start, end: End = lambda _: None, text: Characters | None = None) -> None:
        """Parse a part to its end."""
        for _ in self.parsing(part, start, end, text):
            pass

    def parsing(self, part: str, start: Start, end: End, text: Characters | None = None) -> Iterator[None]:
        """Parse a part, and yield after each block, so that what the handlers found can be passed on."""
        parser = expat.ParserCreate(namespace_separator=" ")
        local = LocalNames()
        others: set[object] = set()
        depth = 0

        def started(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth > _MOST_DEPTH:
                raise _TooMuch(f"tags within tags, more than {_MOST_DEPTH:,} deep")
            others.update(attributes)
            if len(others) > _MOST_NAMES:
                raise _TooMuch(f"more than {_MOST_NAMES:,} kinds of attributes")
            start(local[name], attributes)

        def ended(name: str) -> None:
            nonlocal depth
            depth -= 1
            end(local[name])

        parser.StartElementHandler, parser.EndElementHandler = started, ended
        parser.StartNamespaceDeclHandler = lambda *prefix_and_uri: others.add(prefix_and_uri)
        parser.CharacterDataHandler = text
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        given = 0
        try:
            for block in self.blocks(part):
                parser.Parse(block)
                given += len(block)
                _check_tag(given - parser.CurrentByteIndex)
                yield
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise self._damaged(error) from None
        except _TooMuch as found:
            raise UnreadableFile(f"{self.name} has {found}, as no spreadsheet program writes; save it anew.") from None
        yield

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the related parts of a part by id: the last word of the kind, e.g. `worksheet`, and the name."""
        folder, _, name = part.rpartition("/")
        found: dict[str, tuple[str, str]] = {}

        def start(element: str, attributes: dict[str, str]) -> None:
            if element == "Relationship" and attributes.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join(f"/{folder}", attributes.get("Target", "")))
                kind = attributes.get("Type", "").rpartition("/")[2]
                found[attributes.get("Id", "")] = kind, target.lstrip("/")

        list_of_them = posixpath.join(folder, "_rels", f"{name}.rels")
        if list_of_them in self.parts:
            self.parse(list_of_them, start)
        return found

    def _refuse_doctype(self, *_: object) -> None:
        raise UnreadableFile(f"{self.name} declares a document type, as no spreadsheet program does; save it anew.")

    def _damaged(self, error: Exception) -> UnreadableFile:
        return UnreadableFile(
            f"{self.name} is damaged or cut off ({type(error).__name__}); get it again from where it came."
        )


def _check_tag(characters: int) -> None:
    if characters > _MOST_TAG:
        raise _TooMuch("a tag of more than 1 MiB")


def _entries(file: IO[bytes]) -> int:
    """Return about how many entries the archive's list has: it is read into memory whole."""
    count, kept = 0, b""
    while block := file.read(1 << 20):
        count += (kept + block).count(_ENTRY)
        kept = block[-3:]
    file.seek(0)
    return count
