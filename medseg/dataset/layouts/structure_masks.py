"""Datasets with a mask of its own for each structure: TotalSegmentator, and what is named like it."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.file_names import SEPARATOR, image_core, in_folder, mask_core, rest_after
from medseg.dataset.layouts.label_map_guess import holds_few_integers, is_label_folder
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.layouts.segment_labels import plain_name
from medseg.io.source import ImageSource
from medseg.io.structure_names import read_names
from medseg.progress import counted
from medseg.terminology import PRIVATE, coding

MODALITY = re.compile(
    rf"(?:(.*?){SEPARATOR})?(?:ct|cta|mri?|pet|t1\w{{0,3}}|t2\w?|flair|dwi|adc|us|pd|swi)", re.IGNORECASE
)

MOST_LOOKED_AT = 200  # files, spread over all: where none of them is a mask, the others are not looked at

Masks = dict[str, ImageSource]  # by structure


def masks_in_folders(listing: Listing) -> CaseListDraft | None:
    """Finds a folder a case, and in it a folder with the masks: ``s0001/ct`` and ``s0001/segmentations/liver``.

    It may also be one with label maps that have the names of the images beside it: ``a``, ``b``, ``masks/a`` and
    ``masks/b``.
    """
    images: dict[str, list[ImageSource]] = defaultdict(list)
    masks: dict[str, Masks] = defaultdict(dict)
    for source in listing.found.sources:
        place = listing.place(source)
        if source.kind != "dicom" and is_label_folder(place.parent.name):
            masks[_folder(listing, source, up=2)][place.name] = source
        else:
            images[_folder(listing, source)].append(source)
    draft = listing.draft("a folder a case, a file a structure")
    for folder, found in masks.items():
        beside = images.pop(folder, [])
        if {source.kind for source in beside} != {"dicom"} or {mask.kind for mask in found.values()} != {"image2d"}:
            _add_case(draft, listing, folder, beside, found)
    for folder, sources in images.items():
        for source in sources:
            name = listing.place(source).name
            draft.add_image(folder if len(sources) == 1 else in_folder(folder, name), source)
    return draft if _is_likely(draft, in_folders=True) else None


def structures_beside_images(listing: Listing) -> CaseListDraft | None:
    """Finds masks beside their image that are named after it and after a structure.

    They may be named after the structure alone where a folder has one image: ``case_ct``, ``case_liver`` and
    ``case_kidney``; ``case/ct`` and ``case/liver``.
    """
    folders: dict[str, Masks] = defaultdict(dict)
    for source in listing.found.sources:
        if source.kind != "dicom":
            folders[_folder(listing, source)][listing.place(source).name] = source
    named = [(name, source) for files in folders.values() for name, source in files.items()]
    if not any(_is_mask(*each) for each in named[:: max(1, len(named) // MOST_LOOKED_AT)]):
        return None
    masks = {source for name, source in named if _is_mask(name, source)}
    masks |= _named_alike(folders, masks)
    draft = listing.draft("a file a structure, beside their image")
    for folder, files in folders.items():
        starts = {name: _start(name) for name, source in files.items() if source not in masks}
        for name, start in starts.items():
            draft.add_image(in_folder(folder, start), files[name], rest_after(start, name) or "")
        known = sorted(set(starts.values()), key=len, reverse=True)
        for name in sorted(files.keys() - starts.keys()):
            core = mask_core(name) or name
            start = next((each for each in known if rest_after(each, core)), known[0] if len(known) == 1 else name)
            structure = "" if core == start else rest_after(start, core) or core
            draft.add_label(in_folder(folder, start), replace(files[name], structure=structure))
    return draft if _is_likely(draft, in_folders=False) else None


def of_structures(case: str, masks: Mapping[str, ImageSource]) -> list[ImageSource]:
    """Returns the label of a case: masks by the names of their files, each of which is a structure.

    It is the one label map, where its name says so.
    """
    if len(masks) == 1 and any(mask_core(name) == "" or name == case for name in masks):
        return list(masks.values())
    return [structure_of(source, mask_core(name) or name) for name, source in masks.items()]


def structure_of(source: ImageSource, name: str) -> ImageSource:
    """Returns the mask of a structure, called as names.json beside it says, which medseg writes, else ``name``.

    Raises:
        SourceError: A names.json cannot be read.
    """
    listed = read_names(source.path.parent).name_of(source.path.name)
    return replace(source, structure=name if listed is None else listed)


def _add_case(draft: CaseListDraft, listing: Listing, folder: str, images: Sequence[ImageSource], masks: Masks) -> None:
    """Adds the case of a folder, or those of the images in it that have a label map of their name."""
    names = {listing.place(source).name: source for source in images}
    pairs = {
        name: mask for name in masks for mask in [mask_core(name) or name] if mask in names or image_core(mask) in names
    }
    if pairs and len(images) > 1:
        for name, source in names.items():
            draft.add_image(in_folder(folder, name), source)
        for name, source in masks.items():
            draft.add_label(in_folder(folder, pairs.get(name, name)), source)
        draft.layout = "images, and a folder of label maps beside them"
        return
    for name, source in names.items():
        draft.add_image(folder, source, name if len(names) > 1 else "")
    for source in of_structures(next(iter(names), folder), masks):
        draft.add_label(folder, source)


def _is_mask(name: str, source: ImageSource) -> bool:
    return mask_core(name) is not None or holds_few_integers(source)


def _start(name: str) -> str:
    """Returns ``case_1`` of ``case_1_ct`` and of ``case_1_image``; empty for ``ct``."""
    match = MODALITY.fullmatch(name)
    return match[1] or "" if match else image_core(name)


def _named_alike(folders: Mapping[str, Masks], masks: set[ImageSource]) -> set[ImageSource]:
    """Returns files whose names end as those of masks do: masks of structures that are not there are empty."""
    words = {
        re.split(SEPARATOR, name, maxsplit=1)[-1]
        for files in folders.values()
        for name in files
        if files[name] in masks
    }
    return {
        source
        for files in folders.values()
        for name, source in files.items()
        if name in words or re.split(SEPARATOR, name, maxsplit=1)[-1] in words
    }


def _is_likely(draft: CaseListDraft, in_folders: bool) -> bool:
    """Returns whether there are cases with images and masks, and names of structures recur from case to case.

    Names that don't are those of objects, or of something else.
    """
    _take_named(draft)
    labelled = [case for case in draft.cases.values() if case.images and case.labels]
    if all(len(case.images) <= 1 for case in labelled):
        for case in labelled:
            case.images = dict(zip([""], case.images.values(), strict=True))
    structures = Counter(source.structure for case in labelled for source in case.labels if source.structure)
    if not structures:
        return bool(labelled)
    n_cases = sum(any(source.structure for source in case.labels) for case in labelled)
    known = any(map(_is_known, structures))
    # A single case has names that mean something, or a folder for its masks: else these may be masks of anything.
    if max(structures.values()) == 1 and (n_cases > 1 or not (known or (in_folders and len(structures) > 1))):
        return False
    if known or any(len(case.labels) > 1 for case in labelled):
        what = counted(len(structures), "structure")
        draft.notes.append(
            f"a mask a structure, named by its file: {what}; where they overlap, the one with fewer voxels lies on top"
        )
    else:
        for case in labelled:  # one mask a case: its values say what is drawn
            case.labels = [replace(source, structure="") for source in case.labels]
    return True


def _is_known(structure: str) -> bool:
    return coding(structure).type.scheme != PRIVATE


def _take_named(draft: CaseListDraft) -> None:
    """Leaves the structures that dataset.json names, where it names some."""
    if draft.labels is None:
        return
    known = {plain_name(name) for name in draft.labels.names}
    left_out = set()
    for case in draft.cases.values():
        left_out |= {
            label.structure for label in case.labels if label.structure and plain_name(label.structure) not in known
        }
        case.labels = [label for label in case.labels if label.structure not in left_out]
    if left_out:
        draft.notes.append(f"not named in dataset.json, left out: {counted(len(left_out), 'structure')}")


def _folder(listing: Listing, source: ImageSource, up: int = 1) -> str:
    """Returns where a source lies; the folder itself for a DICOM series."""
    place = listing.place(source)
    for _ in range(up):
        place = place.parent
    return "" if place.as_posix() == "." else place.as_posix()
