"""What of a label map is too small for the model grid: labels, and components of labels, of which no voxel is left."""

from dataclasses import dataclass

import cc3d
import numpy as np

from medseg.labels import IGNORED
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry, Spacing3, Volume

EDGE = 1e-3  # part of a voxel, for rounding


@dataclass(frozen=True)
class LostComponents:
    """What of one label is lost on the model grid.

    Attributes:
        label: Its network value.
        components: How many it has in the source.
        lost: How many of these have no voxel on the model grid.
        voxels: How many voxels of the source the lost ones have.
        cropped: Whether all lost ones lie outside of the model grid, where the image is zero.
    """

    label: int
    components: int
    lost: int
    voxels: int
    cropped: bool

    @property
    def entirely(self) -> bool:
        """Whether every component of the label is lost."""
        return self.lost == self.components


def find_lost_components(
    label_map: Array, source: Geometry, on_model_grid: Array, model_grid: Geometry, orientation: str
) -> list[LostComponents]:
    """Returns which labels lose components on the model grid, where these are too small for its voxels.

    Components are of voxels that touch at a face, an edge or a corner. Nothing is looked for in a sheared volume: its
    grid and the model grid have no axes in common.

    Args:
        label_map: (x, y, z) on ``source``, network values.
        source: The grid of the source.
        on_model_grid: The same labels (x, y, z) on ``model_grid``.
        model_grid: The grid that the network sees.
        orientation: Of ``model_grid``, such as "RAS".
    """
    if source.shear > SHEAR_TOLERANCE:
        return []
    before = Volume(label_map[None], source).oriented_as(orientation)
    same_voxels = np.allclose(before.geometry.spacing, model_grid.spacing, rtol=1e-3)
    if same_voxels and np.array_equal(_counts(label_map), _counts(on_model_grid)):
        return []
    drawn = np.where(before.label_map == IGNORED, 0, before.label_map)
    components, n = cc3d.connected_components(np.ascontiguousarray(drawn), connectivity=26, return_N=True)
    # For each voxel of the source the nearest one of the model grid, and whether it lies inside of that.
    to_model = np.linalg.inv(model_grid.affine) @ before.geometry.affine
    places = [np.arange(n) * to_model[axis, axis] + to_model[axis, 3] for axis, n in enumerate(drawn.shape)]
    nearest = [np.rint(place).astype(int).clip(0, n - 1) for place, n in zip(places, on_model_grid.shape, strict=True)]
    x, y, z = (
        (place > -0.5 - EDGE) & (place < n - 0.5 + EDGE) for place, n in zip(places, on_model_grid.shape, strict=True)
    )
    within = x[:, None, None] & y[:, None] & z
    kept = within & (on_model_grid[np.ix_(*nearest)] == drawn)
    left, reached = (np.bincount(components[voxels], minlength=n + 1) > 0 for voxels in (kept, within))
    return _by_label(components, drawn, left, reached)


def _by_label(components: Array, drawn: Array, left: Array, reached: Array) -> list[LostComponents]:
    """Returns what is lost of each label, from ``left`` and ``reached`` of each component.

    They say whether a voxel of the component is left, and whether one lies in the model grid.
    """
    label_of = np.zeros(len(left), drawn.dtype)
    label_of[components] = drawn
    sizes = np.bincount(components.ravel(), minlength=len(left))
    lost = ~left & (label_of > 0)
    return [
        LostComponents(
            label=int(label),
            components=int(np.count_nonzero(label_of == label)),
            lost=int(np.count_nonzero(lost & (label_of == label))),
            voxels=int(sizes[lost & (label_of == label)].sum()),
            cropped=not reached[lost & (label_of == label)].any(),
        )
        for label in np.unique(label_of[lost])
    ]


def spacing_to_keep(source: Geometry, orientation: str) -> Spacing3:
    """Returns the spacing (mm) of the model grid with which no component is lost.

    It is that of the source, so that nothing is resampled.
    """
    x, y, z = (round(float(spacing), 6) for spacing in source.oriented_as(orientation).spacing)
    return x, y, z


def _counts(label_map: Array) -> Array:
    """Returns the number of voxels of each label, without the background."""
    counts: Array = np.bincount(label_map.ravel(order="K"), minlength=IGNORED + 1)[1:]
    return counts
