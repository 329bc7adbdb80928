"""Workbooks of Excel and LibreOffice: their leads are read, or refused by the name of what is wrong and its row."""

import gzip
import io
import re
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dispatcher.errors import InvalidLead
from dispatcher.importing import archive, sheet
from dispatcher.importing.columns import ImportOptions
from dispatcher.importing.lead_file import LeadFile, open_leads
from dispatcher.importing.number_format import plain_number, shown_by
from dispatcher.importing.source import Source, UnreadableFile, open_source, source_of
from tests.support.workbooks import excel, excel_sheet, ods, ods_row, ods_sheet, zipped

ADA, BOB = "+12025550101", "+12025550102"
HEADER = ("phone_number", "campaign_id", "name")
BOTH = pytest.mark.parametrize("written", [excel, ods])
Written = Callable[..., bytes]


def cell(shown: str, attributes: str) -> tuple[str]:
    """A cell of OpenDocument that shows this text, or these paragraphs."""
    content = shown if shown.startswith("<") else f"<text:p>{shown}</text:p>"
    return (f"<table:table-cell {attributes}>{content}</table:table-cell>",)


FLOAT = 'office:value-type="float" office:value='
DATE = 'office:value-type="date" office:date-value='
STRING = 'office:value-type="string"'
BLANK = '<table:table-cell table:number-columns-repeated="16384"/>'


@contextmanager
def opened(
    content: bytes, name: str = "leads.xlsx", wanted: str | None = None, **options: Any
) -> Iterator[tuple[Source, LeadFile]]:
    with (
        _file(content) as raw,
        source_of(name, raw, sheet=wanted) as source,
        open_leads(source, ImportOptions(**options)) as file,
    ):
        yield source, file


@contextmanager
def _file(content: bytes) -> Iterator[Any]:
    with tempfile.TemporaryFile() as raw:
        raw.write(content)
        yield raw


def read(content: bytes, **given: Any) -> list[tuple[int, dict[str, Any] | str]]:
    """Each row as its line and its lead, or the faults."""
    found: list[tuple[int, dict[str, Any] | str]] = []
    with opened(content, **given) as (_, file):
        for row in file.rows:
            try:
                lead, options = file.read(row)
                found.append((row.line, {**lead, **options}))
            except InvalidLead as refusal:
                found.append((row.line, "; ".join(map(str, refusal.errors))))
    return found


def variables(content: bytes, **given: Any) -> list[Any]:
    return [lead["variables"] if isinstance(lead, dict) else lead for _, lead in read(content, **given)]


def refusal(content: bytes, **given: Any) -> str:
    with pytest.raises(UnreadableFile) as refused, opened(content, **given):
        pass
    return str(refused.value)


@BOTH
def test_a_workbook_is_read_like_a_table_and_rows_have_the_numbers_that_its_program_shows(written: Written) -> None:
    content = written([HEADER, (ADA, 42, "Ada"), (), (None, None, None), (BOB, 42, "Zoë & Søn"), ("12", 42, "no")])
    first, second, third = read(content)
    assert first == (2, {"phone_number": ADA, "campaign_id": 42, "variables": {"name": "Ada"}})
    assert second == (5, {"phone_number": BOB, "campaign_id": 42, "variables": {"name": "Zoë & Søn"}})
    assert third[0] == 6
    assert "phone_number" in third[1]


@BOTH
def test_a_number_gains_no_digits_and_loses_none(written: Written) -> None:
    content = written(
        [
            HEADER,
            *(
                (ADA, 42, value)
                for value in (493023125123.0, 4.930231251e11, 0.1 + 0.2, 0.00001, 7, -3, 999999999999999)
            ),
        ]
    )
    told = [one["name"] for one in variables(content)]
    assert told == ["493023125123", "493023125100", "0.3", "0.00001", "7", "-3", "999999999999999"]


@BOTH
@pytest.mark.parametrize("value", [1234567890123456, 4930231251230123456, 1e15, -1e15, 1e300])
def test_a_number_that_the_spreadsheet_has_rounded_is_refused_with_the_reason(written: Written, value: float) -> None:
    [(line, told)] = read(written([HEADER, (ADA, 42, value)]))
    assert line == 2
    assert "column 3: is a number of more than 15 digits, of which a spreadsheet keeps 15; format" in told


@BOTH
def test_truth_values_are_those_of_a_table(written: Written) -> None:
    content = written([(*HEADER[:2], "allow_dupplicate", "vip"), (ADA, 42, True, False)])
    [(_, lead)] = read(content)
    assert lead == {"phone_number": ADA, "campaign_id": 42, "allow_dupplicate": True, "variables": {"vip": "FALSE"}}


ERRORS = [
    (excel, (' t="e"><v>#N/A</v>',), "is the error #N/A"),
    (excel, (' t="e"><f>1/0</f><v>#DIV/0!</v>',), "is the error #DIV/0!"),
    (excel, ("><f>A1+1</f>",), "is a formula without a value"),
    (excel, ("><f>A1+1</f><v/>",), "is a formula without a value"),
    (excel, (' t="str"><f>A1</f>',), "is a formula without a value"),
    (excel, ("><v>many</v>",), "is a number that cannot be read"),
    (excel, ("><v>nan</v>",), "is a number that cannot be read"),
    (excel, (' s="1"><v>-5</v>',), "is a date before 1900"),
    (excel, (' s="1"><v>99999999</v>',), "is a date before 1900 or after 9999"),
    (
        ods,
        cell(
            "#N/A",
            'table:formula="of:=NA()" office:value-type="string" calcext:value-type="error"',
        ),
        "is the error #N/A",
    ),
    (
        ods,
        cell("Err:502", 'table:formula="x" office:value-type="float" office:value="0"'),
        "is the error Err:502",
    ),
    (ods, ('<table:table-cell table:formula="of:=[.A1]"/>',), "is a formula without a value"),
]


@pytest.mark.parametrize(("written", "cell", "told"), ERRORS)
def test_a_cell_without_a_value_of_its_own_refuses_its_row_alone(written: Written, cell: Any, told: str) -> None:
    content = written([HEADER, (ADA, 42, cell), (BOB, 42, "Bob")])
    first, second = read(content)
    assert first[0] == 2
    assert str(first[1]).startswith(f"column 3: {told}")
    assert second[0] == 3
    assert isinstance(second[1], dict)
    assert told in refusal(written([("phone_number", cell), (ADA, "Ada")]))


VALUES = [
    (excel, ("><f>A1+1</f><v>12</v>",), "12"),
    (excel, (' t="str"><f>A1</f><v>Ada</v>',), "Ada"),
    (excel, (' t="s"><v>0</v>',), "Ada Lovelace"),
    (excel, (' t="inlineStr"><is><r><t>A</t></r><r><t>da</t></r><rPh sb="0" eb="1"><t>no</t></rPh></is>',), "Ada"),
    (excel, (' t="inlineStr"><is><t>a_x000D_b_x005F_c</t></is>',), "a\rb_c"),
    (excel, (' t="d"><v>2026-11-23T00:00:00</v>',), "2026-11-23"),
    (excel, (' s="1"><v>46349</v>',), "2026-11-23"),
    (excel, (' s="2"><v>46349.583333333336</v>',), "2026-11-23 14:00:00"),
    (excel, (' s="5"><v>1</v>',), "1900-01-01"),
    (excel, (' s="2"><v>0.25</v>',), "06:00:00"),
    (excel, (' s="6"><v>1.5625</v>',), "37:30:00"),
    (excel, (' s="3"><v>1067</v>',), "01067"),
    (excel, (' s="4"><v>493023125123</v>',), "+493023125123"),
    (
        ods,
        cell("23.11.", DATE + '"2026-11-23"'),
        "2026-11-23",
    ),
    (
        ods,
        ('<table:table-cell office:value-type="date" office:date-value="2026-11-23T14:00:00"/>',),
        "2026-11-23 14:00:00",
    ),
    (
        ods,
        cell("06:00:00", 'office:value-type="time" office:time-value="PT06H00M00S"'),
        "06:00:00",
    ),
    (
        ods,
        cell("01067", FLOAT + '"1067"'),
        "01067",
    ),
    (
        ods,
        cell("+493023125123", FLOAT + '"493023125123"'),
        "+493023125123",
    ),
    (
        ods,
        cell("4.93E+11", FLOAT + '"493023125123"'),
        "493023125123",
    ),
    (
        ods,
        cell(
            "<office:annotation><text:p>secret</text:p></office:annotation>"
            '<text:p>A<text:span>d</text:span>a<text:s text:c="2"/>L</text:p><text:p>x<text:tab/>y</text:p>',
            STRING,
        ),
        "Ada  L\nx\ty",
    ),
]


@pytest.mark.parametrize(("written", "cell", "told"), VALUES)
def test_a_cell_says_what_its_program_shows(written: Written, cell: Any, told: str) -> None:
    given = {"strings": ["<r><t>Ada </t></r><rPh><t>no</t></rPh><r><t>Lovelace</t></r>"]} if written is excel else {}
    assert variables(written([HEADER, (ADA, 42, cell)], **given)) == [{"name": told}]


def test_a_workbook_may_count_its_days_from_1904() -> None:
    cell = (' s="1"><v>44887</v>',)
    assert variables(excel([HEADER, (ADA, 42, cell)], since_1904=True)) == [{"name": "2026-11-23"}]


def test_formats_are_dates_only_where_they_show_one() -> None:
    for code, told in {
        "General": "2",
        "0.00E+00": "2",
        '"day" 0': "2",
        "[Red]0": "2",
        "yyyy-mm-dd": "1900-01-02",
    }.items():
        assert shown_by(164, code, since_1904=False)(2.0) == told
    assert shown_by(14, "0", since_1904=False) is plain_number


@BOTH
def test_of_several_sheets_the_only_one_with_a_value_is_taken_else_they_are_named(written: Written) -> None:
    full, empty = [HEADER, (ADA, 42, "Ada")], [(None,)]

    def workbook(*sheets: tuple[str, list[Any], bool]) -> bytes:
        if written is excel:
            states = ["hidden" if hidden else "visible" for _, _, hidden in sheets]
            return excel(*(rows for _, rows, _ in sheets), names=[name for name, _, _ in sheets], states=states)
        return ods(*(ods_sheet(rows, name, "unseen" if hidden else "shown") for name, rows, hidden in sheets))

    with opened(workbook(("Empty", empty, False), ("Ada", full, False), ("Blank", [], False))) as (_, file):
        assert file.form.startswith("sheet “Ada” of an ")
    two = workbook(("Ada", full, False), ("Bob", [HEADER, (BOB, 42, "Bob")], False), ("Archive", full, True))
    assert refusal(two) == "leads.xlsx has several sheets: name one with --sheet. sheets “Ada”, “Bob”."
    assert variables(two, wanted=" bob") == [{"name": "Bob"}]
    assert variables(two, wanted="Archive") == [{"name": "Ada"}]
    assert refusal(two, wanted="Eve").endswith("no sheet of that name; sheets “Ada”, “Bob”, “Archive”.")
    with opened(workbook(("Ada", full, False), ("Archive", full, True))) as (_, file):
        assert file.notes == ("Left out: sheet “Archive”, which is hidden; --sheet NAME imports it.",)
    assert "only hidden sheets" in refusal(workbook(("Ada", full, True), ("Bob", full, True)))
    assert "no sheet with a value" in refusal(workbook(("A", empty, False), ("B", [], False)))
    named = workbook(("Leads +1 202 5550101", full, False), ("Bob", full, False))
    assert "“1”, “Bob”" in refusal(named)
    assert variables(named, wanted="1") == [{"name": "Ada"}]


def test_a_sheet_is_wanted_of_a_text() -> None:
    assert "leave out --sheet" in refusal(b"phone_number,campaign_id\n", name="leads.csv", wanted="Leads")


def test_hidden_rows_are_imported_and_the_plan_says_so() -> None:
    with opened(excel(excel_sheet([HEADER, (ADA, 42, "A"), (BOB, 42, "B")], hidden=[3]))) as (_, file):
        assert file.notes == ("1 row is hidden in the sheet, by a filter or by hand, and imported as the others.",)
        assert len(list(file.rows)) == 2
    filtered = ods_row((BOB, 42, "B"), ' table:visibility="filter"')
    with opened(ods([HEADER, (ADA, 42, "A"), filtered])) as (_, file):
        assert len(file.notes) == 1


def test_rows_under_merged_cells_are_refused() -> None:
    after = '<mergeCells><mergeCell ref="C2:C3"/><mergeCell ref="B5:C5"/><mergeCell ref="F1:F9"/></mergeCells>'
    rows = [HEADER, (ADA, 42, "both"), (BOB, 42), (ADA, 42, "fine"), (ADA, 42)]
    told = read(excel(excel_sheet(rows, after=after)))
    assert [line for line, lead in told if isinstance(lead, str)] == [3, 5]
    assert "column 3: is merged with another cell; split" in str(told[1][1])
    covered = ("<table:covered-table-cell/>",)
    told = read(ods([(*HEADER, "x", covered), (ADA, 42, "both"), (BOB, 42, covered), (ADA, 42, "fine")]))
    assert [line for line, lead in told if isinstance(lead, str)] == [3]


def test_repeated_rows_and_cells_of_opendocument_are_those_that_are_seen() -> None:
    twice = ods_row((ADA, 42, "Ada"), ' table:number-rows-repeated="2"')
    gap = '<table:table-row table:number-rows-repeated="90">' + BLANK + "</table:table-row>"
    tail = '<table:table-row table:number-rows-repeated="1048000">' + BLANK + "</table:table-row>"
    sevens = cell("7", FLOAT + '"7" table:number-columns-repeated="2"')
    content = ods([(*HEADER, "b", None), twice, gap, (BOB, 42, sevens), tail])
    assert [line for line, _ in read(content)] == [2, 3, 94]
    assert variables(content)[-1] == {"name": "7", "b": "7"}


def test_the_same_rows_are_the_same_batch_whoever_saved_them() -> None:
    rows = [HEADER, (ADA, 42, 'Ada "L", Countess'), (), (BOB, 42, None)]
    text = 'phone_number,campaign_id,name\n+12025550101,42,"Ada ""L"", Countess"\n,,\n+12025550102,42,\n'
    batches = set()
    saved = [
        excel(rows),
        excel(rows, more={"docProps/app.xml": "<x/>"}),
        ods(rows),
        gzip.compress(excel(rows)),
        text.encode(),
    ]
    for content in saved:
        with opened(content) as (_, file):
            batches.add(file.ids.batch_id)
    assert len(batches) == 1
    with opened(excel([*rows[:2], (), (BOB, 42, "Bob")])) as (_, file):
        assert file.ids.batch_id not in batches


def test_the_content_tells_the_kind_and_not_the_name() -> None:
    assert variables(excel([HEADER, (ADA, 42, "Ada")]), name="leads.csv") == [{"name": "Ada"}]
    assert variables(f"phone_number;campaign_id\n{ADA};42\n".encode(), name="leads.xlsx") == [{}]
    assert variables(gzip.compress(ods([HEADER, (ADA, 42, "Ada")])), name="stdin") == [{"name": "Ada"}]


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
OTHERS = [
    (OLE + "Workbook".encode("utf-16-le"), r"old Excel workbook \(\.xls\).*save it as CSV"),
    (OLE + "EncryptedPackage".encode("utf-16-le"), "protected by a password; save it without one"),
    (ods([HEADER], manifest="<encryption-data/>"), "protected by a password; save it without one"),
    (zipped({"word/document.xml": "<x/>"}), "is a document, and no workbook"),
    (zipped({"Index/Document.iwa": "x"}), "workbook of Numbers; export it"),
    (zipped({"leads.csv": "phone_number"}), "is a zip archive; unpack it"),
    (zipped({}), "is an empty zip archive"),
    (b"<html><body><table>", r"is a web page; open it, save it as CSV"),
    (b'\xef\xbb\xbf<?xml version="1.0"?><Workbook/>', "is a web page"),
    (b"Rar!\x1a\x07\x00data", "is a RAR archive; unpack it"),
    (b"PAR1" + b"x" * 40 + b"PAR1", "is a Parquet file; write it as CSV"),
    (b"SQLite format 3\0" + b"\0" * 80, "is an SQLite database; export its table"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "is a picture; import the table"),
    (excel([]), "is empty; its first row must name the columns"),
    (excel([HEADER, (ADA, 42, "Ada")])[:-900], "damaged or cut off"),
    (excel('<worksheet><sheetData><row r="2"/><row r="2">'), "damaged or cut off"),
    (excel([HEADER, (ADA, 42, (' t="s"><v>7</v>',))]), "a cell of row 2 names no text"),
    (excel(excel_sheet([HEADER]).replace('r="1"', 'r="9999999"')), "more than 1,048,576 rows"),
    (excel(excel_sheet([HEADER, HEADER]).replace('<row r="2"', '<row r="1"')), "rows in disorder"),
    (
        excel('<!DOCTYPE x [<!ENTITY a "aa">]><worksheet><row><c t="str"><v>&a;</v></c></row></worksheet>'),
        "document type",
    ),
    (
        zipped(
            {
                "[Content_Types].xml": "",
                "_rels/.rels": '<R><Relationship Id="r" Type="a/officeDocument" Target="xl/workbook.bin"/></R>',
            }
        ),
        r"binary Excel workbook \(\.xlsb\)",
    ),
]


@pytest.mark.parametrize(("content", "told"), OTHERS)
def test_what_holds_no_leads_that_can_be_read_is_refused_with_the_way_out(content: bytes, told: str) -> None:
    with pytest.raises(UnreadableFile, match=told), opened(content):
        pass


def test_a_locked_archive_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(excel([HEADER]))
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1  # the flag of an encrypted entry
    assert "protected by a password" in refusal(bytes(content))
    monkeypatch.setattr(archive, "MAX_PARTS", 3)
    assert "has more than 3 parts" in refusal(excel([HEADER]))


@pytest.mark.parametrize("before", range((1 << 20) - 4, (1 << 20) + 1))
def test_each_part_is_counted_once_wherever_its_entry_lies(before: int) -> None:
    """The list is read in blocks of 1 MiB, and an entry may lie in two of them."""
    assert archive._entries(io.BytesIO(b"x" * before + b"PK\x01\x02" + b"x" * 9)) == 1


def test_more_merged_cells_than_a_person_makes_are_refused() -> None:
    merged = "".join(f'<mergeCell ref="A{n}:B{n}"/>' for n in range(2, 100_003))
    told = refusal(excel(excel_sheet([HEADER], after=f"<mergeCells>{merged}</mergeCells>")))
    assert "has more than 100,000 merged cells; split them" in told


def _peak_mb(content: bytes) -> tuple[float, str]:
    tracemalloc.start()
    try:
        told = refusal(content)
        return tracemalloc.get_traced_memory()[1] / 2**20, told
    finally:
        tracemalloc.stop()


def test_what_unpacks_without_end_is_refused_within_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.importing.source._SMALL", 1 << 21)
    monkeypatch.setattr("dispatcher.importing.source.MAX_EXPANSION", 1)
    big = "x" * (1 << 16)
    blanks = cell('<text:p><text:s text:c="99999"/>x</text:p>', STRING)
    bombs = [
        excel(excel_sheet([HEADER, *((ADA, 42, big) for _ in range(40))])),
        excel([HEADER, *((ADA, 42, (' t="s"><v>0</v>',)) for _ in range(40))], strings=[f"<t>{big}</t>"]),
        ods([HEADER, ods_row((ADA, 42, big), ' table:number-rows-repeated="900000"')]),
        ods([HEADER, ods_row((ADA, 42, blanks), ' table:number-rows-repeated="99"')]),
        excel(excel_sheet([HEADER]).replace("<sheetData>", f"<!--{big}-->" * 40 + "<sheetData>")),
    ]
    for content in bombs:
        peak, told = _peak_mb(content)
        assert "unpacks to far more than its size" in told
        assert peak < 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_part_that_unpacks_all_at_once_is_refused_before_it_does(method: int) -> None:
    """`zipfile` bounds what it unpacks by the deflate method alone: of the others 2 kB of a file made 1 GiB."""
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(excel([HEADER, (ADA, 42, "Ada")]))) as good,
        zipfile.ZipFile(bomb, "w", method) as packed,
    ):
        for name in good.namelist():
            packed.writestr(name, good.read(name))

    assert "packed as no spreadsheet program packs" in refusal(bomb.getvalue())


@pytest.mark.parametrize("open_tag", ["<b x='{}'/>", "<!--{}-->", "<?b {}?>", "<{}/>", "<b {}/>"])
def test_a_tag_without_end_is_refused_before_it_is_read_again_and_again(open_tag: str) -> None:
    sheet = excel_sheet([HEADER, (ADA, 42, "Ada")])
    long = open_tag.format(" ".join(f"a{n}=''" for n in range(200_000)) if open_tag == "<b {}/>" else "x" * (3 << 20))

    assert "a tag of more than 1 MiB" in refusal(excel(sheet.replace("<sheetData>", f"{long}<sheetData>")))
    assert read(excel(sheet.replace(">Ada<", f">Ada{'<!-- x -->' * 200_000}<")))[0][0] == 2


def test_tags_within_tags_tags_of_many_kinds_and_many_sheets_are_refused() -> None:
    """Expat keeps each open tag and each name: 38 kB of a file took 1.6 GB. Each sheet without a value is read."""
    sheet = excel_sheet([HEADER, (ADA, 42, "Ada")])
    many = range(10_001)
    for more, told in (
        ("<b>" * 1001, "tags within tags"),
        ("".join(f"<b{n}/>" for n in many), "kinds of tags"),
        ("".join(f"<b a{n}=''/>" for n in many), "kinds of attributes"),
        ("".join(f"<b xmlns:a{n}='u'/>" for n in many), "kinds of attributes"),
        ("".join(f"<b xmlns='u{n}'/>" for n in many), "kinds of attributes"),
    ):
        assert told in refusal(excel(sheet.replace("<sheetData>", f"{more}<sheetData>"))), told
    fewer = "<b>" * 990 + "</b>" * 990 + "".join(f"<b{n} c{n}='' xmlns='u'/>" for n in range(9_900))
    assert read(excel(sheet.replace("<sheetData>", f"{fewer}<sheetData>")))[0][0] == 2
    archived = zipfile.ZipFile(io.BytesIO(excel([HEADER, (ADA, 42, "Ada")])))
    parts = {name: archived.read(name).decode() for name in archived.namelist()}
    (book,) = (name for name in parts if name.endswith("workbook.xml"))
    (one,) = re.findall(r"<sheet [^>]*/>", parts[book])
    assert "more than 1,000 sheets" in refusal(zipped(parts | {book: parts[book].replace(one, one * 1001)}))


def test_a_cell_far_away_costs_no_memory() -> None:
    far = excel_sheet([HEADER, (ADA, 42, "Ada")]).replace(
        "</sheetData>", '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    )
    tracemalloc.start()
    try:
        told = read(excel(far))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert [line for line, _ in told] == [2, 1048576]
    assert "row: has more than 1,000 cells" in str(told[1][1])
    many = '<table:table-cell office:value-type="float" office:value="1" table:number-columns-repeated="999999999"/>'
    assert "more than 1,000 cells" in str(read(ods([HEADER, (ADA, 42, (many,))]))[0][1])
    full = ods([HEADER, ods_row((ADA, 42, "Ada"), ' table:number-rows-repeated="999999999"')])
    assert "more than 1,048,576 rows" in refusal(full)


def test_a_cell_that_is_too_long_refuses_its_row() -> None:
    long = "x" * (sheet.MAX_CELL + 1)
    for content in (excel([HEADER, (ADA, 42, long)]), ods([HEADER, (ADA, 42, long)])):
        assert "has more than 1,048,576 characters; shorten the cell" in str(read(content)[0][1])


def test_a_workbook_comes_from_standard_input_too() -> None:
    content = excel([HEADER, (ADA, 42, "Ada")])
    with open_source("-", io.BytesIO(content)) as source, open_leads(source, ImportOptions()) as file:
        assert source.name == "stdin"
        assert [row.line for row in file.rows] == [2]
