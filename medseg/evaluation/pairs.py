"""Which prediction belongs to which reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.dataset.dataset_json import label_names, read_dataset_json
from medseg.dataset.layouts.case_list_draft import with_instances
from medseg.dataset.layouts.segment_labels import plain_name
from medseg.dataset.prepared_json import read_dataset
from medseg.errors import LabelError, Problem, SourceError
from medseg.evaluation.mask_sources import (
    FoundMasks,
    MaskSource,
    add_object_maps,
    add_structures,
    mask_files,
    named,
    references_at,
)
from medseg.evaluation.predictions_json import OBJECTS, asked_for, labels_beside
from medseg.evaluation.structures import has_surfaces, values_of_structures
from medseg.instances.case_labels import values_are_objects
from medseg.io.discover import located
from medseg.labels import Labels
from medseg.problems import missing_cases
from medseg.progress import listed
from medseg.volume import GRID_TOLERANCE


@dataclass(frozen=True)
class CasePair:
    """A prediction and the reference of the same case, on disk.

    Attributes:
        case_id: The name of the case.
        prediction: None: there is none that can be used.
        reference: What it should be like.
        failure: Why there is no prediction.
    """

    case_id: str
    prediction: MaskSource | None
    reference: MaskSource
    failure: str = ""


@dataclass(frozen=True)
class CasePairs:
    """The pairs that were found.

    Attributes:
        pairs: One for each reference.
        labels: Where a file names them.
        problems: Predictions that have no reference, and files that cannot be used.
        notes: What is not evaluated.
    """

    pairs: tuple[CasePair, ...]
    labels: Labels | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluatedMasks:
    """Which masks were evaluated against which.

    Attributes:
        predictions: The folder or file of the predictions.
        references: The folder or file of the references.
        pairs: A prediction and a reference of each case.
        labels: Names and values of the labels in the masks.
        grid_tolerance: How far apart grids may be that count as one, as part of the smallest voxel edge.
        rename: Labels by the names of segments of the references.
    """

    predictions: Path
    references: Path
    pairs: tuple[CasePair, ...]
    labels: Labels
    grid_tolerance: float = GRID_TOLERANCE
    rename: Mapping[str, str] = field(default_factory=dict)


def find_pairs(
    predictions: Path,
    references: Path,
    cases: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    instances: Sequence[str] = (),
) -> CasePairs:
    """Returns which prediction belongs to which reference: by case id, the file's name without its suffix.

    ``references`` may also be a dataset in one of the layouts of ``medseg.dataset.layouts``, or a prepared
    folder: then its label maps are the references. Named segments (DICOM SEG, RTSTRUCT, .seg.nrrd) go with the labels
    of their names, which ``rename`` can change for the references. Names of labels come from predictions.json beside
    the predictions, else from the dataset or from a dataset.json above the references, else from the segments. Where
    predictions.json says which cases were to be predicted, only those are paired.

    Args:
        predictions: A file or folder of masks.
        references: A file or folder of masks, or a dataset.
        cases: The case ids that are wanted; None: all.
        rename: Labels by the names of segments of the references.
        instances: The names of labels whose objects are told apart; () for those that the references name.

    Raises:
        SourceError: When no reference has a prediction.
        LabelError: When no segment has the name of a label.
    """
    predictions, references = located(predictions), located(references)
    files = mask_files(predictions)
    referred = references_at(references, rename, files.of_case, instances)
    referred.labels = referred.labels or _labels_above(references)
    if predictions.is_dir():
        add_structures(files, predictions, referred.masks)
    predicted = named(files)
    if not predicted.masks:
        surfaces = "; surfaces cannot be compared, predict with another --format" if has_surfaces(predictions) else ""
        raise SourceError(f"{predictions}: no label map, DICOM SEG, RTSTRUCT or .seg.nrrd in it{surfaces}")
    add_object_maps(predicted, (predictions if predictions.is_dir() else predictions.parent) / OBJECTS)
    labels = labels_beside(predictions) or referred.labels or predicted.labels
    labels = with_instances(labels, instances or (referred.labels.instances if referred.labels else ()))
    if labels and referred.labels:
        labels = labels.ignoring(referred.labels.ignore)
    if predictions.is_file() and references.is_file() and len(referred.masks) == 1:
        referred.masks = dict(zip(predicted.masks, referred.masks.values(), strict=True))  # whatever their names
    unknown = [] if cases is None else _leave_out_unwanted(cases, predicted, referred, references)
    common = [name for name in predicted.masks if name in referred.masks]
    if not common:
        raise SourceError(
            f"no file of {predictions} has the name of a reference in {references}: predictions are "
            f"{listed(predicted.masks)}, references {listed(referred.masks)}; rename one side"
        )
    notes = _leave_out_unasked(predictions, predicted, referred)
    problems = [*unknown, *referred.problems, *_without_reference(predicted, referred, references)]
    pairs = []
    for name, mask in referred.masks.items():
        try:
            reference = _valued(mask, referred.labels, labels)
        except LabelError as error:
            problems.append(Problem(name, mask.path, str(error)))
            continue
        pairs.append(_numbered(_pair(name, predicted, reference, labels, predictions), labels))
    if not pairs:
        raise LabelError(problems[-1].message)
    ignored = sorted({name for pair in pairs for name in _ignored(pair.reference, referred.masks[pair.case_id])})
    if ignored:
        notes.append(f"no labels, and not compared: {listed(ignored)}; name them by --rename 'SEGMENT=LABEL'")
    return CasePairs(tuple(pairs), labels, tuple(problems), tuple(notes))


def _pair(
    name: str, predicted: FoundMasks, reference: MaskSource, labels: Labels | None, predictions: Path
) -> CasePair:
    """Returns a case with the prediction of its name, or why there is none."""
    if name not in predicted.masks:
        told = [problem.message for problem in predicted.problems if problem.case_id == name]
        alone = f"{reference.path}: has no prediction of that name in {predictions}"
        return CasePair(name, None, reference, "; ".join(told) or alone)
    try:
        return CasePair(name, _valued(predicted.masks[name], predicted.labels, labels), reference)
    except LabelError as error:
        return CasePair(name, None, reference, str(error))


def _numbered(pair: CasePair, labels: Labels | None) -> CasePair:
    """Returns a pair whose masks know that their values number objects, where they do."""
    if labels is None or not values_are_objects(labels):
        return pair
    reference, prediction = (
        mask if mask is None or mask.drawn is not None else replace(mask, numbered=labels)
        for mask in (pair.reference, pair.prediction)
    )
    return pair if reference is None else replace(pair, reference=reference, prediction=prediction)


def _leave_out_unwanted(
    cases: Sequence[str], predicted: FoundMasks, referred: FoundMasks, references: Path
) -> list[Problem]:
    """Leaves out all other cases, on both sides.

    Returns:
        Those that are wanted and have no reference.

    Raises:
        SourceError: None of them has.
    """
    wanted = set(cases)
    known = {*referred.masks, *(problem.case_id for problem in referred.problems)}
    if not wanted & known:
        raise SourceError(f"{references} has no case of the name {listed(cases)}; it has {listed(sorted(known))}")
    for found in (predicted, referred):
        found.masks = {name: mask for name, mask in found.masks.items() if name in wanted}
        found.problems = [problem for problem in found.problems if problem.case_id in wanted]
    return missing_cases(cases, known | predicted.masks.keys(), references)


def _leave_out_unasked(predictions: Path, predicted: FoundMasks, referred: FoundMasks) -> list[str]:
    """Leaves out the references of cases that nobody asked to be predicted; a note on these."""
    asked = set(predicted.masks) if predictions.is_file() else asked_for(predictions)
    unasked = [] if asked is None else [name for name in referred.masks if name not in asked | predicted.masks.keys()]
    for name in unasked:
        del referred.masks[name]
    if not unasked or predictions.is_file():
        return []
    return [f"references of cases that were not to be predicted (predictions.json), left out: {listed(unasked)}"]


def _labels_above(references: Path) -> Labels | None:
    """Returns what a dataset.json names in the folder of the references, or in the one above, as above ``labelsTr``."""
    folder = references.resolve() if references.is_dir() else references.resolve().parent
    for each in (folder, folder.parent):
        content = read_dataset_json(each)
        if "format" in content:
            return read_dataset(each).labels
        if content:
            labels, _ = label_names(content, each / "dataset.json")
            return labels
    return None


def _valued(mask: MaskSource, own: Labels | None, labels: Labels | None) -> MaskSource:
    """Returns a mask with the label values that ``labels`` give to the names of segments.

    Their values were given by ``own``. Segments that are no label are left out.

    Raises:
        LabelError: All segments are left out.
    """
    if labels is None or own is None:
        return mask
    value_of = dict(zip(map(plain_name, labels.names), labels.values, strict=True))
    value_of |= {plain_name(name): value for name, value in values_of_structures(labels).items()}
    if mask.drawn is None or not mask.drawn.values:
        return mask
    name_of = dict(zip(own.values, map(plain_name, own.names), strict=True))
    values = {name: value_of.get(name_of[value]) for name, value in mask.drawn.values.items()}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        raise LabelError(
            f"{mask.path}: its segments ({listed(values)}) are none of the labels {listed(labels.names)}; say "
            f"which of the references are by --rename '{next(iter(values))}={labels.names[0]}'"
        )
    return replace(mask, drawn=replace(mask.drawn, values=known))


def _ignored(mask: MaskSource, before: MaskSource) -> set[str]:
    """Returns the names of the segments that were left out of a mask."""
    kept, given = ((each.drawn and each.drawn.values) or {} for each in (mask, before))
    return set(given) - set(kept)


def _without_reference(predicted: FoundMasks, referred: FoundMasks, references: Path) -> list[Problem]:
    """Returns the predictions that nothing can be compared with, whether they can be read or not."""
    told = [problem for problem in predicted.problems if problem.case_id not in referred.masks]
    alone = [(name, mask.path) for name, mask in predicted.masks.items() if name not in referred.masks]
    what = f"has no reference of that name in {references}"
    return [*told, *(Problem(name, path, f"{path} {what}") for name, path in alone)]
