"""evaluate: pair predictions with references, measure each pair, summarise, write."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, overload

from medseg.dataset.cases import as_names
from medseg.errors import LabelError, Problem
from medseg.evaluation.calibration import calibrate_pairs
from medseg.evaluation.case import TOLERANCE_MM, Failed, Measures
from medseg.evaluation.evaluation import Evaluation, tell_evaluation, write_objects
from medseg.evaluation.measure import labels_of_values, measure_pair, measure_pairs
from medseg.evaluation.metrics_json import write_metrics
from medseg.evaluation.pairs import EvaluatedMasks, find_pairs
from medseg.evaluation.summary import summarise
from medseg.files import ensure_folder, write_text
from medseg.labels import Labels
from medseg.metrics.definitions import DEFAULT, chosen
from medseg.metrics.lesions import LEAST_IOU
from medseg.progress import say
from medseg.remote_workers import RemoteWorkers
from medseg.report.evaluation import REPORT_FILE, write_evaluation
from medseg.volume import GRID_TOLERANCE
from medseg.workflows.evaluate_methods import EvaluatedMethods, evaluate_methods


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
    instances: str | Sequence[str] = (),
    executor: Executor | None = None,
) -> Evaluation | EvaluatedMethods:
    """Evaluates label maps against their references, case by case and label by label.

    Files are paired by name. A prediction may have its axes flipped or permuted against its reference. Regions that the
    labels name are measured as well, labels that are only parts of them are not. Voxels that the reference ignores
    count in no metric, nor do labels in cases in which they were not annotated.

    No case is dropped for what its prediction is: where that is missing, cannot be read or lies on another grid, it
    counts as empty. Voxels with values that are no label's count as background, and are told as false alarms. A
    reference that cannot be used is a problem, and its case is not measured; so is a prediction without a reference.
    Probabilities that ``predict`` saved beside the masks are found, and give the calibration of each label.

    Args:
        predictions: A file or folder of label maps, DICOM SEG, RTSTRUCT or .seg.nrrd. A list of them is evaluated one
            by one and compared; a folder in it of nothing but folders is one method, trained with several seeds.
        references: The same; or a dataset with images and label maps, a DICOM study, or a prepared folder.
        output: A folder for metrics.json, metrics.csv and report.html, and objects.csv where objects are told apart; of
            several predictions for comparison.json, a report.html that compares them, and a folder of each.
        metrics: Names of metrics or of groups (``medseg.metrics.definitions``).
        tolerance_mm: Of the surface Dice: one for all labels, or by label with ``*`` for all others.
        lesion_iou: Lesions match when their IoU is above this.
        labels: Names and values in place of those found beside the files.
        cases: The case ids to evaluate, where ``references`` holds more.
        grid_tolerance: Grids are one when their corners are this close, as part of the smallest voxel edge.
        workers: Processes, each of which holds one pair in memory; None: one per core.
        rename: Labels by the names of segments of the references, as in ``{"GTV*": "tumour"}``.
        ignore_value: The value of voxels that nobody annotated; None: the one that dataset.json or the model names.
        failed: What a case counts as whose prediction cannot be used: "missed", or "left-out".
        instances: The names of labels whose objects are told apart, as in ``preprocess``; () for those that the
            references or the model name. Where there are some, objects are measured too.
        executor: Measures the cases, in place of processes of this machine: see ``medseg.open_cluster``.

    Returns:
        The evaluation; of a list of predictions the evaluations of all, and how they compare.

    Raises:
        SourceError: When there is no pair.
        LabelError: When there is no label, or none of the name in ``tolerance_mm``.
        ConfigError: For an unknown metric.
        OutputError: When the folder cannot be written to.
    """
    if isinstance(predictions, list | tuple):
        options = {
            "metrics": metrics, "tolerance_mm": tolerance_mm, "lesion_iou": lesion_iou, "labels": labels,
            "cases": cases, "grid_tolerance": grid_tolerance, "workers": workers, "rename": rename,
            "ignore_value": ignore_value, "failed": failed, "instances": instances,
            "executor": executor,
        }  # fmt: skip
        return evaluate_methods(
            predictions,
            None if output is None else Path(output),
            lambda path, folder: evaluate(path, references, folder, **options),
        )
    measures = Measures(tuple(chosen(metrics)), tolerance_mm, lesion_iou, failed)
    folder = None if output is None else ensure_folder(Path(output))
    found = find_pairs(Path(predictions), Path(references), cases, rename, as_names(instances))
    for note in found.notes:
        say(note)
    problems: list[Problem] = []
    by = workers if executor is None else RemoteWorkers(executor, (Path(predictions), Path(references)))
    known = labels or found.labels or labels_of_values(found.pairs, grid_tolerance, by, ignore_value)
    known = known.ignoring(ignore_value)
    measures.check_labels(known)
    if known.instances and tuple(metrics) == DEFAULT:
        measures = measures._replace(metrics=tuple(chosen((*DEFAULT, "objects"))))
    measure = partial(measure_pair, labels=known, measures=measures, grid_tolerance=grid_tolerance)
    pairs, measured = measure_pairs(measure, found.pairs, measures.failed, by, problems)
    records = tuple(record for pair in pairs for record in measured[pair.case_id].records)
    if not records and not problems and not found.problems:
        raise LabelError(f"{predictions} and {references} hold nothing but background")
    masks = EvaluatedMasks(Path(predictions), Path(references), pairs, known, grid_tolerance, rename or {})
    predicted = [pair for pair in pairs if pair.prediction]
    calibration = calibrate_pairs(predicted, masks.predictions, known, grid_tolerance, by, problems)
    problems += found.problems  # last, since there may be many files without a partner
    evaluation = Evaluation(
        measures,
        records,
        summarise(records),
        tuple(problems),
        masks,
        calibration,
        {pair.case_id: pair.failure for pair in pairs if pair.failure},
        {case_id: each.unknown for case_id, each in measured.items() if each.unknown},
        tuple(each for pair in pairs for each in measured[pair.case_id].objects),
    )
    tell_evaluation(evaluation)
    if folder is not None:
        write_metrics(folder, evaluation.as_record())
        write_text(folder / "metrics.csv", evaluation.as_csv())
        write_objects(folder, evaluation)
        write_evaluation(evaluation, folder / REPORT_FILE)
    return evaluation
