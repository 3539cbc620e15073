"""The worst objects of an evaluation, each with a picture."""

from collections.abc import Iterator
from dataclasses import dataclass

from medseg.errors import MedsegError
from medseg.evaluation.evaluation import Evaluation
from medseg.evaluation.images import image_of
from medseg.evaluation.objects import ComparedObject, around_object, worst_objects
from medseg.evaluation.predictions_json import sources_beside
from medseg.evaluation.reading import image_on, read_objects, read_pair
from medseg.report.slices import ErrorSlice, error_slices

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
            sides = zip((pair.prediction, pair.reference), volumes, strict=True)
            objects = [
                read_objects(mask, read, pair, masks.labels, masks.grid_tolerance).objects for mask, read in sides
            ]
            image, _ = image_on(volumes[1], image_of(pair, sources))
        except MedsegError:
            objects, image = [], None
        for each in worst:
            if each.case_id != case_id:
                continue
            picture = None
            if len(objects) == 2 and objects[0] is not None and objects[1] is not None:
                value = masks.labels.values[masks.labels.names.index(each.label)]
                maps = [mask * value for mask in around_object(each, objects[0], objects[1])]
                picture = error_slices(image, maps[0], maps[1], volumes[1].geometry, masks.labels)[0]
            yield ShownObject(each, picture)
