"""DICOM studies: series, and what was drawn on them."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.dicom_segmentations import SAY_THEIR_IMAGE, add_segmentations
from medseg.dataset.layouts.label_map_guess import is_label_folder
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.layouts.unlabelled_images import add_unlabelled
from medseg.errors import Problem
from medseg.io.source import ImageSource
from medseg.progress import counted

VOLUMES = ("nifti", "pair", "itk")


def segmented_studies(listing: Listing) -> CaseListDraft | None:
    """Finds DICOM series of which some have a DICOM SEG or an RTSTRUCT."""
    series = [source for source in listing.found.sources if source.kind == "dicom"]
    segmentations = [source for source in listing.found.segmentations if source.kind in SAY_THEIR_IMAGE]
    if not series or not segmentations:
        return None
    draft = _studies(listing, series, "DICOM studies with segmentations")
    add_segmentations(draft, listing, segmentations)
    return draft


def dicom_studies(listing: Listing) -> CaseListDraft | None:
    """Finds DICOM series without labels: each is a case of its patient."""
    series = [source for source in listing.found.sources if source.kind == "dicom"]
    if not series or any(source.kind in VOLUMES for source in listing.found.sources):
        return None
    return _studies(listing, series, "DICOM studies")


def _studies(listing: Listing, series: Sequence[ImageSource], layout: str) -> CaseListDraft:
    draft = listing.draft(layout)
    add_unlabelled(draft, listing, series)
    return draft


def studies_with_pictures(listing: Listing) -> CaseListDraft | None:
    """Finds DICOM series with a folder beside them that has a picture for each slice.

    CHAOS has ``DICOM_anon/`` and ``Ground/``.
    """
    series = [source for source in listing.found.sources if source.kind == "dicom"]
    folders: dict[Path, list[Path]] = defaultdict(list)
    for source in listing.found.sources:
        if source.kind == "image2d" and is_label_folder(source.path.parent.name):
            folders[source.path.parent].append(source.path)
    if not series or not folders:
        return None
    draft = _studies(listing, series, "DICOM series with a label picture for each slice")
    cases = {source: case for case in draft.cases.values() for source in case.images.values()}
    for case in draft.cases.values():
        case.unlabelled_as = "scan"
    for folder, pictures in folders.items():
        drawn_on = _drawn_on(folder, pictures, series)
        if len(drawn_on) == 1:
            ((source, files),) = drawn_on.items()
            draft.add_label(cases[source].key, ImageSource("pictures", folder, files))
        else:
            which = "several series that have" if drawn_on else "no series that has"
            message = f"{counted(len(pictures), 'label picture')}; beside them is {which} as many slices; left out"
            draft.problems.append(Problem("", folder, f"{folder}: {message}"))
    return draft if any(case.labels for case in draft.cases.values()) else None


def _drawn_on(
    folder: Path, pictures: Sequence[Path], series: Sequence[ImageSource]
) -> dict[ImageSource, tuple[Path, ...]]:
    """Returns the series that label pictures may be of, each with its pictures in the order of its slices.

    They are those with files of the same names, else those with as many, in the order of names.
    """
    beside = [
        s for s in series if s.path.is_relative_to(folder.parent) and len(s.files) == len(pictures) and not s.frames
    ]
    by_name = {picture.stem: picture for picture in pictures}
    alike = [source for source in beside if all(file.stem in by_name for file in source.files)]
    if alike:
        return {source: tuple(by_name[file.stem] for file in source.files) for source in alike}
    orders = {source: dict(zip(sorted(source.files), sorted(pictures), strict=True)) for source in beside}
    return {source: tuple(order[file] for file in source.files) for source, order in orders.items()}
