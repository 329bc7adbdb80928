"""Files of leads as exporters and spreadsheets write them: read, or refused by the name of what is wrong."""

import codecs
import csv
import gzip
import io
import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dispatcher.cli.commands import app
from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.columns import ImportOptions
from dispatcher.importing.encoding import check_encoding
from dispatcher.importing.lead_file import LeadFile, open_leads
from dispatcher.importing.rejects import Rejects, in_file_words
from dispatcher.importing.source import MAX_LINE, Source, UnreadableFile, open_source
from dispatcher.lead.lead import Lead

ADA, BOB = "+12025550101", "+12025550102"
HEADER = "phone_number,campaign_id,name\n"


@contextmanager
def opened(
    content: bytes, tmp_path: Path, name: str = "leads.csv", encoding: str | None = None, **options: Any
) -> Iterator[tuple[Source, LeadFile]]:
    path = tmp_path / name
    path.write_bytes(content)
    with (
        open_source(str(path), encoding=encoding) as source,
        open_leads(source, ImportOptions(**options)) as file,
    ):
        yield source, file


def read(content: bytes | str, tmp_path: Path, **given: Any) -> list[Any]:
    """Each row as its lead, or its faults."""
    raw = content if isinstance(content, bytes) else content.encode()
    found: list[Any] = []
    with opened(raw, tmp_path, **given) as (_, file):
        for row in file.rows:
            try:
                given_lead = file.read(row)[0]
                Lead.parse(given_lead)
                found.append(given_lead)
            except InvalidLead as refusal:
                found.append(in_file_words(refusal.errors))
    return found


def names(content: bytes | str, tmp_path: Path, **given: Any) -> list[Any]:
    return [lead["variables"].get("name") for lead in read(content, tmp_path, **given)]


def lead(number: str, **variables: str) -> dict[str, Any]:
    return {"phone_number": number, "campaign_id": 42, "variables": variables}


# Exports of lead ads --------------------------------------------------------------------------------------------------

# Meta: UTF-16 with tabs and prefixes, https://developers.facebook.com/docs/marketing-api/guides/lead-ads/retrieving
LEAD_ADS = (
    "id\tcreated_time\tad_id\tadset_id\tcampaign_id\tcampaign_name\tform_id\t"
    "is_organic\tfull_name\tphone_number\tpost_code\n"
    f"l:77\t2026-11-23T10:00:00+01:00\tag:1201\tas:1202\tc:120210\tSpring\tf:5\tfalse\tZoë p: x\tp:{ADA}\tz:01067\n"
)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-8"])
def test_an_export_of_lead_ads_is_read_into_the_campaign_that_is_named(tmp_path: Path, encoding: str) -> None:
    with opened(LEAD_ADS.encode(encoding), tmp_path, campaign_id=42) as (_, file):
        [row] = file.rows
        found, options = file.read(row)

    assert (found["phone_number"], found["campaign_id"], options) == (ADA, 42, {})
    assert (
        found["variables"] | {"full_name": "Zoë p: x", "post_code": "01067", "campaign_id": "120210", "id": "77"}
        == (found["variables"])
    )
    assert any("prefix" in note or "export of lead ads" in note for note in file.notes)
    assert any(
        "campaign_id holds no campaigns of Voicery: every lead goes into campaign 42" in note for note in file.notes
    )


def test_an_export_of_lead_ads_without_a_campaign_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"campaign_id of an export of lead ads holds the advertising.*--campaign"):
        read(LEAD_ADS.encode("utf-16"), tmp_path)


def test_a_column_of_campaign_names_gives_way_to_the_campaign_that_is_named(tmp_path: Path) -> None:
    """`campaign` is a column of most CRM exports, e.g. https://help.salesforce.com/s/articleView?id=sf.campaigns_import.htm."""
    content = f"phone,campaign\n{ADA},Spring Sale\n{BOB},\n".encode()
    with opened(content, tmp_path, campaign_id=42) as (_, file):
        leads = [file.read(row)[0] for row in file.rows]

    assert leads == [lead(ADA, campaign="Spring Sale"), lead(BOB)]
    assert any("every lead goes into campaign 42" in note for note in file.notes)


def test_rows_that_name_another_campaign_keep_it_and_the_import_says_so(tmp_path: Path) -> None:
    for content, name in (
        (f"{HEADER}{ADA},7,x\n{BOB},,x\n", "leads.csv"),
        (json.dumps({"phone_number": ADA, "campaign_id": 7}) + f'\n{{"phone_number": "{BOB}"}}\n', "leads.jsonl"),
    ):
        with opened(content.encode(), tmp_path, name, campaign_id=42) as (_, file):
            assert [file.read(row)[0]["campaign_id"] for row in file.rows] == [7, 42]
        assert any("Rows that name another campaign than 42 go into that one" in note for note in file.notes)
    with opened(f"{HEADER}{ADA},42,x\n".encode(), tmp_path, campaign_id=42) as (_, file):
        assert file.notes == ()


# Encodings ------------------------------------------------------------------------------------------------------------


def test_one_broken_byte_refuses_its_row_and_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    """Mixed encodings after concatenation: https://github.com/pandas-dev/pandas/issues/37829."""
    content = (HEADER + f"{ADA},42,Zoë\n{BOB},42,Chlo?\n{ADA},42,Noël\n").encode().replace(b"?", b"\xeb")
    with opened(content, tmp_path) as (source, _):
        assert (source.encoding.name, source.encoding.guessed) == ("utf-8", False)
    zoe, chloe, noel = read(content, tmp_path)

    assert (zoe["variables"]["name"], noel["variables"]["name"]) == ("Zoë", "Noël")
    assert chloe == (
        FieldError(
            "column 3",
            "holds a byte that is not utf-8: 0xEB",
            "mend the text, or name the encoding of the whole file with --encoding",
        ),
    )
    cut = (HEADER + f"{ADA},42,Zoë\n{BOB},42,Chloë").encode()[:-1]  # in the middle of a letter
    assert [type(row) for row in read(cut, tmp_path)] == [dict, tuple]


def test_a_broken_byte_in_a_line_of_json_or_in_the_header_is_named(tmp_path: Path) -> None:
    line = json.dumps({"phone_number": ADA, "campaign_id": 42, "variables": {"name": "Zoë?"}}, ensure_ascii=False)
    [[fault]] = read(line.encode().replace(b"?", b"\xff"), tmp_path, name="leads.jsonl")
    assert (fault.field, fault.fault) == ("line", "holds a byte that is not utf-8: 0xFF")
    with pytest.raises(UnreadableFile, match=r"header's column 3 is not utf-8.*--encoding"):
        read(HEADER.encode().replace(b"name", b"pr\xe9nom") + f"{ADA},42,Zoë Noël\n".encode(), tmp_path)


def test_a_row_with_a_broken_byte_can_be_written_to_the_rejects(tmp_path: Path) -> None:
    content = (HEADER + f"{ADA},42,Zoë\n").encode() + f"{BOB},42,x".encode() + b"\xeb\n"
    with opened(content, tmp_path) as (source, file):
        rejects = Rejects(tmp_path / "rejected.csv", source)
        for row in file.rows:
            if row.fault:
                rejects.add(row, [row.fault])
        rejects.close()
    assert "x\ufffd" in (tmp_path / "rejected.csv").read_text("utf-8-sig")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Müller,Straße,Zoë", "cp1252"),
        ("François,Éric,Chloé", "mac-roman"),  # Excel for Mac: https://superuser.com/q/280603
        ("Łukasz,Paweł,Wałęsa", "cp1250"),  # Excel in Poland
        ("Пётр,Иванов,Алексей", "cp1251"),
        ("Пётр,Иванов,Алексей", "koi8-r"),
        ("Müller,Jörg", "cp850"),  # a Windows console
    ],
)
def test_an_encoding_of_eight_bits_is_guessed_aloud(tmp_path: Path, text: str, encoding: str) -> None:
    words = text.split(",")
    content = (HEADER + "".join(f"{ADA},42,{word}\n" for word in words)).encode(encoding)
    with opened(content, tmp_path) as (source, _):
        guess = source.encoding
    assert (guess.name, guess.guessed) == (encoding, True)
    assert guess.shown(reveal=True) in words
    assert 0 < len(guess.shown()) < len(max(words, key=len))
    assert not any(word in repr(guess) for word in words)
    assert names(content, tmp_path) == words


@pytest.mark.parametrize("encoding", ["cp1250", "utf-8", "shift_jis", "utf-16"])
def test_an_encoding_can_be_named(tmp_path: Path, encoding: str) -> None:
    name = "東京" if encoding == "shift_jis" else "Dvořák"
    content = (HEADER + f"{ADA},42,{name}\n").encode(encoding)
    assert names(content, tmp_path, encoding=check_encoding(encoding)) == [name]
    with opened(content, tmp_path, encoding=encoding) as (source, _):
        assert not source.encoding.guessed


def test_a_named_encoding_that_does_not_fit_refuses_rows_by_name(tmp_path: Path) -> None:
    content = (HEADER + f"{ADA},42,Zoë\n{BOB},42,Bob\n").encode("cp1252")
    zoe, bob = read(content, tmp_path, encoding="utf-8")
    assert zoe[0].fault == "holds a byte that is not utf-8: 0xEB"
    assert bob == lead(BOB, name="Bob")


@pytest.mark.parametrize("name", ["rot13", "base64", "zip", "utf-9", "", "idna\0"])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no encoding of text; write e\.g\."):
        check_encoding(name)


def test_bytes_that_no_encoding_explains_are_not_guessed(tmp_path: Path) -> None:
    content = HEADER.encode() + f"{ADA},42,".encode() + bytes(range(0x80, 0xA0)) * 20 + b"\n"
    with pytest.raises(UnreadableFile, match="nor is its encoding clear; name it"):
        read(content, tmp_path)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("name", ["Zoë", "Пётр"])
def test_unicode_is_read_with_its_mark_and_without(tmp_path: Path, encoding: str, name: str) -> None:
    """Windows PowerShell 5 writes UTF-16 by default, by its about_Character_Encoding."""
    content = (HEADER + f"{ADA},42,{name}\n").encode(encoding)
    assert names(content, tmp_path) == [name]
    assert names(gzip.compress(content), tmp_path) == [name]
    marked = (codecs.BOM_UTF16_BE if encoding.endswith("be") else b"") + content
    assert encoding != "utf-16-be" or names(marked, tmp_path) == [name]


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["sep=;\r\n", "SEP=;\r", '"sep=;"\n', "sep=;;;\n", "\n\r\n ;;\nsep=;\n", ""])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_first_line_of_excel_and_every_line_end_is_understood(tmp_path: Path, first: str, end: str) -> None:
    """https://support.microsoft.com/office "List separator"; CR alone is written by Excel for Mac."""
    content = (
        first
        + end.join(["phone_number;campaign_id;name;price", f'{ADA};42;"two{end}lines";1,50', f"{BOB};42,0;b;"])
        + end
    )
    two, bob = read(content, tmp_path)
    assert two["variables"] == {"name": f"two{end}lines", "price": "1,50"}
    assert (bob["campaign_id"], bob["variables"]) == (42, {"name": "b"})


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_blanks_around_quoted_cells_change_nothing(tmp_path: Path, delimiter: str) -> None:
    """Many programs align quoted cells, though RFC 4180 has no blanks there."""
    by = f" {delimiter} "
    content = "\n".join(
        by.join(cells)
        for cells in (
            ['"phone_number"', '"campaign_id"', '"name"'],
            [f'"{ADA}"', '"42"', f'"Doe{delimiter} ""J"" {delimiter} x" '],
            [f'"{BOB}"', "42", '5" pipe'],
        )
    )
    assert read(content, tmp_path) == [
        lead(ADA, name=f'Doe{delimiter} "J" {delimiter} x'),
        lead(BOB, name='5" pipe'),
    ]


def test_a_campaign_is_never_made_of_a_number_with_thousands(tmp_path: Path) -> None:
    [[fault]] = read(f"phone_number;campaign_id\n{ADA};1.000\n", tmp_path)
    assert (fault.field, fault.fault) == ("campaign_id", "is text, not a whole number")


def test_a_nul_byte_spoils_its_cell_only(tmp_path: Path) -> None:
    bad, good = read(f"{HEADER}{ADA},42,A\0da\n{BOB},42,Bob\n", tmp_path)
    assert [(fault.field, fault.fault) for fault in bad] == [("variables.name", "contains a NUL character")]
    assert good == lead(BOB, name="Bob")
    [[fault], _] = read(f"{HEADER}{ADA}\0,42,Ada\n{BOB},42,Bob\n", tmp_path)
    assert fault.field == "phone_number"


# Limits (issue 11, V9) ------------------------------------------------------------------------------------------------


def test_a_row_of_many_faults_names_twenty_and_how_many_more(tmp_path: Path) -> None:
    """A row with 10 000 unnamed cells wrote 201 MB of refused rows."""
    header = "phone_number,campaign_id" + "," * 900
    [faults, _] = read(f"{header}\n{ADA},42,{'x,' * 899}x\n{BOB},42\n", tmp_path)
    assert len(faults) == 21
    assert faults[-1] == FieldError("row", "has 880 more faults", "mend those that are named first")
    [[fault], _] = read(f"phone_number,campaign_id\n{ADA},42,{'x,' * 10_000}\n{BOB},42\n", tmp_path)
    assert (fault.field, fault.fault) == ("row", "has 10,003 cells, more than 1,000")
    with pytest.raises(UnreadableFile, match="header names 1,002 columns, more than 1,000"):
        read("phone_number,campaign_id" + ",x" * 1000 + "\n", tmp_path)


TWICE = {
    "a number": ('"phone_number": "+12025550199",', "phone_number"),
    "a variable": ('"variables": {"name": "Ada", "name": "Bob"},', "name"),
    "a number, escaped": (r'"phone\u005fnumber": "+12025550199",', "phone_number"),
    "a number of a contact": ('"secondary_contacts": [{"phone_number": "+1", "phone_number" : "+2"}],', "phone_number"),
}


@pytest.mark.parametrize(("more", "name"), TWICE.values(), ids=TWICE.keys())
def test_a_name_that_stands_twice_in_an_object_is_refused(tmp_path: Path, more: str, name: str) -> None:
    """RFC 8259, 4: readers differ in which of the values they take, and most take one of them in silence."""
    line = f'{{{more} "phone_number": "{ADA}", "campaign_id": 42}}\n'
    harmless = json.dumps({"phone_number": BOB, "campaign_id": 42, "variables": {"note": '"a": 1, "a": 2'}})

    twice, row = read(line + harmless, tmp_path, name="leads.jsonl")

    assert twice == (FieldError("line", f"has the name {name} twice in one object", "send each name once"),)
    assert row["variables"] == {"note": '"a": 1, "a": 2'}
    piped = CliRunner().invoke(app, ["submit"], input=line)
    assert f"standard input has the name {name} twice" in " ".join(piped.output.replace("│", " ").split())


def test_a_line_of_json_with_many_unknown_keys_is_refused_quickly(tmp_path: Path) -> None:
    line = json.dumps({"phone_number": ADA, "campaign_id": 42, **{f"key{number}": 1 for number in range(100_000)}})
    began = time.thread_time()
    [faults] = read(line, tmp_path, name="leads.jsonl")
    assert len(faults) == 11
    assert faults[-1].fault == "has 99990 more unknown fields"
    assert time.thread_time() - began < 5


def test_the_original_row_is_written_once(tmp_path: Path) -> None:
    content = f"{HEADER}12,x,Ada\n".encode()
    with opened(content, tmp_path) as (source, file):
        rejects = Rejects(tmp_path / "rejected.csv", source)
        [row] = file.rows
        rejects.add(row, [FieldError("a", "is bad", "mend it"), FieldError("b", "is bad", "mend it")])
        rejects.close()
    table = list(csv.reader(io.StringIO((tmp_path / "rejected.csv").read_text("utf-8-sig"))))
    assert [line[1::3] for line in table] == [["field", "original"], ["a", "12,x,Ada"], ["b", ""]]


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path: Path) -> None:
    content = gzip.compress((HEADER + f"{ADA},42,").encode() + b"x" * (40 << 20), 1)
    tracemalloc.start()
    with pytest.raises(UnreadableFile, match=f"more than {MAX_LINE:,} characters in line 2"):
        read(content, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 << 20


def test_a_row_of_lines_without_an_end_is_not_read_into_memory(tmp_path: Path) -> None:
    """Each cell is short and closed; it is the row that never ends."""
    content = gzip.compress(f"{HEADER}{ADA},42,".encode() + b'"x\n",' * (4 << 20), 1)
    tracemalloc.start()
    with pytest.raises(
        UnreadableFile, match=rf"row at line 2 goes on over .* lines and more than {MAX_LINE:,} characters"
    ):
        read(content, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    """A zip bomb, https://cwe.mitre.org/data/definitions/409.html: 200 kB that unpack to 200 MB."""
    with pytest.raises(UnreadableFile, match=r"unpacked to more than 250 times its size; .*gzip -dc FILE"):
        read(gzip.compress(HEADER.encode() + b"\n" * (200 << 20), 9), tmp_path)


@pytest.mark.parametrize("piece", ['"x"y,', '""', ",", '" ,', "x ", '"', "\t|"])
def test_the_time_for_a_row_grows_with_its_length_only(tmp_path: Path, piece: str) -> None:
    def seconds(times: int) -> float:
        began = time.thread_time()
        with suppress(UnreadableFile):
            read(f"{HEADER}{ADA},42,{piece * times}\n", tmp_path)
        return time.thread_time() - began

    short, long = 10_000, 160_000
    seconds(short)
    assert seconds(long) < 64 * max(seconds(short), 0.01)  # 16 times the length; 256 times the time if quadratic
