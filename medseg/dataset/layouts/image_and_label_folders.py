"""Datasets that have a folder of images and a folder of label maps: once, in parts (train, val), or one level down."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from medseg.dataset.dataset_json import channel_names, channel_note, label_names, training_note
from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.file_names import mask_core, split_channel
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.layouts.pairing import paired_by_name, paired_folders
from medseg.errors import Problem, SourceError
from medseg.io.folders import stem
from medseg.progress import counted, listed

IMAGE = r"(?:images?|imgs?|scans?|volumes?)"
# The first is taken where there are several for one folder of images.
LABELS = (r"labels?", r"masks?", r"segmentations?", r"annotations?", r"(?:segs?|gts?|msks?|lbls?|ground[-_ ]?truths?)")
OBJECTS = r"(?:objects?|instances?)"
PARTS = r"(?:tr|va|ts|train|val|test)"

TESTING = ("ts", "test", "testing")
DEEPEST = 3  # folders down from the source


class FolderPair(NamedTuple):
    """A folder of images and, unless there is none, that of their label maps."""

    part: str  # "train", "Tr", "A"; empty where there is one pair
    images: Listing
    labels: Listing | None
    objects: Listing | None = None  # the folder of their object maps, beside that of their label maps


def image_and_label_folders(listing: Listing) -> CaseListDraft | None:
    """Finds images/ and labels/, or what else they may be called, with the same names in both.

    Each part of a dataset may have its own.
    """
    pairs = list(_pairs_below(listing))
    drawn = [pair for pair in pairs if pair.labels and pair.images.found.sources]
    labelled = [pair for pair in drawn if pair.part not in TESTING] or drawn
    if not labelled:
        return None
    draft = CaseListDraft(_title(labelled))
    names, notes = label_names(listing.content, listing.path / "dataset.json")
    draft.labels, draft.channels = names, channel_names(listing.content)
    draft.notes += [*notes, *channel_note(listing.content)]
    for pair in labelled:
        found = paired_folders(pair.images, pair.labels or listing)
        if pair.objects:
            _add_objects(found, pair.objects)
        draft.add_all(found, pair.part)
    draft.notes += _of_other_formats(draft, listing.content)
    draft.notes += training_note(listing.content, sum(bool(case.labels) for case in draft.cases.values()))
    for pair in pairs:
        if pair not in labelled:
            _add_testing(draft, pair)
    if len(labelled) > 1:
        draft.notes.append(
            f"{', '.join(pair.part for pair in labelled)} are taken together, and split anew; give one of these "
            "folders to take it alone"
        )
    return draft


def _add_objects(draft: CaseListDraft, objects: Listing) -> None:
    """Adds the object maps that have the names of the images."""
    for source in objects.found.sources:
        name = objects.place(source).as_posix()
        case = draft.cases.get(name) or draft.cases.get(mask_core(name) or name)
        if case is None:
            draft.problems.append(
                Problem(name, source.path, f"{source.path}: an object map without its image; left out")
            )
        else:
            case.objects = source


def one_level_down(listing: Listing) -> Listing | None:
    """Returns the only folder below that has a dataset.json beside its imagesTr/, as below ``nnUNet_raw``; None without
    any.

    Raises:
        SourceError: There are several.
    """
    found = list(_datasets_below(listing, DEEPEST - 1))
    if len(found) > 1:
        names = listed((dataset.path.relative_to(listing.path).as_posix() for dataset in found), 5)
        raise SourceError(f"{listing.path}: holds {len(found)} datasets, {names}; give one of these folders")
    return found[0] if found else None


def _datasets_below(listing: Listing, levels: int) -> Iterator[Listing]:
    for folder in listing.folders.values():
        if not folder.is_archive and (folder.path / "dataset.json").is_file() and "imagestr" in folder.folders:
            yield folder
        elif not folder.is_archive and levels > 1:
            yield from _datasets_below(folder, levels - 1)


def _pairs_below(listing: Listing, levels: int = DEEPEST, part: str = "") -> Iterator[FolderPair]:
    """Pairs in this folder, or, where there are none, in those below."""
    pairs = list(_pairs_in(listing, part))
    yield from pairs
    if not pairs and levels > 1:
        for name, folder in listing.folders.items():
            if not folder.is_archive:
                yield from _pairs_below(folder, levels - 1, name)


def _pairs_in(listing: Listing, part: str) -> Iterator[FolderPair]:
    cores = {name: _core(IMAGE, name) for name in listing.folders}
    named = {core: listing.folders[name] for name, core in cores.items() if core is not None}
    objects = {_core(OBJECTS, name): listing.folders[name] for name in listing.folders}
    labels = [(_core(word, name), name) for word in (*LABELS, OBJECTS) for name in listing.folders]
    taken: set[str] = set()
    for core, name in labels:
        images = None if core is None or core in taken else named.get(core) or (core and listing.folders.get(core))
        if core is not None and images and paired_by_name(listing.folders[name]):
            taken.add(core)
            drawn, beside = listing.folders[name], objects.get(core)
            yield FolderPair(core or part, images, drawn, None if beside is drawn else beside)
    for core, images in named.items():
        if core not in taken and (core or part) in TESTING:
            yield FolderPair(core or part, images, None)


def _core(word: str, name: str) -> str | None:
    """Returns ``"tr"`` of ``imagesTr``, ``"a"`` of ``LABEL_A``, ``""`` of ``images``; None for a name without the
    word."""
    match = re.fullmatch(rf"(?:(.+)[-_ ])?{word}(?:[-_ ](.+)|({PARTS}))?", name, re.IGNORECASE)
    return "_".join(part.lower() for part in match.groups() if part) if match else None


def _title(pairs: list[FolderPair]) -> str:
    first = pairs[0]
    numbered = all(split_channel(stem(source.path))[1] for source in first.images.found.sources)
    if first.part == "tr" and numbered:
        return "nnU-Net (imagesTr, labelsTr, _0000)"
    return f"{first.images.name}/ and {first.labels.name if first.labels else ''}/"


def _of_other_formats(draft: CaseListDraft, content: Mapping[str, Any]) -> list[str]:
    """Leaves out images of another format than "file_ending" says, where some are of that; a note."""
    ending = content.get("file_ending")
    if not isinstance(ending, str) or not ending:
        return []
    images = [image for case in draft.cases.values() for image in case.images.values()]
    others = {image for image in images if not image.path.name.lower().endswith(ending.lower())}
    if not others:
        return []
    said = f"dataset.json says file_ending '{ending}'"
    if len(others) == len(images):
        return [f"{said}, which no image has: {images[0].path.name}"]
    for case in draft.cases.values():
        case.images = {channel: image for channel, image in case.images.items() if image not in others}
    draft.cases = {key: case for key, case in draft.cases.items() if case.images or case.labels}
    return [f"{said}; of other formats, left out: {counted(len(others), 'image')}"]


def _add_testing(draft: CaseListDraft, pair: FolderPair) -> None:
    """Adds images that a model is to be tried on."""
    taken = set(draft.cases)
    in_channels = any(len(case.images) > 1 or "" not in case.images for case in draft.cases.values())
    for source in pair.images.found.sources:
        name = pair.images.place(source).as_posix()
        key, channel = split_channel(name) if in_channels else (name, "")
        case = draft.add_image(f"{pair.images.name}/{key}" if key in taken else key, source, channel)
        case.unlabelled_as = "test image"
    if pair.labels and pair.labels.found.sources:
        draft.notes.append(f"{pair.labels.name}/ has the label maps of test images: they are not trained on")
