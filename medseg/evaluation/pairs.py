"""Which prediction belongs to which reference."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.dataset.cases import LabelSource
from medseg.dataset.dataset_json import label_names, read_dataset_json
from medseg.dataset.layouts import find_cases
from medseg.dataset.segments import name_labels, plain
from medseg.dataset.store import DatasetRecord
from medseg.errors import LabelError, Problem, SourceError
from medseg.evaluation.predictions import read_predictions
from medseg.evaluation.structures import Part, has_surfaces, parts_in, values_of_structures
from medseg.io.discover import BUNDLE, located, mask_of, sources_among
from medseg.io.folders import is_hidden, stem
from medseg.io.source import SEGMENTATIONS, ImageSource
from medseg.labels import Labels
from medseg.records import read_record
from medseg.volume import Spacing3

# Of a case that has masks of several kinds the first is taken. A DICOM series is none.
KINDS = ("nifti", "pair", "image2d", "itk", "seg_nrrd", "dicom_seg", "rtstruct")

# What ``predict`` appends to the name of a case, beside the suffix .dcm.
DICOM_ENDINGS = (".grid.seg", ".seg", ".rtstruct")


@dataclass(frozen=True)
class Mask:
    """One side of a pair."""

    path: Path
    drawn: LabelSource | None = None  # named segments, and their label values; None for a label map
    image: ImageSource | None = None  # what it was drawn on, where that is known
    parts: tuple[Part, ...] = ()  # where there is a mask of each structure
    annotated: tuple[str, ...] | None = None  # names of the labels that were drawn where they are; None: all
    spacing: Spacing3 | None = None  # what the user said of the voxels of its image, in mm


@dataclass(frozen=True)
class Pair:
    """A prediction and the reference of the same case."""

    case_id: str
    prediction: Mask | None  # None: there is none that can be used; ``failure`` says why
    reference: Mask
    failure: str = ""


@dataclass(frozen=True)
class PairList:
    """All pairs, one for each reference; the labels where a file names them, the predictions that have no reference,
    and what is not compared."""

    pairs: tuple[Pair, ...]
    labels: Labels | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Side:
    """The masks of the predictions, or of the references, by case id, and their labels where these are named."""

    masks: dict[str, Mask]
    labels: Labels | None = None
    problems: list[Problem] = field(default_factory=list)


def find_pairs(
    predictions: Path,
    references: Path,
    cases: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> PairList:
    """Pairs two files, or the files of two folders by case id: the file's name without its suffix.

    ``references`` may also be a dataset in one of the layouts of ``medseg.dataset.layouts``, or a prepared
    folder: then its label maps are the references. Named segments (DICOM SEG, RTSTRUCT, .seg.nrrd) go with the labels
    of their names, which ``rename`` can change for the references. Names of labels come from predictions.json beside
    the predictions, else from the dataset or from a dataset.json above the references, else from the segments. With
    ``cases`` only the references of these case ids are wanted, and where predictions.json says which cases were to be
    predicted, only those. Raises ``SourceError`` when no reference has a prediction, ``LabelError`` when no segment has
    the name of a label.
    """
    predictions, references = located(predictions), located(references)
    predicted = _masks(predictions)
    referred = _references(references, rename, predicted.masks)
    referred.labels = referred.labels or _labels_above(references)
    _add_parts(predicted, predictions, referred.masks)
    if not predicted.masks:
        surfaces = "; surfaces cannot be compared, predict with another --format" if has_surfaces(predictions) else ""
        raise SourceError(f"{predictions}: no label map, DICOM SEG, RTSTRUCT or .seg.nrrd in it{surfaces}")
    labels = labels_beside(predictions) or referred.labels or predicted.labels
    if labels and referred.labels:
        labels = labels.ignoring(referred.labels.ignore)
    if predictions.is_file() and references.is_file() and len(referred.masks) == 1:
        referred.masks = dict(zip(predicted.masks, referred.masks.values(), strict=True))  # whatever their names
    if cases is not None:
        referred.masks = {name: mask for name, mask in referred.masks.items() if name in set(cases)}
    common = [name for name in predicted.masks if name in referred.masks]
    if not common:
        raise SourceError(
            f"no file of {predictions} has the name of a reference in {references}: predictions are "
            f"{_some(list(predicted.masks))}, references {_some(list(referred.masks))}; rename one side"
        )
    notes = _leave_out_unasked(predictions, predicted, referred)
    problems = [*referred.problems, *_without_reference(predicted, referred, references)]
    pairs = []
    for name, mask in referred.masks.items():
        try:
            reference = _valued(mask, referred.labels, labels)
        except LabelError as error:
            problems.append(Problem(name, mask.path, str(error)))
            continue
        pairs.append(_pair(name, predicted, reference, labels, predictions))
    if not pairs:
        raise LabelError(problems[-1].message)
    ignored = sorted({name for pair in pairs for name in _ignored(pair.reference, referred.masks[pair.case_id])})
    if ignored:
        notes.append(f"no labels, and not compared: {_some(ignored)}; name them by --rename 'SEGMENT=LABEL'")
    return PairList(tuple(pairs), labels, tuple(problems), tuple(notes))


def _pair(name: str, predicted: _Side, reference: Mask, labels: Labels | None, predictions: Path) -> Pair:
    """With the prediction of that name, or why there is none."""
    if name not in predicted.masks:
        told = [problem.message for problem in predicted.problems if problem.case_id == name]
        alone = f"{reference.path}: has no prediction of that name in {predictions}"
        return Pair(name, None, reference, "; ".join(told) or alone)
    try:
        return Pair(name, _valued(predicted.masks[name], predicted.labels, labels), reference)
    except LabelError as error:
        return Pair(name, None, reference, str(error))


def _add_parts(predicted: _Side, predictions: Path, cases: Collection[str]) -> None:
    """Adds the cases that have a folder with a mask of each structure, where they have no other mask."""
    added = {}
    for name in cases if predictions.is_dir() else ():
        parts = () if name in predicted.masks else parts_in(predictions / name)
        if parts:
            added[name] = parts
    names = sorted({part.name for parts in added.values() for part in parts})
    own = Labels.from_names({name: value for value, name in enumerate(names, start=1)})
    values = values_of_structures(own)
    for name, parts in added.items():
        valued = tuple(replace(part, value=values[part.name]) for part in parts)
        predicted.masks[name] = Mask(predictions / name, parts=valued)
    if added and predicted.labels is None:
        predicted.labels = own


def _leave_out_unasked(predictions: Path, predicted: _Side, referred: _Side) -> list[str]:
    """Leaves out the references of cases that nobody asked to be predicted; a note on these."""
    asked = set(predicted.masks) if predictions.is_file() else asked_for(predictions)
    unasked = [] if asked is None else [name for name in referred.masks if name not in asked | predicted.masks.keys()]
    for name in unasked:
        del referred.masks[name]
    if not unasked or predictions.is_file():
        return []
    return [f"references of cases that were not to be predicted (predictions.json), left out: {_some(unasked)}"]


def asked_for(predictions: Path) -> set[str] | None:
    """The cases that predictions.json says were to be predicted; None without that file."""
    predicted = read_predictions(predictions)
    if predicted is None:
        return None
    failed = (problem.get("case_id", "") for problem in predicted.problems)
    return {*predicted.asked, *(case.case_id for case in predicted.cases), *failed} or None


def labels_beside(path: Path) -> Labels | None:
    """The labels in the predictions.json of a folder of predictions, or beside one; None without that file.

    Raises ``SourceError`` when it is there and cannot be read.
    """
    predicted = read_predictions(path if path.is_dir() else path.parent)
    return None if predicted is None else predicted.labels


def _references(references: Path, rename: Mapping[str, str] | None, predicted: Collection[str]) -> _Side:
    """The label maps or segments of a dataset; else those of a file, or of the files in a folder. Files that are called
    like ``predicted`` cases are these, and no masks of single structures."""
    files = _masks(references, rename) if references.is_file() else None
    if files is not None and files.masks:
        return files
    try:
        found = find_cases(references, rename=rename)
    except SourceError:
        files = _masks(references, rename)
        if not files.masks:
            raise
        return files
    if any(source.structure for case in found.cases if case.label for source in case.label.sources):
        files = _masks(references, rename)
        if not files.masks.keys().isdisjoint(predicted):
            return files
    side = _Side({}, found.labels, list(found.problems))
    for case in found.cases:
        if case.label is not None:
            drawn = None if case.label.values is None else case.label
            side.masks[case.case_id] = Mask(
                case.label.path, drawn, case.images[0], annotated=case.annotated, spacing=case.spacing
            )
    return side if side.masks else _masks(references, rename)


def _labels_above(references: Path) -> Labels | None:
    """What a dataset.json names in the folder of the references, or in the one above, as above ``labelsTr``."""
    folder = references.resolve() if references.is_dir() else references.resolve().parent
    for each in (folder, folder.parent):
        content = read_dataset_json(each)
        if "format" in content:
            return read_record(each / "dataset.json", DatasetRecord, "run 'medseg preprocess' again").labels
        if content:
            labels, _ = label_names(content, each / "dataset.json")
            return labels
    return None


def _masks(source: Path, rename: Mapping[str, str] | None = None) -> _Side:
    """The masks in a folder (not in its subfolders), or in a single file, which may be a bundle of 3D Slicer."""
    if not source.exists():
        raise SourceError(f"{source}: no such file or folder")
    if source.suffix.lower() == BUNDLE:
        source = mask_of(source).path
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
    side = _Side({name: Mask(mask.path) for name, mask in taken.items()}, problems=problems)
    drawn = {name: [mask] for name, mask in taken.items() if mask.kind in SEGMENTATIONS}
    if drawn:
        named = name_labels(drawn, rename or {})
        side.labels = named.labels
        side.masks |= {name: Mask(label.path, label) for name, label in named.sources.items()}
        for name, error in named.errors.items():
            side.problems.append(Problem(name, side.masks.pop(name).path, error))
    return side


def _valued(mask: Mask, own: Labels | None, labels: Labels | None) -> Mask:
    """With the label values that ``labels`` give to the names of segments, whose values were given by ``own``; segments
    that are no label are left out. Raises ``LabelError`` when all are."""
    if labels is None or own is None:
        return mask
    value_of = dict(zip(map(plain, labels.names), labels.values, strict=True))
    value_of |= {plain(name): value for name, value in values_of_structures(labels).items()}
    if mask.parts:
        return replace(mask, parts=_valued_parts(mask, value_of, labels))
    if mask.drawn is None or not mask.drawn.values:
        return mask
    name_of = dict(zip(own.values, map(plain, own.names), strict=True))
    values = {name: value_of.get(name_of[value]) for name, value in mask.drawn.values.items()}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        raise LabelError(
            f"{mask.path}: its segments ({_some(list(values))}) are none of the labels {_some(labels.names)}; say "
            f"which of the references are by --rename '{next(iter(values))}={labels.names[0]}'"
        )
    return replace(mask, drawn=replace(mask.drawn, values=known))


def _valued_parts(mask: Mask, value_of: Mapping[str, int], labels: Labels) -> tuple[Part, ...]:
    """Those that are labels, with their values."""
    named = [(part, value_of.get(plain(part.name))) for part in mask.parts]
    known = tuple(replace(part, value=value) for part, value in named if value is not None)
    if not known:
        files = _some([part.path.name for part in mask.parts])
        raise LabelError(f"{mask.path}: its files ({files}) are named after none of the labels {_some(labels.names)}")
    return known


def _ignored(mask: Mask, before: Mask) -> set[str]:
    """Names of the segments that were left out of it."""
    kept, given = ((each.drawn and each.drawn.values) or {} for each in (mask, before))
    return set(given) - set(kept)


def _without_reference(predicted: _Side, referred: _Side, references: Path) -> list[Problem]:
    """Predictions that nothing can be compared with, whether they can be read or not."""
    told = [problem for problem in predicted.problems if problem.case_id not in referred.masks]
    alone = [(name, mask.path) for name, mask in predicted.masks.items() if name not in referred.masks]
    what = f"has no reference of that name in {references}"
    return [*told, *(Problem(name, path, f"{path} {what}") for name, path in alone)]


def _name(path: Path) -> str:
    """The case id."""
    name = stem(path)
    ending = next((ending for ending in DICOM_ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown}, … ({len(names)})"
