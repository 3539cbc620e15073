"""Fingerprint: what was measured on the data. Plan: what follows from it. Data only; see ``medseg.planning``."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from medseg.labels import Labels
from medseg.records import ORIENTATION, Record, with_new_names
from medseg.volume import GRID_TOLERANCE, Shape3, Spacing3

# Beyond these a plan is damaged, or means harm: no machine could do what it says.
MOST_STAGES = 16
MOST_FEATURES = 2**16
LARGEST_KERNEL = 63
LARGEST_ARGUMENT = 2**14
MOST_PATCH_VOXELS = 2**28

# Of the values of a case, what is kept in a fingerprint.
PERCENTS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0)

NormalizationKind = Literal["ct", "zscore", "none"]

Axis = Annotated[int, Field(ge=0, le=2)]
Step = Annotated[int, Field(ge=1, le=LARGEST_KERNEL)]
Spacings = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Intensities(Record):
    """Statistics of one channel over the foreground of all cases (over all voxels where there are no labels)."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class UsualValues(Record):
    """How the values of one channel are spread in each of ``cases`` cases.

    It has the lowest, the median and the highest over the cases of each percentile (``medseg.transforms.intensities``,
    which says what is measured and compared).
    """

    kind: NormalizationKind
    nonzero: bool
    cases: int
    percents: tuple[float, ...]
    lowest: tuple[float, ...]
    median: tuple[float, ...]
    highest: tuple[float, ...]
    width: tuple[float, float]  # from a case's lowest to its highest percentile: the narrowest and the widest
    largest_difference: float | None  # of a case from all others; None of a single case

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.percents != PERCENTS or {len(self.lowest), len(self.median), len(self.highest)} != {len(PERCENTS)}:
            raise ValueError(f"percentiles should be those at {PERCENTS}")
        return self


class Fingerprint(Record):
    """What was measured. Shapes and spacings are those of the oriented and cropped cases."""

    n_cases: int
    shapes: tuple[Shape3, ...]
    spacings: tuple[Spacing3, ...]
    # Median voxels that cropping to non-zero leaves, as part of all voxels.
    cropped_part: float
    intensities: tuple[Intensities, ...]  # one a channel
    usual_values: tuple[UsualValues, ...] = ()  # one a channel; () in older prepared folders


class Normalization(Record):
    """How one channel is normalized.

    ``ct``: clip to [lower, upper], then subtract mean and divide by std, all of the fingerprint. ``zscore``: mean and
    std of each case, over non-zero voxels where ``nonzero``. ``none``: as it is.

    Attributes:
        kind: "ct", "zscore" or "none".
        nonzero: Of "zscore": voxels of 0 are not measured, and stay 0.
        lower: Of "ct": values below it become it.
        upper: Of "ct": values above it become it.
        mean: Of "ct": is subtracted.
        std: Of "ct": is divided by.
    """

    kind: NormalizationKind
    nonzero: bool = False
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: NonNegativeFloat = 1.0


def _numbers(value: object) -> Iterator[int | float]:
    """Yields all numbers in nested lists and mappings."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


# The name of a network that the user brought as a module: nothing can build it again.
CUSTOM_NETWORK = "custom"


class Architecture(Record):
    """The network's name, depth and width.

    Attributes:
        name: As in ``NETWORKS``, or "monai.NAME".
        features: Number of features of each stage, from full resolution down.
        strides: Of each stage, one number an axis; those of the first stage are 1.
        kernel_sizes: Of each stage, one number an axis.
        convolutions_per_stage: How many convolutions each stage has.
        deep_supervision: Whether coarser stages are trained to give logits too.
        arguments: What this network alone knows.
    """

    name: str = "unet"
    features: tuple[Annotated[int, Field(ge=1, le=MOST_FEATURES)], ...] = Field(min_length=1, max_length=MOST_STAGES)
    strides: tuple[tuple[Step, ...], ...]
    kernel_sizes: tuple[tuple[Step, ...], ...]
    convolutions_per_stage: int = Field(2, ge=1, le=64)
    deep_supervision: bool = True
    arguments: dict[str, Any] = Field(default_factory=dict)  # what this network alone knows

    @model_validator(mode="after")
    def _check(self) -> Self:
        counts = len(self.features), len(self.strides), len(self.kernel_sizes)
        if len(set(counts)) > 1:
            raise ValueError(f"features, strides and kernel sizes are those of {counts} stages")
        dims = {len(each) for each in (*self.strides, *self.kernel_sizes)}
        if len(dims) > 1 or not dims <= {2, 3}:
            raise ValueError(f"strides and kernel sizes are of {sorted(dims)} axes; all have to be of 2, or of 3")
        if any(abs(number) > LARGEST_ARGUMENT for number in _numbers(self.arguments)):
            raise ValueError(f"an argument of the network is larger than {LARGEST_ARGUMENT:,}")
        return self


class Grid(Record):
    """How a case is brought to the model grid: the same for 2D and 3D, so that one prepared dataset serves both.

    Attributes:
        orientation: Where the axes point, such as "RAS".
        spacing: Edges of a voxel in mm, in the order of the oriented axes.
        crop_to_nonzero: Whether all-zero margins are cut away.
        normalization: One a channel.
        tolerance: How far apart the grids of one case may lie, as part of the smallest voxel edge.
        registered: Whether channels on other grids than the first are resampled to it: the user said that they show one
            place.
        transforms: MONAI's dictionary transforms by name, or those of plugins, which come last.
    """

    orientation: str = Field(pattern=ORIENTATION)
    spacing: Spacings
    crop_to_nonzero: bool
    normalization: tuple[Normalization, ...] = Field(min_length=1)
    tolerance: float = Field(GRID_TOLERANCE, gt=0, lt=1)
    registered: bool = False
    transforms: tuple[dict[str, object], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_version_0_1(cls, content: object) -> object:
        return with_new_names(content, normalization="normalisation")


class LearntRegion(Record):
    """A structure that is learnt as it is, by a sigmoid of its own. All values are network values.

    Attributes:
        name: Of the structure.
        values: The labels that it holds.
        value: What it writes into the label map.
    """

    name: str
    values: tuple[PositiveInt, ...] = Field(min_length=1)
    value: PositiveInt


BACKGROUND = "background"


class Plan(Record):
    """All that is needed to build and feed one network.

    Attributes:
        dims: Spatial axes that the network sees.
        grid: How cases are prepared.
        patch_size: Voxels ``(x, y, z)`` also in 2D, where the slice axis has one voxel.
        batch_size: Patches of a step.
        median_shape: Of what patches are cut from; None in older prepared folders.
        slice_axis: The axis that 2D networks don't see; None in 3D.
        architecture: The network.
        mirrored_pairs: Labels that were measured to be each other's left and right.
        mirrored_axes: Array axes along which training mirrors, and prediction may.
        regions: What the outputs stand for, in the order in which they are written over one another. (): one softmax
            over labels.
    """

    dims: Literal[2, 3]
    grid: Grid
    patch_size: tuple[PositiveInt, PositiveInt, PositiveInt]
    batch_size: int = Field(ge=1, le=2**16)
    median_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    slice_axis: Axis | None
    architecture: Architecture
    mirrored_pairs: tuple[tuple[str, str], ...] = ()
    mirrored_axes: tuple[Axis, ...] = ()
    regions: tuple[LearntRegion, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if prod(self.patch_size) > MOST_PATCH_VOXELS:
            raise ValueError(f"a patch of {prod(self.patch_size):,} voxels; at most {MOST_PATCH_VOXELS:,} can be used")
        axes = len(self.architecture.strides[0])
        if axes != self.dims or (self.dims == 2) != (self.slice_axis is not None):
            raise ValueError(f"a {self.dims}D plan with slice axis {self.slice_axis} and strides of {axes} axes")
        if self.slice_axis is not None and self.patch_size[self.slice_axis] != 1:
            raise ValueError(f"patches {self.patch_size} of a 2D plan are one voxel thick along {self.slice_axis}")
        if not set(self.mirrored_axes) <= set(self.spatial_axes):
            raise ValueError(f"mirrored axes {self.mirrored_axes}, and the network sees {self.spatial_axes}")
        return self

    def check_fits(self, labels: Labels, channels: Sequence[str]) -> None:
        """Checks that the plan is of these labels and channels.

        Raises:
            ValueError: It is of others.
        """
        if len(self.grid.normalization) != len(channels):
            raise ValueError(f"{len(self.grid.normalization)} normalizations of {len(channels)} channels")
        for region in self.regions:
            if max(*region.values, region.value) > len(labels.items):
                raise ValueError(f"region '{region.name}' is of labels that are not there")

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """The array axes that the network sees."""
        return tuple(axis for axis in range(3) if axis != self.slice_axis)

    def outputs(self, labels: Labels) -> tuple[str, ...]:
        """Returns what each channel of the network's output stands for."""
        return tuple(region.name for region in self.regions) or (BACKGROUND, *labels.names)

    @property
    def network_patch(self) -> tuple[int, ...]:
        """The patch as the network sees it: two or three numbers."""
        return tuple(self.patch_size[axis] for axis in self.spatial_axes)

    def in_space(self, numbers: Sequence[int], other: int) -> Shape3:
        """Returns one number for each axis (x, y, z) from those of the axes that the network sees.

        Args:
            numbers: Of the axes that the network sees.
            other: Of the axis that it doesn't see.
        """
        every = dict(zip(self.spatial_axes, numbers, strict=True))
        x, y, z = (every.get(axis, other) for axis in range(3))
        return x, y, z


class Plans(Record):
    """plan.json of a prepared dataset: the 2D and the 3D plan on one grid. Flat images have no 3D plan."""

    plan_2d: Plan
    plan_3d: Plan | None
