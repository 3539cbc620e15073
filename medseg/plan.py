"""Fingerprint: what was measured on the data. Plan: what follows from it. Data only; see ``medseg.planning``."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from medseg.labels import Labels
from medseg.volume import GRID_TOLERANCE, Shape3, Spacing3


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Intensities(_Record):
    """Statistics of one channel over the foreground of all cases (over all voxels where there are no labels)."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Fingerprint(_Record):
    """What was measured. Shapes and spacings are those of the oriented and cropped cases."""

    n_cases: int
    shapes: tuple[Shape3, ...]
    spacings: tuple[Spacing3, ...]
    # Median voxels that cropping to non-zero leaves, as part of all voxels.
    cropped_part: float
    intensities: tuple[Intensities, ...]  # one a channel


class Normalisation(_Record):
    """Of one channel. ``ct``: clip to [lower, upper], then subtract mean and divide by std, all of the fingerprint.
    ``zscore``: mean and std of each case, over non-zero voxels where ``nonzero``. ``none``: as it is."""

    kind: Literal["ct", "zscore", "none"]
    nonzero: bool = False
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0


class Architecture(_Record):
    """The network's name, depth and width: one entry a stage, from full resolution down."""

    name: str = "unet"
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    convolutions_per_stage: int = 2
    deep_supervision: bool = True
    arguments: dict[str, Any] = {}  # what this network alone knows


class Grid(_Record):
    """How a case is brought to the model grid: the same for 2D and 3D, so that one prepared dataset serves both."""

    orientation: str
    spacing: Spacing3  # mm, in the order of the oriented axes
    crop_to_nonzero: bool
    normalisation: tuple[Normalisation, ...]  # one a channel
    # How far apart the grids of one case may lie, as part of the smallest voxel edge.
    tolerance: float = GRID_TOLERANCE
    # Whether channels on other grids than the first are resampled to it: the user said that they show one place.
    registered: bool = False
    transforms: tuple[dict[str, object], ...] = ()  # MONAI dictionary transforms by name


class LearntRegion(_Record):
    """A structure that is learnt as it is, by a sigmoid of its own. All values are network values."""

    name: str
    values: tuple[int, ...]  # the labels that it holds
    value: int  # what it writes into the label map


BACKGROUND = "background"


class Plan(_Record):
    """All that is needed to build and feed one network."""

    dims: Literal[2, 3]
    grid: Grid
    # Patches are (x, y, z) also in 2D, where the slice axis has one voxel.
    patch_size: Shape3
    batch_size: int
    median_shape: Shape3 | None = None  # of what patches are cut from; None in older prepared folders
    slice_axis: int | None  # the axis that 2D networks don't see; None in 3D
    architecture: Architecture
    mirrored_pairs: tuple[tuple[str, str], ...] = ()  # labels that were measured to be each other's left and right
    mirrored_axes: tuple[int, ...] = ()  # array axes along which training mirrors, and prediction may
    # What the outputs stand for, in the order in which they are written over one another. (): one softmax over labels.
    regions: tuple[LearntRegion, ...] = ()

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """The array axes that the network sees."""
        return tuple(axis for axis in range(3) if axis != self.slice_axis)

    def outputs(self, labels: Labels) -> tuple[str, ...]:
        """What each channel of the network's output stands for."""
        return tuple(region.name for region in self.regions) or (BACKGROUND, *labels.names)

    @property
    def network_patch(self) -> tuple[int, ...]:
        """The patch as the network sees it: two or three numbers."""
        return tuple(self.patch_size[axis] for axis in self.spatial_axes)

    def in_space(self, numbers: Sequence[int], other: int) -> Shape3:
        """One number for each axis (x, y, z) from those of the axes that the network sees."""
        every = dict(zip(self.spatial_axes, numbers, strict=True))
        x, y, z = (every.get(axis, other) for axis in range(3))
        return x, y, z


class Plans(_Record):
    """plan.json of a prepared dataset: the 2D and the 3D plan on one grid. Flat images have no 3D plan."""

    plan_2d: Plan
    plan_3d: Plan | None
