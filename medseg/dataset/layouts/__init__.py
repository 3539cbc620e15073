"""How datasets lie on disk: ``LAYOUTS`` is the order of trying the layouts, each of which is a small function."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from medseg.dataset.annotations import is_annotated
from medseg.dataset.cases import CaseList, CaseSelection
from medseg.dataset.layouts.annotated import add_annotations
from medseg.dataset.layouts.bids import bids
from medseg.dataset.layouts.case_list_draft import CaseListDraft
from medseg.dataset.layouts.cases_csv import cases_csv
from medseg.dataset.layouts.coco import coco
from medseg.dataset.layouts.dicom_segmentations import note_unused
from medseg.dataset.layouts.dicom_studies import dicom_studies, segmented_studies, studies_with_pictures
from medseg.dataset.layouts.image_and_label_folders import image_and_label_folders, one_level_down
from medseg.dataset.layouts.left_out import files_left_out, likely_label_maps
from medseg.dataset.layouts.listed_paths import decathlon
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.layouts.object_masks import object_masks
from medseg.dataset.layouts.pairing import paired_with_masks
from medseg.dataset.layouts.patterns import is_named, only_images, paired_by_patterns, take_labels
from medseg.dataset.layouts.prepared import prepared
from medseg.dataset.layouts.structure_masks import masks_in_folders, structures_beside_images
from medseg.dataset.layouts.unlabelled_images import add_by_channel, add_unlabelled, leave_out_derived
from medseg.dataset.layouts.virtual_skeleton import virtual_skeleton
from medseg.errors import ConfigError, SourceError


def find_cases(
    source: Path,
    *,
    images: str | Sequence[str] | None = None,
    labels: str | None = None,
    labelled: bool | None = None,
    rename: Mapping[str, str] | None = None,
    incomplete: bool = False,
) -> CaseList:
    """Finds the cases in a folder, an archive, a cases.csv, or one image, whatever their layout.

    A case that misses its image or its label becomes a ``Problem`` of the list, and so does one that misses channels.

    Args:
        source: Where to look.
        images: As in ``CaseSelection``, like all that follows.
        labels: A glob that selects the label maps.
        labelled: True when label maps are needed, False to ignore them, None to take them where there are any.
        rename: The names of labels by those of segments.
        incomplete: Whether cases that miss channels are wanted too.

    Returns:
        The cases, the names of their channels and labels, problems, and notes on what was decided.

    Raises:
        SourceError: Nothing is found, or no label map where they are needed.
        ConfigError: A glob or a name in ``rename`` fits nothing.
    """
    return cases_in(Listing(source), CaseSelection(images, labels, labelled, rename, incomplete))


def cases_in(listing: Listing, selection: CaseSelection) -> CaseList:
    """Finds the cases in what has been listed, as ``find_cases`` does, so that it need not be searched again."""
    globs, labels, labelled = selection.globs, selection.labels, selection.labelled
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
        if not globs and draft.is_whole and listing.is_folder:
            draft.hints += files_left_out(draft, listing)
        if not globs:
            draft.doubts += likely_label_maps(draft, listing)
    return draft.settled(listing.path, labelled, selection.rename, selection.incomplete, selection.instances)


def recognised(listing: Listing) -> CaseListDraft:
    """Returns what the first layout that fits found.

    Raises:
        SourceError: No layout fits.
    """
    for layout in LAYOUTS if listing.is_folder else FILE_LAYOUTS:
        draft = layout(listing)
        if draft is not None:
            return draft
    reasons = [problem.message for problem in listing.found.problems] + list(listing.found.notes)
    because = f" ({reasons[0]})" if reasons else ""
    raise SourceError(
        f"{listing.path}: no images found{because}; looked for dataset.json (Decathlon, nnU-Net), cases.csv, "
        "images/ and labels/, NIfTI files (.nii, .nii.gz), NRRD and MetaImage, OME-Zarr, DICOM series, PNG, JPEG and "
        "TIFF, in all subfolders and archives"
    )


def dataset_below(listing: Listing) -> CaseListDraft | None:
    """Returns the only nnU-Net or Decathlon dataset that lies in a folder below, as below ``nnUNet_raw``."""
    dataset = one_level_down(listing)
    if dataset is None:
        return None
    draft = recognised(dataset)
    draft.notes.append(f"the dataset lies in {dataset.path.relative_to(listing.path).as_posix()}")
    return draft


def annotated_images(listing: Listing) -> CaseListDraft | None:
    """Finds images in a folder with annotations/, by any other layout, and the label maps that people drew there."""
    if not is_annotated(listing.path):
        return None
    found = (layout(listing) for layout in LAYOUTS if layout is not annotated_images)
    draft = next(filter(None, found), None)
    return add_annotations(draft or listing.draft("a folder of images"), listing)


def plain_folder(listing: Listing) -> CaseListDraft | None:
    """Finds images without labels: each is a case, unless all their names tell channels."""
    sources = listing.found.sources
    if not sources:
        return None
    draft = listing.draft("a folder of images")
    if not add_by_channel(draft, listing):
        add_unlabelled(draft, listing, sources)
    return draft


def single_file(listing: Listing) -> CaseListDraft | None:
    """Returns the case of one image, or the cases of a table."""
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
LAYOUTS: tuple[Callable[[Listing], CaseListDraft | None], ...] = (
    prepared,
    annotated_images,
    cases_csv,
    decathlon,
    bids,
    virtual_skeleton,
    dataset_below,
    object_masks,
    coco,
    image_and_label_folders,
    studies_with_pictures,
    paired_with_masks,
    masks_in_folders,
    structures_beside_images,
    segmented_studies,
    dicom_studies,
    plain_folder,
)
FILE_LAYOUTS = (single_file,)
