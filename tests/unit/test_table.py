from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import SourceError
from medseg.table import as_it_was, harmless, read_table, write_table


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "-"])
def test_what_a_spreadsheet_would_run_is_written_as_text(text: str) -> None:
    assert harmless(text) == f"'{text}"
    assert as_it_was(harmless(text)) == text


@pytest.mark.parametrize("cell", [-1.5, 3, "-1.5", "+2", "1e-05", "-.5", "", "it's", "'quoted'", "a=b", "liver"])
def test_numbers_and_other_text_stay(cell: object) -> None:
    assert harmless(cell) == str(cell)
    assert as_it_was(str(cell)) == str(cell)


@given(st.text(st.sampled_from("'=+-@\t\r\n 1.a,\";")))
def test_every_cell_is_read_as_it_was(text: str) -> None:
    assert as_it_was(harmless(text)) == text


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"=case": "=a,b", "note": "two\r\nlines", "n": -1.5}, {"=case": "@", "note": None}]
    path = write_table(tmp_path / "x.csv", ("=case", "note", "n"), rows)
    assert path.read_bytes().startswith(b"'=case,note,n\n")
    assert read_table(path, "do this") == [
        {"=case": "=a,b", "note": "two\r\nlines", "n": "-1.5"},
        {"=case": "@", "note": "", "n": ""},
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1\n", "line 2 has 1 cells, the first one 2"),
        (b"a,a\n1,2\n", "two columns have one name"),
        (b'a\n"1', "unexpected end"),
        ("ä,b\n".encode("latin-1"), "byte 0 is not UTF-8"),
        (b"a\n" + b"x" * 200_000, "field larger than"),
    ],
)
def test_a_damaged_table_is_refused_with_its_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        read_table(path, "do this")


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "x.csv").touch()
    assert read_table(tmp_path / "x.csv", "do this") == []
