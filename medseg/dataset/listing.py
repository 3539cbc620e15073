"""What lies in a source."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from medseg.dataset.dataset_json import label_names, read_dataset_json
from medseg.dataset.draft import Draft
from medseg.io.discover import image_sources
from medseg.io.folders import stem
from medseg.io.source import Found, ImageSource


class Listing:
    """What lies in a source; searched at most once, and only by the layouts that have to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._below: dict[Path, Listing] = {}

    @cached_property
    def content(self) -> dict[str, Any]:
        """Of dataset.json."""
        return read_dataset_json(self.path)

    @cached_property
    def found(self) -> Found:
        return image_sources(self.path)

    def below(self, names: Iterable[str]) -> "Listing | None":
        """The first of ``names`` that is a folder here, whatever its case."""
        folders = {path.name.lower(): path for path in self.path.iterdir() if path.is_dir()}
        path = next((folders[name] for name in names if name in folders), None)
        return self._below.setdefault(path, Listing(path)) if path else None

    def relative(self, source: ImageSource) -> str:
        """Path of a source below this one, with slashes: ``STS_001/CT_image.nii.gz``, ``STS_001/CT`` for
        DICOM."""
        base = self.path if self.path.is_dir() else self.path.parent
        path = source.path.relative_to(base) if source.path.is_relative_to(base) else source.path
        return path.as_posix()

    def place(self, source: ImageSource) -> PurePosixPath:
        """The same without the suffix: ``STS_001/CT_image``."""
        path = PurePosixPath(self.relative(source))
        return path if source.kind == "dicom" else path.with_name(stem(source.path))

    def draft(self, layout: str) -> Draft:
        """An empty one with what was noted in the search, and the labels that dataset.json names."""
        labels, notes = label_names(self.content, self.path / "dataset.json")
        notes = [*self.found.notes, *notes]
        return Draft(layout, labels=labels, problems=list(self.found.problems), notes=notes)
