"""Which prediction belongs to which reference."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.dataset.layouts import find_cases
from medseg.errors import Problem, SourceError
from medseg.io.folders import is_nifti, is_picture, stem
from medseg.labels import Labels


@dataclass(frozen=True)
class Pair:
    """A prediction and the reference of the same case."""

    case_id: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class PairList:
    """All pairs, the labels where a file names them, and the files that have no partner."""

    pairs: tuple[Pair, ...]
    labels: Labels | None
    problems: tuple[Problem, ...]


def find_pairs(predictions: Path, references: Path, cases: Sequence[str] | None = None) -> PairList:
    """Pairs two files, or the files of two folders by case id: the file's name without its suffix.

    ``references`` may also be a dataset in one of the layouts of ``medseg.dataset.layouts``, or a prepared
    folder: then its label maps are the references. Names of labels come from predictions.json beside the
    predictions, else from the dataset. With ``cases`` only the references of these case ids are wanted.
    Raises ``SourceError`` when there is no pair.
    """
    predicted = _label_maps(predictions)
    if _is_image(predictions) and _is_image(references):
        pair = Pair(stem(predictions), predictions, references)
        return PairList((pair,), labels_beside(predictions), ())
    referred, labels = _references(references)
    if cases is not None:
        referred = {name: path for name, path in referred.items() if name in set(cases)}
    pairs = [Pair(name, path, referred[name]) for name, path in predicted.items() if name in referred]
    if not pairs:
        raise SourceError(
            f"no file of {predictions} has the name of a reference in {references}: "
            f"predictions are {_some(predicted)}, references {_some(referred)}; rename one side"
        )
    problems = [
        Problem(name, path, f"{path} has no reference of that name in {references}")
        for name, path in predicted.items()
        if name not in referred
    ]
    problems += [
        Problem(name, path, f"{path} has no prediction of that name in {predictions}")
        for name, path in referred.items()
        if name not in predicted
    ]
    return PairList(tuple(pairs), labels_beside(predictions) or labels, tuple(problems))


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


def _references(references: Path) -> tuple[dict[str, Path], Labels | None]:
    """Label maps by case id, and their labels if the dataset names them."""
    if not _is_image(references):
        found = find_cases(references)
        labelled = {case.case_id: case.label.path for case in found.cases if case.label is not None}
        if labelled:
            return labelled, found.labels
    return _label_maps(references), None


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


def _some(names: dict[str, Path]) -> str:
    shown = ", ".join(list(names)[:3])
    return shown if len(names) <= 3 else f"{shown}, … ({len(names)})"
