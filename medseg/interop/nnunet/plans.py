"""plans.json of nnU-Net v2: what its configurations say that prediction needs. Those before 2.4 are read too.

Axes are nnU-Net's: those of the array (z, y, x), put in the order of ``transpose_forward``.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from medseg.architecture import MOST_STAGES
from medseg.errors import ModelError, did_you_mean
from medseg.records import read_object, validated

ADVICE = "copy the whole model folder again"
AXES = 3

VoxelEdge = Annotated[float, Field(ge=1e-6, le=1e4)]  # mm: from a few nanometres to ten metres
Stages = Annotated[int, Field(ge=1, le=MOST_STAGES)]
Count = Annotated[int, Field(ge=1, le=64)]  # of convolutions or blocks of a stage
Counts = Annotated[tuple[Count, ...], Field(max_length=MOST_STAGES)]
Edges = Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=AXES)]
EdgesByStage = Annotated[tuple[PositiveInt | Edges, ...], Field(min_length=1, max_length=MOST_STAGES)]


class _Read(BaseModel):
    """Of a file that nnU-Net writes: keys that nothing needs are left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, protected_namespaces=())


class ForegroundIntensities(_Read):
    """Of one channel, over the foreground of the training cases."""

    mean: float
    std: NonNegativeFloat
    percentile_00_5: float
    percentile_99_5: float


class NetworkArguments(_Read):
    """``arch_kwargs``: of the classes of dynamic_network_architectures."""

    n_stages: Stages
    features_per_stage: PositiveInt | tuple[PositiveInt, ...]
    kernel_sizes: PositiveInt | EdgesByStage
    strides: PositiveInt | EdgesByStage
    n_conv_per_stage: Count | Counts | None = None
    n_blocks_per_stage: Count | Counts | None = None
    n_conv_per_stage_decoder: Count | Counts
    conv_bias: bool = False
    norm_op: str | None = None
    norm_op_kwargs: dict[str, Any] | None = None
    nonlin: str | None = None
    nonlin_kwargs: dict[str, Any] | None = None
    nonlin_first: bool = False
    block: str | None = None
    bottleneck_channels: Any = None
    stem_channels: int | None = None


class NetworkPlan(_Read):
    """``architecture``: a class and its arguments."""

    network_class_name: str
    arch_kwargs: NetworkArguments


class Configuration(_Read):
    """One of ``configurations``, with what it inherits."""

    patch_size: Edges
    spacing: Annotated[tuple[VoxelEdge, ...], Field(min_length=2, max_length=AXES)]
    batch_size: PositiveInt = 2
    median_image_size_in_voxels: tuple[PositiveFloat, ...] = ()
    preprocessor_name: str = "DefaultPreprocessor"
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: str = "resample_data_or_seg_to_shape"
    resampling_fn_data_kwargs: dict[str, Any] = {}
    resampling_fn_probabilities: str = "resample_data_or_seg_to_shape"
    resampling_fn_probabilities_kwargs: dict[str, Any] = {}
    previous_stage: str | None = None
    architecture: NetworkPlan


class NnunetPlans(_Read):
    """plans.json."""

    plans_name: str = "nnUNetPlans"
    dataset_name: str = ""
    image_reader_writer: str = "SimpleITKIO"
    transpose_forward: tuple[Literal[0, 1, 2], Literal[0, 1, 2], Literal[0, 1, 2]] = (0, 1, 2)
    original_median_spacing_after_transp: tuple[PositiveFloat, ...] = ()
    foreground_intensity_properties_per_channel: dict[str, ForegroundIntensities] = {}
    configurations: dict[str, dict[str, Any]]

    def configuration(self, name: str, path: Path) -> Configuration:
        """Returns a configuration with what it inherits.

        Args:
            name: Of the configuration, as "3d_fullres".
            path: Of plans.json, for messages.

        Raises:
            ModelError: There is none of this name, or it is damaged.
        """
        content, seen = self._own(name, path), [name]
        while "inherits_from" in content:
            parent = str(content.pop("inherits_from"))
            if parent in seen:
                raise ModelError(f"{path}: the configurations {', '.join(seen)} inherit from each other; {ADVICE}")
            seen.append(parent)
            content = self._own(parent, path) | content
        if "architecture" not in content:
            content |= {"architecture": _architecture_before_2_4(content, path)}
        return validated(content, Configuration, path, ADVICE, ModelError)

    def _own(self, name: str, path: Path) -> dict[str, Any]:
        if name not in self.configurations:
            raise ModelError(f"{path}: has no configuration '{name}'{did_you_mean(name, self.configurations)}")
        return dict(self.configurations[name])


def read_nnunet_plans(path: Path) -> NnunetPlans:
    """Returns the content of plans.json, checked.

    Raises:
        ModelError: It is damaged.
    """
    content = read_object(path, ADVICE, ModelError)
    older = content.pop("foreground_intensity_properties_by_modality", None)
    if older is not None:
        content = {"foreground_intensity_properties_per_channel": older} | content
    plans = validated(content, NnunetPlans, path, ADVICE, ModelError)
    if sorted(plans.transpose_forward) != [0, 1, 2]:
        raise ModelError(f"{path}: 'transpose_forward' {plans.transpose_forward} is no order of axes; {ADVICE}")
    return plans


class _Before24(_Read):
    """What a configuration of nnU-Net before 2.4 says of its network."""

    UNet_class_name: str
    UNet_base_num_features: PositiveInt
    unet_max_num_features: PositiveInt
    n_conv_per_stage_encoder: Counts
    n_conv_per_stage_decoder: Counts
    pool_op_kernel_sizes: EdgesByStage
    conv_kernel_sizes: EdgesByStage


def _architecture_before_2_4(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns ``architecture`` as nnU-Net 2.4 makes it of older plans."""
    old = validated(content, _Before24, path, ADVICE, ModelError)
    stages = len(old.n_conv_per_stage_encoder)
    counts = "n_blocks_per_stage" if old.UNet_class_name == "ResidualEncoderUNet" else "n_conv_per_stage"
    return {
        "network_class_name": old.UNet_class_name,
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [
                min(old.UNet_base_num_features * 2**stage, old.unet_max_num_features) for stage in range(stages)
            ],
            "kernel_sizes": old.conv_kernel_sizes,
            "strides": old.pool_op_kernel_sizes,
            counts: old.n_conv_per_stage_encoder,
            "n_conv_per_stage_decoder": old.n_conv_per_stage_decoder,
            "conv_bias": True,
            "norm_op": "InstanceNorm",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "LeakyReLU",
        },
    }
