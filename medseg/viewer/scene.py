"""What is shown of a case: its image and the masks laid over it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from medseg.instances.object_map import ObjectMap, objects_on
from medseg.instances.object_structures import coloured
from medseg.io.source import ImageSource
from medseg.labels import IGNORED, Labels
from medseg.pictures.display import fullest_slice
from medseg.structures import Label
from medseg.transforms.grids import label_map_on_grid
from medseg.viewer.colour_image import is_colour_image
from medseg.volume import Array, Geometry, Volume

Role = Literal["prediction", "reference", "mask"]

AXES = "RAS"  # of what is shown in the browser

# Values of an error map.
MISSED, WRONG = 1, 2


@dataclass(frozen=True)
class Layer:
    """A mask that is laid over an image.

    Attributes:
        role: What it is of the case.
        name: As it is listed.
        label_map: ``(x, y, z)``, in the values of ``labels``.
        geometry: Its grid, in RAS mm.
        labels: Names, values and colours.
        objects: Of the labels whose objects are told apart; None: there are none.
    """

    role: Role
    name: str
    label_map: Array
    geometry: Geometry
    labels: Labels
    objects: ObjectMap | None = None

    @cached_property
    def encoded(self) -> Array:
        """The label map in network values: 1 for the first label.

        What is ignored, and what is no label's, is background.

        Raises:
            LabelError: Values are no whole numbers.
        """
        encoded = self.labels.encode(self.label_map, strict=False)
        encoded[encoded == IGNORED] = 0
        return encoded

    @cached_property
    def shown(self) -> tuple[Array, tuple[Label, ...]]:
        """What the page shows ``(x, y, z)``, uint8, and what its values are: labels, or objects by their colours.

        Raises:
            LabelError: Values are no whole numbers.
        """
        if self.objects is None:
            return self.encoded, self.labels.items
        return coloured(self.encoded, self.labels, self.objects)


@dataclass(frozen=True)
class Scene:
    """What is shown of a case.

    Attributes:
        image: None where it was not found.
        layers: The masks.
        source: Where the image was read from.
        notes: For who looks at it.
    """

    image: Volume | None
    layers: tuple[Layer, ...]
    source: ImageSource | None = None
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> Geometry:
        """The grid of the image; without one, that of the first mask."""
        return self.image.geometry if self.image else self.layers[0].geometry

    def of(self, role: Role) -> Layer | None:
        """Returns the first mask of a role; None where there is none."""
        return next((layer for layer in self.layers if layer.role == role), None)

    @cached_property
    def errors(self) -> Array | None:
        """The ``MISSED`` and ``WRONG`` voxels ``(x, y, z)`` of the prediction, on its grid; None without a reference on
        it."""
        prediction, reference = self.of("prediction"), self.of("reference")
        if prediction is None or reference is None or prediction.geometry.difference(reference.geometry):
            return None
        predicted, referred = _comparable(prediction, reference)
        errors = np.zeros(predicted.shape, np.uint8)
        errors[(predicted != referred) & (predicted != 0)] = WRONG
        errors[(predicted == 0) & (referred != 0)] = MISSED
        if reference.labels.ignore is not None:
            errors[reference.label_map == reference.labels.ignore] = 0
        return errors

    def start(self) -> list[float]:
        """Returns where to look first, in RAS mm.

        It is amid the slice with most errors, else amid that with most of a mask, else the centre.
        """
        errors = self.errors
        masks = [] if errors is None else [(errors, self.layers[0].geometry)]
        masks += [(layer.label_map, layer.geometry) for layer in self.layers]
        for mask, grid in masks:
            if mask.any():
                return _amid(mask, grid)
        centre: list[float] = self.grid.world([(n - 1) / 2 for n in self.grid.shape]).tolist()
        return centre


@dataclass(frozen=True)
class ViewedCase:
    """A case that can be looked at.

    Attributes:
        case_id: Its name.
        load: Reads it, and raises what reading raises.
        scores: Metrics by label, where they were measured.
    """

    case_id: str
    load: Callable[[], Scene]
    scores: Mapping[str, Mapping[str, float | str | None]] = field(default_factory=dict)


def _comparable(one: Layer, other: Layer) -> tuple[Array, Array]:
    """Returns network values of both; where the two have other labels, foreground alone."""
    if one.labels.names == other.labels.names:
        return one.encoded, other.encoded
    return (one.label_map != 0).astype(np.uint8), (other.label_map != 0).astype(np.uint8)


def _amid(mask: Array, grid: Geometry) -> list[float]:
    """Returns the voxel of the mask next to its centre in the fullest slice across the coarsest axis."""
    axis = int(np.argmax(grid.spacing))
    at = fullest_slice(mask, axis)
    voxels = np.argwhere(mask.take([at], axis))
    nearest = voxels[np.linalg.norm((voxels - voxels.mean(axis=0)) * grid.spacing, axis=1).argmin()]
    nearest[axis] = at
    world: list[float] = grid.world(nearest).tolist()
    return world


def aligned(scene: Scene) -> Scene:
    """Returns the scene on one grid with axes in RAS, as the page in the browser needs it.

    Masks go onto the grid of the image, or of the first mask: exactly where only axes are flipped or permuted, else by
    the nearest neighbour, with a note.
    """
    grid = scene.grid.oriented_as(AXES)
    image = None if scene.image is None else scene.image.oriented_as(AXES)
    layers, notes = [], list(scene.notes)
    if image is not None and len(image.array) > 1 and not is_colour_image(image.array):
        notes.append(f"the first of {len(image.array)} channels is shown")
    for layer in scene.layers:
        moved, difference = _on_grid(layer, grid)
        layers.append(moved)
        if difference:
            notes.append(_moved(layer, moved, difference))
    return replace(scene, image=image, layers=tuple(layers), notes=tuple(notes))


def _moved(layer: Layer, moved: Layer, difference: str) -> str:
    if layer.label_map.any() and not moved.label_map.any():
        return f"{layer.name} lies outside of the image ({difference}): was it drawn on another one?"
    return f"{layer.name} lies on another grid ({difference}) and is shown resampled"


def _on_grid(layer: Layer, grid: Geometry) -> tuple[Layer, str | None]:
    oriented = Volume(layer.label_map[None], layer.geometry).oriented_as(AXES)
    difference = oriented.geometry.difference(grid)
    array = oriented.label_map if difference is None else label_map_on_grid(layer.label_map, layer.geometry, grid)
    objects = layer.objects
    if objects is not None:
        numbers = Volume(objects.array[None], layer.geometry).oriented_as(AXES).label_map
        if difference is not None:
            numbers = objects_on(objects.array, layer.geometry, grid)
        objects = replace(objects, array=np.ascontiguousarray(numbers))
    return replace(layer, label_map=np.ascontiguousarray(array), geometry=grid, objects=objects), difference
