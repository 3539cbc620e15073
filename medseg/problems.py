"""Problems as files have them: entries of JSON files and of what ``--json`` prints, and rows of problems.csv."""

from collections.abc import Container, Iterable
from pathlib import Path

from pydantic import ConfigDict

from medseg.errors import Problem
from medseg.records import Record
from medseg.table import write_table

PROBLEMS_FILE = "problems.csv"


class ProblemRecord(Record):
    """What is wrong with a case or file. Other programs may write less of it, or more.

    Attributes:
        case_id: The case; empty where it is not known.
        path: The file or folder.
        problem: What is wrong with it, in words.
    """

    model_config = ConfigDict(extra="allow")

    case_id: str = ""
    path: str = ""
    problem: str = ""


class WarningRecord(Record):
    """What is doubtful in a case or file that was taken."""

    case_id: str
    path: str
    warning: str


def missing_cases(names: Iterable[str], known: Container[str], source: Path) -> list[Problem]:
    """Returns a problem of each case that is asked for by name and not known, once.

    Args:
        names: What is asked for.
        known: The cases that are there.
        source: Where they were looked for.
    """
    missing = f"{source} has no case of that name"
    return [Problem(name, source, missing) for name in dict.fromkeys(names) if name not in known]


def problem_records(problems: Iterable[Problem]) -> tuple[ProblemRecord, ...]:
    """Returns the entry of each problem, in their order."""
    return tuple(ProblemRecord(case_id=each.case_id, path=str(each.path), problem=each.message) for each in problems)


def warning_records(warnings: Iterable[Problem]) -> tuple[WarningRecord, ...]:
    """Returns the entry of each warning, in their order."""
    return tuple(WarningRecord(case_id=each.case_id, path=str(each.path), warning=each.message) for each in warnings)


def write_problems(folder: Path, problems: Iterable[Problem]) -> Path:
    """Writes problems.csv into a folder, and returns its path.

    Raises:
        OutputError: It cannot be written.
    """
    rows = [record.model_dump() for record in problem_records(problems)]
    return write_table(folder / PROBLEMS_FILE, list(ProblemRecord.model_fields), rows)
