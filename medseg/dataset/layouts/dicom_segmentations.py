"""DICOM SEG and RTSTRUCT, and the image series that each was drawn on."""

import os
from collections.abc import Callable, Sequence

import numpy as np

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.listing import Listing
from medseg.errors import MedsegError, Problem
from medseg.io.archives import origin
from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.io.dicom.series import source_planes
from medseg.io.dicom.slices import Slices
from medseg.io.dicom.stack import PLACE_TOLERANCE
from medseg.io.dicom_seg.reader import dicom_seg_planes
from medseg.io.rtstruct.reader import rtstruct_contours
from medseg.io.source import ImageSource
from medseg.progress import listed

# Kinds of segmentations that tell what they were drawn on, by UIDs and by geometry.
SAY_THEIR_IMAGE = ("dicom_seg", "rtstruct")

MOST_SHOWN = 3

Sources = Sequence[ImageSource]


def add_segmentations(draft: CaseListDraft, listing: Listing, segmentations: Sources) -> None:
    """Adds each segmentation to the case of the series that it was drawn on; a problem where that is not clear."""
    case_of = {source: case for case in draft.cases.values() for source in case.images.values()}
    for case in case_of.values():
        case.unlabelled_as = "scan"  # a study has more of them than are drawn on
    for segmentation in segmentations:
        try:
            series = candidate_series(segmentation, list(case_of))
        except MedsegError as error:
            draft.problems.append(Problem("", segmentation.path, f"{error}; left out"))
            continue
        if len(series) != 1:
            draft.problems.append(_problem(segmentation, [listing.relative(source) for source in series]))
            continue
        draft.add_label(case_of[series[0]].key, segmentation)
        if series[0].series_uid not in segmentation.refers_to:
            where, path = listing.relative(series[0]), origin(segmentation.path)
            draft.notes.append(f"{path}: the series that it refers to is not here; by its geometry it is of {where}")


def note_unused(draft: CaseListDraft, listing: Listing) -> None:
    """Notes the segmentations of a source that no case has, and that no problem tells of."""
    used = {source for case in draft.cases.values() for source in case.labels}
    told = {problem.path for problem in draft.problems}
    unused = [s for s in listing.found.segmentations if s not in used and s.path not in told]
    if unused:
        paths = listed(map(listing.relative, unused), MOST_SHOWN)
        draft.notes.append(f"segmentations of no case, left out: {paths}")


def candidate_series(segmentation: ImageSource, series: Sources) -> Sources:
    """Returns the series that a segmentation was drawn on: one where that is clear.

    That is the series that it refers to, where that is there. Otherwise a series in its frame of reference that has a
    slice in each of its planes. Of several those that were not computed from others, and the one that lies nearest in
    the folders.

    Raises:
        SourceError: The segmentation cannot be read.
    """
    referred = [source for source in series if source.series_uid in segmentation.refers_to]
    candidates = referred or [source for source in series if _may_share_frame(segmentation, source)]
    if len(referred) != 1:
        candidates = [source for source in candidates if lies_on(segmentation, source)]
        candidates = [source for source in candidates if not source.derived] or candidates
    shared = [len(os.path.commonpath([segmentation.path, source.path])) for source in candidates]
    return [source for source, length in zip(candidates, shared, strict=True) if length == max(shared)]


def _may_share_frame(one: ImageSource, other: ImageSource) -> bool:
    """Returns whether the two have the same coordinates, as far as is known: some programs write no frame of
    reference."""
    if one.frame_of_reference_uid and other.frame_of_reference_uid:
        return one.frame_of_reference_uid == other.frame_of_reference_uid
    return one.study_uid == other.study_uid != ""


def _problem(segmentation: ImageSource, candidates: Sequence[str]) -> Problem:
    shown = ", ".join(candidates[:MOST_SHOWN]) + (" …" if len(candidates) > MOST_SHOWN else "")
    what = f"may have been drawn on any of {shown}" if candidates else "was drawn on no image series that is here"
    return Problem(
        "",
        segmentation.path,
        f"{segmentation.path}: {what}; pair it with its image by --images and --labels, or in a cases.csv with the "
        "columns image and label; left out",
    )


def lies_on(segmentation: ImageSource, image: ImageSource) -> bool:
    """Returns whether the planes of all contours, or of all frames, are slices of the series, and lie in its extent.

    Geometry decides, since UIDs of slices are often lost on the way.

    Raises:
        SourceError: A file cannot be read.
    """
    slices = Slices(tuple(source_planes(image)))
    return CHECKS[segmentation.kind](segmentation, slices)


def _frames_lie_on(segmentation: ImageSource, slices: Slices) -> bool:
    return slices.numbers_of(dicom_seg_planes(segmentation.path)) is not None


def _contours_lie_on(segmentation: ImageSource, slices: Slices) -> bool:
    """Returns whether contours lie on the slices; they may reach a pixel beyond the edge, and lie a little off their
    plane."""
    contours = rtstruct_contours(segmentation.path)
    if not contours:
        return False
    points = np.concatenate(contours)
    column, row, number = slices.index(points).T
    columns, rows, _ = slices.shape
    inside = (column >= -1) & (column <= columns) & (row >= -1) & (row <= rows) & (number >= 0)
    heights = points @ LPS_TO_RAS[:3, :3] @ slices.planes[0].normal
    off_plane = np.abs(heights - slices.heights[number.astype(int)])
    return bool(inside.all() and off_plane.max() <= PLACE_TOLERANCE * slices.usual_distance)


CHECKS: dict[str, Callable[[ImageSource, Slices], bool]] = {
    "dicom_seg": _frames_lie_on,
    "rtstruct": _contours_lie_on,
}
