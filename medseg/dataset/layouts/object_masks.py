"""Datasets with a mask of its own for each object: the Data Science Bowl of 2018, and what is laid out like it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.file_names import image_core
from medseg.dataset.layouts.label_map_guess import is_label_folder
from medseg.dataset.layouts.listing import Listing
from medseg.io.source import ImageSource
from medseg.terminology import PRIVATE, coding

OBJECT = "object"  # what an object is called where nobody says what it is


def object_masks(listing: Listing) -> CaseListDraft | None:
    """Finds a folder a case with ``images/`` and ``masks/``: an image in the first, a mask an object in the second.

    Names of the masks say nothing: they are numbers, or differ from case to case.
    """
    images: dict[str, list[ImageSource]] = defaultdict(list)
    masks: dict[str, list[ImageSource]] = defaultdict(list)
    for source in listing.found.sources:
        parts = listing.place(source).parts
        if source.kind != "dicom" and len(parts) > 2:
            case = PurePosixPath(*parts[:-2]).as_posix()
            if is_label_folder(parts[-2]):
                masks[case].append(source)
            elif image_core(parts[-2]) == "":
                images[case].append(source)
    cases = [case for case in masks if len(images[case]) == 1]
    names = [listing.place(source).name for case in cases for source in masks[case]]
    if len(cases) < len(masks) or max(map(len, masks.values()), default=0) < 2 or not _mean_nothing(names):
        return None
    draft = listing.draft("a folder a case, a file an object")
    for case, sources in images.items():
        for image in sources:
            found = draft.add_image(case, image)
            found.unlabelled_as = "" if case in masks else "image without masks"
        for source in masks[case]:
            draft.add_label(case, replace(source, structure=listing.place(source).name))
    if draft.labels is None:
        draft.instances = (OBJECT,)
        draft.notes.append(f"each mask is an object, of the label '{OBJECT}'; --instances gives it another name")
    elif len(draft.labels.items) == 1:
        draft.labels = draft.labels.with_instances(draft.labels.names)
    return draft


def _mean_nothing(names: Sequence[str]) -> bool:
    """Returns whether names of masks are numbers; or each occurs once, and is no structure's."""
    if all(name.isdecimal() for name in names):
        return True
    return len(set(names)) == len(names) and all(coding(name).type.scheme == PRIVATE for name in names)
