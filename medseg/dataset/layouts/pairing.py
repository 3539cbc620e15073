"""Images and the label maps drawn on them, paired by their names."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.dicom_segmentations import SAY_THEIR_IMAGE
from medseg.dataset.layouts.file_names import SEPARATOR, image_core, in_folder, mask_core, rest_after, split_channel
from medseg.dataset.layouts.label_map_guess import is_label_folder
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.layouts.structure_masks import structure_of
from medseg.io.source import ImageSource

FILM = re.compile(rf"{SEPARATOR}4d$", re.IGNORECASE)  # beside its labelled frames: patient001_4d

Masks = dict[tuple[str, str], list[ImageSource]]  # by folder and core name


def paired_by_name(listing: Listing) -> list[ImageSource]:
    """Returns what may be the label map of an image by its name: DICOM SEG and RTSTRUCT say themselves what they
    outline."""
    return [source for source in listing.label_maps if source.kind not in SAY_THEIR_IMAGE]


def paired_folders(images: Listing, labels: Listing) -> CaseListDraft:
    """Pairs images in one folder with label maps in another, by names that are equal but for ``_mask`` or ``_0000``.

    An image may also be a folder: with one DICOM series, or with one file a channel. So may be a label map: with a mask
    for each structure.
    """
    draft = CaseListDraft(f"{images.name}/ and {labels.name}/")
    for found in (images.found, labels.found):
        draft.problems += found.problems
        draft.notes += found.notes
    known = _label_keys(labels)
    matches = {}
    for source in images.found.sources:
        readings = list(_readings(images.place(source)))
        matches[source] = next(
            (reading for fold in (str, str.casefold) for reading in readings if fold(reading[0]) in known), None
        )
    in_channels = any(match and match[1] for match in matches.values())
    keys_of_labels: dict[ImageSource, str] = {}
    for source, match in matches.items():
        if match:
            keys_of_labels[known.get(match[0]) or known[match[0].casefold()]] = match[0]
            draft.add_image(match[0], source, match[1])
        else:
            name = images.place(source).as_posix()
            key, channel = split_channel(name) if in_channels else (name, "")
            draft.add_image(key, source, channel)
    for label in paired_by_name(labels):
        place = labels.place(label)
        folder, name = _parts(place)
        if label not in keys_of_labels and folder in draft.cases:
            draft.add_label(folder, structure_of(label, name))
        else:
            draft.add_label(keys_of_labels.get(label, place.as_posix()), label)
    return draft


def paired_with_masks(listing: Listing) -> CaseListDraft | None:
    """Pairs masks with the images in their folders, by their names; None when no image has a mask.

    ``CT_image`` goes with ``CT_mask``, ``volume-7`` with ``segmentation-7``, ``case7`` with ``case7_seg``; and
    ``case7_t1`` and ``case7_flair`` are the channels of the case that ``case7_seg`` was drawn on.
    """
    masks = _masks(listing)
    cores: dict[str, list[str]] = defaultdict(list)
    for folder, core in masks:
        cores[folder].append(core)
    draft = listing.draft("masks beside their images")
    for source in listing.found.sources:
        if _core(listing, source) is not None:
            continue
        place = listing.place(source)
        folder, name = _parts(place)
        if source.kind == "dicom" and (path := in_folder(folder, name)) in cores:
            folder, name = path, ""  # the mask lies among the slices
        mask, channel = _mask_of(name, cores.get(folder, []))
        if mask is None and is_label_folder(PurePosixPath(folder).name):
            continue  # masks of single objects, beside the label map of all: instances/
        case = draft.add_image(in_folder(folder, name if mask is None else mask), source, channel)
        if mask is None and FILM.search(name):
            case.unlabelled_as = "film of all frames"
    for (folder, core), sources in masks.items():
        for source in sources:
            draft.add_label(in_folder(folder, core), source)
    if not any(case.images and case.labels for case in draft.cases.values()):
        return None
    _name_kinds(draft, listing, masks)
    return draft


def _label_keys(labels: Listing) -> dict[str, ImageSource]:
    """Returns label maps by the names that their images may have: ``001_mask`` and ``001``."""
    exact: dict[str, ImageSource] = {}
    loose: dict[str, ImageSource] = {}
    for source in paired_by_name(labels):
        folder, name = _parts(labels.place(source))
        exact[in_folder(folder, name)] = source
        core = mask_core(name)
        if core is not None:
            loose.setdefault(in_folder(folder, core), source)
    keys = loose | exact
    folded = Counter(key.casefold() for key in keys)
    return {key.casefold(): source for key, source in keys.items() if folded[key.casefold()] == 1} | keys


def _readings(place: PurePosixPath) -> Iterator[tuple[str, str]]:
    """Yields what case and channel an image's path may mean, the most literal first."""
    folder, name = _parts(place)
    base, channel = split_channel(name)
    yield in_folder(folder, name), ""
    yield in_folder(folder, base), channel
    yield in_folder(folder, image_core(name)), ""
    yield in_folder(folder, image_core(base)), channel
    for parent in place.parents:
        if parent.name:
            yield parent.as_posix(), place.relative_to(parent).as_posix()


def _core(listing: Listing, source: ImageSource) -> str | None:
    """Returns the name of a mask without the word that makes it one; None for what is no mask by its name.

    A segmentation is one whatever its name.
    """
    if source.kind == "dicom":
        return None
    name = listing.place(source).name
    core = mask_core(name)
    return name if core is None and source.kind == "seg_nrrd" else core


def _masks(listing: Listing) -> Masks:
    masks: Masks = defaultdict(list)
    for source in paired_by_name(listing):
        core = _core(listing, source)
        if core is not None:
            masks[_parts(listing.place(source))[0], core].append(source)
    return masks


def _mask_of(name: str, cores: list[str]) -> tuple[str | None, str]:
    """Returns which of the masks in its folder an image goes with, and as which channel; None when with none."""
    for exact in (name, image_core(name)):
        if exact in cores:
            return exact, ""
    for core in sorted(cores, key=len, reverse=True):
        rest = rest_after(core, name)
        if rest is not None and mask_core(rest) is None:  # liver_seg_2 beside liver_seg is no image
            return core, rest
    return None, ""


def _name_kinds(draft: CaseListDraft, listing: Listing, masks: Masks) -> None:
    """Names channels by the kinds of images, which are names that recur from folder to folder."""
    kinds = sorted(core for core, n in Counter(core for _, core in masks).items() if n > 1)
    for folder, core in masks:
        if folder and core in kinds:
            case = draft.cases[in_folder(folder, core)]
            # The kind names the channel, which tells CT from the rest once one kind is taken.
            case.images = {channel or core: source for channel, source in case.images.items()}
    images = (
        listing.relative(source)
        for folder, core in masks
        for source in draft.cases[in_folder(folder, core)].images.values()
        if core == kinds[0]
    )
    if len(kinds) > 1 and (example := next(images, None)):
        glob = "*/" * example.count("/") + PurePosixPath(example).name
        draft.hints.append(
            f"{len(kinds)} kinds of images ({', '.join(kinds)}), each with its own mask: each pair is one "
            f"case; take one kind with --images '{glob}'"
        )


def _parts(place: PurePosixPath) -> tuple[str, str]:
    """Returns folder and name; both are empty for the source itself."""
    return ("" if place.parent == PurePosixPath() else place.parent.as_posix()), place.name
