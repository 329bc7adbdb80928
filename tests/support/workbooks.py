"""Workbooks as Excel and LibreOffice write them, made of their XML."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
FORMATS = ("", 'numFmtId="14"', 'numFmtId="22"', 'numFmtId="164"', 'numFmtId="165"', 'numFmtId="166"', 'numFmtId="46"')
"""What the styles 0, 1, … of a cell are: general, a date, a date with its time, `00000`, `+0`, another date, hours."""


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def letters(column: int) -> str:
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name


def excel_cell(value: object, place: str) -> str:
    """A text, a number, a bool, or the XML between `<c r="A1"` and `</c>` in a one-tuple."""
    match value:
        case None:
            return ""
        case (str() as xml,):
            return f'<c r="{place}"{xml}</c>'
        case bool():
            return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
        case int() | float():
            return f'<c r="{place}"><v>{value}</v></c>'
        case _:
            return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>'


def excel_sheet(
    rows: Sequence[Sequence[object]], *, first: int = 1, hidden: Sequence[int] = (), after: str = ""
) -> str:
    """A worksheet's XML. `after` follows the rows, e.g. merged cells."""
    lines = []
    for number, row in enumerate(rows, first):
        cells = "".join(excel_cell(value, f"{letters(place)}{number}") for place, value in enumerate(row))
        lines.append(f'<row r="{number}"{" hidden=" + quoteattr("1") if number in hidden else ""}>{cells}</row>')
    return f'<worksheet xmlns="{_MAIN}"><sheetData>{"".join(lines)}</sheetData>{after}</worksheet>'


def excel(
    *sheets: str | Sequence[Sequence[object]],
    names: Sequence[str] = ("Leads", "Notes", "More"),
    states: Sequence[str] = ("visible",) * 3,
    strings: Sequence[str] = (),
    since_1904: bool = False,
    more: Mapping[str, str | bytes] | None = None,
) -> bytes:
    """A workbook of these sheets: rows, or XML. `strings` are shared ones, as XML between `<si>` and `</si>`."""
    listed = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{number}" state="{state}" r:id="rId{number}"/>'
        for number, (_, name, state) in enumerate(zip(sheets, names, states, strict=False), 1)
    )
    related = "".join(
        f'<Relationship Id="rId{number}" Type="{_DOCUMENT}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number in range(1, len(sheets) + 1)
    )
    codes = '<numFmt numFmtId="164" formatCode="00000"/><numFmt numFmtId="165" formatCode="&quot;+&quot;0"/>'
    codes += '<numFmt numFmtId="166" formatCode="[$-407]d/ mmm yyyy;@"/>'
    styles = "".join(f"<xf {one}/>" for one in FORMATS)
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}"><Relationship Id="r" Type="{_DOCUMENT}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_DOCUMENT}">'
            f'<workbookPr date1904="{int(since_1904)}"/>'
            f"<sheets>{listed}</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}">{related}'
            f'<Relationship Id="s" Type="{_DOCUMENT}/sharedStrings" Target="/xl/sharedStrings.xml"/>'
            f'<Relationship Id="y" Type="{_DOCUMENT}/styles" Target="styles.xml"/></Relationships>',
            "xl/sharedStrings.xml": f'<sst xmlns="{_MAIN}">{"".join(f"<si>{one}</si>" for one in strings)}</sst>',
            "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><numFmts>{codes}</numFmts><cellStyleXfs><xf numFmtId="14"/>'
            f"</cellStyleXfs><cellXfs>{styles}</cellXfs></styleSheet>",
            **{
                f"xl/worksheets/sheet{number}.xml": sheet if isinstance(sheet, str) else excel_sheet(sheet)
                for number, sheet in enumerate(sheets, 1)
            },
            **(more or {}),
        }
    )


_NAMES = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" '
    'xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"'
)


def ods_cell(value: object) -> str:
    """A text, a number, a bool, nothing, or the XML of a cell in a one-tuple."""
    match value:
        case None:
            return "<table:table-cell/>"
        case (str() as xml,):
            return xml
        case bool():
            return (
                f'<table:table-cell office:value-type="boolean" office:boolean-value="{str(value).lower()}">'
                f"<text:p>{str(value).upper()}</text:p></table:table-cell>"
            )
        case int() | float():
            return (
                f'<table:table-cell office:value-type="float" office:value="{value}"><text:p>{value}</text:p>'
                "</table:table-cell>"
            )
        case _:
            paragraphs = "".join(f"<text:p>{escape(line)}</text:p>" for line in str(value).split("\n"))
            return f'<table:table-cell office:value-type="string">{paragraphs}</table:table-cell>'


def ods_row(row: Sequence[object], attributes: str = "") -> str:
    return f"<table:table-row{attributes}>{''.join(map(ods_cell, row))}</table:table-row>"


def ods_sheet(rows: Sequence[Sequence[object] | str], name: str = "Leads", style: str = "shown") -> str:
    """The XML of a sheet; a row may be XML itself."""
    content = "".join(row if isinstance(row, str) else ods_row(row) for row in rows)
    return f'<table:table table:name={quoteattr(name)} table:style-name="{style}">{content}</table:table>'


def ods(*sheets: str | Sequence[Sequence[object] | str], manifest: str = "") -> bytes:
    """A workbook of these sheets: rows, or XML. A sheet of the style `unseen` is hidden."""
    tables = "".join(sheet if isinstance(sheet, str) else ods_sheet(sheet) for sheet in sheets)
    style = '<style:style style:name="unseen"><style:table-properties table:display="false"/></style:style>'
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": f"<office:document-content {_NAMES}><office:automatic-styles>{style}"
            f"</office:automatic-styles><office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body>"
            "</office:document-content>",
            "META-INF/manifest.xml": f"<manifest>{manifest}</manifest>",
        }
    )
