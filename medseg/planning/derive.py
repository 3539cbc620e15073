"""From the fingerprint to the plan. The rules are nnU-Net's (Isensee et al. 2021, Nature Methods 18, and its
supplement), with a budget in voxels instead of an estimate of GPU memory, and a smaller one for processors."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from medseg.config import Config
from medseg.errors import ConfigError
from medseg.plan import Architecture, Fingerprint, Grid, Normalization, NormalizationKind, Plan, Plans
from medseg.volume import Array, Shape3, Spacing3

# An axis is coarse when its spacing is three times the others', and its shape a third of theirs.
ANISOTROPY = 3.0
# An axis is pooled while it is within this factor of the finest spacing …
POOLING_RANGE = 2.0
# … and its edge stays at least this long after pooling.
SMALLEST_EDGE = 4
MAX_POOLINGS = {2: 7, 3: 5}
MAX_FEATURES = {2: 512, 3: 320}
# One batch sees at most this part of all voxels: more of it would only repeat itself.
BATCH_PART_OF_DATASET = 0.05
MIN_BATCH_SIZE = 2
MAX_BATCH_SIZE_2D = 64
# Non-zero voxels have their own statistics when cropping leaves less than this part of the volume.
NONZERO_BELOW = 0.75
UNLIMITED = 2**62
# Most voxels of a batch on a processor, as part of those of a 3D patch.
CPU_BATCH = {2: 3.0, 3: 1.5}
CPU_FEATURES = 16  # of the first stage
# On a processor patches may be smaller than images by this part of an edge.
LARGEST_CUT = 0.2


def derive_plans(fingerprint: Fingerprint, channels: Sequence[str], config: Config) -> Plans:
    """The 2D and the 3D plan for a GPU. ``fit_to_cpu`` makes them smaller."""
    grid = Grid(
        orientation=config.preprocessing.orientation,
        spacing=config.preprocessing.spacing or target_spacing(fingerprint),
        crop_to_nonzero=config.preprocessing.crop_to_nonzero,
        normalization=_normalization(fingerprint, channels, config),
        tolerance=config.preprocessing.geometry_tolerance,
        registered=config.preprocessing.registered,
        transforms=tuple(config.preprocessing.transforms),
    )
    shapes = _shapes_on_grid(fingerprint, grid.spacing)
    slice_axis = _slice_axis(shapes, grid.spacing)
    flat = bool(np.median(shapes[:, slice_axis]) < SMALLEST_EDGE)
    return Plans(
        plan_2d=_plan(2, grid, shapes, slice_axis, config),
        plan_3d=None if flat else _plan(3, grid, shapes, None, config),
    )


def target_spacing(fingerprint: Fingerprint) -> Spacing3:
    """Median spacing per axis, in mm; on an axis that is coarse in spacing and in shape its 10th percentile, so that
    thin slices are not thrown away."""
    spacings = np.array(fingerprint.spacings)
    shapes = np.array(fingerprint.shapes)
    target = np.median(spacings, axis=0)
    shape = np.median(shapes, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarse = target[worst] > ANISOTROPY * target[others].max()
    short = shape[worst] * ANISOTROPY < shape[others].min()
    if coarse and short:
        tenth = float(np.percentile(spacings[:, worst], 10))
        target[worst] = max(tenth, target[others].max() * (1 + 1e-6))
    x, y, z = (round(float(s), 6) for s in target)
    return x, y, z


def fit_to_cpu(plan: Plan, config: Config) -> Plan:
    """The same plan with fewer features, and a patch and a batch that a processor can train in reasonable time.

    A processor does a few steps a second at best; many small steps teach more than few large ones. Where images are
    small the patch lies inside of them: one that is rounded up to hold them is filled up with zeros, which teach
    nothing (for 36×50×35 voxels, 40×56×40, of which they are a third).
    """
    features = config.planning.cpu_base_features or min(CPU_FEATURES, plan.architecture.features[0])
    return shrunk(plan, config.planning.cpu_patch_voxels, features)


def shrunk(plan: Plan, patch_voxels: int, base_features: int) -> Plan:
    """The same plan with other features, and with patches of so many voxels at most (in 2D: of sixteen slices of such a
    cube), inside of small images."""
    return replan(
        plan,
        wanted=None if plan.median_shape is None else np.array(plan.median_shape),
        largest_cut=LARGEST_CUT,
        max_voxels=patch_budget(plan.dims, patch_voxels),
        batch_voxels=round(CPU_BATCH[plan.dims] * patch_voxels),
        base_features=base_features,
    )


def take_chosen_patch(plan: Plan, config: Config) -> Plan:
    """The same plan with ``planning.patch_size`` where that is set, however many voxels it has.

    Raises ``ConfigError`` for a wrong number of edges.
    """
    if config.planning.patch_size is None:
        return plan
    return replan(
        plan,
        wanted=_patch_of_config(plan.dims, plan.slice_axis, config),
        max_voxels=UNLIMITED,
        batch_voxels=plan.batch_size * int(np.prod(plan.patch_size)),
        base_features=plan.architecture.features[0],
    )


def replan(
    plan: Plan,
    *,
    max_voxels: int,
    batch_voxels: int,
    base_features: int,
    wanted: Array | None = None,
    largest_cut: float = 0.0,
) -> Plan:
    """A plan for the same grid within another budget, in voxels a patch and voxels a batch. The patch has the
    proportions of ``wanted``, else those that it had; its edges are rounded up to what the network pools, or down where
    no more than the part ``largest_cut`` is lost."""
    patch, architecture = _patch_and_architecture(
        np.array(plan.patch_size) if wanted is None else wanted,
        plan.grid.spacing,
        plan.slice_axis,
        max_voxels,
        base_features,
        largest_cut,
    )
    # As many voxels a batch as before, so that it stays the same part of the dataset.
    same_voxels = plan.batch_size * int(np.prod(plan.patch_size)) // int(np.prod(patch))
    batch = min(same_voxels, batch_voxels // int(np.prod(patch)), MAX_BATCH_SIZE_2D)
    return plan.model_copy(
        update={"patch_size": patch, "architecture": architecture, "batch_size": max(MIN_BATCH_SIZE, batch)}
    )


def _normalization(fingerprint: Fingerprint, channels: Sequence[str], config: Config) -> tuple[Normalization, ...]:
    nonzero = fingerprint.cropped_part < NONZERO_BELOW
    chosen = config.preprocessing.normalization
    result = []
    for channel, intensities in zip(channels, fingerprint.intensities, strict=True):
        kind = usual_kind(channel) if chosen == "auto" else chosen
        if kind == "ct":
            result.append(
                Normalization(
                    kind="ct",
                    lower=intensities.percentile_00_5,
                    upper=intensities.percentile_99_5,
                    mean=intensities.mean,
                    std=max(intensities.std, 1e-8),
                )
            )
        else:
            result.append(Normalization(kind=kind, nonzero=nonzero and kind == "zscore"))
    return tuple(result)


def usual_kind(channel: str) -> NormalizationKind:
    """That of a channel of this name, where the user chose none."""
    return "ct" if channel.strip().upper() == "CT" else "zscore"


def _shapes_on_grid(fingerprint: Fingerprint, spacing: Spacing3) -> Array:
    shapes: Array = np.array(fingerprint.shapes) * np.array(fingerprint.spacings) / np.array(spacing)
    rounded: Array = np.maximum(np.rint(shapes), 1).astype(int)
    return rounded


def _slice_axis(shapes: Array, spacing: Spacing3) -> int:
    """The axis that 2D networks don't see: flat images' third, else the coarsest, z among equals."""
    median = np.median(shapes, axis=0)
    if median.min() < SMALLEST_EDGE:
        return int(np.argmin(median))
    coarsest = max(spacing)
    return max(axis for axis in range(3) if spacing[axis] > 0.99 * coarsest)


def _plan(dims: Literal[2, 3], grid: Grid, shapes: Array, slice_axis: int | None, config: Config) -> Plan:
    wanted = np.median(shapes, axis=0)
    if slice_axis is not None:
        wanted[slice_axis] = 1
    x, y, z = (int(n) for n in wanted)
    max_voxels = patch_budget(dims, config.planning.max_patch_voxels)
    base = config.planning.base_features
    if config.planning.patch_size is not None:
        wanted, max_voxels = _patch_of_config(dims, slice_axis, config), UNLIMITED
    patch, architecture = _patch_and_architecture(wanted, grid.spacing, slice_axis, max_voxels, base)
    voxels = int(np.prod(patch))
    of_dataset = int(shapes.prod(axis=1).sum() * BATCH_PART_OF_DATASET // voxels)
    of_memory = config.planning.max_batch_voxels // voxels
    limit = MAX_BATCH_SIZE_2D if dims == 2 else of_memory
    return Plan(
        dims=dims,
        grid=grid,
        patch_size=patch,
        batch_size=max(MIN_BATCH_SIZE, min(of_dataset, of_memory, limit)),
        median_shape=(x, y, z),
        slice_axis=slice_axis,
        architecture=architecture,
    )


def _patch_of_config(dims: int, slice_axis: int | None, config: Config) -> Array:
    chosen = list(config.planning.patch_size or ())
    if len(chosen) == 3 and slice_axis is not None:
        chosen.pop(slice_axis)
    if len(chosen) != dims and not (len(chosen) == 2 and dims == 3):
        raise ConfigError(f"planning.patch_size has {len(chosen)} numbers; give 2 for 2D and 3 for 3D")
    if len(chosen) < 3:
        # Two numbers say nothing about the third axis of the 3D plan: it gets as many voxels as the shorter one.
        chosen.insert(2 if slice_axis is None else slice_axis, min(chosen) if slice_axis is None else 1)
    return np.array(chosen)


def patch_budget(dims: int, voxels: int) -> int:
    """In 2D sixteen slices of the cubic patch: 512×512 for 128×128×128."""
    return voxels if dims == 3 else round(16 * voxels ** (2 / 3))


def _patch_and_architecture(
    wanted: Array,
    spacing: Spacing3,
    slice_axis: int | None,
    max_voxels: int,
    base_features: int,
    largest_cut: float = 0.0,
) -> tuple[Shape3, Architecture]:
    """The largest patch of the proportions ``wanted`` within the budget, and the network that pools it."""
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
    """Strides and kernel sizes of each stage, from full resolution down.

    An axis is pooled while its spacing is within twice the finest of those that can still be pooled and its edge
    stays at least 4; its kernel is 1 until its spacing is within twice the finest (nnU-Net's rule).
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
