"""evaluate: pair predictions with references, measure each pair, summarise, write."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, overload

from medseg.dataset.cases import as_names
from medseg.evaluation.case import TOLERANCE_MM, Failed, Measures
from medseg.evaluation.cohort import EvaluationOptions, evaluate_cohort
from medseg.evaluation.evaluation import Evaluation, tell_evaluation, write_objects
from medseg.evaluation.metrics_json import write_metrics
from medseg.files import ensure_folder, write_text
from medseg.labels import Labels
from medseg.metrics.definitions import DEFAULT, chosen
from medseg.metrics.lesions import LEAST_IOU
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
    options = EvaluationOptions(
        measures=Measures(tuple(chosen(metrics)), tolerance_mm, lesion_iou, failed),
        usual_metrics=tuple(metrics) == DEFAULT, labels=labels, cases=cases, grid_tolerance=grid_tolerance,
        workers=workers, rename=rename or {}, ignore_value=ignore_value, instances=as_names(instances),
        executor=executor,
    )  # fmt: skip
    folder = None if output is None else Path(output)
    if isinstance(predictions, list | tuple):
        evaluate_one = partial(_evaluated, references=Path(references), options=options)
        return evaluate_methods(predictions, folder, evaluate_one)
    return _evaluated(Path(predictions), folder, Path(references), options)


def _evaluated(predictions: Path, output: Path | None, references: Path, options: EvaluationOptions) -> Evaluation:
    """Measures one folder or file of predictions, and writes what was found."""
    folder = None if output is None else ensure_folder(output)
    evaluation = evaluate_cohort(predictions, references, options)
    tell_evaluation(evaluation)
    if folder is not None:
        write_metrics(folder, evaluation.as_record())
        write_text(folder / "metrics.csv", evaluation.as_csv())
        write_objects(folder, evaluation)
        write_evaluation(evaluation, folder / REPORT_FILE)
    return evaluation
