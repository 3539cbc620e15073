"""The worst objects of an evaluation, each with a picture."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medseg.errors import MedsegError
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.images import image_of
from medseg.evaluation.objects import ComparedObject, around_object, worst_objects
from medseg.evaluation.predictions_json import sources_beside
from medseg.evaluation.reading import image_on, objects_of_pair, read_pair
from medseg.instances.object_map import ObjectMap
from medseg.instances.object_structures import coloured
from medseg.labels import IGNORED, Labels
from medseg.report.slices import ErrorSlice, Shown, error_slices
from medseg.volume import Array

MOST_SHOWN = 12


@dataclass(frozen=True)
class ShownObject:
    """An object with its picture; None where a file can be read no longer."""

    compared: ComparedObject
    picture: ErrorSlice | None


def shown_objects(evaluation: Evaluation) -> Iterator[ShownObject]:
    """Yields the worst objects with pictures: the object, and those of the other side that share a voxel with it.

    Their cases are read once more.
    """
    worst = worst_objects(list(evaluation.objects), MOST_SHOWN)
    masks, sources = evaluation.masks, sources_beside(evaluation.masks.predictions)
    of_case = {pair.case_id: pair for pair in masks.pairs}
    for case_id in dict.fromkeys(each.case_id for each in worst):
        pair = of_case[case_id]
        try:
            volumes = read_pair(pair, masks.grid_tolerance)
            objects = objects_of_pair(pair, volumes, masks)
            outlined = outlined_objects((volumes[0].label_map, volumes[1].label_map), objects, masks.labels)
            image, _ = image_on(volumes[1], image_of(pair, sources))
        except MedsegError:
            objects, outlined, image = (None, None), None, None
        for each in worst:
            if each.case_id != case_id:
                continue
            picture = None
            if outlined is not None and objects[0] is not None and objects[1] is not None:
                value = masks.labels.values[masks.labels.names.index(each.label)]
                around = around_object(each, objects[0], objects[1])
                shown = [(mask * array, items) for mask, (array, items) in zip(around, outlined, strict=True)]
                one, other = (mask * value for mask in around)
                grid = volumes[1].geometry
                picture = error_slices(image, one, other, grid, masks.labels, (shown[0], shown[1]))[0]
            yield ShownObject(each, picture)


def outlined_objects(
    label_maps: tuple[Array, Array], objects: tuple[ObjectMap | None, ObjectMap | None], labels: Labels
) -> tuple[Shown, Shown] | None:
    """Returns what ``error_slices`` outlines: each object in a colour that those beside it don't have.

    Args:
        label_maps: ``(x, y, z)`` of the prediction and the reference, in label values.
        objects: Of both; None: there are none.
        labels: With instance labels, where there are objects.
    """
    if objects[0] is None or objects[1] is None:
        return None
    network = [labels.encode(each, strict=False) for each in label_maps]
    one, other = (
        coloured(np.where(values == IGNORED, 0, values), labels, each)
        for values, each in zip(network, (objects[0], objects[1]), strict=True)
    )
    return one, other
