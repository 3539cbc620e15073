"""report.html of an evaluation: how good, how sure, how spread, and where it fails."""

import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medseg.errors import MedsegError
from medseg.evaluation.calibration import DEFINITIONS as CALIBRATION
from medseg.evaluation.case import LabelMetrics
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.images import image_of
from medseg.evaluation.pairs import CasePair, EvaluatedMasks
from medseg.evaluation.predictions_json import sources_beside
from medseg.evaluation.reading import image_on, objects_of_pair, read_pair, what_counts
from medseg.evaluation.worst import deciding_metric, worst_first
from medseg.io.source import ImageSource
from medseg.metrics.definitions import METRICS, definitions
from medseg.progress import counted
from medseg.report.distributions import agreements, distributions
from medseg.report.links import link, seen_from
from medseg.report.page import write_page
from medseg.report.provenance import model_facts, software
from medseg.report.reliability import reliabilities
from medseg.report.slices import ErrorSlice, error_slices
from medseg.report.worst_objects import outlined_objects, shown_objects

REPORT_FILE = "report.html"
TEMPLATE = "report/evaluation.html.j2"

WORST = ("worst", "second worst", "third worst")  # that are shown
RECORDS_SHOWN = 500

TITLES = {
    "dice": "Dice", "iou": "IoU", "prediction_ml": "predicted, ml", "reference_ml": "reference, ml",
    "volume_error_ml": "volume error, ml", "hd_mm": "HD, mm", "hd95_mm": "HD95, mm", "assd_mm": "ASSD, mm",
    "surface_dice": "surface Dice", "lesion_f1": "lesion F1", "lesion_dice": "lesion Dice", "centreline_dice": "clDice",
    "rand_score": "Rand score", "object_f1": "RQ of objects (F1)", "object_quality": "SQ of objects",
    "object_panoptic_quality": "PQ of objects", "object_jaccard": "AJI of objects", "object_ap": "mean AP of objects",
    **{f"object_ap_{iou}": f"AP of objects at IoU .{iou // 10}" for iou in (50, 60, 70, 80, 90)},
}  # fmt: skip


@dataclass(frozen=True)
class ShownCase:
    """A case with pictures.

    Attributes:
        case_id: Its name.
        why: Whether it is the worst, or the median one.
        score: The value that it is ranked by.
        records: Its metrics by label.
        slices: The pictures.
        note: Why there is no picture.
        files: Its masks and its image.
        in_slicer: The command that writes it for 3D Slicer.
    """

    case_id: str
    why: str
    score: float
    records: tuple[LabelMetrics, ...]
    slices: tuple[ErrorSlice, ...]
    note: str
    files: Mapping[str, Path]
    in_slicer: str


def write_evaluation(evaluation: Evaluation, path: Path) -> Path:
    """Writes report.html of an evaluation. The cases that are shown are read once more.

    Args:
        evaluation: What was measured.
        path: The file to write.

    Returns:
        The path.

    Raises:
        OutputError: When the file cannot be written.
    """
    masks = evaluation.masks
    scores = worst_first(evaluation.records)
    decisive = deciding_metric(evaluation.records)
    colours = {label.name: label.colour for label in masks.labels.structures}
    rank = {case_id: i for i, case_id in enumerate(scores)}
    ordered = sorted(evaluation.records, key=lambda record: rank.get(record.case_id, len(rank)))
    return write_page(
        path,
        TEMPLATE,
        f"Evaluation of {masks.predictions.resolve().name}",
        evaluation=evaluation,
        masks=masks,
        decisive=decisive,
        missed=[problem for problem in evaluation.problems if problem.case_id in evaluation.failed],
        not_evaluated=[problem for problem in evaluation.problems if problem.case_id not in evaluation.failed],
        left_out=[*_left_out(masks, rank), *_unknown(evaluation.unknown)],
        metrics=[name for name in evaluation.measures.metrics if METRICS[name].better != "neither"],
        definitions=definitions(evaluation.measures.metrics, evaluation.measures.failed),
        figures=list(_figures(evaluation, decisive)),
        colours=colours,
        distributions=list(distributions(evaluation.records, masks.labels)),
        agreements=list(agreements(evaluation.records, masks.labels, evaluation.objects)),
        reliabilities=list(reliabilities(evaluation.calibration, colours)),
        calibration_definitions=CALIBRATION,
        objects=list(shown_objects(evaluation)),
        cases=list(_shown_cases(evaluation, masks, scores)),
        records=ordered[:RECORDS_SHOWN],
        records_left_out=len(ordered[RECORDS_SHOWN:]),
        provenance=[
            ("predictions", seen_from(path.parent, masks.predictions)),
            ("references", seen_from(path.parent, masks.references)),
            *model_facts(masks.predictions, path.parent),
            software(),
        ],
        titled=titled,
        link=partial(link, path.parent),
    )


def _left_out(masks: EvaluatedMasks, cases: Collection[str]) -> Iterator[str]:
    """Yields what was not annotated, and so is not measured, in words."""
    ignore = masks.labels.ignore
    if ignore is not None:
        yield (
            f"Voxels in which a reference has the value {ignore} were not annotated. They count in no metric: both "
            "masks end there."
        )
    partly = [pair.reference for pair in masks.pairs if pair.case_id in cases and pair.reference.annotated is not None]
    for names, n in Counter(reference.annotated for reference in partly).items():
        drawn = ", ".join(names or ())
        yield f"In {counted(n, 'case')} only {drawn} was annotated; other labels are not measured there."


def _unknown(unknown: Mapping[str, Mapping[int, int]]) -> Iterator[str]:
    """Yields values of predictions that are no label's, in words."""
    for case_id, voxels in unknown.items():
        values = ", ".join(f"{value} ({counted(n, 'voxel')})" for value, n in voxels.items())
        yield f"The prediction of {case_id} has values that are no label's, and count as background: {values}."


def titled(metric: str) -> str:
    """Returns a metric's name for people."""
    return TITLES.get(metric, metric.replace("_", " "))


def _figures(evaluation: Evaluation, decisive: str | None) -> Iterator[tuple[str, str]]:
    cases = {record.case_id for record in evaluation.records}
    yield str(len(cases)), "case" if len(cases) == 1 else "cases"
    yield str(len(evaluation.summary.labels)), "label" if len(evaluation.summary.labels) == 1 else "labels"
    mean = evaluation.summary.over_labels.get(decisive or "")
    if decisive and mean and mean.mean is not None:
        of = f"mean {titled(decisive)}"
        yield f"{mean.mean:.3f}", of if mean.interval is None else f"{of}, 95 % {'–'.join(map(_three, mean.interval))}"
    for status in ("missed", "false_alarm"):
        n = sum(label.statuses.get(status, 0) for label in evaluation.summary.labels.values())
        if n:
            yield str(n), f"label{'s'[: n != 1]} missed" if status == "missed" else counted(n, "false alarm")[2:]
    if evaluation.failed:
        yield str(len(evaluation.failed)), "counted as missed"
    if len(evaluation.problems) > len(evaluation.failed):
        yield str(len(evaluation.problems) - len(evaluation.failed)), "not evaluated"


def _three(number: float) -> str:
    return f"{number:.3f}"


def _shown_cases(evaluation: Evaluation, masks: EvaluatedMasks, scores: Mapping[str, float]) -> Iterator[ShownCase]:
    """Yields the worst cases, and then the median one."""
    ranked = list(scores)
    why = dict(zip(ranked, WORST, strict=False))
    if ranked:
        why.setdefault(ranked[len(ranked) // 2], "median")
    pairs = {pair.case_id: pair for pair in masks.pairs}
    sources = sources_beside(masks.predictions)
    for case_id, reason in why.items():
        pair = pairs[case_id]
        image = image_of(pair, sources)
        slices, note = _pictures(pair, image, masks)
        files = {} if pair.prediction is None else {"prediction": pair.prediction.path}
        files |= {"reference": pair.reference.path}
        yield ShownCase(
            case_id,
            reason,
            scores[case_id],
            tuple(record for record in evaluation.records if record.case_id == case_id),
            slices,
            f"The prediction counts as empty: {pair.failure}" if pair.failure else note,
            files | ({} if image is None else {"image": image.path}),
            _in_slicer(case_id),
        )


def _in_slicer(case_id: str) -> str:
    """Returns the command that writes a case for 3D Slicer, in the folder of the report."""
    bundle = f"{case_id.replace('/', '_')}.mrb"
    return shlex.join(["medseg", "view", ".", "--case", case_id, "--slicer", bundle])


def _pictures(pair: CasePair, source: ImageSource | None, masks: EvaluatedMasks) -> tuple[tuple[ErrorSlice, ...], str]:
    """Returns pictures of a case, and what is wrong with its image."""
    try:
        prediction, reference = read_pair(pair, masks.grid_tolerance)
        image, note = image_on(reference, source)
        annotated = pair.reference.annotated
        label_maps = what_counts(prediction.label_map, reference.label_map, masks.labels, annotated)
        objects = objects_of_pair(pair, (prediction, reference), masks)
        outlined = outlined_objects(label_maps, objects, masks.labels)
        slices = error_slices(image, *label_maps, reference.geometry, masks.labels, outlined)
    except MedsegError as error:  # a report with one picture less is still a report
        return (), str(error)
    return slices, note
