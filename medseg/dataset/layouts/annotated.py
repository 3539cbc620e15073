"""Folders whose images were annotated by ``medseg serve`` or ``medseg annotate``."""

from medseg.dataset.annotations import (
    ANNOTATIONS,
    label_maps,
    read_annotated_labels,
    read_annotation,
    uploaded_images,
)
from medseg.dataset.layouts.case_list_draft import CaseListDraft, FoundCase
from medseg.dataset.layouts.listing import Listing
from medseg.errors import Problem
from medseg.io.discover import source_of
from medseg.io.folders import stem
from medseg.io.source import ImageSource
from medseg.progress import counted


def add_annotations(draft: CaseListDraft, listing: Listing) -> CaseListDraft:
    """Adds images that were uploaded, and gives cases the label maps that people drew, in place of older ones.

    Label maps whose values nobody named are left out, since those of the annotations may mean something else.

    Args:
        draft: What another layout found; it is changed.
        listing: The folder.
    """
    folder = listing.path
    for path in uploaded_images(folder):
        draft.add_image(stem(path), source_of(path))
    unnamed = draft.labels is None and any(case.labels and not case.is_segmented for case in draft.cases.values())
    if unnamed:
        for case in draft.cases.values():
            case.labels = []
        draft.notes.append("label maps whose values have no names in a dataset.json are left out")
    drawn = label_maps(folder)
    for case_id, path in drawn.items():
        drawn_on = _case_of(draft, listing, case_id)
        if drawn_on is not None:
            drawn_on.labels = [source_of(path)]
    draft.labels = read_annotated_labels(folder) or draft.labels
    draft.layout = f"{draft.layout}; {ANNOTATIONS}/ has {counted(len(drawn), 'label map')}"
    for case in draft.cases.values():
        case.unlabelled_as = case.unlabelled_as or "image that is not annotated yet"
    return draft


def image_key(listing: Listing, source: ImageSource) -> tuple[str, str]:
    """Returns what tells an image from all others in a folder: its path below it, and its DICOM series."""
    return listing.relative(source), source.series_uid


def _case_of(draft: CaseListDraft, listing: Listing, case_id: str) -> FoundCase | None:
    """Returns the case of an annotation, by the image that its record names, else by its own name."""
    record = read_annotation(listing.path, case_id)
    for case in draft.cases.values():
        keys = {image_key(listing, source) for source in case.images.values()}
        if (case.name == case_id) if record is None else ((record.image, record.series_uid) in keys):
            return case
    path = label_maps(listing.path)[case_id]
    draft.problems.append(Problem(case_id, path, f"{path}: the image that it was drawn on is not there; left out"))
    return None
