"""The patch of a plan, and the stages of the network that pools it (nnU-Net's rules: Isensee et al. 2021)."""

from collections.abc import Sequence

import numpy as np

from medseg.architecture import Architecture
from medseg.volume import Array, Shape3, Spacing3

# An axis is pooled while it is within this factor of the finest spacing …
POOLING_RANGE = 2.0
# … and its edge stays at least this long after pooling.
SMALLEST_EDGE = 4
MAX_POOLINGS = {2: 7, 3: 5}
MAX_FEATURES = {2: 512, 3: 320}


def patch_budget(dims: int, voxels: int) -> int:
    """Returns the most voxels of a patch: in 2D sixteen slices of the cubic patch, 512×512 for 128×128×128.

    Args:
        dims: 2 or 3.
        voxels: The most of a 3D patch.
    """
    return voxels if dims == 3 else round(16 * voxels ** (2 / 3))


def patch_and_architecture(
    wanted: Array,
    spacing: Spacing3,
    slice_axis: int | None,
    max_voxels: int,
    base_features: int,
    largest_cut: float = 0.0,
) -> tuple[Shape3, Architecture]:
    """Returns the largest patch of wanted proportions within a budget, and the architecture that pools it.

    Args:
        wanted: Proportions of the patch, ``(x, y, z)``, in voxels; it is no larger.
        spacing: Of the model grid, in mm.
        slice_axis: The axis that a 2D network doesn't see. None: 3D.
        max_voxels: The most voxels of the patch.
        base_features: Features of the first stage; they double with each one.
        largest_cut: Edges are rounded up to what the network pools, or down where no more than this part is lost.
    """
    axes = [axis for axis in range(3) if axis != slice_axis]
    patch = np.array(wanted, dtype=float)
    while True:
        strides, kernels = pooling([patch[a] for a in axes], [spacing[a] for a in axes])
        multiple = np.prod(np.array(strides), axis=0)
        size = [_rounded(patch[a], int(m), largest_cut) for a, m in zip(axes, multiple, strict=True)]
        if np.prod(size) <= max_voxels or max(size) <= SMALLEST_EDGE:
            break
        # The axis that covers the most of its median shape gives way first, among those that still can.
        covered = [s / wanted[a] if s > SMALLEST_EDGE else 0 for s, a in zip(size, axes, strict=True)]
        largest = axes[int(np.argmax(covered))]
        step = multiple[axes.index(largest)]
        patch[largest] = max(size[axes.index(largest)] - step, SMALLEST_EDGE)
    x, y, z = (1 if axis == slice_axis else size[axes.index(axis)] for axis in range(3))
    most = MAX_FEATURES[len(axes)]
    features = tuple(min(base_features * 2**stage, most) for stage in range(len(strides)))
    return (x, y, z), Architecture(features=features, strides=strides, kernel_sizes=kernels)


def _rounded(edge: float, multiple: int, largest_cut: float) -> int:
    down = int(round(edge, 6) // multiple) * multiple
    return down if down == edge or down >= (1 - largest_cut) * edge else down + multiple


def pooling(
    patch: Sequence[float], spacing: Sequence[float]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Returns strides and kernel sizes of each stage, from full resolution down.

    An axis is pooled while its spacing is within twice the finest of those that can still be pooled and its edge
    stays at least 4; its kernel is 1 until its spacing is within twice the finest (nnU-Net's rule).

    Args:
        patch: Edges in voxels, two or three.
        spacing: Of the same axes, in mm.
    """
    size, mm = np.array(patch, dtype=float), np.array(spacing, dtype=float)
    strides = [(1,) * len(size)]
    kernels = [tuple(3 if s < POOLING_RANGE * mm.min() else 1 for s in mm)]
    poolings = np.zeros(len(size), dtype=int)
    while True:
        possible = (size >= 2 * SMALLEST_EDGE) & (poolings < MAX_POOLINGS[len(size)])
        if not possible.any():
            break
        pooled = possible & (mm < POOLING_RANGE * mm[possible].min())
        size = np.where(pooled, np.ceil(size / 2), size)
        mm = np.where(pooled, mm * 2, mm)
        poolings += pooled
        strides.append(tuple(2 if p else 1 for p in pooled))
        kernels.append(
            tuple(3 if k == 3 or s < POOLING_RANGE * mm.min() else 1 for k, s in zip(kernels[-1], mm, strict=True))
        )
    return tuple(strides), tuple(kernels)
