"""A copy of a source in which files are put right; the source itself is never changed."""

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from medseg.errors import MedsegError, OutputError
from medseg.files import ensure_folder, is_temporary, write_text, written_whole
from medseg.inspection.finding import Finding
from medseg.inspection.repair import FileChange
from medseg.io.archives import is_archive, unpacked_content
from medseg.io.folders import files_under
from medseg.progress import track, warn
from medseg.table import write_table

CHANGES = "changes.csv"
UNFINISHED = ".medseg-unfinished"  # in a copy until all is done
TABLES = ("*.json", "*.csv")  # list files by their names
LIST_OTHERS = (".csv", ".json", ".mhd", ".nhdr")  # what they list lies beside them


def new_folder(folder: Path, source: Path) -> Path:
    """Returns a folder for a copy that is begun, or begun anew.

    Raises:
        OutputError: The folder lies in the source, or around it, or has something else in it.
    """
    here, there = folder.resolve(), source.resolve()
    if here == there or here.is_relative_to(there) or there.is_relative_to(here):
        raise OutputError(f"{folder}: the copy has to lie apart from {source}; choose another folder")
    if (folder / UNFINISHED).is_file():  # by a call that was killed: files in it may be put right, or not yet
        shutil.rmtree(folder)
    if folder.exists() and (not folder.is_dir() or not all(map(is_temporary, folder.iterdir()))):
        raise OutputError(f"{folder}: exists and is not empty; choose a new folder for the copy")
    write_text(ensure_folder(folder) / UNFINISHED, "A copy that 'medseg inspect --fix' is making, or begins anew.\n")
    return folder


def copy_of(source: Path, folder: Path) -> Path:
    """Copies all files, what links point to included; of an archive the content, and with a table the files beside it.

    Returns:
        What stands for the source: the folder, or the file in it.
    """
    is_one_file = source.is_file() and not is_archive(source)
    base = source.parent if is_one_file else unpacked_content(source) if source.is_file() else source
    is_alone = is_one_file and source.suffix.lower() not in LIST_OTHERS and source.name.upper() != "DICOMDIR"
    files = [source] if is_alone else files_under(base)
    for file in track(files, "Copying", len(files)):
        with written_whole(folder / file.relative_to(base)) as temporary:
            shutil.copyfile(file, temporary)
    return folder / source.name if is_one_file else folder


def put_right(findings: Iterable[Finding], folder: Path) -> list[FileChange]:
    """Changes files of the copy in ``folder``, and returns what was changed.

    Those elsewhere, which a table of cases may name, stay as they are.
    """
    changes = []
    for finding in findings:
        is_here = finding.path.resolve().is_relative_to(folder.resolve()) and finding.path.exists()
        if finding.repair is None or not is_here:  # a repair before this one may have renamed it
            continue
        try:
            change = finding.repair.apply(finding.path)
        except MedsegError as error:
            warn(f"not put right: {error}")
            continue
        if change.path != finding.path:
            _rename_in_tables(folder, finding.path, change.path)
        changes.append(change)
    return changes


def write_changes(folder: Path, changes: Sequence[FileChange]) -> None:
    """Writes what was changed, and so finishes the copy."""
    rows = [{**asdict(change), "path": change.path.relative_to(folder).as_posix()} for change in changes]
    write_table(folder / CHANGES, ("path", "what", "before", "after"), rows)
    (folder / UNFINISHED).unlink()


def _rename_in_tables(folder: Path, before: Path, after: Path) -> None:
    old, new = (path.relative_to(folder).as_posix() for path in (before, after))
    name = re.compile(rf"(?<![\w/-]){re.escape(old)}(?![\w.])|(?<=\./){re.escape(old)}(?![\w.])")
    for table in (table for pattern in TABLES for table in folder.glob(pattern)):
        text = table.read_bytes().decode("utf-8", "surrogateescape")
        if name.search(text):
            with written_whole(table) as temporary:  # bytes that are no text stay what they are
                temporary.write_text(name.sub(lambda _: new, text), "utf-8", "surrogateescape", newline="")
