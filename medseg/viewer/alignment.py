"""Everything of a case on one grid with axes in RAS, as the page in the browser needs it."""

from dataclasses import replace

import numpy as np

from medseg.transforms.grids import label_map_on_grid
from medseg.viewer.picture import is_picture
from medseg.viewer.scene import Layer, Scene
from medseg.volume import Geometry, Volume

AXES = "RAS"


def aligned(scene: Scene) -> Scene:
    """The masks on the grid of the image, or of the first mask: exact where only axes are flipped or permuted, else by
    nearest neighbour, with a note."""
    grid = scene.grid.oriented_as(AXES)
    image = None if scene.image is None else scene.image.oriented_as(AXES)
    layers, notes = [], list(scene.notes)
    if image is not None and len(image.array) > 1 and not is_picture(image.array):
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
    return replace(layer, label_map=np.ascontiguousarray(array), geometry=grid), difference
