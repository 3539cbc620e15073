"""Which prediction belongs to which reference."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.dataset.cases import Case
from medseg.dataset.layouts import find_cases
from medseg.dataset.segments import plain
from medseg.errors import LabelError, Problem, SourceError
from medseg.io.folders import is_nifti, is_picture, stem
from medseg.labels import Labels


@dataclass(frozen=True)
class Pair:
    """A prediction and the reference of the same case. ``drawn``: the case whose named segments are the reference, in
    the values of the prediction; None where it is a label map."""

    case_id: str
    prediction: Path
    reference: Path
    drawn: Case | None = None


@dataclass(frozen=True)
class PairList:
    """All pairs, the labels where a file names them, and the files that have no partner."""

    pairs: tuple[Pair, ...]
    labels: Labels | None
    problems: tuple[Problem, ...]


def find_pairs(
    predictions: Path,
    references: Path,
    cases: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> PairList:
    """Pairs two files, or the files of two folders by case id: the file's name without its suffix.

    ``references`` may also be a dataset in one of the layouts of ``medseg.dataset.layouts``, or a prepared
    folder: then its label maps are the references. Named segments (DICOM SEG, RTSTRUCT, .seg.nrrd) go with the labels
    of their names, which ``rename`` can change. Names of labels come from predictions.json beside the
    predictions, else from the dataset. With ``cases`` only the references of these case ids are wanted.
    Raises ``SourceError`` when there is no pair, ``LabelError`` when no segment has the name of a label.
    """
    predicted = _label_maps(predictions)
    if _is_image(predictions) and _is_image(references):
        pair = Pair(stem(predictions), predictions, references)
        return PairList((pair,), labels_beside(predictions), ())
    labels = labels_beside(predictions)
    referred, own_labels = _references(references, labels, rename)
    if cases is not None:
        referred = {name: reference for name, reference in referred.items() if name in set(cases)}
    pairs = [Pair(name, path, *referred[name]) for name, path in predicted.items() if name in referred]
    if not pairs:
        raise SourceError(
            f"no file of {predictions} has the name of a reference in {references}: "
            f"predictions are {_some(list(predicted))}, references {_some(list(referred))}; rename one side"
        )
    problems = [
        Problem(name, path, f"{path} has no reference of that name in {references}")
        for name, path in predicted.items()
        if name not in referred
    ]
    problems += [
        Problem(name, path, f"{path} has no prediction of that name in {predictions}")
        for name, (path, _) in referred.items()
        if name not in predicted
    ]
    return PairList(tuple(pairs), labels or own_labels, tuple(problems))


def labels_beside(path: Path) -> Labels | None:
    """The labels in the predictions.json of a folder of predictions, or beside one; None without that file.

    Raises ``SourceError`` when it is there and cannot be read.
    """
    file = (path if path.is_dir() else path.parent) / "predictions.json"
    if not file.is_file():
        return None
    try:
        return Labels.model_validate(json.loads(file.read_text(encoding="utf-8"))["labels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{file}: names no labels that can be read; delete it, or run predict again") from error


def _references(
    references: Path, predicted: Labels | None, rename: Mapping[str, str] | None
) -> tuple[dict[str, tuple[Path, Case | None]], Labels | None]:
    """Label maps or named segments by case id, and their labels if the dataset names them."""
    if not _is_image(references):
        found = find_cases(references, rename=rename)
        labelled = {
            case.case_id: (case.label.path, _in_values_of(predicted or found.labels, case, found.labels))
            for case in found.cases
            if case.label is not None
        }
        if labelled:
            return labelled, found.labels
    return {name: (path, None) for name, path in _label_maps(references).items()}, None


def _in_values_of(labels: Labels | None, case: Case, own: Labels | None) -> Case | None:
    """A case with named segments whose label values are those that ``labels`` give to the names; None for others."""
    if case.label is None or case.label.values is None or labels is None or own is None:
        return None
    value_of = dict(zip(map(plain, labels.names), labels.values, strict=True))
    name_of = dict(zip(own.values, map(plain, own.names), strict=True))
    values = {name: value_of.get(name_of[value]) for name, value in case.label.values.items()}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        raise LabelError(
            f"{case.label.path}: its segments ({_some(list(values))}) are none of the labels {_some(labels.names)}; "
            f"say which are by --rename '{next(iter(values))}={labels.names[0]}'"
        )
    return replace(case, label=replace(case.label, values=known))


def _label_maps(source: Path) -> dict[str, Path]:
    """Label maps by case id, of a folder (not its subfolders) or a single file."""
    if not source.exists():
        raise SourceError(f"{source}: no such file or folder")
    files = [source] if source.is_file() else sorted(source.iterdir())
    maps: dict[str, Path] = {}
    for file in files:
        if file.name.startswith(".") or not _is_image(file):
            continue
        name = stem(file)
        if name in maps:
            raise SourceError(f"{maps[name]} and {file} are both case '{name}'; leave one of them out")
        maps[name] = file
    if not maps:
        raise SourceError(f"{source}: no NIfTI file or picture in it")
    return maps


def _is_image(path: Path) -> bool:
    return is_nifti(path) or is_picture(path)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown}, … ({len(names)})"
