"""A copy of a source in which files are put right; the source itself is never changed."""

import csv
import io
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from medseg.errors import MedsegError, OutputError
from medseg.files import ensure_folder, write_text, written_whole
from medseg.inspection.finding import Finding
from medseg.inspection.repair import Change
from medseg.io.archives import content_of, is_archive
from medseg.io.folders import files_under
from medseg.progress import track, warn

CHANGES = "changes.csv"
TABLES = ("dataset.json", "cases.csv")  # list files by their names


def new_folder(folder: Path, source: Path) -> Path:
    """Raises ``OutputError`` for a folder in the source, around it, or with something in it."""
    here, there = folder.resolve(), source.resolve()
    if here == there or here.is_relative_to(there) or there.is_relative_to(here):
        raise OutputError(f"{folder}: the copy has to lie apart from {source}; choose another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: exists and is not empty; choose a new folder for the copy")
    return ensure_folder(folder)


def copy_of(source: Path, folder: Path) -> Path:
    """Copies all files, what links point to included; of an archive the content. Returns what stands for the source:
    the folder, or the file in it."""
    if source.is_file() and not is_archive(source):
        files, base = [source], source.parent
    else:
        base = content_of(source) if source.is_file() else source
        files = files_under(base)
    for file in track(files, "Copying", len(files)):
        target = folder / file.relative_to(base)
        with written_whole(target) as temporary:
            shutil.copyfile(file, temporary)
    return folder if len(files) != 1 or files[0] != source else folder / source.name


def put_right(findings: Iterable[Finding], folder: Path) -> list[Change]:
    """Changes files of the copy in ``folder``. Those elsewhere, which a table of cases may name, stay as they are."""
    changes = []
    for finding in findings:
        if finding.repair is None or not finding.path.resolve().is_relative_to(folder.resolve()):
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


def write_changes(folder: Path, changes: Sequence[Change]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "what", "before", "after"])
    for change in changes:
        table.writerow([change.path.relative_to(folder).as_posix(), change.what, change.before, change.after])
    write_text(folder / CHANGES, text.getvalue())


def _rename_in_tables(folder: Path, before: Path, after: Path) -> None:
    old, new = (path.relative_to(folder).as_posix() for path in (before, after))
    name = re.compile(rf"(?<![\w/-]){re.escape(old)}(?![\w.])|(?<=\./){re.escape(old)}(?![\w.])")
    for table in (folder / name for name in TABLES):
        if table.is_file():
            text = table.read_text(encoding="utf-8")
            write_text(table, name.sub(lambda _: new, text))
