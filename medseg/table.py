"""CSV: every table that medseg writes, and those of its own that it reads again.

A spreadsheet takes text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line's end for a formula, and runs it.
Such a cell is written with an apostrophe before it, which spreadsheets take for "this is text", and read without.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medseg.errors import MedsegError, SourceError, reading
from medseg.files import read_text, write_text

LARGEST = 2**28  # bytes

Row = dict[str, str]

FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
HARMLESS = re.compile(r"''*[=+\-@\t\r\n]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Path:
    """Writes the ``columns`` of each row as CSV; what a row lacks, and None, is empty.

    Raises:
        OutputError: It cannot be written.
    """
    return write_text(path, table_text(columns, rows))


def table_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Returns the ``columns`` of each row as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(map(harmless, columns))
    table.writerows([harmless(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def read_table(path: Path, advice: str, raises: type[MedsegError] = SourceError) -> list[Row]:
    """Returns the rows of a table that ``write_table`` wrote.

    Raises:
        MedsegError: It is damaged; the class is ``raises``.
    """
    with reading(path, "a table", advice, raises):
        lines = list(csv.reader(io.StringIO(read_text(path, LARGEST), newline=""), strict=True))
        columns, *rows = [[as_it_was(cell) for cell in line] for line in lines] or [[]]
        if len(set(columns)) < len(columns):
            raise ValueError("two columns have one name")
        odd = next((i for i, row in enumerate(rows, start=2) if len(row) != len(columns)), None)
        if odd is not None:
            raise ValueError(f"line {odd} has {len(rows[odd - 2])} cells, the first one {len(columns)}")
        return [dict(zip(columns, row, strict=True)) for row in rows]


def harmless(cell: object) -> str:
    """Returns a cell as it is written: no spreadsheet takes it for a formula."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def as_it_was(cell: str) -> str:
    """Returns the text that ``harmless`` made a cell of."""
    return cell[1:] if HARMLESS.match(cell) else cell
