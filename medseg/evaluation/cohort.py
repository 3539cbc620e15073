"""All predictions of a folder against their references."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medseg.errors import LabelError, Problem
from medseg.evaluation.calibration import calibrate_pairs
from medseg.evaluation.case import Measures
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.measure import labels_of_values, measure_pair, measure_pairs
from medseg.evaluation.pairs import EvaluatedMasks, find_pairs
from medseg.evaluation.summary import summarise
from medseg.labels import Labels
from medseg.metrics.definitions import DEFAULT, chosen
from medseg.progress import say
from medseg.remote_workers import RemoteWorkers


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured of which cases, and how.

    Attributes:
        measures: What is measured.
        usual_metrics: Whether nobody chose the metrics: those of objects are added where objects are told apart.
        labels: Names and values in place of those found beside the files.
        cases: The case ids to evaluate; None: all.
        grid_tolerance: How far apart grids may be that count as one, as part of the smallest voxel edge.
        workers: Processes, each of which holds one pair in memory; None: one per core.
        rename: Labels by the names of segments of the references.
        ignore_value: The value of voxels that nobody annotated; None: the one that dataset.json or the model names.
        instances: The names of labels whose objects are told apart; () for those that the references name.
        executor: Measures the cases, in place of processes of this machine.
    """

    measures: Measures
    usual_metrics: bool
    labels: Labels | None
    cases: Sequence[str] | None
    grid_tolerance: float
    workers: int | None
    rename: Mapping[str, str]
    ignore_value: int | None
    instances: Sequence[str]
    executor: Executor | None


def evaluate_cohort(predictions: Path, references: Path, options: EvaluationOptions) -> Evaluation:
    """Evaluates all label maps of a folder, and the calibration where probabilities were saved beside them.

    Args:
        predictions: A file or folder of masks.
        references: A file or folder of masks, or a dataset.
        options: What is measured of which cases.

    Raises:
        SourceError: There is no pair.
        LabelError: There is no label, or none of the name of a tolerance.
    """
    found = find_pairs(predictions, references, options.cases, options.rename, options.instances)
    for note in found.notes:
        say(note)
    tolerance, measures, problems = options.grid_tolerance, options.measures, list[Problem]()
    executor = options.executor
    by = options.workers if executor is None else RemoteWorkers(executor, (predictions, references))
    known = options.labels or found.labels or labels_of_values(found.pairs, tolerance, by, options.ignore_value)
    known = known.ignoring(options.ignore_value)
    measures.check_labels(known)
    if known.instances and options.usual_metrics:
        measures = measures._replace(metrics=tuple(chosen((*DEFAULT, "objects"))))
    measure = partial(measure_pair, labels=known, measures=measures, grid_tolerance=tolerance)
    pairs, measured = measure_pairs(measure, found.pairs, measures.failed, by, problems)
    records = tuple(record for pair in pairs for record in measured[pair.case_id].records)
    if not records and not problems and not found.problems:
        raise LabelError(f"{predictions} and {references} hold nothing but background")
    masks = EvaluatedMasks(predictions, references, pairs, known, tolerance, options.rename)
    predicted = [pair for pair in pairs if pair.prediction]
    calibration = calibrate_pairs(predicted, predictions, known, tolerance, by, problems)
    return Evaluation(
        measures,
        records,
        summarise(records),
        (*problems, *found.problems),  # the latter last, since there may be many files without a partner
        masks,
        calibration,
        {pair.case_id: pair.failure for pair in pairs if pair.failure},
        {case_id: each.unknown for case_id, each in measured.items() if each.unknown},
        tuple(each for pair in pairs for each in measured[pair.case_id].objects),
    )
