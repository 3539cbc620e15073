"""The metrics of one case, label by label, and what is said when a mask is empty."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.ndimage import find_objects

from medseg.evaluation.overlap import LabelMap, Overlap, count_overlaps
from medseg.evaluation.surface import hausdorff95_mm, surface_dice
from medseg.labels import Labels
from medseg.volume import Spacing3

Status = Literal["found", "missed", "false_alarm", "absent"]

EMPTY_MASKS = (
    "found: the label is in both masks. "
    "missed: in the reference only; dice, iou and surface_dice are 0, their worst value; hd95_mm has no "
    "worst value and is null. "
    "false_alarm: in the prediction only; scored as missed. "
    "absent: in neither; nothing can be measured, all metrics are null. "
    "Means and medians go over the values that are not null; n says how many these are. "
    "(After Maier-Hein et al., Metrics Reloaded, Nature Methods 2024.)"
)


class LabelMetrics(BaseModel):
    """What was measured for one label of one case. None: not defined, see ``EMPTY_MASKS``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    case_id: str
    label: str
    status: Status
    dice: float | None
    iou: float | None
    hd95_mm: float | None
    surface_dice: float | None
    prediction_ml: float
    reference_ml: float


def measure_case(
    case_id: str,
    prediction: LabelMap,
    reference: LabelMap,
    spacing: Spacing3,
    labels: Labels,
    *,
    tolerance_mm: float = 1.0,
) -> list[LabelMetrics]:
    """Compares two label maps ``(x, y, z)`` of network values (0, 1, 2, …: ``labels.encode``) on one grid.

    ``spacing`` is in mm per axis, ``tolerance_mm`` that of the surface Dice. One record a label, in the order
    of ``labels``. Raises ``ValueError`` when the shapes differ or a value is no label's.
    """
    overlaps = count_overlaps(prediction, reference, len(labels.items))
    boxes = _boxes(prediction, reference, len(labels.items))
    voxel_ml = float(np.prod(spacing)) / 1000
    records = []
    for value, (name, overlap, box) in enumerate(zip(labels.names, overlaps, boxes, strict=True), start=1):
        status = _status(overlap)
        masks = prediction[box] == value, reference[box] == value
        record = LabelMetrics(
            case_id=case_id,
            label=name,
            status=status,
            dice=overlap.dice,
            iou=overlap.iou,
            hd95_mm=hausdorff95_mm(*masks, spacing) if status == "found" else None,
            surface_dice=surface_dice(*masks, spacing, tolerance_mm) if status != "absent" else None,
            prediction_ml=overlap.prediction * voxel_ml,
            reference_ml=overlap.reference * voxel_ml,
        )
        records.append(record)
    return records


def _status(overlap: Overlap) -> Status:
    if overlap.prediction and overlap.reference:
        return "found"
    if overlap.reference:
        return "missed"
    return "false_alarm" if overlap.prediction else "absent"


def _boxes(prediction: LabelMap, reference: LabelMap, n_labels: int) -> list[tuple[slice, ...]]:
    """For each label a box that holds both its masks, so that large images cost no more than small ones.

    A margin of one voxel keeps a mask of one slice apart from an image of one slice, which is measured in 2D.
    """
    boxes = []
    for pair in zip(find_objects(prediction, n_labels), find_objects(reference, n_labels), strict=True):
        found = [box for box in pair if box is not None]
        axes = zip(*found, strict=True) if found else [[slice(1, 0)]] * 3
        ends = [(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes]
        boxes.append(
            tuple(slice(max(a - 1, 0), min(b + 1, n)) for (a, b), n in zip(ends, reference.shape, strict=True))
        )
    return boxes
