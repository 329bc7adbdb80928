"""What spreadsheets do to a list of leads either works or is named."""

import bz2
import codecs
import errno
import gzip
import io
import json
import lzma
import pickle
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.columns import ImportOptions, columns_of
from dispatcher.importing.guess import like_phones
from dispatcher.importing.lead_file import open_leads
from dispatcher.importing.rejects import in_file_words
from dispatcher.importing.row import all_of
from dispatcher.importing.source import Source, UnreadableFile, open_source
from dispatcher.lead.candidate import read_items
from dispatcher.lead.lead import Lead
from dispatcher.lead.phone import Country

ADA, BOB = "+12025550101", "+12025550102"
WITH_BOB = {"phone_number": BOB, "campaign_id": 42}
HEADER = "phone_number,campaign_id,name\n"


def read(content: str | bytes, name: str = "leads.csv", **options: Any) -> list[Any]:
    """Each row as (line, lead, options) or (line, fields with faults)."""
    raw = content.encode() if isinstance(content, str) else content
    found: list[Any] = []
    with (
        open_source_of(raw, name) as source,
        open_leads(source, ImportOptions(**options)) as file,
    ):
        for row in file.rows:
            try:
                lead, options = pickle.loads(pickle.dumps(file.read))(row)  # noqa: S301 - our own, as processes get it
                found.append((row.line, lead, options))
            except InvalidLead as refusal:
                found.append((row.line, [fault.field for fault in refusal.errors]))
    return found


@contextmanager
def open_source_of(raw: bytes, name: str) -> Iterator[Source]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, name)
        path.write_bytes(raw)
        with open_source(str(path)) as source:
            yield source


def names(content: bytes, **more: Any) -> list[str]:
    return [row[1]["variables"].get("name") for row in read(content, **more)]


# Bytes ----------------------------------------------------------------------------------------------------------------

TEXT = f"{HEADER}{ADA},42,Zoë\n"


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), "utf-8-sig"),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), "utf-16"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16"),
        (TEXT.encode("cp1252"), "cp1252"),
        (TEXT.encode("cp1252") + b"+12025550102,42,\x81\n", "latin-1"),
        (gzip.compress(TEXT.encode(), mtime=0), "utf-8"),
        (gzip.compress(codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), mtime=0), "utf-16"),
    ],
)
def test_an_encoding_is_recognised(content: bytes, encoding: str) -> None:
    with open_source_of(content, "leads.csv") as source:
        assert source.encoding.name == encoding
    assert names(content)[0] == "Zoë"


@pytest.mark.parametrize("rest", [b"\xc2", b"\xe2\x82", b"\xf0\x9f\xa6"])
def test_a_file_that_ends_within_its_only_accent_is_read(rest: bytes) -> None:
    """Found by fuzzing: it was an error of ours, since no word with an accent had been seen."""
    with open_source_of(HEADER.encode() + rest, "leads.csv") as source:
        assert source.encoding.guessed


def test_an_accent_at_the_border_of_two_blocks_is_still_utf_8() -> None:
    content = (HEADER + f"{ADA},42," + "é" * 300_001 + "\n").encode()
    with open_source_of(content, "leads.csv") as source:
        assert source.encoding.name == "utf-8"


def test_standard_input_is_read_twice() -> None:
    with open_source("-", io.BytesIO(gzip.compress(TEXT.encode(), mtime=0))) as source:
        for _ in range(2):
            with open_leads(source, ImportOptions()) as file:
                assert [row.line for row in file.rows] == [2]


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(TEXT.encode() * 99, mtime=0)[:-20],
        gzip.compress(TEXT.encode(), mtime=0)[:9],
        gzip.compress(TEXT.encode(), mtime=0)[:20] + b"\xff" * 40,
    ],
)
def test_a_gzip_that_is_cut_off_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableFile, match="damaged or cut off"):
        read(content)


def test_what_fails_while_a_file_is_used_is_not_the_files_fault() -> None:
    for failure in (BrokenPipeError, EOFError):
        with pytest.raises(failure), open_source_of(TEXT.encode(), "a.csv") as source, source.text():
            raise failure


def test_a_disk_that_fails_between_two_rows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object, size: int = -1) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with open_source_of(gzip.compress(TEXT.encode() * 99), "a.csv") as source, source.text() as lines:
        monkeypatch.setattr(gzip.GzipFile, "read1", fails)
        with pytest.raises(UnreadableFile, match=r"a.csv cannot be read: Input/output error"):
            list(lines)


def test_a_folder_is_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableFile, match=r"^\. cannot be read: Is a directory\.$"), open_source("."):
        pass


def test_a_missing_file_is_refused_in_a_sentence() -> None:
    with pytest.raises(UnreadableFile, match="No such file"), open_source("there-is-none.csv"):
        pass


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_shows_the_delimiter(delimiter: str) -> None:
    content = f"phone_number{delimiter}campaign_id{delimiter}name\n{ADA}{delimiter}42{delimiter}a,b;c\n"
    if delimiter in ",;":
        content = content.replace("a,b;c", '"a,b;c"')
    assert names(content.encode()) == ["a,b;c"]


def test_a_delimiter_inside_a_quoted_name_does_not_count() -> None:
    [(_, lead, _)] = read(f'phone_number;campaign_id;"a,b,c,d"\n{ADA};42;x\n')
    assert lead["variables"] == {"a,b,c,d": "x"}


def test_the_line_that_excel_writes_for_itself_is_understood() -> None:
    [(line, lead, _)] = read(f"sep=;\r\nphone_number;campaign_id\r\n{ADA};42\r\n")
    assert (line, lead["campaign_id"]) == (3, 42)


def test_a_row_over_several_lines_has_the_number_of_its_first() -> None:
    assert [row[0] for row in read(f'{HEADER}{ADA},42,"a\nb"\n{BOB},42,x\n')] == [2, 4]


def test_a_header_over_two_lines_shifts_no_line_number() -> None:
    assert [row[0] for row in read(f'phone_number,campaign_id,"na\nme"\n{ADA},42,x\n')] == [3]


@pytest.mark.parametrize("empty", ["\n", ",,\n", "  , ,\t\n", "\r\n"])
def test_empty_rows_are_left_out(empty: str) -> None:
    assert [row[0] for row in read(f"{HEADER}{ADA},42,x\n{empty}{empty}")] == [2]


def test_a_row_with_more_cells_than_the_header_is_refused() -> None:
    assert read(f"{HEADER}{ADA},42,Doe, John\n") == [(2, ["column 4"])]


def test_a_column_without_a_name_may_only_be_empty() -> None:
    content = f"phone_number,campaign_id,\n{ADA},42,\n{BOB},42,lost\n"
    assert [row[1] for row in read(content)] == [
        {"phone_number": ADA, "campaign_id": 42, "variables": {}},
        ["column 3"],
    ]


def test_a_quote_that_is_never_closed_is_named_with_its_line() -> None:
    with pytest.raises(UnreadableFile, match="line 3"):
        read(f'{HEADER}{ADA},42,x\n{BOB},42,"' + "x" * 200_000)


@pytest.mark.parametrize("rest", ["", f"{BOB},42,Bob\n", f"{BOB},42,Bob\n{BOB},42,5' \n"])
def test_a_quote_that_is_open_at_the_end_of_the_file_swallows_no_row_in_silence(rest: str) -> None:
    with pytest.raises(UnreadableFile, match="The row at line 3 has no end"):
        read(HEADER + f'{BOB},42,Bob\n{ADA},42,"Ada\n' + rest)
    with pytest.raises(UnreadableFile, match="The header has no end"):
        read('phone_number,"campaign_id\n' + rest)


def test_quotes_inside_a_cell_and_over_lines_stay_what_they_are() -> None:
    content = HEADER + f'{ADA},42,5" pipe\n{BOB},42,"two\nlines"\n{BOB},42,"last ""one"""'

    assert names(content.encode()) == ['5" pipe', "two\nlines", 'last "one"']


def refusals(content: str, name: str = "leads.csv", **options: Any) -> list[tuple[int, FieldError]]:
    """The faults of the rows that cannot be read, each with its line."""
    with open_source_of(content.encode(), name) as source, open_leads(source, ImportOptions(**options)) as file:
        found = []
        for row in file.rows:
            try:
                file.read(row)
            except InvalidLead as refusal:
                found += [(row.line, fault) for fault in refusal.errors]
        return found


def test_rows_inside_a_stray_quote_are_never_another_rows_variable() -> None:
    """The next quote closes the first one, with text behind it; the rows before are read, none after."""
    content = f'{HEADER}{ADA},42,Ada\n{BOB},42,"Bob\n{ADA},42,Cy\n{BOB},42,Di\n{ADA},42,"Ed\n{BOB},42,Flo\n'
    with open_source_of(content.encode(), "leads.csv") as source, open_leads(source, ImportOptions()) as file:
        assert next(file.rows).line == 2
        with pytest.raises(
            UnreadableFile, match="quote that opens at line 3 closes at line 6, and more text"
        ) as caught:
            next(file.rows)
    assert BOB[1:] not in str(caught.value)


def test_a_quote_is_named_with_the_line_where_it_opens() -> None:
    with pytest.raises(UnreadableFile, match=r"row at line 2 .* quote that opens at line 3 closes at line 4, and"):
        read(f'phone_number,campaign_id,a,b\n{ADA},42,"x\ny","b\nc"d\n')
    with pytest.raises(UnreadableFile, match="row at line 2 has no end: the quote that opens at line 3 is not closed"):
        read(f'phone_number,campaign_id,a,b\n{ADA},42,"x\ny","b\nc\n')


def test_a_quote_that_spoils_one_line_refuses_its_row_alone() -> None:
    content = f'{HEADER}{ADA},42,"Bob" Smith\n{BOB},42,"two\nlines"\n'

    assert read(content) == [(2, ["column 3"]), (3, {**WITH_BOB, "variables": {"name": "two\nlines"}}, {})]
    [(_, fault)] = refusals(content)
    assert str(fault) == "column 3: has text after its closing quote; a quote inside a quoted cell is written twice"


def test_a_line_whose_quotes_do_not_pair_up_refuses_all_that_follows() -> None:
    with pytest.raises(UnreadableFile, match="row at line 2 cannot be read"):
        read(f'{HEADER}{ADA},42,"Bob" says "hi\n{BOB},42,Cy"\n{ADA},42,Di\n')


def test_a_header_with_text_after_a_quote_is_refused() -> None:
    with pytest.raises(UnreadableFile, match=r"header .* quote that opens at line 1 closes at line 1, and more text"):
        read(f'phone_number,"campaign_id"x,name\n{ADA},42,x\n')


def test_a_header_that_has_swallowed_a_row_is_refused() -> None:
    with pytest.raises(UnreadableFile, match=r"header.* quote is left open") as caught:
        read(f'phone_number,campaign_id,"name\n{ADA},42,"\n{BOB},42,Bob\n')
    assert ADA[1:] not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "rows", "cell"),
    [
        (HEADER, f'{ADA},42,"Bob\n{BOB},42,Cy\n{ADA},42,"\n', ("column 3", 3, 2)),
        (HEADER, f'{ADA},42,"Bob\n{BOB},42,"\n', ("column 3", 3, 2)),
        (HEADER, f'"{ADA},42,Bob\n",42,Cy\n', ("column 1", 2, 2)),
        ("phone_number\tcampaign_id\tname\n", f'{ADA}\t42\t"Bob\n{BOB}\t42\t"\n', ("column 3", 3, 2)),
        ("phone_number,name,campaign_id\n", f'{ADA},"Bob,42\n{BOB},",42\n', ("column 2", 3, 2)),
        ("name,campaign_id,phone_number\n", f'Bob,"42,{ADA}\nEd,",{BOB}\n', ("column 2", 2, 2)),
        ("note,phone_number,campaign_id,name\n", f'"a\nb",{ADA},42,"Bob\nx,{BOB},42,"\n', ("column 4", 4, 3)),
    ],
)
def test_a_row_that_has_swallowed_others_between_two_quotes_is_refused(
    header: str, rows: str, cell: tuple[str, int, int]
) -> None:
    column, seen, opened = cell
    [(line, fault)] = refusals(header + rows)

    assert (line, fault.field) == (2, column)
    assert fault.fault == f"holds what looks like another row, at line {seen}"
    assert f"quote that opens at line {opened}," in fault.remedy


@pytest.mark.parametrize(
    "note", ["Rome, 12 High Street, Apt 4\nItaly, EU, Earth", f"ask for Bob\n{BOB}\n", f"Tel:\n{BOB}, at home\nyes"]
)
def test_text_over_several_lines_is_no_swallowed_row(note: str) -> None:
    assert names(f'{HEADER}{ADA},42,"{note}"\n'.encode()) == [note.strip()]


@pytest.mark.parametrize("length", [200_000, 2_000_000])
def test_a_cell_beyond_the_limit_refuses_its_row_alone(length: int) -> None:
    for cell in ("x" * length, '"' + "x" * length + '"'):
        found = read(f"{HEADER}{ADA},42,{cell}\n{BOB},42,Bob\n")

        assert [row[0] for row in found] == [2, 3]
        assert found[1][1]["phone_number"] == BOB
        if length > 1 << 20:
            assert found[0][1] == ["column 3"]


def test_a_long_cell_over_several_lines_refuses_its_row_alone() -> None:
    [(_, lead, _), bob] = read(f'{HEADER}{ADA},42,"' + "line\n" * 50_000 + f'"\n{BOB},42,Bob\n')

    assert bob[0] == 50_003
    with pytest.raises(InvalidLead, match="variables: "):
        Lead.parse(lead)


def test_a_cell_without_an_end_is_not_read_into_memory() -> None:
    content = HEADER + f'{ADA},42,"' + f"{BOB},42,Bob\n" * 100_000
    with pytest.raises(UnreadableFile, match="begins at line 2 goes on for more than 1,048,576"):
        read(content)


@pytest.mark.parametrize(
    ("raw", "name", "words"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00[Content_Types].xml", "leads.xlsx", "is damaged or cut off"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "leads.csv", "workbook.*save it as CSV"),
        (b"%PDF-1.7\n", "leads.pdf", "PDF.*as CSV"),
        (b'[{"phone_number": "+12025550101"}]', "leads.json", "one object a line.*jq"),
        (b'[\n {"phone_number": "+12025550101"}]', "leads", "one object a line.*jq"),
        (b'{\n "phone_number": "+12025550101"\n}\n', "leads.json", "one object a line.*jq"),
        (b'[{"phone_number": "+12025550101"}]', "leads.jsonl", "one object a line.*jq"),
        (b'{\n "phone_number": "+12025550101"\n}\n', "leads.jsonl.gz", "one object a line.*jq"),
        (bz2.compress(TEXT.encode()), "leads.csv.bz2", "packed by bzip2.*bunzip2 -c"),
        (lzma.compress(TEXT.encode()), "leads.csv.xz", "packed by xz.*xz -dc"),
        (b"\x28\xb5\x2f\xfd\x04\x58", "leads.csv.zst", "packed by zstd.*zstd -dc"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "leads.7z", "7z archive.*unpack it"),
        (b"+12025550101,42,Ada\n", "leads.csv", "no header"),
        (b"Ada;42;(202) 555-0101\n", "leads.csv", "no header"),
    ],
)
def test_a_file_of_another_kind_is_named_with_the_way_out(raw: bytes, name: str, words: str) -> None:
    with pytest.raises(UnreadableFile, match=words) as refusal:
        read(raw, name)
    assert "Ada" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("phone_number,campaign_id,Name,name\n", "“name” twice, in columns 3 and 4"),
        ("Mobile,campaign_id\n", "--map 'phone=Mobile'"),
        ("Mobile,campaign_id,order\n", "--map 'phone=Mobile'"),
        ("order,campaign_id,Telefonnummer\n", "--map 'phone=Telefonnummer'"),
        ("order,campaign_id,name\n", "--map 'phone=COLUMN'"),
        ("Nr,campaign_id,Tel. privat,Móvil\n", r"--map 'phone=Móvil' \(or Tel. privat, Nr\)\."),
        ("phone_number,name\n", "--campaign"),
        ("phone_number,name,Kampagne\n", "--campaign, or say which column it is, e.g. --map 'campaign=Kampagne'"),
        ("phone_number,phone_number2,campaign_id,contact1_phone,contact1_phone_number\n", "contact1_phone"),
    ],
)
def test_a_header_that_cannot_work_refuses_the_file(content: str, words: str) -> None:
    with pytest.raises(UnreadableFile, match=words):
        read(content)


@pytest.mark.parametrize(
    "name",
    [
        "Telefon",
        "Telefonnummer",
        "teléfono",
        "Teléfono móvil",
        "telefone",
        "telefono",
        "Téléphone",
        "tel",
        "Tel.",
        "TEL_NR",
        "mobile",
        "mobilePhone",
        "Mobilnummer",
        "Handy",
        "Handynummer",
        "celular",
        "cellulare",
        "Portable",
        "telefoon",
        "puhelin",
        "Телефон",
        "Мобильный",
        "电话",
        "携帯番号",
        "전화번호",
        "WhatsApp",
        "Rufnummer",
        "Number",
        "Phone 2",
    ],
)
def test_a_phone_number_is_guessed_by_its_name_in_the_languages_of_users(name: str) -> None:
    others = [
        "Fax",
        "Telefax",
        "order number",
        "Kundennummer",
        "Immobilie",
        "cancelled",
        "Handyman",
        "Telegram",
        "name",
    ]
    assert like_phones([*others, name]) == [len(others)]


def test_the_likelier_of_two_is_guessed_and_a_guess_is_only_of_what_is_missing() -> None:
    header = ("Telefon", "Mobil", "Kampagne", "name")
    guessed = columns_of(header, ImportOptions(guess=True))
    assert [(one.column, one.field, one.guessed) for one in guessed.meanings] == [
        ("Telefon", "variables.Telefon", False),
        ("Mobil", "phone_number", True),
        ("Kampagne", "campaign_id", True),
        ("name", "variables.name", False),
    ]
    told = columns_of(header, ImportOptions(guess=True, campaign_id=42, columns={"Telefon": "phone"}))
    assert not any(one.guessed for one in told.meanings)
    with pytest.raises(UnreadableFile, match="phone=Mobil"):
        columns_of(header, ImportOptions())


def test_a_file_without_a_header_shows_nobodys_number() -> None:
    with pytest.raises(UnreadableFile) as caught:
        read(f"{ADA},42,ada@example.com\n")
    assert ADA[1:] not in str(caught.value)
    assert "@" not in str(caught.value)


@pytest.mark.parametrize("line", [f"{ADA},42,{ADA}", "4915112345678;42;4915112345678", f"Ada,{ADA},Ada"])
def test_a_file_without_a_header_is_named_before_its_doubled_values(line: str) -> None:
    with pytest.raises(UnreadableFile, match="no header") as caught:
        read(f"{line}\n")
    assert not any(value in str(caught.value) for value in (ADA, "4915112345678", "Ada"))


def test_a_doubled_name_that_is_a_number_is_not_shown() -> None:
    with pytest.raises(UnreadableFile, match="names “‹key 3›” twice") as caught:
        read(f"phone_number,campaign_id,{BOB},{BOB}\n")
    assert BOB not in str(caught.value)
    with pytest.raises(UnreadableFile, match="both mean ‹key 1›") as caught:
        read(f"x,y,{BOB}\n", columns={"x": BOB, "y": "phone"}, campaign_id=42)
    assert BOB not in str(caught.value)


# Columns --------------------------------------------------------------------------------------------------------------


def test_columns_are_mapped_and_the_rest_are_variables() -> None:
    [(_, lead, _)] = read(
        f"Mobile,First name,Town,phone\n{ADA},Ada,,landline\n",
        columns={"Mobile": "phone", "First name": "customer_name"},
        campaign_id=42,
    )
    assert lead == {
        "phone_number": ADA,
        "campaign_id": 42,
        "variables": {"customer_name": "Ada", "phone": "landline"},
    }


def test_a_map_of_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="no column “Handy”"):
        read(HEADER, columns={"Handy": "phone"})


def test_two_columns_with_one_meaning_are_refused() -> None:
    with pytest.raises(UnreadableFile, match="both mean name"):
        read("phone_number,campaign_id,name,Vorname\n", columns={"Vorname": "name"})


def test_options_and_contacts_have_columns() -> None:
    header = (
        "phone_number,campaign_id,allow_dupplicate,priority,idempotency_key,contact1_phone,contact1_name,contact2_phone"
    )
    [(_, lead, options), (_, lone, _), second] = read(
        f"{header}\n{ADA},42.0,yes,7,crm-1,{BOB},Bob,\n{ADA},42,,,,,,\n{ADA},42,perhaps,,,,Bob,\n"
    )
    assert lead["allow_dupplicate"] is True
    assert lead["campaign_id"] == 42
    assert lead["secondary_contacts"] == [{"phone_number": BOB, "variables": {"name": "Bob"}}]
    assert options == {"priority": 7, "idempotency_key": "crm-1"}
    assert lone == {"phone_number": ADA, "campaign_id": 42, "variables": {}}
    assert second == (4, ["allow_dupplicate", "contact1_phone"])


def test_a_column_called_only_key_is_a_variable() -> None:
    [(_, lead, options)] = read(f"phone_number,campaign_id,Key\n{ADA},42,C major\n")
    assert (lead["variables"], options) == ({"Key": "C major"}, {})


def test_times_have_columns() -> None:
    header = "phone_number,campaign_id,not_before,Expires_At\n"
    [(_, lead, options), (_, _, none)] = read(f"{header}{ADA},42,2030-01-01 10:00Z,2030-01-02T10:00+01:00\n{BOB},42\n")

    assert lead["variables"] == {}
    assert options == {
        "not_before": datetime(2030, 1, 1, 10, tzinfo=UTC),
        "expires_at": datetime(2030, 1, 2, 9, tzinfo=UTC),
    }
    assert none == {}


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("2030-01-01 10:00:00", "has no time zone"),
        ("2030-01-01", "has no time zone"),
        ("01.01.2030 10:00", "is not a time in ISO 8601"),
        ("1/1/2030 10:00 AM", "is not a time in ISO 8601"),
        ("tomorrow", "is not a time in ISO 8601"),
    ],
)
@pytest.mark.parametrize("name", ["not_before", "expires_at"])
def test_a_time_without_its_zone_is_refused_with_the_way_out(cell: str, fault: str, name: str) -> None:
    remedy = "write the date, the time and its distance from UTC, e.g. 2026-11-23T14:00+01:00"
    expected = [(2, FieldError(name, fault, remedy))]

    assert refusals(f"phone_number,campaign_id,{name}\n{ADA},42,{cell}\n") == expected
    line = json.dumps({"phone_number": ADA, "campaign_id": 42, name: cell})
    assert refusals(f"\n{line}\n", "leads.jsonl") == expected


def test_every_fault_of_a_row_is_named_at_once() -> None:
    header = "phone_number,campaign_id,allow_dupplicate,priority,not_before,contact1_phone,name,\n"
    row = f"4E11,x,maybe,12,soon,123,{'x' * 20_000},more\n"

    assert sorted(fault.field for _, fault in refusals(header + row)) == [
        "allow_dupplicate",
        "campaign_id",
        "column 8",
        "contact1_phone",
        "not_before",
        "phone_number",
        "priority",
        "variables",
    ]
    line = {"phone_number": "4E11", "campaign_id": "x", "priority": 12, "not_before": "soon", "extra": 1}
    assert sorted(fault.field for _, fault in refusals(json.dumps(line), "leads.jsonl")) == sorted(line)


def test_a_row_names_its_own_campaign_before_the_default() -> None:
    rows = read(f"{HEADER}{ADA},7,x\n{BOB},,x\n", campaign_id=42)
    assert [lead["campaign_id"] for _, lead, _ in rows] == [7, 42]


# JSON lines -----------------------------------------------------------------------------------------------------------


def test_json_lines_carry_options_and_defaults() -> None:
    content = (
        '{"phone_number": "(202) 555-0101", "variables": {"n": 1}, "priority": 3, "not_before": "2030-01-01T10:00Z"}'
    )
    [(line, lead, options)] = read(f"\n{content}\n", "leads.jsonl", campaign_id=42, country=Country("US"))
    assert (line, lead) == (2, {"phone_number": ADA, "variables": {"n": 1}, "campaign_id": 42})
    assert (options["priority"], options["not_before"].utcoffset().total_seconds()) == (3, 0)


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"a": NaN}'])
def test_a_line_that_is_no_object_is_refused_alone(line: str) -> None:
    assert read(f'{{"phone_number": "{ADA}"}}\n{line}\n', "leads.ndjson")[1] == (2, ["line"])


def test_keys_are_mapped_to_fields_and_variables() -> None:
    line = {"Mobile": ADA, "List": "42", "First name": "Ada", "variables": {"n": 1}, "CRM": "c-1", "Other": {}}
    columns = {
        "Mobile": "phone",
        "List": "campaign",
        "First name": "name",
        "CRM": "idempotency_key",
        "Not there": "x",
        "Other": "Other",
    }

    assert read(json.dumps(line), "leads.jsonl", columns=columns) == [
        (
            1,
            {"phone_number": ADA, "campaign_id": 42, "variables": {"n": 1, "name": "Ada", "Other": {}}},
            {"idempotency_key": "c-1"},
        )
    ]


def test_a_key_that_means_what_another_says_already_is_refused() -> None:
    line = {"phone_number": ADA, "Mobile": BOB, "variables": {"name": "Ada"}, "Name": "Bob"}
    columns = {"Mobile": "phone", "Name": "name"}

    found = refusals(json.dumps(line), "leads.jsonl", columns=columns, campaign_id=42)

    remedy = "leave one out, or map the other to another name with --map"
    assert [fault for _, fault in found] == [
        FieldError("phone_number", "is given twice", remedy),
        FieldError("variables.name", "is given twice", remedy),
    ]


def test_a_contact_of_json_lines_cannot_be_mapped() -> None:
    with pytest.raises(UnreadableFile, match=r"contact1_phone.*secondary_contacts"):
        read("{}", "leads.jsonl", columns={"Second": "contact1_phone"})


@pytest.mark.parametrize(("given", "number"), [("42", 42), (" 42 ", 42), ("42.0", 42), (42, 42), ("x", "x")])
def test_a_campaign_may_be_text_in_json_as_in_a_table(given: object, number: object) -> None:
    line = json.dumps({"phone_number": ADA, "campaign_id": given})
    [(_, lead, _)] = read(line, "leads.jsonl")
    assert lead["campaign_id"] == number


def test_an_integer_that_is_too_long_is_refused_not_rounded() -> None:
    long = '{"phone_number": "+12025550101", "campaign_id": 42, "variables": {"crm": 12345678901234567890123}}'
    ((_, lead, _),) = read(long, "leads.jsonl")

    assert lead["variables"]["crm"] == 12345678901234567890123
    with pytest.raises(InvalidLead, match="beyond 64 bits"):
        Lead(**lead)


def test_json_is_recognised_without_its_suffix() -> None:
    assert read(f'{{"phone_number": "{ADA}", "campaign_id": 42}}\n', "leads")[0][1]["campaign_id"] == 42


# Words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lead", "options", "words"),
    [
        ({"campaign_id": "x"}, {}, "campaign_id: is text, not a whole number; write the campaign's id .* --campaign"),
        ({"campaign_id": None}, {}, "campaign_id: is null, not a whole number"),
        ({"allow_dupplicate": "yes"}, {}, "allow_dupplicate: is text, not true or false; write true or false"),
        ({"variables": []}, {}, "variables: is a list, not an object"),
        ({"secondary_contacts": {}}, {}, "secondary_contacts: is an object, not a list; write a list"),
        ({"phone_number": 1}, {}, "phone_number: is a number, not text; write it in E.164"),
        ({}, {"not_before": 5}, "not_before: is a number, not a time; write the date, the time and its distance"),
        ({}, {"idempotency_key": 5}, "idempotency_key: is a number, not text; write the id"),
        ({}, {"id": 5}, "id: is not a UUID; write a UUID, or leave it out"),
    ],
)
def test_a_fault_is_told_in_the_words_of_a_file(lead: Any, options: Any, words: str) -> None:
    good = {"phone_number": ADA, "campaign_id": 42}
    [fault] = in_file_words(all_of([], {**good, **lead}, options))

    assert re.match(words, str(fault))
    assert not re.search(r"\bpass\b|datetime|\bstr\b|\bbool\b", str(fault))


# Batches --------------------------------------------------------------------------------------------------------------


def test_the_id_of_a_row_is_of_the_content_the_campaign_it_goes_into_and_its_place(tmp_path: Path) -> None:
    def ids(content: str, **options: Any) -> list[Any]:
        with (
            open_source_of(content.encode(), "leads.csv") as source,
            open_leads(source, ImportOptions(**options)) as file,
        ):
            return [one.id for one in read_items(file.rows, 0, file.ids, file.read)[0]]

    bare = f"phone_number,Kampagne\n{ADA},7\n{BOB},8\n"
    first = ids(TEXT)
    assert first == ids(TEXT, country=Country("DE")) == ids(TEXT, campaign_id=7)
    assert ids(bare, campaign_id=7) == ids(bare, campaign_id=7, country=Country("DE"))
    assert set(ids(bare, campaign_id=7)).isdisjoint(ids(bare, campaign_id=8))
    own = ids(bare, columns={"Kampagne": "campaign_id"})
    assert (own[0], own[1]) == (ids(bare, campaign_id=7)[0], ids(bare, campaign_id=8)[1])
    assert set(first).isdisjoint(ids(TEXT + f"{BOB},42,x\n"))
    assert set(first).isdisjoint(ids(TEXT, again=True))
    assert set(ids(TEXT, again=True)).isdisjoint(ids(TEXT, again=True))
    assert {one.version for one in first} == {8}
