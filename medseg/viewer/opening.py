"""What a path stands for: an image, a folder of predictions, an evaluation, a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import fastremap
import numpy as np

from medseg.dataset.reading import label_volume
from medseg.errors import ConfigError, GeometryError, SourceError
from medseg.evaluation.images import image_of, source_at
from medseg.evaluation.mask_sources import mask_files
from medseg.evaluation.metrics_json import METRICS_FILE, read_metrics
from medseg.evaluation.pairs import CasePair, EvaluatedMasks
from medseg.evaluation.predictions_json import (
    OBJECTS,
    PREDICTIONS_FILE,
    labels_beside,
    read_predictions,
    sources_beside,
)
from medseg.evaluation.reading import objects_of_pair, read_pair
from medseg.evaluation.worst import worst_first
from medseg.instances.case_labels import with_classes
from medseg.instances.object_map import numbered
from medseg.io.discover import source_of
from medseg.io.read import read_segmentation, read_volume, segments_of
from medseg.io.source import SEGMENTATIONS, ImageSource
from medseg.labels import MOST_LABELS, Labels
from medseg.structures import COLOURS, Label
from medseg.viewer.colour_image import placed_as_seen
from medseg.viewer.scene import Layer, Role, Scene, ViewedCase
from medseg.volume import Volume

VALIDATION = "validation"  # in a run


def open_cases(source: Path, masks: Sequence[Path] = (), reference: Path | None = None) -> list[ViewedCase]:
    """Returns the cases to look at, the worst first where they were measured.

    Args:
        source: An evaluation (a folder with metrics.json), a run, a folder of predictions (with predictions.json), or
            an image.
        masks: What is laid over an image.
        reference: What is laid over an image as the reference.

    Raises:
        ConfigError: Masks are given, and the source is no image.
        SourceError: The source is none of these, or a mask is not there.
    """
    folder = source / VALIDATION if (source / VALIDATION / METRICS_FILE).is_file() else source
    names = {"evaluation": METRICS_FILE, "predictions": PREDICTIONS_FILE}
    kind = next((kind for kind, name in names.items() if (folder / name).is_file()), "image")
    if kind != "image" and (masks or reference):
        raise ConfigError(f"{source} says itself which masks belong to it; give it alone, or an image with its masks")
    if kind == "evaluation":
        return list(_evaluated(folder / METRICS_FILE))
    if kind == "predictions":
        return list(_predicted(folder))
    image = source_of(source)
    for path in (*masks, *([reference] if reference else [])):
        source_of(path)  # to say at once that there is none
    return [ViewedCase(source.name, partial(_scene, image, tuple(masks), reference))]


def _evaluated(path: Path) -> Iterator[ViewedCase]:
    metrics = read_metrics(path)
    masks, scores = metrics.reopened(), metrics.scores
    pairs = {pair.case_id: pair for pair in masks.pairs}
    ranked = [case_id for case_id in worst_first(metrics.records) if case_id in pairs]
    sources = sources_beside(masks.predictions)
    for case_id in dict.fromkeys([*ranked, *pairs]):
        load = partial(_evaluated_scene, pairs[case_id], masks, sources)
        yield ViewedCase(case_id, load, scores[case_id])


def _evaluated_scene(pair: CasePair, masks: EvaluatedMasks, sources: Mapping[str, Path]) -> Scene:
    read = read_pair(pair, masks.grid_tolerance)
    source = image_of(pair, sources)
    roles: tuple[Role, Role] = ("prediction", "reference")
    layers = tuple(
        Layer(role, role, each.label_map, each.geometry, masks.labels, objects)
        for role, each, objects in zip(roles, read, objects_of_pair(pair, read, masks), strict=True)
    )
    scene = _with_image(source, layers)
    notes = (f"the prediction counts as empty: {pair.failure}",) if pair.failure else ()
    return replace(scene, notes=(*scene.notes, *notes))


def _predicted(folder: Path) -> Iterator[ViewedCase]:
    predicted = read_predictions(folder)
    if predicted is None or not predicted.cases:
        raise SourceError(f"{folder / PREDICTIONS_FILE}: names no case")
    for case in predicted.cases:
        if case.masks:
            mask = next(iter(case.masks.values()))
            yield ViewedCase(case.case_id, partial(_predicted_scene, folder / mask, Path(case.source), case.case_id))


def _predicted_scene(mask: Path, source: Path, case_id: str) -> Scene:
    image = source_at(source)
    layer = _layer(mask, image, "prediction")
    beside = mask_files(mask.parent / OBJECTS).of_case if (mask.parent / OBJECTS).is_dir() else {}
    if layer.labels.instances and case_id in beside:
        (file,) = beside[case_id]
        numbers = label_volume(file)
        if numbers.geometry.difference(layer.geometry) is None:
            objects = with_classes(numbers.label_map, layer.label_map, layer.labels, file.path).objects
            layer = replace(layer, objects=objects)
    return _with_image(image, (layer,))


def _scene(image: ImageSource, masks: Sequence[Path], reference: Path | None) -> Scene:
    roles: list[tuple[Role, Path]] = [("prediction" if reference else "mask", path) for path in masks]
    roles += [("reference", reference)] if reference else []
    return _with_image(image, tuple(_layer(path, image, role) for role, path in roles))


def _with_image(source: ImageSource | None, layers: tuple[Layer, ...]) -> Scene:
    layers = tuple(replace(layer, geometry=placed_as_seen(layer.geometry)) for layer in layers)
    if source is None:
        return Scene(None, layers, None, ("the image was not found",))
    image = read_volume(source)
    return Scene(replace(image, geometry=placed_as_seen(image.geometry)), layers, source)


def _layer(path: Path, image: ImageSource | None, role: Role) -> Layer:
    """Reads a mask with the names and colours of its segments, or of predictions.json beside it."""
    source = source_of(path)
    name = path.name if role == "mask" else role
    if source.kind not in SEGMENTATIONS:
        volume = label_volume(source)
        if path.parent.name == OBJECTS or len(fastremap.unique(volume.label_map)) > MOST_LABELS + 1:
            return _objects(path, volume, role, name)
        labels = labels_beside(path) or Labels.from_values(int(value) for value in np.unique(volume.array))
        return Layer(role, name, volume.label_map, volume.geometry, labels)
    try:
        grid = None if image is None else read_volume(image).geometry
        segmentation = read_segmentation(source, grid, image)
    except GeometryError as error:
        raise GeometryError(f"{path} cannot be laid over {image.path if image else 'nothing'}: {error}") from error
    items = tuple(
        Label(name=each.name, value=each.number, colour=each.colour or COLOURS[(each.number - 1) % len(COLOURS)])
        for each in segments_of(source)
    )
    label_map = segmentation.label_map({label.name: label.value for label in items})
    return Layer(role, name, label_map, segmentation.geometry, Labels(items=items))


def _objects(path: Path, volume: Volume, role: Role, name: str) -> Layer:
    """Returns an object map as a layer, all of whose objects have one name."""
    objects = numbered(volume.label_map, path=path)
    labels = Labels.from_names({"object": 1}).with_instances(["object"])
    return Layer(role, name, (volume.label_map != 0).astype(np.uint8), volume.geometry, labels, objects)
