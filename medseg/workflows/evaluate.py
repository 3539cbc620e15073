"""evaluate: pair predictions with references, measure each pair, summarise, write."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from medseg.errors import LabelError, Problem
from medseg.evaluation.calibration import DEFINITIONS as CALIBRATION
from medseg.evaluation.calibration import LabelCalibration, calibrate, count_case, saved_probabilities
from medseg.evaluation.case import TOLERANCE_MM, LabelMetrics, Measures, measure_case
from medseg.evaluation.compared import Compared
from medseg.evaluation.lesions import LEAST_IOU
from medseg.evaluation.metrics import DEFAULT, chosen, definitions
from medseg.evaluation.pairs import Pair, find_pairs
from medseg.evaluation.reading import read_pair
from medseg.evaluation.summary import Summary, summarise
from medseg.files import ensure_folder, write_json, write_text
from medseg.labels import Labels
from medseg.parallel import run_in_workers
from medseg.progress import say, track, warn
from medseg.report.evaluation import REPORT_FILE, write_evaluation
from medseg.table import table_text
from medseg.volume import GRID_TOLERANCE, Array, Volume
from medseg.workflows.compare_predictions import ComparedMethods, compare_methods

Result = TypeVar("Result")

# Imported once, in the process that workers are forked from.
MODULES = ("medseg.workflows.evaluate",)

PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` measured: a record per case and label, their summary, and what went wrong. ``calibration`` by
    label, where probabilities were saved."""

    measures: Measures
    records: tuple[LabelMetrics, ...]
    summary: Summary
    problems: tuple[Problem, ...]
    compared: Compared
    calibration: Mapping[str, LabelCalibration] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The content of metrics.json. What is not defined is null."""
        cases: dict[str, dict[str, Any]] = {}
        for record in self.records:
            cases.setdefault(record.case_id, {})[record.label] = {"status": record.status, **record.values}
        calibration = {name: label.model_dump() for name, label in self.calibration.items()}
        return {
            **self.compared.as_json(),
            "tolerance_mm": {label: self.measures.tolerance_of(label) for label in self.summary.labels},
            "lesion_iou": self.measures.lesion_iou,
            "definitions": definitions(self.measures.metrics),
            "summary": self.summary.model_dump(),
            **({"calibration": {"definitions": CALIBRATION, "labels": calibration}} if calibration else {}),
            "cases": cases,
            "problems": [{"case_id": p.case_id, "path": str(p.path), "problem": p.message} for p in self.problems],
        }

    def as_csv(self) -> str:
        """One row per case and label; what is not defined is empty."""
        columns = ["case_id", "label", "status", *self.measures.metrics]
        return table_text(columns, [record.as_row() for record in self.records])


@overload
def evaluate(predictions: str | Path, *arguments: Any, **options: Any) -> Evaluation: ...
@overload
def evaluate(predictions: list[Any] | tuple[str | Path, ...], *arguments: Any, **options: Any) -> ComparedMethods: ...
def evaluate(
    predictions: str | Path | list[Any] | tuple[str | Path, ...],
    references: str | Path,
    output: str | Path | None = None,
    *,
    metrics: Sequence[str] = DEFAULT,
    tolerance_mm: float | Mapping[str, float] = TOLERANCE_MM,
    lesion_iou: float = LEAST_IOU,
    labels: Labels | None = None,
    cases: Sequence[str] | None = None,
    grid_tolerance: float = GRID_TOLERANCE,
    workers: int | None = None,
    rename: Mapping[str, str] | None = None,
    ignore_value: int | None = None,
) -> Evaluation | ComparedMethods:
    """Compares label maps with their references, case by case and label by label; regions that the
    labels name are measured as well, labels that are only parts of them are not.

    Both are a file or a folder of label maps, DICOM SEG, RTSTRUCT or .seg.nrrd; files are paired by name.
    ``references`` may also be a dataset with images and label maps, a DICOM study with SEG or RTSTRUCT, or a prepared
    folder. ``rename`` gives named segments of the references the names of labels, as in ``{"GTV*": "tumour"}``.
    A prediction may have its axes flipped or permuted against its reference; a pair on different grids is not measured
    and stands in ``problems``, as does every file without a partner.

    A list of predictions is evaluated one by one and compared: ``ComparedMethods``. A folder in it that holds nothing
    but folders is one method, trained with several seeds. With ``output``, each has a folder there, beside
    comparison.json and a report.html that compares them.

    ``metrics`` are names of metrics or of groups (``medseg.evaluation.metrics``). ``tolerance_mm`` is that of the
    surface Dice, one for all labels, or by label with ``*`` for all others; ``lesion_iou`` that above which lesions
    match. ``labels`` overrides the names and values found beside the files. ``cases`` are the case ids to compare,
    where ``references`` holds more. Probabilities that ``predict`` saved beside the masks are found, and give the
    calibration of each label (``medseg.evaluation.calibration``). Voxels in which the reference has the
    ``ignore_value`` (None: the one that dataset.json or the model names) count in no metric, nor do labels in cases in
    which they were not annotated. With ``output``, writes metrics.json, metrics.csv and report.html into that folder.
    Grids are one when their corners lie within ``grid_tolerance`` times the smallest voxel edge. ``workers`` are
    processes (default: one per core); each holds one pair in memory.

    Raises ``SourceError`` when there is no pair, ``LabelError`` when there is no label or none of the name in
    ``tolerance_mm``, ``ConfigError`` for an unknown metric, ``OutputError`` when the folder cannot be written to.
    """
    if isinstance(predictions, list | tuple):
        options = {
            "metrics": metrics, "tolerance_mm": tolerance_mm, "lesion_iou": lesion_iou, "labels": labels,
            "cases": cases, "grid_tolerance": grid_tolerance, "workers": workers, "rename": rename,
            "ignore_value": ignore_value,
        }  # fmt: skip
        return compare_methods(
            predictions,
            None if output is None else Path(output),
            lambda path, folder: evaluate(path, references, folder, **options),
        )
    measures = Measures(tuple(chosen(metrics)), tolerance_mm, lesion_iou)
    folder = None if output is None else ensure_folder(Path(output))
    found = find_pairs(Path(predictions), Path(references), cases, rename)
    for note in found.notes:
        say(note)
    problems: list[Problem] = []
    known = labels or found.labels or _values_as_labels(found.pairs, grid_tolerance, workers, ignore_value)
    known = known.ignoring(ignore_value)
    unknown = set(tolerance_mm) - {"*", *known.unions} if isinstance(tolerance_mm, Mapping) else set()
    if unknown:
        raise LabelError(f"a tolerance is given for '{min(unknown)}', which is none of {', '.join(known.unions)}")
    measure = partial(measure_pair, labels=known, measures=measures, grid_tolerance=grid_tolerance)
    measured = _in_workers(measure, found.pairs, "Evaluating", workers, problems)
    records = tuple(record for pair in found.pairs for record in measured.get(pair.case_id, ()))
    if not records and not problems and not found.problems:
        raise LabelError(f"{predictions} and {references} hold nothing but background")
    compared = Compared(Path(predictions), Path(references), found.pairs, known, grid_tolerance, rename or {})
    calibration = _calibration(compared, [pair for pair in found.pairs if pair.case_id in measured], workers, problems)
    problems += found.problems  # last, since there may be many files without a partner
    evaluation = Evaluation(measures, records, summarise(records), tuple(problems), compared, calibration)
    _tell(problems)
    if folder is not None:
        write_json(folder / "metrics.json", evaluation.as_json())
        write_text(folder / "metrics.csv", evaluation.as_csv())
        write_evaluation(evaluation, folder / REPORT_FILE)
    return evaluation


def _calibration(
    compared: Compared, measured: Sequence[Pair], workers: int | None, problems: list[Problem]
) -> dict[str, LabelCalibration]:
    """Of the cases that were measured and have probabilities; what is wrong with these is added to ``problems``."""
    pairs = [pair for pair in measured if saved_probabilities(compared.predictions, pair.case_id)]
    count = partial(
        count_case,
        predictions=compared.predictions,
        labels=compared.labels,
        grid_tolerance=compared.grid_tolerance,
    )
    counted = _in_workers(count, pairs, "Reading probabilities", workers, problems) if pairs else {}
    for case_id, (_, wrong) in counted.items():
        problems += [Problem(case_id, compared.predictions, each) for each in wrong]
    in_order = [counted[pair.case_id][0] for pair in pairs if pair.case_id in counted]
    return calibrate(in_order, compared.labels)


def _tell(problems: Sequence[Problem]) -> None:
    for problem in problems[:PROBLEMS_SHOWN]:
        warn(str(problem))
    if len(problems) > PROBLEMS_SHOWN:
        warn(f"… and {len(problems) - PROBLEMS_SHOWN} more; metrics.json, which is written with -o, has all of them")


def measure_pair(pair: Pair, *, labels: Labels, measures: Measures, grid_tolerance: float) -> list[LabelMetrics]:
    """Reads and measures one pair. Runs in a worker.

    Raises ``GeometryError`` when the grids differ, ``LabelError`` for values that are no label's.
    """
    prediction, reference = read_pair(pair, grid_tolerance)
    return measure_case(
        pair.case_id,
        _encoded(prediction, pair.prediction.path, labels.model_copy(update={"ignore": None})),
        _encoded(reference, pair.reference.path, labels),
        reference.geometry.spacing,
        labels,
        measures,
        pair.reference.annotated,
    )


def values_of(pair: Pair, *, grid_tolerance: float) -> tuple[set[int], set[int]]:
    """The label values in the prediction, and in the reference. Runs in a worker."""
    prediction, reference = (
        {int(value) for value in np.unique(volume.array)} - {0} for volume in read_pair(pair, grid_tolerance)
    )
    return prediction, reference


def _values_as_labels(pairs: Sequence[Pair], grid_tolerance: float, workers: int | None, ignore: int | None) -> Labels:
    """A label for each value that occurs in a reference; only where there is none, those of the predictions. Pairs that
    cannot be read are told of when they are measured."""
    values = _in_workers(partial(values_of, grid_tolerance=grid_tolerance), pairs, "Looking for labels", workers, [])
    predicted, referred = (set().union(*sides) for sides in zip(*values.values(), strict=True)) if values else ((), ())
    drawn = set(referred or predicted) - {ignore}
    return Labels.from_names({f"label_{value}": value for value in sorted(drawn)}, ignore=ignore)


def _in_workers(
    function: Callable[[Pair], Result],
    pairs: Sequence[Pair],
    description: str,
    workers: int | None,
    problems: list[Problem],
) -> dict[str, Result]:
    """Results by case id; what went wrong is added to ``problems``."""
    results = {}
    outcomes = run_in_workers(function, pairs, workers=workers, preload=MODULES)
    for outcome in track(outcomes, description, len(pairs)):
        pair = outcome.item
        if outcome.result is None:
            problems.append(Problem(pair.case_id, pair.prediction.path, outcome.error or "failed", outcome.is_defect))
        else:
            results[pair.case_id] = outcome.result
    return results


def _encoded(volume: Volume, path: Path, labels: Labels) -> Array:
    """The label map in network values, errors with the path."""
    if len(volume.array) != 1:
        raise LabelError(f"{path} has {len(volume.array)} channels; a label map has one")
    try:
        return labels.encode(volume.label_map)
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error
