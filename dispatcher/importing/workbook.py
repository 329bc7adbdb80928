"""A workbook to import: what kind it is, which of its sheets, and the rows of that one."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import IO, Final

from dispatcher.importing import ods, xlsx
from dispatcher.importing.archive import Archive
from dispatcher.importing.ods import OpenDocumentWorkbook
from dispatcher.importing.sheet import Merge, Sheet, SheetName, SheetWriter
from dispatcher.importing.source import UnclearSheet, UnreadableFile
from dispatcher.importing.xlsx import ExcelWorkbook
from dispatcher.lead.masking import safe_name

Workbook = ExcelWorkbook | OpenDocumentWorkbook

_MOST_NAMED: Final = 20


@contextmanager
def open_sheet(name: str, file: IO[bytes], most: int, wanted: str | None) -> Iterator[Sheet]:
    """Return the sheet `wanted` of the workbook in a seekable file; without a name the only one that has a value.

    most   bytes that its parts may unpack to, and again its rows

    Raises `UnreadableFile`, which names the sheets where it is not clear which one is meant.
    """
    archive = Archive(name, file, most)
    if archive.locked:
        raise UnreadableFile(f"{name} is protected by a password; save it without one, and import that.")
    workbook: Workbook | None = xlsx.opened(archive) or ods.opened(archive)
    if workbook is None:
        raise UnreadableFile(f"{name} is {_kind_of(archive)}.")
    with ExitStack() as stack:
        stack.enter_context(closing(workbook))
        sheet, notes = _chosen(name, workbook, wanted)
        writer = stack.enter_context(closing(SheetWriter(name, most)))
        merges: list[Merge] = []
        for row in workbook.rows(sheet, merges):
            writer.add(row)
        yield writer.finish(f"sheet “{_shown(workbook.sheets, sheet)}” of {workbook.kind}", notes, merges)


def _chosen(name: str, workbook: Workbook, wanted: str | None) -> tuple[SheetName, list[str]]:
    """Return the sheet to import, and what a person should know of the others."""
    sheets = workbook.sheets
    if wanted is not None:
        for sheet in sheets:
            if sheet.name.strip().casefold() == wanted.strip().casefold():
                return sheet, []
        if wanted.isascii() and wanted.isdecimal() and len(wanted) < 5 and 0 < int(wanted) <= len(sheets):
            return sheets[int(wanted) - 1], []
        raise _unclear(f"{name} has no sheet of that name; {_named(sheets, sheets)}.", sheets)
    if len(sheets) == 1:
        return sheets[0], []
    used = [sheet for sheet in sheets if _has_value(workbook, sheet)]
    seen = [sheet for sheet in used if not sheet.hidden]
    hidden = [sheet for sheet in used if sheet.hidden]
    if len(seen) == 1:
        notes = [f"Left out: {_named(sheets, hidden)}, which is hidden; --sheet NAME imports it."] if hidden else []
        return seen[0], notes
    if seen:
        raise _unclear(f"{name} has several sheets: name one with --sheet. {_named(sheets, seen)}.", seen)
    if hidden:
        raise _unclear(f"{name} has only hidden sheets: name one with --sheet. {_named(sheets, hidden)}.", hidden)
    raise UnreadableFile(f"{name} has no sheet with a value; is it the right file?")


def _unclear(text: str, sheets: Sequence[SheetName]) -> UnclearSheet:
    return UnclearSheet(text, [sheet.name for sheet in sheets])


def _has_value(workbook: Workbook, sheet: SheetName) -> bool:
    return any(row.cells for row in workbook.rows(sheet, []))


def _named(sheets: Sequence[SheetName], some: Sequence[SheetName]) -> str:
    names = ", ".join(f"“{_shown(sheets, sheet)}”" for sheet in some[:_MOST_NAMED])
    more = f" and {len(some) - _MOST_NAMED} more" if len(some) > _MOST_NAMED else ""
    return f"{'sheets' if len(some) > 1 else 'sheet'} {names}{more}"


def _shown(sheets: Sequence[SheetName], sheet: SheetName) -> str:
    """Return its name, or its number where the name may be a person's data; `--sheet` takes both."""
    place = sheets.index(sheet)
    return sheet.name if safe_name(sheet.name, place) == sheet.name else str(place + 1)


def _kind_of(archive: Archive) -> str:
    """Return what an archive is that no leads are read from, and the way out."""
    kind = archive.start_of("mimetype", 100)
    if any(part.startswith("word/") for part in archive.parts) or kind.startswith(b"application/vnd.oasis"):
        return "a document, and no workbook; copy its table into a workbook, and import that"
    if any(part.startswith("ppt/") for part in archive.parts):
        return "a presentation, and no workbook"
    if any(part.endswith(".iwa") for part in archive.parts):
        return "a workbook of Numbers; export it as CSV or as Excel, and import that"
    return "a zip archive; unpack it, and import what is in it"
