"""Objects of a prediction and a reference, one by one: which were found, missed, split, merged."""

from collections.abc import Iterator
from typing import Any, Literal

import fastremap
import numpy as np

from medseg.instances.object_map import ObjectMap
from medseg.labels import Labels
from medseg.metrics.object_scores import LEAST_IOU, ObjectScores
from medseg.records import Record
from medseg.volume import Array

Fate = Literal["matched", "missed", "split", "false_alarm", "merged"]

COLUMNS = ("case_id", "label", "fate", "reference", "prediction", "iou", "reference_voxels", "prediction_voxels")
WORST: tuple[Fate, ...] = ("merged", "split", "missed", "false_alarm", "matched")


class ComparedObject(Record):
    """An object of the reference with what was found of it, or one of the prediction that matches none.

    Attributes:
        case_id: The name of the case.
        label: The name of its label.
        fate: "matched" at an IoU of .5 or more; else "missed", or "split" into several predicted ones; and of predicted
            objects "false_alarm", or "merged" of several.
        reference: What the object of the reference is called on disk; None: there is none.
        prediction: What the predicted object is called; None: there is none.
        iou: Of the two; of one alone the highest with any other.
        reference_voxels: Of the object of the reference; 0: there is none.
        prediction_voxels: Of the predicted object; 0: there is none.
    """

    case_id: str
    label: str
    fate: Fate
    reference: str | None
    prediction: str | None
    iou: float
    reference_voxels: int
    prediction_voxels: int

    def as_row(self) -> dict[str, Any]:
        """Returns a row of objects.csv."""
        return self.model_dump() | {"iou": f"{self.iou:.4f}"}


def compare_objects(case_id: str, prediction: ObjectMap, reference: ObjectMap, labels: Labels) -> list[ComparedObject]:
    """Returns all objects of a case, label by label: those of the reference, then what else was predicted.

    Args:
        case_id: The name of the case.
        prediction: The objects that were predicted.
        reference: The objects that should be there, on the same grid.
        labels: With instance labels.
    """
    found: list[ComparedObject] = []
    for i in labels.instance_values:
        value, name = labels.values[i - 1], labels.names[i - 1]
        one, other = (each.only(each.classes == value) for each in (prediction, reference))
        found += _of_label(case_id, name, one, other)
    return found


def _of_label(case_id: str, label: str, prediction: ObjectMap, reference: ObjectMap) -> Iterator[ComparedObject]:
    scores = ObjectScores.of(prediction.array, reference.array)
    pairs, matches = scores.pairs, scores.pairs.matches(LEAST_IOU)
    partner = dict(zip(pairs.reference[matches].tolist(), matches.tolist(), strict=True))
    taken = set(pairs.predicted[matches].tolist())
    split, merged = set(scores.split_objects().tolist()), set(scores.merged_objects().tolist())
    best_of_reference = _best(pairs.reference, pairs.iou, len(reference))
    best_of_prediction = _best(pairs.predicted, pairs.iou, len(prediction))
    for number, name in enumerate(reference.names, start=1):
        pair = partner.get(number)
        other = None if pair is None else int(pairs.predicted[pair])
        alone: Fate = "split" if number in split else "missed"
        yield ComparedObject(
            case_id=case_id,
            label=label,
            fate=alone if other is None else "matched",
            reference=name,
            prediction=None if other is None else prediction.names[other - 1],
            iou=float(best_of_reference[number] if pair is None else pairs.iou[pair]),
            reference_voxels=int(pairs.reference_voxels[number]),
            prediction_voxels=0 if other is None else int(pairs.predicted_voxels[other]),
        )
    for number, name in enumerate(prediction.names, start=1):
        if number not in taken:
            yield ComparedObject(
                case_id=case_id,
                label=label,
                fate="merged" if number in merged else "false_alarm",
                reference=None,
                prediction=name,
                iou=float(best_of_prediction[number]),
                reference_voxels=0,
                prediction_voxels=int(pairs.predicted_voxels[number]),
            )


def _best(numbers: Array, iou: Array, n: int) -> Array:
    best = np.zeros(n + 1)
    np.maximum.at(best, numbers, iou)
    return best


def worst_objects(objects: list[ComparedObject], most: int) -> list[ComparedObject]:
    """Returns the worst objects: one of each fate in turn, the largest first, of the matched ones the lowest IoU."""
    queues = []
    for fate in WORST:
        of_fate = [each for each in objects if each.fate == fate]
        if fate == "matched":
            queues.append(sorted(of_fate, key=lambda each: each.iou))
        else:
            queues.append(sorted(of_fate, key=lambda each: -(each.reference_voxels + each.prediction_voxels)))
    worst: list[ComparedObject] = []
    while len(worst) < most and any(queues):
        worst += [queue.pop(0) for queue in queues if queue]
    return worst[:most]


def around_object(each: ComparedObject, prediction: ObjectMap, reference: ObjectMap) -> tuple[Array, Array]:
    """Returns masks ``(x, y, z)`` of an object and of those of the other side that share a voxel with it.

    They are in the order prediction, reference.
    """
    sides = {"reference": reference, "prediction": prediction}
    own = "prediction" if each.reference is None else "reference"
    name = each.prediction if each.reference is None else each.reference
    mask = sides[own].array == sides[own].names.index(name or "") + 1
    other = sides["reference" if own == "prediction" else "prediction"].array
    beside = fastremap.unique(other[mask])
    others = np.isin(other, beside[beside > 0])
    return (mask, others) if own == "prediction" else (others, mask)
