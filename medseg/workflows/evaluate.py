"""evaluate: pair predictions with references, measure each pair, summarise, write."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

from medseg.errors import LabelError, Problem
from medseg.evaluation.calibration import DEFINITIONS as CALIBRATION
from medseg.evaluation.calibration import LabelCalibration, calibrate, count_case, saved_probabilities
from medseg.evaluation.case import TOLERANCE_MM, Failed, LabelMetrics, Measures
from medseg.evaluation.compared import Compared
from medseg.evaluation.measure import Measured, measure_pair, values_of
from medseg.evaluation.pairs import Pair, find_pairs
from medseg.evaluation.summary import Summary, summarise
from medseg.files import ensure_folder, write_json, write_text
from medseg.labels import Labels
from medseg.metrics.definitions import DEFAULT, chosen, definitions
from medseg.metrics.lesions import LEAST_IOU
from medseg.parallel import run_in_workers
from medseg.progress import counted, say, track, warn
from medseg.report.evaluation import REPORT_FILE, write_evaluation
from medseg.table import table_text
from medseg.volume import GRID_TOLERANCE
from medseg.workflows.evaluate_methods import EvaluatedMethods, evaluate_methods

Result = TypeVar("Result")

PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` measured: a record per case and label, their summary, and what went wrong. ``calibration`` by
    label, where probabilities were saved.

    ``failed``: cases whose prediction cannot be used, and why; they are measured as if it were empty. ``unknown``: by
    case, voxels of the prediction with values that are no label's, which count as background.
    """

    measures: Measures
    records: tuple[LabelMetrics, ...]
    summary: Summary
    problems: tuple[Problem, ...]
    compared: Compared
    calibration: Mapping[str, LabelCalibration] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @property
    def n_failed(self) -> int:
        return len(self.failed)

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
            "definitions": definitions(self.measures.metrics, self.measures.failed),
            "summary": self.summary.model_dump(),
            **({"calibration": {"definitions": CALIBRATION, "labels": calibration}} if calibration else {}),
            "cases": cases,
            "failed": dict(self.failed),
            "unknown_values": {case_id: dict(voxels) for case_id, voxels in self.unknown.items()},
            "problems": [{"case_id": p.case_id, "path": str(p.path), "problem": p.message} for p in self.problems],
        }

    def as_csv(self) -> str:
        """One row per case and label; what is not defined is empty."""
        columns = ["case_id", "label", "status", *self.measures.metrics]
        return table_text(columns, [record.as_row() for record in self.records])


@overload
def evaluate(predictions: str | Path, *arguments: Any, **options: Any) -> Evaluation: ...
@overload
def evaluate(predictions: list[Any] | tuple[str | Path, ...], *arguments: Any, **options: Any) -> EvaluatedMethods: ...
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
    failed: Failed = "missed",
) -> Evaluation | EvaluatedMethods:
    """Compares label maps with their references, case by case and label by label; regions that the
    labels name are measured as well, labels that are only parts of them are not.

    Both are a file or a folder of label maps, DICOM SEG, RTSTRUCT or .seg.nrrd; files are paired by name.
    ``references`` may also be a dataset with images and label maps, a DICOM study with SEG or RTSTRUCT, or a prepared
    folder. ``rename`` gives named segments of the references the names of labels, as in ``{"GTV*": "tumour"}``.
    A prediction may have its axes flipped or permuted against its reference.

    No case is dropped for what its prediction is. Where that is missing, cannot be read or lies on another grid, it
    counts as empty: all labels of the reference are missed. ``failed="left-out"`` leaves such cases out. Voxels with
    values that are no label's count as background, and are told as false alarms. A reference that cannot be used is a
    problem, and its case is not measured; so is a prediction without a reference.

    A list of predictions is evaluated one by one and compared: ``EvaluatedMethods``. A folder in it that holds nothing
    but folders is one method, trained with several seeds. With ``output``, each has a folder there, beside
    comparison.json and a report.html that compares them.

    ``metrics`` are names of metrics or of groups (``medseg.metrics.definitions``). ``tolerance_mm`` is that of the
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
            "ignore_value": ignore_value, "failed": failed,
        }  # fmt: skip
        return evaluate_methods(
            predictions,
            None if output is None else Path(output),
            lambda path, folder: evaluate(path, references, folder, **options),
        )
    measures = Measures(tuple(chosen(metrics)), tolerance_mm, lesion_iou, failed)
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
    pairs, measured = _measured(measure, found.pairs, measures.failed, workers, problems)
    records = tuple(record for pair in pairs for record in measured[pair.case_id].records)
    if not records and not problems and not found.problems:
        raise LabelError(f"{predictions} and {references} hold nothing but background")
    compared = Compared(Path(predictions), Path(references), pairs, known, grid_tolerance, rename or {})
    calibration = _calibration(compared, [pair for pair in pairs if pair.prediction], workers, problems)
    problems += found.problems  # last, since there may be many files without a partner
    evaluation = Evaluation(
        measures,
        records,
        summarise(records),
        tuple(problems),
        compared,
        calibration,
        {pair.case_id: pair.failure for pair in pairs if pair.failure},
        {case_id: each.unknown for case_id, each in measured.items() if each.unknown},
    )
    _tell(evaluation)
    if folder is not None:
        write_json(folder / "metrics.json", evaluation.as_json())
        write_text(folder / "metrics.csv", evaluation.as_csv())
        write_evaluation(evaluation, folder / REPORT_FILE)
    return evaluation


def _measured(
    measure: Callable[[Pair], Measured],
    pairs: Sequence[Pair],
    failed: Failed,
    workers: int | None,
    problems: list[Problem],
) -> tuple[tuple[Pair, ...], dict[str, Measured]]:
    """What was measured, by case, and the pairs of these cases; what went wrong is added to ``problems``.

    Whatever ended the measurement of a pair, even the death of a worker: the prediction is at fault where the reference
    can be measured against an empty one.
    """
    broken: list[Problem] = []
    measured = _in_workers(measure, [pair for pair in pairs if pair.prediction], "Evaluating", workers, broken)
    reasons = {problem.case_id: problem.message for problem in broken}
    defects = {problem.case_id for problem in broken if problem.is_defect}
    empty = [
        replace(pair, prediction=None, failure=reasons.get(pair.case_id, pair.failure))
        for pair in pairs
        if pair.case_id not in measured
    ]
    usable = _in_workers(measure, empty, "Evaluating what has no prediction", workers, problems) if empty else {}
    path_of = {pair.case_id: pair.prediction.path if pair.prediction else pair.reference.path for pair in pairs}
    what = "counts as missed" if failed == "missed" else "left out"
    at_fault = [pair for pair in empty if pair.case_id in usable]
    problems += [
        Problem(pair.case_id, path_of[pair.case_id], f"{pair.failure}; {what}", pair.case_id in defects)
        for pair in at_fault
    ]
    if failed == "missed":
        measured |= usable
    known = {pair.case_id: pair for pair in (*pairs, *empty)}
    return tuple(known[pair.case_id] for pair in pairs if pair.case_id in measured), measured


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


def _tell(evaluation: Evaluation) -> None:
    unknown = [
        f"{case_id}: {counted(n, 'voxel')} of the prediction {'has' if n == 1 else 'have'} the value {value}, which is "
        f"no label's: {'it counts' if n == 1 else 'they count'} as background, and as a false alarm"
        for case_id, voxels in evaluation.unknown.items()
        for value, n in voxels.items()
    ]
    lines = [*unknown, *map(str, evaluation.problems)]
    for line in lines[:PROBLEMS_SHOWN]:
        warn(line)
    if len(lines) > PROBLEMS_SHOWN:
        warn(f"… and {len(lines) - PROBLEMS_SHOWN} more; metrics.json, which is written with -o, has all of them")


def _values_as_labels(pairs: Sequence[Pair], grid_tolerance: float, workers: int | None, ignore: int | None) -> Labels:
    """A label for each value that occurs in a reference; only where there is none, those of the predictions. What
    cannot be read is told of when it is measured."""
    look = partial(values_of, grid_tolerance=grid_tolerance)
    values = _in_workers(look, [pair for pair in pairs if pair.prediction], "Looking for labels", workers, [])
    others = [replace(pair, prediction=None) for pair in pairs if pair.case_id not in values]
    values |= _in_workers(look, others, "Looking for labels", workers, []) if others else {}
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
    outcomes = run_in_workers(function, pairs, workers=workers)
    for outcome in track(outcomes, description, len(pairs)):
        pair = outcome.item
        if outcome.result is None:
            path = (pair.prediction or pair.reference).path
            problems.append(Problem(pair.case_id, path, outcome.error or "failed", outcome.is_defect))
        else:
            results[pair.case_id] = outcome.result
    return results
