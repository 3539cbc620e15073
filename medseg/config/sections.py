"""The settings by section, with their types, limits and defaults."""

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from medseg.records import ORIENTATION
from medseg.setting_types import (
    CallbackSpec,
    Duration,
    Mirror,
    OptimizerName,
    PositiveRange,
    Range,
    ScheduleName,
    ValidationMetric,
)

TransformSpec = dict[str, Any]  # {"name": "RandGaussianSharpend", "keys": ["image"], "prob": 0.2}


class Section(BaseModel):
    """A section of the settings: it refuses keys that it doesn't know."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class PreprocessingConfig(Section):
    """How cases are checked and brought to the model grid."""

    orientation: str = Field("RAS", pattern=ORIENTATION)
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None  # mm; None: derived from the fingerprint
    crop_to_nonzero: bool = True
    normalization: Literal["auto", "ct", "zscore", "none"] = "auto"  # auto: ct where the channel's name is CT
    geometry_tolerance: float = Field(0.05, gt=0, lt=1)  # part of the smallest voxel edge
    registered: bool = False  # the channels of a case show one place, and are resampled to the grid of the first
    allow_empty_labels: bool = False
    ignore_value: int | None = None  # of voxels that nobody annotated; dataset.json may name it too: {"ignore": 255}
    workers: int | None = Field(None, ge=1)  # None: one a processor core

    transforms: list[TransformSpec] = []  # MONAI dictionary transforms by name, after normalization and resampling


class PlanningConfig(Section):
    """Limits within which the plan is derived."""

    patch_size: tuple[Annotated[int, Field(ge=1)], ...] | None = None  # voxels; 3 numbers for 3D, 2 for 2D
    max_patch_voxels: int = Field(128**3, ge=512)  # 3D patch on a GPU; 2D: 16 slices of its cube
    cpu_patch_voxels: int = Field(2**17, ge=512)  # 3D patch where the processor trains
    max_batch_voxels: int = Field(2 * 128**3, ge=512)
    base_features: int = Field(32, ge=4)
    # On a processor, with a hundredth of a GPU's speed. None: 16, or with training.max_time what there is time for.
    cpu_base_features: int | None = Field(None, ge=4)
    cpu_half_resolution: bool | None = None  # of the U-Net's first stage; None: in 3D, where patches would show little


class NetworkConfig(Section):
    """The network; None takes the plan's."""

    name: str = "unet"
    features: list[Annotated[int, Field(ge=1)]] | None = None  # one number a stage
    deep_supervision: bool = True
    convolutions_per_stage: int = Field(2, ge=1)
    arguments: dict[str, Any] = {}  # what this network alone knows; 'medseg networks NAME' lists it
    weights: str | None = None  # a file of weights to begin with: weights.safetensors, or Google's .npz for transunet
    checkpointing: bool = False  # compute activations again in the backward pass: less memory, a third more time


class LossConfig(Section):
    """What training makes small."""

    # dice-ce: Dice and cross-entropy, weighed by training.dice_weight and ce_weight. To these cc-dice-ce and blob add
    # each component of a label, skeleton-recall and cldice the middle of tubes; tversky and focal weigh them otherwise.
    # monai.DiceFocalLoss, or another loss of MONAI for segmentation; one that a plugin registers.
    name: str = "dice-ce"
    arguments: dict[str, Any] = {}  # of the loss: component_weight, tube_weight, alpha, gamma, …


class AugmentationConfig(Section):
    """Probabilities and ranges as in nnU-Net (Isensee 2021, supplement); ``transforms`` adds MONAI's by name."""

    rotation_probability: float = Field(0.2, ge=0, le=1)
    # None: as the patch allows: 30 in 3D; within one plane 180, or 15 where the patch is elongated.
    rotation_degrees: float | None = Field(None, ge=0, le=180)
    scaling_probability: float = Field(0.2, ge=0, le=1)
    scaling_range: PositiveRange = (0.7, 1.4)
    noise_probability: float = Field(0.1, ge=0, le=1)
    noise_variance: Range = (0.0, 0.01)  # nnU-Net's code calls .1 a variance and uses it as a deviation
    blur_probability: float = Field(0.2, ge=0, le=1)
    blur_sigma: PositiveRange = (0.5, 1.0)  # voxels
    brightness_probability: float = Field(0.15, ge=0, le=1)
    brightness_range: PositiveRange = (0.75, 1.25)
    contrast_probability: float = Field(0.15, ge=0, le=1)
    contrast_range: PositiveRange = (0.75, 1.25)
    low_resolution_probability: float = Field(0.25, ge=0, le=1)
    low_resolution_zoom: PositiveRange = (0.5, 1.0)
    gamma_probability: float = Field(0.3, ge=0, le=1)
    gamma_range: PositiveRange = (0.7, 1.5)
    inverted_gamma_probability: float = Field(0.1, ge=0, le=1)
    colour_probability: float = Field(0.0, ge=0, le=1)  # of pictures in colour (three channels)
    hue_degrees: float = Field(20.0, ge=0, le=180)  # by which their hue is turned, to both sides
    saturation_range: PositiveRange = (0.7, 1.4)
    channel_dropout_probability: float = Field(0.0, ge=0, le=1)  # some channels are zeros; cases may then lack some
    # Along which axes. left-right: not where labels come in left-right pairs, which it would swap. all: also upside
    # down and back to front, as no patient is. auto: none in volumes, all in flat images, which have no sides.
    mirror: Mirror = "auto"
    transforms: list[TransformSpec] = []


class TrainingConfig(Section):
    """The schedule. With ``max_time`` the learning rate follows the clock, else the epochs."""

    epochs: int = Field(500, ge=1)
    steps_per_epoch: int = Field(50, ge=1)
    max_time: Duration | None = None  # seconds, or "90s", "30m", "2h", "1d"; the whole run, validation included
    fit_to_time: bool = True  # max_time also chooses width, patch and batch, by how long steps take on this machine
    fit_inference: bool = True  # at its end: windows and int8 that are faster and cost at most .002 of Dice
    batch_size: int | None = Field(None, ge=1)  # None: the plan's
    # muon, adamw or sgd; torch.RAdam, or another optimizer of PyTorch; one that a plugin registers.
    optimizer: OptimizerName = "muon"
    optimizer_arguments: dict[str, Any] = {}  # of PyTorch's or the plugin's, beside the learning rate
    learning_rate: float | None = Field(None, gt=0)  # None: the network's, for muon and adamw; see 'medseg networks'
    weight_decay: float = Field(1e-2, ge=0)  # for muon, adamw and sgd
    momentum: float = Field(0.99, ge=0, lt=1)  # for sgd, with Nesterov
    warm_up: float = Field(0.02, ge=0, lt=1)  # part of the schedule in which the rate rises to its full value
    schedule: ScheduleName = "cosine"  # or poly; one of a plugin
    callbacks: list[CallbackSpec] = []  # arguments of those of plugins
    gradient_clip: float = Field(12.0, gt=0)
    # Of the exponential average of the weights; 0: none. None: grows with the steps, so that it is always one over the
    # last tenth of them.
    average_decay: float | None = Field(None, ge=0, lt=1)
    # What is learnt: labels, of which each voxel has one (softmax), or regions, which may overlap (a sigmoid each).
    # auto: regions, where the dataset names some that make a label map.
    outputs: Literal["auto", "labels", "regions"] = "auto"
    # Of single objects, where the dataset names labels whose objects are told apart: how deep a voxel lies in its
    # object, and whether it is more than a voxel and a half away from the border. []: nothing.
    object_targets: list[Literal["distance", "core"]] = ["distance", "core"]
    object_weight: float = Field(1.0, ge=0)  # of their loss, beside that of the labels
    dice_weight: float = Field(1.0, ge=0)
    ce_weight: float = Field(1.0, ge=0)
    foreground_fraction: float = Field(1 / 3, ge=0, le=1)  # of patches centred on a labelled voxel
    # Which voxel of a case: labels: each label that it has equally often. components: of all cases each label equally
    # often, then each connected component of it, then each voxel; for labels that few cases have, and for small ones.
    foreground_by: Literal["labels", "components"] = "labels"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    # Of a processor. None: fewer than there are, while these are faster since another program is busy. A number: always
    # so many, so that a resumed run has the same weights to the bit.
    threads: int | None = Field(None, ge=1)
    compile: bool = False  # by torch.compile; gained nothing on the processors where it was measured
    seed: int = Field(0, ge=0, lt=2**63)
    fold: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    folds: int = Field(5, ge=2)
    init: str | None = None  # a RUN or a model to begin with; its labels and channels may be others
    teacher: str | None = None  # a larger model, whose probabilities a network of half its width learns too
    teacher_weight: float = Field(1.0, gt=0)  # of these, beside the loss of the labels
    # Whether the network takes prompts, too: clicks, boxes, scribbles. labels: at its labels; any: also at what has no
    # label, at unions and at parts. None: as the model that it begins with.
    prompts: Literal["none", "labels", "any"] | None = None
    # By what of the held-back cases the best weights are chosen, on the model grid: the mean over labels and regions.
    # Surfaces within 1 mm are the same; lesions match where their IoU is above .5.
    metric: ValidationMetric = "dice"
    patience: int | None = Field(None, ge=1)  # validations without a better ``metric`` after which the run ends
    validation_share: float = Field(0.1, gt=0, lt=1)  # most of the time that validation may take


class InferenceConfig(Section):
    """How windows are laid and averaged."""

    overlap: Annotated[float, Field(ge=0, lt=1)] | None = None  # None: .5, or what training.fit_inference finds
    window: tuple[Annotated[int, Field(ge=1)], ...] | None = None  # voxels along each axis; None: the patch, or so too
    mirror: bool = False  # average over all mirrored images; four (2D) or eight (3D) times the work
    window_batch_size: int | None = Field(None, ge=1)  # None: 4 in 3D, 16 in 2D
    skip_air: bool = True  # in CT, the network is asked only once what it says of windows without a body
    first_look: bool = False  # at half the resolution, for where it pays to look finely; for large scans
    # Of imported models: by the rule of their plan, which is that of where they were trained, or by medseg's own.
    resampling: Literal["plan", "medseg"] = "plan"


class Config(Section):
    """All settings of medseg, by section."""

    preprocessing: PreprocessingConfig = PreprocessingConfig()
    planning: PlanningConfig = PlanningConfig()
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()

    def to_yaml(self) -> str:
        """Returns all settings as YAML, in the order of the sections."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
