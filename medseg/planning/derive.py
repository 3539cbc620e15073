"""From the fingerprint to the plan. The rules are nnU-Net's (Isensee et al. 2021, Nature Methods 18, and its
supplement), with a budget in voxels instead of an estimate of GPU memory, and a smaller one for processors."""

from collections.abc import Sequence
from math import prod
from typing import Literal

import numpy as np

from medseg.config import Config, PlanningConfig
from medseg.errors import ConfigError
from medseg.fingerprint import Fingerprint
from medseg.plan import Grid, Normalization, NormalizationKind, Plan, Plans
from medseg.planning.patch import SMALLEST_EDGE, patch_and_architecture, patch_budget
from medseg.volume import Array, Spacing3

# An axis is coarse when its spacing is three times the others', and its shape a third of theirs.
ANISOTROPY = 3.0
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
# Patches that show less than this part of an image lack what is around a structure (nnU-Net plans 3d_lowres then).
LEAST_SHOWN = 0.25
USUAL_PATCH_VOXELS: int = PlanningConfig.model_fields["cpu_patch_voxels"].default
# What can begin at half the resolution.
AT_HALF_RESOLUTION = "unet"


def derive_plans(fingerprint: Fingerprint, channels: Sequence[str], config: Config) -> Plans:
    """Returns the 2D and the 3D plan for a GPU. ``fit_to_cpu`` makes them smaller.

    Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.

    Args:
        fingerprint: What was measured on the cases.
        channels: Their names; one that is called CT is normalized as CT.
        config: ``preprocessing`` and ``planning``: what the user chose takes the place of what is derived.

    Returns:
        Both plans, on one grid. There is no 3D plan of flat images.
    """
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
    """Returns the spacing of the model grid, in mm, in the order of the oriented axes.

    It is the median of the cases; on an axis that is coarse in spacing and in shape their 10th percentile, so that thin
    slices are not thrown away.

    Args:
        fingerprint: Shapes and spacings of the cases.
    """
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
    """Returns the plan with fewer features, and a patch and a batch that a processor trains in reasonable time.

    A processor does a few steps a second at best; many small steps teach more than few large ones. Where images are
    small the patch lies inside of them: one that is rounded up to hold them is filled up with zeros, which teach
    nothing (for 36×50×35 voxels, 40×56×40, of which they are a third). Where images are large, the network begins at
    half the resolution: see ``begins_at_half_resolution``.

    Args:
        plan: That of a GPU.
        config: ``planning.cpu_base_features``, ``cpu_patch_voxels`` and ``cpu_half_resolution``.
    """
    features = config.planning.cpu_base_features or min(CPU_FEATURES, plan.architecture.features[0])
    half = begins_at_half_resolution(plan, config)
    return shrunk_plan(plan, config.planning.cpu_patch_voxels, features, half)


def begins_at_half_resolution(plan: Plan, config: Config) -> bool:
    """Returns whether a network that a processor trains begins at half the resolution.

    It does in 3D where patches of the usual size would show less than a quarter of an image at full resolution, which
    is nnU-Net's rule for a network of low resolution. Where the user chose the patch or another network, it does not.

    Args:
        plan: That of a GPU.
        config: ``planning.cpu_half_resolution`` decides where it is not None. Else not without
            ``training.fit_to_time``: networks that are compared have one plan.
    """
    can = plan.median_shape is not None and len(plan.architecture.strides) > 1 and config.planning.patch_size is None
    if not can or config.network.name != AT_HALF_RESOLUTION or config.network.features is not None:
        return False
    chosen = config.planning.cpu_half_resolution
    if chosen is not None or plan.dims == 2 or not config.training.fit_to_time:  # in 2D a patch shows enough of a slice
        return bool(chosen)
    fine = shrunk_plan(plan, max(config.planning.cpu_patch_voxels, USUAL_PATCH_VOXELS), plan.architecture.features[0])
    return prod(fine.patch_size) < LEAST_SHOWN * prod(plan.median_shape or ())


def shrunk_plan(plan: Plan, patch_voxels: int, base_features: int, half_resolution: bool = False) -> Plan:
    """Returns the plan with other features, and with smaller patches, which lie inside of small images.

    Args:
        plan: The plan.
        patch_voxels: The most voxels of a 3D patch; in 2D, a patch has those of sixteen slices of such a cube.
        base_features: Features of the first stage.
        half_resolution: The first stage strides. Patch and stages are planned as on a grid of this stage's resolution,
            so that a patch shows as many times more as that has fewer voxels, and costs about the same.
    """
    if half_resolution and plan.median_shape is not None:
        stride = plan.in_space(plan.architecture.strides[1], 1)
        coarse = shrunk_plan(_on_coarser_grid(plan, stride), patch_voxels, base_features)
        strides = (plan.architecture.strides[1], *coarse.architecture.strides[1:])
        x, y, z = (n * s for n, s in zip(coarse.patch_size, stride, strict=True))
        architecture = coarse.architecture.model_copy(update={"strides": strides})
        changes = {"patch_size": (x, y, z), "batch_size": coarse.batch_size, "architecture": architecture}
        return plan.model_copy(update=changes)
    return replan(
        plan,
        wanted=None if plan.median_shape is None else np.array(plan.median_shape),
        largest_cut=LARGEST_CUT,
        max_voxels=patch_budget(plan.dims, patch_voxels),
        batch_voxels=round(CPU_BATCH[plan.dims] * patch_voxels),
        base_features=base_features,
    )


def _on_coarser_grid(plan: Plan, stride: Sequence[int]) -> Plan:
    """Returns the plan as it would be if each voxel were ``stride`` times as large."""
    spacing, median, patch = (
        zip(each, stride, strict=True) for each in (plan.grid.spacing, plan.median_shape or (), plan.patch_size)
    )
    grid = plan.grid.model_copy(update={"spacing": tuple(mm * s for mm, s in spacing)})
    shapes = {"median_shape": median, "patch_size": patch}
    return plan.model_copy(update={"grid": grid, **{k: tuple(-(-n // s) for n, s in v) for k, v in shapes.items()}})


def take_chosen_patch(plan: Plan, config: Config) -> Plan:
    """Returns the plan with the patch of ``planning.patch_size``, where that is set, however many voxels it has.

    Args:
        plan: The plan.
        config: The settings.

    Raises:
        ConfigError: ``planning.patch_size`` has a wrong number of edges.
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
    """Returns a plan for the same grid within another budget.

    Args:
        plan: The plan.
        max_voxels: The most voxels of a patch.
        batch_voxels: The most voxels of a batch.
        base_features: Features of the first stage.
        wanted: Proportions of the patch, ``(x, y, z)``. None: those that it has.
        largest_cut: Edges are rounded up to what the network pools, or down where no more than this part is lost.
    """
    patch, architecture = patch_and_architecture(
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
    """Returns the normalization of a channel of this name, where the user chose none."""
    return "ct" if channel.strip().upper() == "CT" else "zscore"


def _shapes_on_grid(fingerprint: Fingerprint, spacing: Spacing3) -> Array:
    shapes: Array = np.array(fingerprint.shapes) * np.array(fingerprint.spacings) / np.array(spacing)
    rounded: Array = np.maximum(np.rint(shapes), 1).astype(int)
    return rounded


def _slice_axis(shapes: Array, spacing: Spacing3) -> int:
    """Returns the axis that 2D networks don't see: flat images' third, else the coarsest, z among equals."""
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
    patch, architecture = patch_and_architecture(wanted, grid.spacing, slice_axis, max_voxels, base)
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
