"""Rotation, scaling and mirroring of whole batches: image and label move together."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch.nn import functional

from medseg.transforms.augmentation.batch import MODES, BatchData, BatchTransform, Reals, probability, to_device_of

Plane = tuple[int, int]


class RandAffineBatch(BatchTransform):
    """Rotates and scales about the patch centre, in millimetres, with one resampling for both.

    The image is interpolated linearly, the label takes the nearest voxel (so no new label can appear); both
    are zero outside the patch. All axes scale by one factor, rotations are about every axis, as in nnU-Net
    (Isensee et al., Nature Methods 18, 203 (2021), supplementary note 4).

    Examples:
        >>> import torch
        >>> from medseg.transforms import RandAffineBatch
        >>> batch = {"image": torch.rand(2, 1, 8, 8, 8), "label": torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)}
        >>> RandAffineBatch(spacing=(3.0, 1.0, 1.0), rotation_prob=1.0)(batch)["image"].shape
        torch.Size([2, 1, 8, 8, 8])
    """

    def __init__(
        self,
        spacing: Sequence[float],
        *,
        rotation_prob: float = 0.2,
        rotation_degrees: float = 30.0,
        scaling_prob: float = 0.2,
        scaling_range: tuple[float, float] = (0.7, 1.4),
        fixed_axis: int | None = None,
    ) -> None:
        """Takes how much to rotate and scale.

        Args:
            spacing: mm, one number a spatial axis.
            rotation_prob: Of a sample to be rotated, about all axes.
            rotation_degrees: The limit to both sides. (MONAI's ``rotate_range`` is in radians.)
            scaling_prob: Of a sample to be scaled.
            scaling_range: Of the factor; 1.4 makes structures 1.4 times as large. (MONAI's ``scale_range`` has what is
                added to 1.)
            fixed_axis: The spatial axis along which nothing moves, as across thick slices; None: none.
        """
        self.spacing = np.asarray(spacing, dtype=np.float64)
        self.rotation_prob = probability(rotation_prob, "rotation_prob")
        self.rotation_limit = np.deg2rad(rotation_degrees)
        self.scaling_prob = probability(scaling_prob, "scaling_prob")
        self.scaling_range = scaling_range
        self.moving_axes = [axis for axis in range(len(spacing)) if axis != fixed_axis]
        self.planes = list(combinations(self.moving_axes, 2))

    def randomize(self, n_samples: int) -> None:
        """Draws ``angles``, ``(sample, plane)`` in radians, and ``factors``, ``(sample,)``; 0 and 1 where nothing is
        drawn."""
        rotated = self.R.random_sample(n_samples) < self.rotation_prob
        scaled = self.R.random_sample(n_samples) < self.scaling_prob
        limit = self.rotation_limit
        angles = self.R.uniform(-limit, limit, (n_samples, len(self.planes)))
        self.angles = np.where(rotated[:, None], angles, 0.0)
        self.factors = np.where(scaled, self.R.uniform(*self.scaling_range, n_samples), 1.0)
        self.chosen = np.flatnonzero(rotated | scaled)

    def __call__(self, data: BatchData) -> BatchData:
        """Returns the batch with the chosen samples rotated and scaled.

        Raises:
            ValueError: The spacing is of another number of axes than the image.
        """
        image = data["image"]
        if image.ndim != len(self.spacing) + 2:
            raise ValueError(f"an image of shape {tuple(image.shape)} with a spacing of {len(self.spacing)} axes")
        self.randomize(self.drawn_for(data))
        own = self.own(data)
        self.chosen = self.chosen[(self.chosen >= own.start) & (self.chosen < own.stop)]
        if not len(self.chosen):
            return dict(data)
        index = to_device_of(image, self.chosen - own.start)
        grid = sampling_grid(self.matrices(), self.spacing, image)
        moved = {
            key: data[key].index_copy(0, index, _resampled(data[key].index_select(0, index), grid, mode))
            for key, mode in MODES.items()
            if key in data
        }
        return {**data, **moved}

    def matrices(self) -> Reals:
        """Returns for each chosen sample the matrix from an output to the input position (mm from the centre)."""
        dims = len(self.spacing)
        factors = np.ones((len(self.chosen), dims))
        factors[:, self.moving_axes] = self.factors[self.chosen, None]
        rotation = rotations(self.angles[self.chosen], self.planes, dims)
        # Backwards, so the inverse of "scale, then rotate": the transposed rotation, its rows divided.
        inverse: Reals = rotation.transpose(0, 2, 1) / factors[:, :, None]
        return inverse


class RandFlipBatch(BatchTransform):
    """Mirrors each sample along each of some spatial axes.

    Args:
        axes: The spatial axes, from 0. Each is drawn by itself, where MONAI's ``RandFlipd`` mirrors along all axes of
            its ``spatial_axis`` or none.
        prob: Of a sample to be mirrored along an axis.

    Examples:
        >>> import torch
        >>> batch = {"image": torch.arange(3.0).view(1, 1, 3, 1), "label": torch.zeros(1, 1, 3, 1)}
        >>> RandFlipBatch(axes=[0], prob=1.0)(batch)["image"].flatten().tolist()
        [2.0, 1.0, 0.0]
    """

    def __init__(self, axes: Sequence[int], prob: float = 0.5) -> None:
        self.axes = tuple(axes)
        self.prob = probability(prob, "prob")

    def randomize(self, n_samples: int) -> None:
        """Draws ``flipped``, ``(sample, axis)``: along which axes a sample is mirrored."""
        self.flipped = self.R.random_sample((n_samples, len(self.axes))) < self.prob

    def __call__(self, data: BatchData) -> BatchData:
        """Returns the batch with the chosen samples mirrored."""
        image = data["image"]
        changed = {key: data[key].clone() for key in MODES if key in data}
        self.randomize(self.drawn_for(data))
        self.flipped = self.flipped[self.own(data)]
        # Samples with the same axes go together: at most seven groups in 3D, each copied once.
        for pattern in {tuple(row) for row in self.flipped.tolist() if any(row)}:
            index = to_device_of(image, np.flatnonzero((self.flipped == pattern).all(axis=1)))
            dims = [axis + 2 for axis, flip in zip(self.axes, pattern, strict=True) if flip]
            for key, result in changed.items():
                result.index_copy_(0, index, data[key].index_select(0, index).flip(dims))
        return {**data, **changed}


def rotations(angles: Reals, planes: Sequence[Plane], dims: int) -> Reals:
    """Returns rotation matrices, ``(sample, dims, dims)``: a turn in each of the planes, one after the other.

    Args:
        angles: Radians, ``(sample, plane)``.
        planes: The two axes of each plane.
        dims: Spatial axes, 2 or 3.
    """
    total = np.tile(np.eye(dims), (len(angles), 1, 1))
    for (first, second), angle in zip(planes, angles.T, strict=True):
        turn = np.tile(np.eye(dims), (len(angles), 1, 1))
        turn[:, first, first] = turn[:, second, second] = np.cos(angle)
        turn[:, second, first] = np.sin(angle)
        turn[:, first, second] = -np.sin(angle)
        total = turn @ total
    return total


def sampling_grid(matrices: Reals, spacing: Reals, image: torch.Tensor) -> torch.Tensor:
    """Returns the grid for ``grid_sample`` that reads each output voxel at ``matrix @ position`` (mm, centred).

    ``grid_sample`` counts from -1 to 1 across the patch, last axis first, so positions in mm are divided by its half
    edges. A sum of one ramp per axis: four times as fast as ``affine_grid``.

    Args:
        matrices: ``(sample, dims, dims)``.
        spacing: Edges of a voxel in mm, in array-axis order.
        image: ``(sample, channel, *spatial)``; its shape and device are used.

    Returns:
        ``(sample, *spatial, dims)``.
    """
    shape = image.shape[2:]
    half_edges = np.asarray(shape) * spacing / 2
    # (sample, input axis, output axis), the input axes in grid_sample's order.
    steps = (matrices * spacing / half_edges[:, None])[:, ::-1]
    grid = torch.zeros((), device=image.device)
    for axis, n in enumerate(shape):
        ramp = steps[:, None, :, axis] * (np.arange(n) - (n - 1) / 2)[:, None]
        extent = [n if other == axis else 1 for other in range(len(shape))]
        grid = grid + to_device_of(image, ramp).view(len(matrices), *extent, len(shape))
    return grid


def _resampled(tensor: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    moved = functional.grid_sample(tensor.float(), grid, mode, padding_mode="zeros", align_corners=False)
    return moved.to(tensor.dtype)
