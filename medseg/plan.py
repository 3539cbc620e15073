"""How cases are prepared, and the network that sees them. Data only; ``medseg.planning`` derives it."""

from collections.abc import Sequence
from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from medseg.architecture import Architecture, PromptChannels
from medseg.labels import Labels
from medseg.records import ORIENTATION, Record, with_new_names
from medseg.volume import GRID_TOLERANCE, Geometry, Shape3

# Beyond it a plan is damaged, or means harm: no machine could do what it says.
MOST_PATCH_VOXELS = 2**28

# Standard deviation of the Gaussian that weighs a window, as part of its edge (nnU-Net: 1/8).
GAUSSIAN_SIGMA = 0.125

NormalizationKind = Literal["ct", "zscore", "linear", "none", "mask"]
ResamplingRule = Literal["medseg", "nnunet", "monai", "corners"]
TargetKind = Literal["distance", "core"]

# The orientation of a grid whose axes stay as they are in the file.
STORED = "stored"

Axis = Annotated[int, Field(ge=0, le=2)]
Spacings = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Normalization(Record):
    """How one channel is normalized.

    ``ct``: clip to [lower, upper], then subtract mean and divide by std, all of the fingerprint. ``zscore``: mean and
    std of each case, over non-zero voxels where ``nonzero``. ``linear``: as ``ct``, without clipping. ``none``: as it
    is. ``mask``: the channel is a structure that another network found, of 0 and 1, and stays so.

    Attributes:
        kind: "ct", "zscore", "linear", "none" or "mask".
        nonzero: Of "zscore": voxels of 0 are not measured, and stay 0. Where the grid fills holes, these are the voxels
            outside of its mask.
        lower: Of "ct": values below it become it.
        upper: Of "ct": values above it become it.
        mean: Of "ct" and "linear": is subtracted.
        std: Of "ct" and "linear": is divided by.
        rescaled: What the lowest and the highest value of a case become at last, all others in proportion; None: they
            stay as they are.
    """

    kind: NormalizationKind
    nonzero: bool = False
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: NonNegativeFloat = 1.0
    rescaled: tuple[FiniteFloat, FiniteFloat] | None = None


class Resampling(Record):
    """By whose rule images come to the model grid, and predictions back from it.

    ``medseg`` and ``nnunet`` keep the outer faces of a volume in place, ``monai`` (as its ``Spacingd``) the centre of
    the first voxel, ``corners`` (``scipy.ndimage.zoom``, as TotalSegmentator) those of the first and the last one.

    Attributes:
        rule: Where the voxels of the model grid lie; and what "cubic" means, see ``interpolation``.
        interpolation: Of images. "cubic" is Keys' convolution in ``medseg``; a B-spline in the others, which ``nnunet``
            clips to the values that there were.
        separate_z: Of "nnunet": whether slices are resampled in their planes, and across them the nearest one is taken.
            None: where voxels are more than three times as long as wide.
        whole_numbers: Whether resampled values lose their fractions.
        restored: What is brought back to the grid of the source: "logits" and "probabilities" linearly, "labels" from
            the nearest voxel.
    """

    rule: ResamplingRule = "medseg"
    interpolation: Literal["nearest", "linear", "cubic"] = "cubic"
    separate_z: bool | None = None
    whole_numbers: bool = False
    restored: Literal["logits", "probabilities", "labels"] = "logits"


MEDSEG_RESAMPLING = Resampling()


class Grid(Record):
    """How a case is brought to the model grid: the same for 2D and 3D, so that one prepared dataset serves both.

    Cases are oriented, cropped, normalized and resampled; where ``resample_first``, they are oriented, resampled,
    cropped and normalized.

    Attributes:
        orientation: Where the axes point, such as "RAS"; "stored": where they point in the file.
        spacing: Edges of a voxel in mm, in the order of the oriented axes.
        own_spacing: Axes along which each case keeps its own spacing; that in ``spacing`` is a usual one there.
        crop_to_nonzero: Whether all-zero margins are cut away.
        fill_holes: Whether enclosed zeros count as non-zero, and a voxel that is so in one channel does in all.
        normalization: One a channel.
        resample_first: Whether cropping and normalization come after resampling.
        resampling: By whose rule.
        tolerance: How far apart the grids of one case may lie, as part of the smallest voxel edge.
        registered: Whether channels on other grids than the first, which show one place, are resampled to it.
        transforms: MONAI's dictionary transforms by name, or those of plugins, which come after all these steps.
        crop_last: Whether, at last, only the box of voxels above 0 in any channel remains (MONAI's ``CropForeground``).
    """

    orientation: str = Field(pattern=f"{ORIENTATION}|^{STORED}$")
    spacing: Spacings
    own_spacing: tuple[Axis, ...] = ()
    crop_to_nonzero: bool
    fill_holes: bool = False
    normalization: tuple[Normalization, ...] = Field(min_length=1)
    resample_first: bool = False
    resampling: Resampling = MEDSEG_RESAMPLING
    tolerance: float = Field(GRID_TOLERANCE, gt=0, lt=1)
    registered: bool = False
    transforms: tuple[dict[str, object], ...] = ()
    crop_last: bool = False

    @model_validator(mode="before")
    @classmethod
    def _of_version_0_1(cls, content: object) -> object:
        return with_new_names(content, normalization="normalisation")

    @property
    def wanted_spacing(self) -> tuple[float | None, float | None, float | None]:
        """The spacing of the model grid in mm; None along axes that keep their own."""
        x, y, z = (None if axis in self.own_spacing else mm for axis, mm in enumerate(self.spacing))
        return x, y, z

    def oriented(self, geometry: Geometry) -> Geometry:
        """Returns a grid with its axes as those of the model grid."""
        return geometry if self.orientation == STORED else geometry.oriented_as(self.orientation)


class Windows(Record):
    """Where windows lie on the model grid, and how their logits are averaged.

    Attributes:
        rule: "monai": a step apart, the last one at the end. "nnunet": spread evenly, and weighted by its Gaussian.
        weighting: How logits of a window are weighted: by a Gaussian around its centre, or all alike.
        sigma: The standard deviation of the Gaussian, as part of a window's edge.
        padding: What is added around images that are smaller than a window, as in ``torch.nn.functional.pad``.
    """

    rule: Literal["monai", "nnunet"] = "monai"
    weighting: Literal["gaussian", "constant"] = "gaussian"
    sigma: float = Field(GAUSSIAN_SIGMA, gt=0, le=10)
    padding: Literal["constant", "reflect", "replicate", "circular"] = "constant"


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


class ObjectOutputs(Record):
    """What a network learns of single objects, in outputs behind those of labels or regions: a sigmoid each.

    Attributes:
        values: Network values of the labels whose objects are told apart.
        targets: What each output learns: see ``medseg.instances.targets``.
    """

    values: tuple[PositiveInt, ...] = Field(min_length=1)
    targets: tuple[TargetKind, ...] = Field(min_length=1)


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
        windows: How prediction cuts cases into patches.
        objects: What is learnt of single objects; None: nothing.
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
    windows: Windows = Windows()
    objects: ObjectOutputs | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if prod(self.patch_size) > MOST_PATCH_VOXELS:
            raise ValueError(f"a patch of {prod(self.patch_size):,} voxels; at most {MOST_PATCH_VOXELS:,} can be used")
        axes = len(self.architecture.strides[0])
        if axes != self.dims or (self.dims == 2) != (self.slice_axis is not None):
            raise ValueError(f"a {self.dims}D plan with slice axis {self.slice_axis} and strides of {axes} axes")
        if self.slice_axis is not None and self.patch_size[self.slice_axis] != 1:
            raise ValueError(f"patches {self.patch_size} of a 2D plan are one voxel thick along {self.slice_axis}")
        if self.objects is not None and self.grid.resampling.restored != "logits":
            raise ValueError(f"objects, and {self.grid.resampling.restored} that are brought back to the source")
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
        if self.objects is not None and max(self.objects.values) > len(labels.items):
            raise ValueError("objects are of labels that are not there")

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """The array axes that the network sees."""
        return tuple(axis for axis in range(3) if axis != self.slice_axis)

    def outputs(self, labels: Labels) -> tuple[str, ...]:
        """Returns what each channel of the network's output stands for."""
        of_labels = tuple(region.name for region in self.regions) or (BACKGROUND, *labels.names)
        return (*of_labels, *(() if self.objects is None else self.objects.targets))

    @property
    def prompts(self) -> PromptChannels | None:
        """What the network sees of a user's prompts; None where it takes none.

        It then has a channel for each of ``PROMPT_CHANNELS`` behind those of the image, and the output "object" behind
        all others.
        """
        return self.architecture.prompts

    @property
    def network_patch(self) -> tuple[int, ...]:
        """The patch as the network sees it: two or three numbers."""
        return tuple(self.patch_size[axis] for axis in self.spatial_axes)

    def in_space(self, numbers: Sequence[int], other: int) -> Shape3:
        """Returns one number for each axis (x, y, z) from those of the axes that the network sees, and of the other."""
        every = dict(zip(self.spatial_axes, numbers, strict=True))
        x, y, z = (every.get(axis, other) for axis in range(3))
        return x, y, z


class Plans(Record):
    """plan.json of a prepared dataset: the 2D and the 3D plan on one grid. Flat images have no 3D plan."""

    plan_2d: Plan
    plan_3d: Plan | None
