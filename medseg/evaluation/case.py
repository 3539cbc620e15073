"""The metrics of one case, structure by structure: each label that stands alone, and each region."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.ndimage import find_objects

from medseg.errors import LabelError
from medseg.labels import Labels
from medseg.metrics.centreline import centreline_dice
from medseg.metrics.definitions import DEFAULT, GROUPS, METRICS, Group, chosen
from medseg.metrics.lesions import LEAST_IOU, match_lesions
from medseg.metrics.object_scores import ObjectScores
from medseg.metrics.objects import USUAL_IOUS
from medseg.metrics.overlap import LabelMap, Overlap, count_overlaps, mask_of, without_ignored
from medseg.metrics.rand import rand_scores
from medseg.metrics.surface import surface_dice, surface_distances
from medseg.volume import Array, Spacing3

Mask = npt.NDArray[np.bool_]
Status = Literal["found", "missed", "false_alarm", "absent"]
Values = dict[str, float | None]
Failed = Literal["missed", "left-out"]

# Surfaces this close are the same, where nothing else is said.
TOLERANCE_MM = 1.0


class LabelMetrics(BaseModel):
    """What was measured for one label or region of one case.

    ``values`` by the names of ``METRICS``; None: not defined (``EMPTY_MASKS``; both in medseg/metrics/definitions.py).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    case_id: str
    label: str
    status: Status
    values: Values

    def as_row(self) -> dict[str, Any]:
        """Returns a row of metrics.csv."""
        return {"case_id": self.case_id, "label": self.label, "status": self.status, **self.values}


class Measures(NamedTuple):
    """What to measure.

    Attributes:
        metrics: Names of metrics.
        tolerance_mm: Of the surface Dice: one for all labels, or by label with ``*`` for all others.
        lesion_iou: Lesions match when their IoU is above this.
        failed: What a case counts as whose prediction cannot be used.
        annotated: The labels that were annotated in the case, which alone are measured; None: all.
        objects: The object maps of its prediction and its reference, ``(x, y, z)``, of all labels; None: objects are
            connected components.
    """

    metrics: tuple[str, ...] = tuple(chosen(DEFAULT))
    tolerance_mm: float | Mapping[str, float] = TOLERANCE_MM
    lesion_iou: float = LEAST_IOU
    failed: Failed = "missed"
    annotated: tuple[str, ...] | None = None
    objects: tuple[Array, ...] | None = None

    def tolerance_of(self, label: str) -> float:
        """Returns the tolerance of the surface Dice for a label, in mm."""
        by_label = self.tolerance_mm
        if isinstance(by_label, Mapping):
            return by_label.get(label, by_label.get("*", TOLERANCE_MM))
        return by_label

    def check_labels(self, labels: Labels) -> None:
        """Raises ``LabelError`` for a tolerance of a label that there is not."""
        tolerances = self.tolerance_mm
        unknown = set(tolerances) - {"*", *labels.unions} if isinstance(tolerances, Mapping) else set()
        if unknown:
            raise LabelError(f"a tolerance is given for '{min(unknown)}', which is none of {', '.join(labels.unions)}")


class MaskPair(NamedTuple):
    """The two masks ``(x, y, z)`` of one label or region, in a box around them.

    It has what the metrics of a group need beside.
    """

    prediction: Mask
    reference: Mask
    spacing: Spacing3
    overlap: Overlap
    tolerance_mm: float
    lesion_iou: float
    objects: tuple[Array, ...]  # of its prediction and its reference; masks where none are told apart


def measure_case(
    case_id: str,
    prediction: LabelMap,
    reference: LabelMap,
    spacing: Spacing3,
    labels: Labels,
    measures: Measures = Measures(),  # noqa: B008
) -> list[LabelMetrics]:
    """Returns the metrics of each structure of one case: each label that stands alone, and each region.

    Args:
        case_id: The name of the case.
        prediction: Label map ``(x, y, z)`` of network values (0, 1, 2, …: ``Labels.encode``).
        reference: Label map of the same shape; voxels that it ignores are background in both.
        spacing: Edges of a voxel in mm, in array-axis order.
        labels: Names of the values.
        measures: What to measure.

    Returns:
        A record a structure that was annotated, in the order of ``labels.structures``.

    Raises:
        ValueError: When the shapes differ, or a value is no label's.
    """
    prediction, reference = without_ignored(prediction, reference)
    unions = labels.annotated_unions(measures.annotated)
    overlaps = count_overlaps(prediction, reference, len(labels.items), unions.values())
    boxes = _boxes(prediction, reference, len(labels.items))
    groups = [group for group in GROUPS if any(METRICS[name].group == group for name in measures.metrics)]
    records = []
    for (name, values), overlap in zip(unions.items(), overlaps, strict=True):
        box = _around([boxes[value - 1] for value in values], reference.shape)
        masks = mask_of(prediction[box], values), mask_of(reference[box], values)
        objects: tuple[Array, ...] = masks
        if measures.objects is not None and name in labels.instances:
            objects = tuple(np.where(mask, each[box], 0) for mask, each in zip(masks, measures.objects, strict=True))
        pair = MaskPair(*masks, spacing, overlap, measures.tolerance_of(name), measures.lesion_iou, objects)
        measured: Values = {}
        for group in groups:
            measured |= OF_GROUP[group](pair)
        wanted = {metric: measured[metric] for metric in measures.metrics}
        records.append(LabelMetrics(case_id=case_id, label=name, status=_status(overlap), values=wanted))
    return records


def _overlap(pair: MaskPair) -> Values:
    overlap = pair.overlap
    voxel_ml = float(np.prod(pair.spacing)) / 1000
    return {
        "dice": overlap.dice,
        "iou": overlap.iou,
        "sensitivity": overlap.sensitivity,
        "precision": overlap.precision,
        "prediction_ml": overlap.prediction * voxel_ml,
        "reference_ml": overlap.reference * voxel_ml,
        "volume_error_ml": (overlap.prediction - overlap.reference) * voxel_ml,
    }


def _surface(pair: MaskPair) -> Values:
    masks = pair.prediction, pair.reference, pair.spacing
    distances = surface_distances(*masks)
    return {
        "hd_mm": None if distances is None else distances.hd_mm,
        "hd95_mm": None if distances is None else distances.hd95_mm,
        "assd_mm": None if distances is None else distances.assd_mm,
        "surface_dice": surface_dice(*masks, pair.tolerance_mm),
    }


def _lesions(pair: MaskPair) -> Values:
    lesions = match_lesions(pair.prediction, pair.reference, pair.lesion_iou)
    return {
        "lesion_sensitivity": lesions.sensitivity,
        "lesion_precision": lesions.precision,
        "lesion_f1": lesions.f1,
        "lesion_dice": lesions.dice,
        "panoptic_quality": lesions.panoptic_quality,
        "prediction_lesions": lesions.prediction,
        "reference_lesions": lesions.reference,
    }


def _objects(pair: MaskPair) -> Values:
    maps = [cc3d.connected_components(each) if each.dtype == bool else each for each in pair.objects]
    scores = ObjectScores.of(*maps)
    return {
        "object_f1": scores.f1,
        "object_quality": scores.segmentation_quality,
        "object_panoptic_quality": scores.panoptic_quality,
        "object_jaccard": scores.aggregated_jaccard,
        "object_ap": scores.mean_precision,
        **{f"object_ap_{100 * iou:.0f}": scores.average_precision(iou) for iou in USUAL_IOUS},
        "object_sensitivity": scores.sensitivity,
        "object_precision": scores.precision,
        "prediction_objects": scores.n_predicted,
        "reference_objects": scores.n_reference,
        "object_count_error": scores.n_predicted - scores.n_reference,
        "object_splits": scores.splits,
        "object_merges": scores.merges,
    }


def _centreline(pair: MaskPair) -> Values:
    return {"centreline_dice": centreline_dice(pair.prediction, pair.reference)}


def _rand(pair: MaskPair) -> Values:
    flat = next((axis for axis, n in enumerate(pair.reference.shape) if n == 1), None)
    scores = None if flat is None else rand_scores(pair.prediction.squeeze(flat), pair.reference.squeeze(flat))
    return {"rand_score": None, "information_score": None} if scores is None else dict(scores._asdict())


OF_GROUP: dict[Group, Callable[[MaskPair], Values]] = {
    "overlap": _overlap,
    "surface": _surface,
    "lesions": _lesions,
    "objects": _objects,
    "centreline": _centreline,
    "rand": _rand,
}


def _status(overlap: Overlap) -> Status:
    if overlap.prediction and overlap.reference:
        return "found"
    if overlap.reference:
        return "missed"
    return "false_alarm" if overlap.prediction else "absent"


def _boxes(prediction: LabelMap, reference: LabelMap, n_labels: int) -> list[list[tuple[slice, ...]]]:
    """Returns for each label the boxes of its masks, so that large images cost no more than small ones."""
    pairs = zip(find_objects(prediction, n_labels), find_objects(reference, n_labels), strict=True)
    return [[box for box in pair if box is not None] for pair in pairs]


def _around(boxes: Sequence[Sequence[tuple[slice, ...]]], shape: Sequence[int]) -> tuple[slice, ...]:
    """Returns the box around those of all labels of a structure.

    A margin of one voxel keeps a mask of one slice apart from an image of one slice, which is measured in 2D.
    """
    found = [box for of_label in boxes for box in of_label]
    axes = zip(*found, strict=True) if found else [[slice(1, 0)]] * 3
    ends = [(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes]
    return tuple(slice(max(a - 1, 0), min(b + 1, n)) for (a, b), n in zip(ends, shape, strict=True))
