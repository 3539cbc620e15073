"""nnU-Net's plan as medseg's: the same steps, with axes in the order (x, y, z)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from medseg.architecture import Architecture
from medseg.errors import ModelError
from medseg.interop.nnunet.plans import AXES, Configuration, NnunetPlans
from medseg.plan import STORED, Grid, LearntRegion, Normalization, Plan, Resampling, Windows
from medseg.records import explained

# What each reader of nnU-Net makes of the axes in a file.
ORIENTATIONS = {
    "SimpleITKIO": STORED,
    "NibabelIO": STORED,
    "NaturalImage2DIO": STORED,
    "Tiff3DIO": STORED,
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
PREPROCESSOR = "DefaultPreprocessor"
SPLINE, TORCH = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"
INTERPOLATIONS = {0: "nearest", 1: "linear", 3: "cubic"}

ANISOTROPIC = 3  # the edge of a voxel as a multiple of the shortest, above which slices are resampled alone

SMALLEST_STD = 1e-8
LARGEST_GREY = 255.0
# The spacing between the slices of what has one slice is this times the largest spacing in it.
FLAT = 999.0


@dataclass(frozen=True)
class AxisOrder:
    """Which axis of nnU-Net's arrays is which of medseg's.

    nnU-Net reads arrays as (z, y, x), and puts these in the order of ``transpose_forward``. Its 2D networks see the
    last two.

    Attributes:
        dims: Axes that the network sees.
        transpose: ``transpose_forward``.
    """

    dims: int
    transpose: tuple[int, ...]

    @property
    def slice_axis(self) -> int | None:
        """medseg's axis that the network doesn't see; None in 3D."""
        return None if self.dims == AXES else AXES - 1 - self.transpose[0]

    @property
    def seen(self) -> tuple[int, ...]:
        """For each axis that the network sees, in the order of medseg, its number among those of nnU-Net's network."""
        shift = AXES - self.dims
        axes = (axis for axis in range(AXES) if axis != self.slice_axis)
        return tuple(self.transpose.index(AXES - 1 - axis) - shift for axis in axes)

    def in_space(self, numbers: Sequence[Any], other: Any) -> tuple[Any, Any, Any]:
        """Returns one number for each of medseg's axes from those of the network; ``other`` for the one unseen."""
        seen = [numbers[i] for i in self.seen]
        if self.slice_axis is not None:
            seen.insert(self.slice_axis, other)
        x, y, z = seen
        return x, y, z

    def axis(self, number: int) -> int:
        """Returns medseg's axis of one of nnU-Net's network."""
        shift = AXES - self.dims
        return AXES - 1 - self.transpose[number + shift]


def plan_of(
    plans: NnunetPlans,
    configuration: Configuration,
    architecture: Architecture,
    mirrored: Sequence[int],
    regions: tuple[LearntRegion, ...],
    where: str,
) -> Plan:
    """Returns medseg's plan.

    Args:
        plans: nnU-Net's plan.
        configuration: The one that was trained.
        architecture: Of medseg's network.
        mirrored: Axes of nnU-Net along which prediction may mirror.
        regions: What the outputs stand for.
        where: For messages: plans.json.

    Raises:
        ModelError: The plan asks for what medseg doesn't do.
    """
    order = AxisOrder(len(configuration.patch_size), plans.transpose_forward)
    if not len(configuration.spacing) == order.dims == len(architecture.strides[0]):
        raise ModelError(f"{where}: spacing, patch and network are of different numbers of axes")
    if any(axis >= order.dims for axis in mirrored):
        raise ModelError(f"{where}: the checkpoint mirrors axes {tuple(mirrored)}, and the patch has {order.dims}")
    try:
        return Plan(
            dims=order.dims,
            grid=_grid(plans, configuration, order, where),
            patch_size=order.in_space(configuration.patch_size, 1),
            batch_size=configuration.batch_size,
            slice_axis=order.slice_axis,
            architecture=architecture,
            mirrored_axes=tuple(sorted(order.axis(axis) for axis in mirrored)),
            regions=regions,
            windows=Windows(rule="nnunet"),
        )
    except ValidationError as error:
        raise ModelError(f"{where}: {explained(error)}") from error


def _grid(plans: NnunetPlans, configuration: Configuration, order: AxisOrder, where: str) -> Grid:
    if plans.image_reader_writer not in ORIENTATIONS:
        raise ModelError(
            f"{where}: images are read by '{plans.image_reader_writer}', which is none of {', '.join(ORIENTATIONS)}; "
            "medseg does not know which way the axes point"
        )
    if configuration.preprocessor_name != PREPROCESSOR:
        raise ModelError(
            f"{where}: images are prepared by '{configuration.preprocessor_name}'; medseg knows nnU-Net's "
            f"{PREPROCESSOR} only"
        )
    own = () if order.slice_axis is None else (order.slice_axis,)
    usual = next(iter(plans.original_median_spacing_after_transp), FLAT)
    return Grid(
        orientation=ORIENTATIONS[plans.image_reader_writer],
        spacing=order.in_space(configuration.spacing, usual if usual < FLAT else 1.0),
        own_spacing=own,
        crop_to_nonzero=True,
        fill_holes=True,
        normalization=_normalizations(plans, configuration, where),
        resampling=_resampling(configuration, where),
    )


def _normalizations(plans: NnunetPlans, configuration: Configuration, where: str) -> tuple[Normalization, ...]:
    schemes, masks = configuration.normalization_schemes, configuration.use_mask_for_norm
    if len(schemes) != len(masks):
        raise ModelError(f"{where}: {len(schemes)} normalization schemes, and masks for {len(masks)}")
    return tuple(
        _normalization(scheme, mask, plans, str(channel), where)
        for channel, (scheme, mask) in enumerate(zip(schemes, masks, strict=True))
    )


def _normalization(scheme: str, mask: bool, plans: NnunetPlans, channel: str, where: str) -> Normalization:
    """Returns the normalization of a channel: nnunetv2/preprocessing/normalization has each scheme."""
    match scheme:
        case "ZScoreNormalization":
            return Normalization(kind="zscore", nonzero=mask)
        case "NoNormalization":
            return Normalization(kind="none")
        case "RescaleTo01Normalization":
            return Normalization(kind="none", rescaled=(0, 1))
        case "RGBTo01Normalization":
            return Normalization(kind="linear", mean=0, std=LARGEST_GREY)
        case "CTNormalization":
            of_channel = plans.foreground_intensity_properties_per_channel.get(channel)
            if of_channel is None:
                raise ModelError(
                    f"{where}: does not say the intensities of channel {channel}, which CTNormalization needs"
                )
            return Normalization(
                kind="ct",
                lower=of_channel.percentile_00_5,
                upper=of_channel.percentile_99_5,
                mean=of_channel.mean,
                std=max(of_channel.std, SMALLEST_STD),
            )
    raise ModelError(f"{where}: channel {channel} is normalized by '{scheme}', which medseg does not know")


def _resampling(configuration: Configuration, where: str) -> Resampling:
    """Returns the rule by which images are resampled, and logits back: nnunetv2/preprocessing/resampling."""
    images, logits = configuration.resampling_fn_data_kwargs, configuration.resampling_fn_probabilities_kwargs
    functions = {configuration.resampling_fn_data, configuration.resampling_fn_probabilities}
    if functions == {TORCH}:
        interpolation, of_logits, across = "linear", "linear", 0
    elif functions == {SPLINE}:
        interpolation = INTERPOLATIONS.get(images.get("order", 3), "")
        of_logits = INTERPOLATIONS.get(logits.get("order", 1), "")
        across = images.get("order_z", 0) or logits.get("order_z", 0)
    else:
        raise ModelError(f"{where}: images are resampled by {' and '.join(sorted(functions))}, which medseg cannot do")
    separate = images.get("force_separate_z")
    same = separate == logits.get("force_separate_z") and separate in (None, True, False)
    usual = {*INTERPOLATIONS.values()} >= {interpolation} and of_logits == "linear" and across == 0 and same
    if not usual or images.get("separate_z_anisotropy_threshold", ANISOTROPIC) != ANISOTROPIC:
        raise ModelError(
            f"{where}: images are resampled with {images}, and logits with {logits}; medseg cannot do that"
        )
    return Resampling(rule="nnunet", interpolation=interpolation, separate_z=separate)
