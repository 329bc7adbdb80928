"""Workbooks of LibreOffice and others (.ods; OpenDocument 1.3, part 3): their sheets, and the rows of one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from dispatcher.importing.archive import Archive
from dispatcher.importing.number_format import cell_of, fault_of, plain_number
from dispatcher.importing.sheet import MAX_ROWS, MAX_SHEETS, NO_VALUE, TOO_LONG, Merge, SheetName, SheetRow, is_error
from dispatcher.importing.source import UnreadableFile
from dispatcher.importing.table import MAX_CELL, MAX_COLUMNS

_TABLE: Final = "urn:oasis:names:tc:opendocument:xmlns:table:1.0 "
_OFFICE: Final = "urn:oasis:names:tc:opendocument:xmlns:office:1.0 "
_STYLE: Final = "urn:oasis:names:tc:opendocument:xmlns:style:1.0 "
_TEXT: Final = "urn:oasis:names:tc:opendocument:xmlns:text:1.0 "
_CALC_TYPE: Final = "urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0 value-type"

_CONTENT: Final = "content.xml"
_BESIDE: Final = frozenset({"annotation", "shapes", "frame", "custom-shape", "note", "ruby-text"})
"""Elements of a cell whose text is not its value."""
_NUMBERS: Final = frozenset({"float", "currency", "percentage"})


class OpenDocumentWorkbook:
    """The sheets of a workbook. Every method raises `UnreadableFile`."""

    kind = "an OpenDocument workbook"

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.sheets: list[SheetName] = []
        self._style = ""
        self._hidden_styles: set[str] = set()
        self._depth = 0
        archive.parse(_CONTENT, self._start, self._end)

    def close(self) -> None:
        """Nothing is kept."""

    def rows(self, sheet: SheetName, merges: list[Merge]) -> Iterator[SheetRow]:  # noqa: ARG002 - as Excel's
        """Yield the rows of a sheet that have a value. A cell under a merged one says so itself."""
        parser = _RowParser(self._archive.name, int(sheet.part))
        for _ in self._archive.parsing(_CONTENT, parser.start, parser.end, parser.text):
            yield from parser.take()
            if parser.over:
                return

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        if element == "style":
            self._style = attributes.get(f"{_STYLE}name", "")
        elif element == "table-properties" and attributes.get(f"{_TABLE}display") == "false":
            self._hidden_styles.add(self._style)
        elif element == "table":
            if self._depth == 0:
                hidden = attributes.get(f"{_TABLE}style-name") in self._hidden_styles
                name = attributes.get(f"{_TABLE}name", "")
                self.sheets.append(SheetName(name, hidden, str(len(self.sheets))))
                if len(self.sheets) > MAX_SHEETS:
                    raise UnreadableFile(f"{self._archive.name} has more than {MAX_SHEETS:,} sheets; leave some out.")
            self._depth += 1

    def _end(self, element: str) -> None:
        if element == "table":
            self._depth -= 1


class _RowParser:
    """Makes rows of the elements of one sheet. `over` once its end was seen."""

    def __init__(self, name: str, place: int) -> None:
        self._name = name
        self._left = place  # sheets before it
        self._found: list[tuple[SheetRow, int]] = []
        self._tables = 0
        self._beside = 0
        self._number = 1
        self._row: SheetRow | None = None
        self._repeated = 1
        self._cell: dict[str, str] | None = None
        self._covered = False
        self._empty = 0  # cells without a value since the last one with one
        self._pieces: list[str] = []
        self._paragraphs = self._size = self._reading = 0
        self.over = False

    def take(self) -> Iterator[SheetRow]:
        """Yield the rows since the last call; one that is repeated as often as it is."""
        found, self._found = self._found, []
        for row, times in found:
            for place in range(times):
                yield replace(row, number=row.number + place)

    def start(self, element: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""
        if element == "table":
            self._tables += 1
        elif self._left or self.over or self._tables != 1:
            return  # another sheet, or a table within a cell
        elif element in {"table-cell", "covered-table-cell"}:
            self._cell, self._covered = attributes, element[0] == "c"
            self._pieces.clear()
            self._paragraphs = self._size = self._reading = 0
        elif element == "table-row":
            hidden = attributes.get(f"{_TABLE}visibility", "visible") != "visible"
            self._row = SheetRow(self._number, [], hidden=hidden)
            self._repeated, self._empty = _count(attributes.get(f"{_TABLE}number-rows-repeated")), 0
        elif self._cell is not None:
            self._start_in_cell(element, attributes)

    def text(self, piece: str) -> None:
        """Take characters."""
        if self._reading and not self._beside and self._size <= MAX_CELL:
            self._pieces.append(piece)
            self._size += len(piece)

    def end(self, element: str) -> None:
        """Take the end of an element."""
        if element == "table":
            self._tables -= 1
            if self._tables == 0:
                self.over = not self._left
                self._left -= 1 if self._left else 0
        elif self._left or self.over or self._tables != 1:
            return
        elif element in {"table-cell", "covered-table-cell"}:
            self._end_cell()
        elif element == "table-row":
            self._end_row()
        elif self._cell is not None:
            if element in _BESIDE:
                self._beside -= 1
            elif element in {"p", "h"}:
                self._reading -= 1

    def _start_in_cell(self, element: str, attributes: dict[str, str]) -> None:
        if element in _BESIDE:
            self._beside += 1
        elif element in {"p", "h"}:
            if self._paragraphs and not self._beside:
                self._reading += 1
                self.text("\n")
                self._reading -= 1
            self._paragraphs += not self._beside
            self._reading += 1
        elif element == "s":
            self.text(" " * min(_count(attributes.get(f"{_TEXT}c")), MAX_CELL + 1))
        elif element in {"tab", "line-break"}:
            self.text("\t" if element == "tab" else "\n")

    def _end_cell(self) -> None:
        cell, row = self._cell, self._row
        self._cell = None
        if cell is None or row is None:
            return
        repeated = _count(cell.get(f"{_TABLE}number-columns-repeated"))
        value = self._value(cell, "".join(self._pieces))
        column = len(row.cells) + self._empty
        if self._covered:
            row.covered = column if row.covered is None else row.covered
            value = ""
        elif isinstance(value, tuple):
            row.fault = row.fault or fault_of(column + 1, value)
            value = ""
        if not value:
            self._empty += repeated
            return
        room = MAX_COLUMNS + 1 - len(row.cells)  # one more than allowed, so that the row is refused
        row.cells.extend([""] * min(self._empty, room))
        row.cells.extend([value] * min(repeated, max(0, room - self._empty)))
        self._empty = 0

    def _end_row(self) -> None:
        row, self._row = self._row, None
        if row is None:
            return
        if row.cells or row.fault is not None:
            if self._number + self._repeated - 1 > MAX_ROWS:
                raise UnreadableFile(
                    f"{self._name} has more than {MAX_ROWS:,} rows; split it, or save it as CSV (UTF-8)."
                )
            self._found.append((row, self._repeated))
        self._number += self._repeated

    def _value(self, cell: dict[str, str], shown: str) -> str | tuple[str, str]:
        """Return the text of a cell, or its fault and the remedy."""
        kind = cell.get(f"{_OFFICE}value-type")
        if cell.get(_CALC_TYPE) == "error" or (kind != "string" and shown.startswith(("#", "Err:"))):
            return is_error(shown)
        if kind is None:
            return NO_VALUE if f"{_TABLE}formula" in cell and not shown else shown
        if kind in _NUMBERS:
            return _number(cell.get(f"{_OFFICE}value", ""), shown)
        match kind:
            case "string":
                text = cell.get(f"{_OFFICE}string-value", shown) if not self._paragraphs else shown
            case "date":
                text = cell.get(f"{_OFFICE}date-value", shown).removesuffix("T00:00:00").replace("T", " ")
            case "boolean":
                text = cell.get(f"{_OFFICE}boolean-value", shown).upper()
            case _:
                text = shown
        return TOO_LONG if len(text) > MAX_CELL else text


def _number(raw: str, shown: str) -> str | tuple[str, str]:
    text = cell_of(raw, plain_number)
    if isinstance(text, tuple):
        return text
    # 01067 and +49…: shown so by the cell's format, and the same number.
    digits = shown.removeprefix("+")
    same = len(digits) <= len(text) + 20 and digits.isascii() and digits.isdecimal() and digits.lstrip("0") == text
    return shown if same and text != "0" else text


def _count(text: str | None) -> int:
    """Return how often something is repeated."""
    if text is None or not (text.isascii() and text.isdecimal()):
        return 1
    return max(1, int(text)) if len(text) < 10 else 10**9


def opened(archive: Archive) -> OpenDocumentWorkbook | None:
    """Return the OpenDocument workbook that the archive is, None for another kind. Raises `UnreadableFile`."""
    kind = archive.start_of("mimetype", 100)
    if not kind.startswith(b"application/vnd.oasis.opendocument.spreadsheet") or _CONTENT not in archive.parts:
        return None
    if b"encryption-data" in b"".join(archive.blocks("META-INF/manifest.xml")):
        raise UnreadableFile(f"{archive.name} is protected by a password; save it without one, and import that.")
    return OpenDocumentWorkbook(archive)
