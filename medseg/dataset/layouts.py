"""How datasets lie on disk: one small function a layout; ``LAYOUTS`` is the order of trying them."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ConfigDict

from medseg.dataset.cases import CaseList
from medseg.dataset.dataset_json import channel_names, label_names, read_dataset_json
from medseg.dataset.draft import Draft
from medseg.dataset.listed import add_listed, annotated_labels, listed_spacing
from medseg.dataset.listing import Listing
from medseg.dataset.names import split_channel
from medseg.dataset.pairing import paired_by_name, paired_folders, paired_with_masks
from medseg.dataset.patterns import is_named, only_images, paired_by_patterns, take_labels
from medseg.dataset.segmented import SAY_THEIR_IMAGE, add_segmentations, note_unused
from medseg.dataset.spacing import SaidSpacing
from medseg.dataset.unlabelled import add_by_channel, add_unlabelled, leave_out_derived
from medseg.errors import ConfigError, Problem, SourceError, reading
from medseg.files import read_text
from medseg.io.folders import stem
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.progress import counted
from medseg.records import PathInside, Record, validated
from medseg.table import LARGEST

IMAGE_FOLDERS = ("imagestr", "images", "image", "imgs", "img", "scans", "volumes")
VOLUMES = ("nifti", "pair", "itk")
LABEL_FOLDERS = ("labelstr", "labels", "label", "masks", "mask", "segmentations", "annotations")


def find_cases(
    source: Path,
    *,
    images: str | Sequence[str] | None = None,
    labels: str | None = None,
    labelled: bool | None = None,
    rename: Mapping[str, str] | None = None,
    incomplete: bool = False,
) -> CaseList:
    """The cases in a folder, an archive, a cases.csv, or one image, whatever their layout.

    ``images`` and ``labels`` are globs relative to ``source`` that select the files and pair them by what
    their ``*`` match. Several globs for images are the channels of one case, in this order; label maps lie on the
    grid of the first. Without ``labels``, ``images`` select among what is found; without both, images that were
    computed from others are left out. ``labelled``: True when label maps are needed, False to ignore them, None to take
    them where there are any. ``rename`` gives the named segments of
    DICOM SEG, RTSTRUCT and .seg.nrrd, by name or glob, the name of a label, or drops them (""). A case that misses its
    image or its label becomes a ``Problem``, and one that misses channels too, unless ``incomplete`` ones are wanted.

    Raises ``SourceError`` when nothing is found, or no label map where they are needed.
    """
    return cases_in(
        Listing(source), images=images, labels=labels, labelled=labelled, rename=rename, incomplete=incomplete
    )


def cases_in(
    listing: Listing,
    *,
    images: str | Sequence[str] | None = None,
    labels: str | None = None,
    labelled: bool | None = None,
    rename: Mapping[str, str] | None = None,
    incomplete: bool = False,
) -> CaseList:
    """The same of what has been listed, so that it need not be searched again."""
    globs = [images] if isinstance(images, str) else list(images or ())
    if labels is not None and not globs:
        raise ConfigError("--labels needs --images: patterns that are paired by what their * match")
    if labels is not None or len(globs) > 1 or (globs and is_named(globs[0])):
        draft = paired_by_patterns(listing, globs, labels)
        if labels is None and labelled is not False:
            take_labels(draft, recognised(listing))
    else:
        draft = recognised(listing)
        if globs:
            only_images(draft, listing, globs[0])
        elif draft.searched:
            leave_out_derived(draft, listing)
            if labelled is not False:
                note_unused(draft, listing)
    return draft.settled(listing.path, labelled, rename, incomplete)


def recognised(listing: Listing) -> Draft:
    """Raises ``SourceError`` when no layout fits."""
    for layout in LAYOUTS if listing.path.is_dir() else FILE_LAYOUTS:
        draft = layout(listing)
        if draft is not None:
            return draft
    reasons = [problem.message for problem in listing.found.problems] + list(listing.found.notes)
    because = f" ({reasons[0]})" if reasons else ""
    raise SourceError(
        f"{listing.path}: no images found{because}; looked for dataset.json (Decathlon, nnU-Net), cases.csv, "
        "images/ and labels/, NIfTI files (.nii, .nii.gz), NRRD and MetaImage, DICOM series, PNG, JPEG and TIFF, in "
        "all subfolders and archives"
    )


class PreparedCase(Record):
    """What is read here of an entry of dataset.json in a prepared folder."""

    model_config = ConfigDict(extra="allow")

    case_id: PathInside
    images: tuple[str, ...]
    label: str | None = None
    group: str | None = None
    annotated: tuple[str, ...] | None = None
    spacing: SaidSpacing | None = None


class PreparedFolder(Record):
    """What is read here of its dataset.json."""

    model_config = ConfigDict(extra="allow")

    channels: tuple[str, ...] = ()
    labels: Labels | None = None
    cases: tuple[PreparedCase, ...]


def prepared(listing: Listing) -> Draft | None:
    """A folder that ``medseg preprocess`` wrote."""
    if listing.content.get("format") != "medseg-prepared":
        return None
    path = listing.path / "dataset.json"
    content = validated(listing.content, PreparedFolder, path, "run 'medseg preprocess' again")
    draft = Draft("prepared by medseg (dataset.json)", content.channels, content.labels)
    for entry in content.cases:
        case = add_listed(draft, listing.path, list(entry.images), entry.label, entry.case_id)
        if case:
            case.group = entry.group or ""
            case.annotated = entry.annotated
            case.spacing = entry.spacing
    return draft


def cases_csv(listing: Listing) -> Draft | None:
    """A table: case_id, image (or image_<channel>, several), label, group, annotated, spacing (in mm, where headers are
    wrong); paths relative to the table. Labels are named by a dataset.json beside it, where there is one."""
    path = listing.path / "cases.csv" if listing.path.is_dir() else listing.path
    if not path.is_file():
        return None
    with reading(path, "a table", "save it as CSV in UTF-8"):
        text = read_text(path, LARGEST)
    header = text.partition("\n")[0]
    separator = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(text.splitlines(), delimiter=separator, skipinitialspace=True)
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    channels = {n: n.removeprefix("image").lstrip("_") for n in reader.fieldnames if n.startswith("image")}
    if not channels:
        raise SourceError(f"{path}: has no column 'image' (or image_<channel>), only: {', '.join(reader.fieldnames)}")
    beside = read_dataset_json(path.parent)
    labels, notes = label_names({} if "format" in beside else beside, path.parent / "dataset.json")
    draft = Draft(f"table {path.name}", labels=labels, notes=notes)
    for row in reader:
        images = {channels[name]: row[name].strip() for name in channels if (row[name] or "").strip()}
        label = (row.get("label") or "").strip() or None
        if not images and not label:
            continue
        case = add_listed(draft, path.parent, images, label, (row.get("case_id") or "").strip())
        if case:
            case.group = (row.get("group") or "").strip()
            case.annotated = annotated_labels((row.get("annotated") or "").strip(), path)
            try:
                case.spacing = listed_spacing(row, path)
            except ConfigError as error:
                draft.problems.append(Problem(case.name, case.path, f"{error}; case left out"))
                del draft.cases[case.key]
    used = {channel for case in draft.cases.values() for channel in case.images}
    draft.channels = tuple(channel for channel in channels.values() if channel in used and channel)
    return draft


def decathlon(listing: Listing) -> Draft | None:
    """dataset.json with a list of training cases; nnU-Net 1 writes it too, without the _0000 of its files."""
    content = listing.content
    if not isinstance(content.get("training"), list):
        return None
    path = listing.path / "dataset.json"
    labels, notes = label_names(content, path)
    draft = Draft("Medical Segmentation Decathlon (dataset.json)", channel_names(content), labels, notes=notes)
    testing = [{"image": entry} if isinstance(entry, str) else entry for entry in content.get("test") or ()]
    for entry in [*content["training"], *testing]:
        if not isinstance(entry, dict) or "image" not in entry:
            raise SourceError(f"{path}: entries of 'training' need 'image' and 'label', not {entry!r}")
        case = add_listed(draft, listing.path, entry["image"], entry.get("label"))
        if case:
            case.unlabelled_as = "test image" if entry in testing else ""
            case.annotated = annotated_labels(entry.get("annotated"), path)
    return draft


def nnunet(listing: Listing) -> Draft | None:
    """imagesTr/ and labelsTr/ with a four-digit channel at the end of each image's name."""
    images, labels = listing.below(["imagestr"]), listing.below(["labelstr"])
    if images is None or labels is None or not images.found.sources:
        return None
    if not all(split_channel(stem(source.path))[1] for source in images.found.sources):
        return None
    draft = paired_folders(listing, images, labels, "nnU-Net (imagesTr, labelsTr, _0000)")
    testing = listing.below(["imagests"])
    taken = set(draft.cases)
    for source in testing.found.sources if testing else ():
        key, channel = split_channel(stem(source.path))
        case = draft.add_image(f"imagesTs/{key}" if key in taken else key, source, channel)
        case.unlabelled_as = "test image"
    return draft


def image_and_label_folders(listing: Listing) -> Draft | None:
    """images/ and labels/, or what else they may be called, with the same names in both."""
    images, labels = listing.below(IMAGE_FOLDERS), listing.below(LABEL_FOLDERS)
    if images is None or labels is None or not images.found.sources or not paired_by_name(labels):
        return None
    return paired_folders(listing, images, labels, f"{images.path.name}/ and {labels.path.name}/")


def images_beside_masks(listing: Listing) -> Draft | None:
    """Masks known by their names (``*_mask``, ``*_seg``, ``label_*``, …) in the folders of their images."""
    return paired_with_masks(listing)


def dicom_studies(listing: Listing) -> Draft | None:
    """DICOM series without labels: each is a case of its patient."""
    series = [source for source in listing.found.sources if source.kind == "dicom"]
    if not series or any(source.kind in VOLUMES for source in listing.found.sources):
        return None
    return _studies(listing, series, "DICOM studies")


def segmented_studies(listing: Listing) -> Draft | None:
    """DICOM series of which some have a DICOM SEG or an RTSTRUCT."""
    series = [source for source in listing.found.sources if source.kind == "dicom"]
    segmentations = [source for source in listing.found.segmentations if source.kind in SAY_THEIR_IMAGE]
    if not series or not segmentations:
        return None
    draft = _studies(listing, series, "DICOM studies with segmentations")
    add_segmentations(draft, listing, segmentations)
    return draft


def _studies(listing: Listing, series: Sequence[ImageSource], layout: str) -> Draft:
    draft = listing.draft(layout)
    n_others = len(listing.found.sources) - len(series)
    if n_others:
        draft.notes.append(f"beside the DICOM series, left out: {counted(n_others, 'image')} of other formats")
    add_unlabelled(draft, listing, series)
    return draft


def plain_folder(listing: Listing) -> Draft | None:
    """Images without labels: each is a case, unless all their names tell channels."""
    sources = listing.found.sources
    if not sources:
        return None
    draft = listing.draft("a folder of images")
    if not add_by_channel(draft, listing):
        add_unlabelled(draft, listing, sources)
    return draft


def single_file(listing: Listing) -> Draft | None:
    """One image, or a table of cases."""
    if listing.path.suffix.lower() == ".csv":
        return cases_csv(listing)
    if listing.path.name == "dataset.json":
        return recognised(Listing(listing.path.parent))
    if not listing.found.sources:
        return None
    if listing.path.name.upper() == "DICOMDIR":
        return segmented_studies(listing) or dicom_studies(listing)
    draft = listing.draft("one image")
    add_unlabelled(draft, listing, listing.found.sources)
    return draft


# A table that the user wrote says more than names and folders do; what is told by names comes last.
LAYOUTS: tuple[Callable[[Listing], Draft | None], ...] = (
    prepared,
    cases_csv,
    decathlon,
    nnunet,
    image_and_label_folders,
    images_beside_masks,
    segmented_studies,
    dicom_studies,
    plain_folder,
)
FILE_LAYOUTS = (single_file,)
