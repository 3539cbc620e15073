"""A volume is an array and the place of its voxels in the world.

Conventions, everywhere in medseg outside ``medseg.io``:

* arrays are ``(channel, x, y, z)``, label maps ``(x, y, z)``; ``x, y, z`` are *array axes*, in the order in which
  nibabel gives them, whatever direction they point to;
* an affine maps voxel indices to millimetres in RAS (the patient's right, anterior and superior are positive);
* spacing is in mm, in array-axis order.

A 2D image is a volume with one voxel along z.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from statistics import geometric_mean
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

# Arrays by what they hold. Types of NumPy know the kind of numbers, and no axes: these are in the names and comments
# here, in docstrings, and checked where files are read.
Array = npt.NDArray[Any]  # of any numbers, where a function takes them as they come
ImageArray = npt.NDArray[np.floating[Any] | np.integer[Any]]  # (channel, x, y, z): of a file, in its own numbers
ModelArray = npt.NDArray[np.float32]  # (channel, x, y, z): normalized, on the model grid
LogitArray = npt.NDArray[np.floating[Any]]  # (output, x, y, z)
ProbabilityArray = npt.NDArray[np.float32]  # (output, x, y, z), from 0 to 1
LabelMap = npt.NDArray[np.integer[Any]]  # (x, y, z): label values, or network values, which are uint8
MaskArray = npt.NDArray[np.bool_]  # (x, y, z)
Points = npt.NDArray[np.float64]  # (…, 3): voxel indices, or RAS mm
Affine = npt.NDArray[np.float64]  # (4, 4): voxel index to RAS mm

Shape3 = tuple[int, int, int]
Box = tuple[slice, slice, slice]  # voxels of the array axes (x, y, z), from a start to a stop
Spacing3 = tuple[float, float, float]

# Grids whose corners differ by less than this part of the smallest voxel edge are one grid: writers round
# headers to float32, and tools re-derive affines from quaternions; neither moves anatomy.
GRID_TOLERANCE = 0.05

# Axes further than this from a right angle (cosine) make a sheared grid, as a tilted gantry does.
SHEAR_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Geometry:
    """A voxel grid in the world.

    Attributes:
        shape: Voxels along the array axes ``(x, y, z)``.
        affine: ``(4, 4)``, from voxel indices to mm in RAS.

    Raises:
        ValueError: The affine is not 4×4, cannot be inverted, or the shape does not have three axes.

    Example:
        >>> import numpy as np
        >>> grid = Geometry((64, 64, 30), np.diag([-0.8, -0.8, 5.0, 1.0]))
        >>> grid.spacing, grid.orientation
        ((0.8, 0.8, 5.0), 'LPS')
        >>> grid.world((10, 0, 2)).tolist()
        [-8.0, 0.0, 10.0]
    """

    shape: Shape3
    affine: Affine

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or len(self.shape) != 3:
            raise ValueError(f"a geometry needs a 4x4 affine and 3 axes, not {affine.shape} and {self.shape}")
        if not abs(np.linalg.det(affine)) > 0:
            raise ValueError(f"the affine cannot be inverted: {affine.tolist()}")
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @cached_property
    def spacing(self) -> Spacing3:
        """Edge lengths of a voxel in mm, in array-axis order."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def orientation(self) -> str:
        """The direction of each array axis, as three letters: ``"RAS"``, ``"LPS"`` and so on."""
        return "".join(aff2axcodes(self.affine))

    @property
    def box(self) -> Box:
        """All voxels, as a box."""
        x, y, z = (slice(0, n) for n in self.shape)
        return x, y, z

    @property
    def voxel_volume_ml(self) -> float:
        """The volume of a voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def shear(self) -> float:
        """The largest cosine between two array axes: 0 for an orthogonal grid."""
        directions = self.affine[:3, :3] / np.asarray(self.spacing)
        cosines = np.abs(directions.T @ directions - np.eye(3))
        return float(cosines.max())

    def world(self, index: npt.ArrayLike) -> Points:
        """Returns the places of voxels in the world.

        Args:
            index: Voxel indices ``(..., 3)``; they need not be whole numbers.

        Returns:
            RAS mm ``(..., 3)``.
        """
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index(self, world: npt.ArrayLike) -> Points:
        """Returns the voxel indices of places in the world.

        Args:
            world: RAS mm ``(..., 3)``.

        Returns:
            Voxel indices ``(..., 3)``, not rounded.
        """
        inverse: Array = np.linalg.inv(self.affine)
        return np.asarray(world, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def difference(self, other: "Geometry", tolerance: float = GRID_TOLERANCE) -> str | None:
        """Returns why another grid is not this one, in words and numbers.

        Grids agree when they have the same shape and their corner voxels lie close together.

        Args:
            other: The grid to compare with.
            tolerance: How far corner voxels may lie apart, as a fraction of the smallest voxel edge.

        Returns:
            The reason, for a message; None when the grids agree.
        """
        if self.shape != other.shape:
            return f"shape {_times(self.shape)} against {_times(other.shape)}"
        distance = self.distance(other)
        if not distance <= tolerance * min(self.spacing):
            ours, theirs = _place(self), _place(other)
            how = f"{ours} against {theirs}" if ours != theirs else f"both {ours}, turned or moved"
            return f"corners lie up to {distance:.3g} mm apart ({how})"
        return None

    def distance(self, other: "Geometry") -> float:
        """Returns how far the corner voxels of two grids of one shape lie apart at most, in mm."""
        corners = np.array(list(product(*((0, n - 1) for n in self.shape))))
        return float(np.linalg.norm(self.world(corners) - other.world(corners), axis=1).max())

    def with_spacing(self, spacing: Spacing3) -> "Geometry":
        """Returns a grid with the same axes and first voxel, and other voxel sizes.

        Args:
            spacing: Edge lengths in mm, in array-axis order.
        """
        affine = self.affine.copy()
        affine[:3, :3] *= np.divide(spacing, self.spacing)
        return Geometry(self.shape, affine)

    def cropped(self, box: tuple[slice, ...]) -> "Geometry":
        """Returns the grid of the voxels in a box.

        Args:
            box: A slice for each axis, with a start and a stop inside of the grid.
        """
        affine = self.affine.copy()
        affine[:3, 3] = self.world([part.start for part in box])
        x, y, z = (part.stop - part.start for part in box)
        return Geometry((x, y, z), affine)

    def oriented_as(self, orientation: str) -> "Geometry":
        """Returns the same grid with its axes flipped and permuted.

        Args:
            orientation: Where the array axes are to point, such as ``"RAS"``.
        """
        change = ornt_transform(io_orientation(self.affine), axcodes2ornt(tuple(orientation)))
        x, y, z = np.array(self.shape)[np.argsort(change[:, 0])]
        return Geometry((x, y, z), self.affine @ inv_ornt_aff(change, self.shape))

    def as_json(self) -> dict[str, Any]:
        """Returns the grid as it is written into JSON files; spacing and orientation are for readers."""
        return {
            "shape": list(self.shape),
            "spacing": [round(s, 6) for s in self.spacing],
            "orientation": self.orientation,
            "affine": self.affine.tolist(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Geometry":
        """Returns the grid that ``as_json`` wrote."""
        return cls(tuple(content["shape"]), np.asarray(content["affine"]))


@dataclass(frozen=True)
class Volume:
    """Voxels and their place in the world.

    Attributes:
        array: ``(channel, x, y, z)``; values are exactly those of the source, in its type.
        geometry: The grid of the voxels.

    Raises:
        ValueError: The array has another shape than ``(channel, *geometry.shape)``.
    """

    array: ImageArray
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.geometry.shape:
            raise ValueError(f"array {self.array.shape} is not (channel, x, y, z) on grid {self.geometry.shape}")

    @property
    def label_map(self) -> LabelMap:
        """The only channel, as a label map ``(x, y, z)``.

        Raises:
            ValueError: There are several channels.
        """
        if self.array.shape[0] != 1:
            raise ValueError(f"a label map has one channel, not {self.array.shape[0]}")
        return cast(LabelMap, self.array[0])

    def cropped(self, box: tuple[slice, ...]) -> "Volume":
        """Returns the voxels in a box: a view, on the grid of these voxels.

        Args:
            box: A slice for each spatial axis, with a start and a stop inside of the grid.
        """
        return Volume(self.array[:, box[0], box[1], box[2]], self.geometry.cropped(box))

    def oriented_as(self, orientation: str) -> "Volume":
        """Returns the same voxels with their axes flipped and permuted; nothing is interpolated.

        Args:
            orientation: Where the array axes are to point, such as ``"RAS"``.
        """
        change = ornt_transform(io_orientation(self.geometry.affine), axcodes2ornt(tuple(orientation)))
        array = np.stack([apply_orientation(channel, change) for channel in self.array])
        return Volume(array, self.geometry.oriented_as(orientation))


def box_of(mask: Array, margins: Sequence[int] = (0, 0, 0)) -> Box | None:
    """Returns the smallest box that holds a mask, inside of its array; None where the mask is empty.

    Args:
        mask: ``(x, y, z)``: all that is not 0.
        margins: Voxels around it on either side, along each axis.

    Examples:
        >>> box_of(np.pad([[[True]], [[True]]], ((1, 1), (2, 2), (5, 0))), (0, 1, 1))
        (slice(1, 3, None), slice(1, 4, None), slice(4, 6, None))
    """
    box = []
    for axis, (n, margin) in enumerate(zip(mask.shape, margins, strict=True)):
        inside = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not len(inside):
            return None
        box.append(slice(max(0, int(inside[0]) - margin), min(n, int(inside[-1]) + 1 + margin)))
    return box[0], box[1], box[2]


def mean_edge(spacing: Sequence[float], shape: Sequence[int]) -> float:
    """Returns the geometric mean of the edges of a voxel in mm; axes of one voxel, as those of slices, don't count.

    Args:
        spacing: Of each axis, in mm.
        shape: Voxels along each.

    Examples:
        >>> mean_edge((1.0, 4.0, 5.0), (64, 64, 1))
        2.0
    """
    return geometric_mean([mm for mm, n in zip(spacing, shape, strict=True) if n > 1] or [1.0])


def _times(shape: Shape3) -> str:
    return "×".join(str(n) for n in shape)


def _place(geometry: Geometry) -> str:
    return f"spacing {'×'.join(f'{s:.4g}' for s in geometry.spacing)} mm {geometry.orientation}"
