"""Where the masks of an evaluation lie: those of the predictions, or of the references."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from medseg.dataset.cases import CaseSelection, LabelSource
from medseg.dataset.layouts import cases_in
from medseg.dataset.layouts.listing import Listing
from medseg.dataset.layouts.segment_labels import name_labels
from medseg.errors import Problem, SourceError
from medseg.evaluation.structures import masks_in
from medseg.io.discover import BUNDLE, mask_source, sources_among
from medseg.io.folders import is_hidden, stem
from medseg.io.source import ImageSource
from medseg.labels import Labels
from medseg.volume import Spacing3

# Of a case that has masks of several kinds the first is taken. A DICOM series is none.
KINDS = ("nifti", "ome_zarr", "pair", "image2d", "itk", "seg_nrrd", "dicom_seg", "rtstruct")

# What ``predict`` appends to the name of a case, beside the suffix .dcm.
DICOM_ENDINGS = (".grid.seg", ".map.seg", ".seg", ".rtstruct")


@dataclass(frozen=True)
class MaskSource:
    """The prediction or the reference of a case, on disk."""

    path: Path
    drawn: LabelSource | None = None  # named segments or structures, and their label values; None for a label map
    image: ImageSource | None = None  # what it was drawn on, where that is known
    annotated: tuple[str, ...] | None = None  # names of the labels that were drawn where they are; None: all
    spacing: Spacing3 | None = None  # what the user said of the voxels of its image, in mm
    objects: ImageSource | None = None  # the object map beside it
    numbered: Labels | None = None  # the one label whose objects its values number; None: values are labels


@dataclass
class FoundMasks:
    """The masks of the predictions, or of the references, by case id, and their labels where these are named."""

    masks: dict[str, MaskSource]
    labels: Labels | None = None
    problems: list[Problem] = field(default_factory=list)


class MaskFiles(NamedTuple):
    """The files of a side, by case id: one, or one a structure."""

    of_case: dict[str, tuple[ImageSource, ...]]
    problems: list[Problem]


def masks_at(source: Path, rename: Mapping[str, str] | None = None) -> FoundMasks:
    """Returns the masks in a folder (not in its subfolders), or in a single file, which may be a bundle of 3D Slicer.

    Args:
        source: The folder or file.
        rename: Other names for named segments.
    """
    return named(mask_files(source), rename)


def references_at(
    references: Path, rename: Mapping[str, str] | None, predicted: Collection[str], instances: Sequence[str] = ()
) -> FoundMasks:
    """Returns the label maps or segments of a dataset; else those of a file, or of the files in a folder.

    Args:
        references: The dataset, the folder or the file.
        rename: Other names for named segments.
        predicted: Cases; files that are called like one of them are that, and no masks of single structures.
        instances: The names of labels whose objects are told apart.
    """
    files = masks_at(references, rename) if references.is_file() else None
    if files is not None and files.masks:
        return files
    try:
        found = cases_in(Listing(references), CaseSelection(rename=rename, instances=instances))
    except SourceError:
        files = masks_at(references, rename)
        if not files.masks:
            raise
        return files
    if any(source.structure for case in found.cases if case.label for source in case.label.sources):
        files = masks_at(references, rename)
        if not files.masks.keys().isdisjoint(predicted):
            return files
    side = FoundMasks({}, found.labels, list(found.problems))
    for case in found.cases:
        if case.label is not None:
            drawn = None if case.label.values is None else case.label
            side.masks[case.case_id] = MaskSource(
                case.label.path,
                drawn,
                case.images[0],
                annotated=case.annotated,
                spacing=case.spacing,
                objects=case.objects,
            )
    return side if side.masks else masks_at(references, rename)


def mask_files(source: Path) -> MaskFiles:
    """Returns the files that ``masks_at`` reads: of each case the file of the first kind that there is of it.

    Raises:
        SourceError: Nothing is there, or there are two files of one kind and case.
    """
    if not source.exists():
        raise SourceError(f"{source}: no such file or folder")
    if source.suffix.lower() == BUNDLE:
        source = mask_source(source).path
    files = [source] if source.is_file() else sorted(file for file in source.iterdir() if file.is_file())
    found = sources_among([file for file in files if not is_hidden(file.name)])
    masks = [mask for mask in (*found.sources, *found.segmentations) if mask.kind in KINDS]
    taken: dict[str, ImageSource] = {}
    for mask in sorted(masks, key=lambda mask: KINDS.index(mask.kind)):
        name = _name(mask.path)
        other = taken.setdefault(name, mask)
        if other is not mask and other.kind == mask.kind:
            raise SourceError(f"{other.path} and {mask.path} are both case '{name}'; leave one of them out")
    problems = [Problem(_name(problem.path), problem.path, problem.message) for problem in found.problems]
    return MaskFiles({name: (mask,) for name, mask in taken.items()}, problems)


def add_object_maps(side: FoundMasks, folder: Path) -> None:
    """Adds the object maps that ``predict`` wrote into the folder ``objects`` beside the masks."""
    files = mask_files(folder).of_case if folder.is_dir() else {}
    for name, (source, *_) in files.items():
        if name in side.masks:
            side.masks[name] = replace(side.masks[name], objects=source)


def add_structures(files: MaskFiles, folder: Path, cases: Collection[str]) -> None:
    """Adds the cases that have a folder with a mask of each structure, where they have no other mask."""
    for name in cases:
        masks = () if name in files.of_case else masks_in(folder / name)
        if masks:
            files.of_case[name] = masks


def named(files: MaskFiles, rename: Mapping[str, str] | None = None) -> FoundMasks:
    """Returns the masks of files, with the labels that segments and structures are called after."""
    side = FoundMasks({}, problems=list(files.problems))
    drawn = {}
    for name, sources in files.of_case.items():
        structures = all(source.structure for source in sources)
        side.masks[name] = MaskSource(sources[0].path.parent if structures else sources[0].path)
        if sources[0].has_segments:
            drawn[name] = sources
    if drawn:
        called = name_labels(drawn, rename or {})
        side.labels = called.labels
        for name, label in called.sources.items():
            side.masks[name] = replace(side.masks[name], drawn=label)
        for name, error in called.errors.items():
            side.problems.append(Problem(name, side.masks.pop(name).path, error))
    return side


def _name(path: Path) -> str:
    """Returns the case id that the name of a file tells."""
    name = stem(path)
    ending = next((ending for ending in DICOM_ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending)
