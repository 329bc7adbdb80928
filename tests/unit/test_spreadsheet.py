"""Tables that a spreadsheet opens: nothing in them runs."""

import csv
import io

import pytest

from dispatcher.spreadsheet import csv_table, safe_cell


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", " =1", "＝1", "＋1", "－1", "＠x", "|x", "%x"]
)
def test_no_cell_is_a_formula(cell: str) -> None:
    assert safe_cell(cell) == f"'{cell}".replace("\r", "\\r")


def test_plain_cells_stay_as_they_are() -> None:
    assert [safe_cell(value) for value in ("Ada", 42, None, "a=b", "")] == ["Ada", "42", "", "a=b", ""]


def test_a_table_comes_in_pieces_that_together_are_it() -> None:
    rows = [[n, "x" * 1000, 'a "quoted", cell'] for n in range(200)]
    pieces = list(csv_table(["n", "text", "quoted"], rows))
    assert len(pieces) > 2
    read = list(csv.reader(io.StringIO("".join(pieces))))
    assert read == [["n", "text", "quoted"], *([str(n), text, quoted] for n, text, quoted in rows)]
    assert "".join(pieces).count("\r\n") == 201
