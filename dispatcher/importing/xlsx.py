"""Workbooks of Excel (.xlsx, .xlsm; ECMA-376): their sheets, and the rows of one as they are parsed."""

import mmap
import re
import tempfile
from array import array
from collections.abc import Iterator
from typing import IO, Final

from dispatcher.importing.archive import Archive
from dispatcher.importing.number_format import Shown, cell_of, fault_of, plain_number, shown_by
from dispatcher.importing.sheet import MAX_MERGES, MAX_SHEETS, NO_VALUE, TOO_LONG, Merge, SheetName, SheetRow, is_error
from dispatcher.importing.source import UnreadableFile
from dispatcher.importing.table import MAX_CELL, MAX_COLUMNS

_REFERENCE: Final = re.compile(r"\$?([A-Z]{1,3})\$?([1-9][0-9]{0,6})")
_ESCAPED: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_MOST_FORMATS: Final = 100_000
_BAD_ERROR: Final = "#VALUE!"


class ExcelWorkbook:
    """The sheets of a workbook. Every method raises `UnreadableFile`."""

    kind = "an Excel workbook"

    def __init__(self, archive: Archive, part: str) -> None:
        self._archive = archive
        self._since_1904 = False
        self._related = archive.relations(part)
        self.sheets: list[SheetName] = []
        archive.parse(part, self._start)
        self._strings: _Strings | None = None
        self._formats: list[Shown] | None = None

    def close(self) -> None:
        """Forget what was read."""
        if self._strings is not None:
            self._strings.close()

    def rows(self, sheet: SheetName, merges: list[Merge]) -> Iterator[SheetRow]:
        """Yield the rows of a sheet that have a value; `merges` gets its merged cells, in the end."""
        if self._formats is None:
            self._formats = self._read_formats()
        if self._strings is None:
            self._strings = _Strings(self._archive, self._part("sharedStrings"))
        parser = _RowParser(self._archive.name, self._strings, self._formats, merges)
        for _ in self._archive.parsing(sheet.part, parser.start, parser.end, parser.text):
            yield from parser.take()

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        if element == "workbookPr":
            self._since_1904 = attributes.get("date1904") in {"1", "true"}
        elif element == "sheet":
            related = next((value for name, value in attributes.items() if name.endswith("relationships id")), "")
            kind, part = self._related.get(related, ("", ""))
            if kind == "worksheet":
                hidden = attributes.get("state", "visible") != "visible"
                self.sheets.append(SheetName(attributes.get("name", ""), hidden, part))
                if len(self.sheets) > MAX_SHEETS:
                    raise UnreadableFile(f"{self._archive.name} has more than {MAX_SHEETS:,} sheets; leave some out.")

    def _part(self, kind: str) -> str | None:
        return next((part for one, part in self._related.values() if one == kind and part in self._archive.parts), None)

    def _read_formats(self) -> list[Shown]:
        """Return how the numbers of a cell are shown, by the number of its style."""
        codes: dict[str, str] = {}
        used: list[str] = []
        inside: list[str] = []

        def start(element: str, attributes: dict[str, str]) -> None:
            if element == "numFmt" and len(codes) < _MOST_FORMATS:
                codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
            elif element == "cellXfs":
                inside.append(element)
            elif element == "xf" and inside and len(used) < _MOST_FORMATS:
                used.append(attributes.get("numFmtId", "0"))

        def end(element: str) -> None:
            if element == "cellXfs":
                inside.clear()

        part = self._part("styles")
        if part is not None:
            self._archive.parse(part, start, end)
        known: dict[str, Shown] = {}
        for one in used:
            if one not in known:
                number = int(one) if one.isascii() and one.isdecimal() and len(one) < 6 else 0
                known[one] = shown_by(number, codes.get(one), since_1904=self._since_1904)
        return [known[one] for one in used]


class _Strings:
    """The texts that cells name by number, in a temporary file: in memory is only where each begins."""

    def __init__(self, archive: Archive, part: str | None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._begins = array("Q", [0])
        self._pieces: list[str] = []
        self._skipping = 0  # phonetic readings of what was said already
        self._in_text = False
        self._map: mmap.mmap | None = None
        if part is not None:
            archive.parse(part, self._start, self._end, self._text)
        self._file.flush()
        if self._begins[-1]:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self._begins) - 1:
            raise IndexError(number)
        begins, ends = self._begins[number], self._begins[number + 1]
        return "" if self._map is None else self._map[begins:ends].decode("utf-8", "surrogatepass")

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        self._file.close()

    def _start(self, element: str, _: dict[str, str]) -> None:
        if element == "rPh":
            self._skipping += 1
        self._in_text = element == "t" and not self._skipping

    def _text(self, piece: str) -> None:
        if self._in_text:
            self._pieces.append(piece)

    def _end(self, element: str) -> None:
        self._in_text = False
        if element == "rPh":
            self._skipping -= 1
        elif element == "si":
            # One character more than allowed, so that the cell is refused.
            text = _unescaped("".join(self._pieces))[: MAX_CELL + 1].encode("utf-8", "surrogatepass")
            self._pieces.clear()
            self._file.write(text)
            self._begins.append(self._begins[-1] + len(text))


class _RowParser:
    """Makes rows of the elements of a sheet."""

    def __init__(self, name: str, strings: _Strings, formats: list[Shown], merges: list[Merge]) -> None:
        self._name = name
        self._strings = strings
        self._formats = formats
        self._merges = merges
        self._found: list[SheetRow] = []
        self._row: SheetRow | None = None
        self._number = 0
        self._column = -1
        self._kind = self._style = ""
        self._formula = self._valued = self._reading = False
        self._skipping = 0
        self._pieces: list[str] = []
        self._size = 0

    def take(self) -> list[SheetRow]:
        """Return the rows since the last call."""
        found, self._found = self._found, []
        return found

    def start(self, element: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""
        if element == "c":
            self._begin_cell(attributes)
        elif element == "v" or (element == "t" and not self._skipping):
            self._reading = self._valued = True
        elif element == "f":
            self._formula = True
        elif element == "rPh":
            self._skipping += 1
        elif element == "row":
            given = attributes.get("r", "")
            self._number = int(given) if given.isdecimal() and len(given) < 8 else self._number + 1
            self._row = SheetRow(self._number, [], hidden=attributes.get("hidden") in {"1", "true"})
            self._column = -1
        elif element == "mergeCell":
            self._merge(attributes.get("ref", ""))

    def text(self, piece: str) -> None:
        """Take characters."""
        if self._reading and self._size <= MAX_CELL:
            self._pieces.append(piece)
            self._size += len(piece)

    def end(self, element: str) -> None:
        """Take the end of an element."""
        if element in {"v", "t"}:
            self._reading = False
        elif element == "c":
            self._end_cell()
        elif element == "rPh":
            self._skipping -= 1
        elif element == "row" and self._row is not None:
            if self._row.cells or self._row.fault:
                self._found.append(self._row)
            self._row = None

    def _begin_cell(self, attributes: dict[str, str]) -> None:
        found = _REFERENCE.fullmatch(attributes.get("r", ""))
        self._column = self._column + 1 if found is None else _column_of(found[1])
        self._kind = attributes.get("t", "n")
        self._style = attributes.get("s", "0")
        self._formula = self._valued = self._reading = False
        self._pieces.clear()
        self._size = 0

    def _end_cell(self) -> None:
        row = self._row
        if row is None:
            return
        value = self._value("".join(self._pieces))
        if isinstance(value, tuple):
            row.fault = row.fault or fault_of(self._column + 1, value)
            value = ""
            if self._column >= MAX_COLUMNS:
                return
        elif not value:
            return
        missing = min(self._column, MAX_COLUMNS) - len(row.cells)
        if missing >= 0:
            row.cells.extend([""] * missing)
            row.cells.append(value)
        elif self._column < MAX_COLUMNS:
            row.cells[self._column] = value

    def _value(self, raw: str) -> str | tuple[str, str]:
        """Return the text of the cell, or its fault and the remedy."""
        match self._kind:
            case "s":
                try:
                    raw = self._strings[int(raw)] if raw else ""
                except (ValueError, IndexError):
                    raise UnreadableFile(
                        f"{self._name} is damaged: a cell of row {self._number} names no text."
                    ) from None
            case "e":
                return is_error(raw or _BAD_ERROR)
            case "b":
                return {"1": "TRUE", "true": "TRUE", "0": "FALSE", "false": "FALSE"}.get(raw, raw)
            case "str" | "inlineStr":
                raw = _unescaped(raw)
                if self._formula and not self._valued:
                    return NO_VALUE
            case "d":
                return raw.removesuffix("T00:00:00").replace("T", " ")
            case _ if not raw:
                return NO_VALUE if self._formula else ""
            case _:
                return cell_of(raw.strip(), self._shown())
        return TOO_LONG if len(raw) > MAX_CELL else raw

    def _shown(self) -> Shown:
        place = self._style
        if place.isdecimal() and len(place) < 7 and int(place) < len(self._formats):
            return self._formats[int(place)]
        return plain_number

    def _merge(self, reference: str) -> None:
        first, _, last = reference.partition(":")
        one, other = _REFERENCE.fullmatch(first), _REFERENCE.fullmatch(last)
        if one is None or other is None:
            return
        if len(self._merges) >= MAX_MERGES:
            raise UnreadableFile(f"{self._name} has more than {MAX_MERGES:,} merged cells; split them.")
        self._merges.append(Merge(int(one[2]), _column_of(one[1]), int(other[2]), _column_of(other[1])))


def _column_of(letters: str) -> int:
    """Return the position of a column, from 0: `A`, `Z`, `AA`."""
    position = 0
    for letter in letters:
        position = position * 26 + ord(letter) - 64
    return position - 1


def _unescaped(text: str) -> str:
    """Return a text with the characters that XML cannot have, written as `_x000D_` (ECMA-376, 22.9.2.19)."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def opened(archive: Archive) -> ExcelWorkbook | None:
    """Return the workbook of Excel that the archive is, None for another kind. Raises `UnreadableFile`."""
    if "[Content_Types].xml" not in archive.parts:
        return None
    main = next((part for kind, part in archive.relations("").values() if kind == "officeDocument"), "")
    if main.endswith(".bin"):
        raise UnreadableFile(
            f"{archive.name} is a binary Excel workbook (.xlsb); open it, save it as .xlsx, and import that."
        )
    if main not in archive.parts or b"spreadsheetml" not in archive.start_of(main):
        return None
    return ExcelWorkbook(archive, main)
