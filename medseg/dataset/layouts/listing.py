"""What lies in a source."""

from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

from medseg.dataset.dataset_json import label_names, read_dataset_json
from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.file_names import safe
from medseg.io.archives import is_archive, is_unpacked, origin, unpacked_content, without_suffix
from medseg.io.discover import existing, image_sources, located
from medseg.io.folders import stem, subfolders
from medseg.io.ome_zarr.metadata import store_of
from medseg.io.source import Found, ImageSource


class Listing:
    """What lies in a source; searched at most once, and only by the layouts that have to."""

    def __init__(self, path: Path) -> None:
        self.given = located(path)
        self.is_archive = is_archive(self.given) and self.given.is_file()

    @cached_property
    def path(self) -> Path:
        """The path of a folder or file; for an archive where it is unpacked."""
        return unpacked_content(self.given) if self.is_archive else self.given

    @property
    def name(self) -> str:
        """The name of the folder or file, without suffix."""
        return without_suffix(self.given).name

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder in which images lie; an image in OME-Zarr is a folder, too, and no such one."""
        return self.path.is_dir() and store_of(self.path) is None

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of its dataset.json."""
        return read_dataset_json(self.path)

    @cached_property
    def found(self) -> Found:
        """All images and segmentations in it."""
        return image_sources(self.path)

    @property
    def label_maps(self) -> tuple[ImageSource, ...]:
        """All that may be the label map of a case: label maps are images too, by their format."""
        return (*self.found.sources, *self.found.segmentations)

    @cached_property
    def folders(self) -> dict[str, "Listing"]:
        """The folders and archives in it by their names, in lower case and without suffix.

        Those that medseg wrote aren't among them.
        """
        archives = [path for path in self.path.iterdir() if is_archive(path) and path.is_file()]
        entries = (*sorted(archives), *subfolders(self.path))  # a folder goes before an archive
        return {without_suffix(path).name.lower(): Listing(path) for path in entries}

    def relative(self, source: ImageSource) -> str:
        """Returns the path of a source below this one, with slashes: ``STS_001/CT_image.nii.gz``, ``STS_001/CT`` for
        DICOM.

        Series that share a folder are told apart by their descriptions, the volumes of one series by their parts:
        ``STS_001/DICOM/T1_post``, ``STS_001/DWI/b-1000``.
        """
        # An OME-Zarr, or a level of it, is a folder too.
        is_it = source.kind == "ome_zarr" and self.path.is_relative_to(source.path)
        inner = source.path.parent if is_it else self.path if self.path.is_dir() else existing(self.path).parent
        base, path = origin(inner), origin(source.path)
        base = base.resolve() if is_unpacked(source.path) else base
        path = path.relative_to(base) if path.is_relative_to(base) else path
        if self.shares_folder(source):
            path /= safe(source.description) or source.series_uid
        # macOS writes names decomposed (NFD), zip archives and other systems composed.
        return normalize("NFC", (path / source.part).as_posix())

    def place(self, source: ImageSource) -> PurePosixPath:
        """Returns the path of a source below this one, with slashes and without suffixes: ``STS_001/CT_image``."""
        path = PurePosixPath(*(without_suffix(Path(part)).name for part in PurePosixPath(self.relative(source)).parts))
        if source.kind == "dicom":
            return path
        file = (path.parent if source.part else path).with_name(normalize("NFC", stem(source.path)))
        return file / source.part

    def shares_folder(self, source: ImageSource) -> bool:
        """Returns whether a DICOM series lies in one folder with others."""
        return len(self._series_in.get(source.path, ())) > 1

    @cached_property
    def _series_in(self) -> dict[Path, set[str]]:
        series: dict[Path, set[str]] = defaultdict(set)
        for source in self.found.sources:
            series[source.path].add(source.series_uid)
        return series

    def draft(self, layout: str) -> CaseListDraft:
        """Returns an empty draft with what was noted in the search, and the labels that dataset.json names."""
        labels, notes = label_names(self.content, self.path / "dataset.json")
        notes = [*self.found.notes, *notes]
        return CaseListDraft(layout, labels=labels, problems=list(self.found.problems), notes=notes, searched=True)
