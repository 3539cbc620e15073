"""The augmentation of a training batch: nnU-Net's recipe, then the user's own MONAI transforms."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import Compose, Randomizable, Transform
from monai.utils import convert_to_tensor

from medseg.config import AugmentationConfig
from medseg.errors import ConfigError, cause_of, lacks_memory
from medseg.plan import Plan
from medseg.plugin_errors import error_of_plugin
from medseg.transforms.augmentation.batch import MODES, BatchData, BatchTransform
from medseg.transforms.augmentation.colour import RandColourBatch
from medseg.transforms.augmentation.intensity import (
    RandBrightnessBatch,
    RandChannelDropoutBatch,
    RandContrastBatch,
    RandGammaBatch,
    RandGaussianBlurBatch,
    RandGaussianNoiseBatch,
    RandLowResolutionBatch,
)
from medseg.transforms.augmentation.spatial import RandAffineBatch, RandFlipBatch
from medseg.transforms.registry import monai_transform

# nnU-Net's: above these ratios an axis is left out of rotations, or a plane is rotated by a few degrees only.
ANISOTROPIC = 3.0
ELONGATED = 1.5

Step = tuple[float, BatchTransform]


class Augmentation(Compose):
    """A ``Compose`` of batch transforms: the batch augmentation of training, usable on any dictionary of tensors.

    The same seed does the same to the same batch, on every device. Without a seed it draws as other random transforms
    of MONAI do: ``set_random_state(seed)`` makes the whole series of batches reproducible.

    Examples:
        >>> import torch
        >>> from medseg.transforms import RandFlipBatch
        >>> augment = Augmentation([RandFlipBatch(axes=(0, 1, 2), prob=1.0)])
        >>> batch = {"image": torch.arange(8.0).view(1, 1, 2, 2, 2), "label": torch.zeros(1, 1, 2, 2, 2)}
        >>> augment(batch, seed=(0, 7))["image"].flatten().tolist()
        [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    """

    def __init__(self, transforms: Sequence[BatchTransform]) -> None:
        """Takes the ``transforms``, in their order."""
        super().__init__(list(transforms))

    def __call__(  # type: ignore[override]  # where MONAI has start and end, there is the seed: a batch goes through all
        self,
        batch: BatchData,
        seed: int | Sequence[int] | None = None,
        *,
        first: int = 0,
        n_samples: int | None = None,
        lazy: bool | None = None,
    ) -> BatchData:
        """Returns the batch augmented; its tensors are left as they were.

        Args:
            batch: ``image`` (sample, channel, *spatial), and ``label`` (sample, 1, *spatial) if there is one, on one
                device, and whatever else, which passes through. What were ``MetaTensor``s are plain tensors afterwards:
                a rotated patch has no affine of its source any more.
            seed: may be a sequence: (run, step). None: goes on from ``set_random_state``.
            first: which sample of the whole batch is the first one here; what happens to a sample is the same whether
                the batch is whole or shared by several processes.
            n_samples: of the whole batch; None: as many as there are here.
            lazy: changes nothing: MONAI's ``Compose`` hands it to a ``Compose`` inside of it.

        Raises:
            ConfigError: where a transform of the user fails, or changes the shape.
        """
        batch = {**batch, **{key: convert_to_tensor(batch[key], track_meta=False) for key in MODES if key in batch}}
        seeds = None if seed is None else np.random.SeedSequence(seed).generate_state(len(self.transforms))
        # Under autocast the sampling grid would be computed in half precision: voxels off.
        with torch.no_grad(), torch.autocast(batch["image"].device.type, enabled=False):
            for i, transform in enumerate(self.transforms):
                if seeds is not None:
                    transform.set_random_state(seed=int(seeds[i]))
                transform.first, transform.n_samples = first, n_samples
                batch = transform(batch)
        return batch


class EachSample(BatchTransform):
    """Applies a MONAI dictionary transform of single samples ``(channel, *spatial)`` to each sample of a batch.

    Args:
        transform: A dictionary transform, which sees ``image`` and ``label``; a random one is seeded for each sample.

    Raises:
        ConfigError: The transform fails, or changes the shape.

    Examples:
        >>> import torch
        >>> from monai.transforms import RandGaussianSharpend
        >>> from medseg.transforms import EachSample
        >>> sharpen = EachSample(RandGaussianSharpend(["image"], prob=1.0))
        >>> batch = {"image": torch.rand(2, 1, 8, 8, 8), "label": torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)}
        >>> sharpen(batch)["image"].shape
        torch.Size([2, 1, 8, 8, 8])
    """

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, data: BatchData) -> BatchData:
        """Returns the batch with each sample transformed."""
        seeds = self.R.randint(2**31, size=self.drawn_for(data))[self.own(data)]
        keys = [key for key in MODES if key in data]
        samples = [
            self._transformed({key: data[key][i].clone() for key in keys}, int(seed)) for i, seed in enumerate(seeds)
        ]
        return {**data, **{key: torch.stack([sample[key] for sample in samples]) for key in keys}}

    def _transformed(self, sample: BatchData, seed: int) -> BatchData:
        name = type(self.transform).__name__
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed=seed)
        try:
            changed = self.transform(dict(sample))
            result: BatchData = {
                key: convert_to_tensor(changed[key], before.dtype, before.device, track_meta=False)
                for key, before in sample.items()
            }
        except Exception as error:  # whatever its author, MONAI and PyTorch say about a patch
            cause = cause_of(error)
            if lacks_memory(cause):
                raise
            reason = error_of_plugin(error) or f"{type(cause).__name__}: {' '.join(str(cause).split())}"
            raise ConfigError(f"augmentation.transforms: {name} failed on a patch: {reason}") from error
        for key, before in sample.items():
            if result[key].shape != before.shape:
                raise ConfigError(
                    f"augmentation.transforms: {name} makes {tuple(result[key].shape)} of the {key} "
                    f"{tuple(before.shape)}; only transforms that keep the shape can be used"
                )
        return result


def augmentation_for(plan: Plan, config: AugmentationConfig) -> Augmentation:
    """Returns the augmentation that ``medseg train`` applies to batches of the plan's patches.

    Args:
        plan: of a model (``model.json``) or a prepared dataset (``plan.json``).
        config: the section ``augmentation`` of the settings; ``AugmentationConfig()`` has the defaults.

    Raises:
        ConfigError: for wrong ``config.transforms``.

    Examples:
        >>> from medseg.config import AugmentationConfig
        >>> from medseg.dataset import PreparedDataset
        >>> plan = PreparedDataset("prepared").plans.plan_3d  # what medseg preprocess wrote
        >>> augment = augmentation_for(plan, AugmentationConfig())
        >>> type(augment).__name__
        'Augmentation'
    """
    return build_augmentation(
        config,
        dims=plan.dims,
        patch_size=plan.network_patch,
        spacing=[plan.grid.spacing[axis] for axis in plan.spatial_axes],
        mirror_axes=[plan.spatial_axes.index(axis) for axis in plan.mirrored_axes],
    )


def build_augmentation(
    config: AugmentationConfig,
    *,
    dims: int,
    patch_size: Sequence[int],
    spacing: Sequence[float],
    mirror_axes: Sequence[int],
) -> Augmentation:
    """Returns the augmentation of patches of any shape. Steps with probability 0 are left out.

    Args:
        config: the section ``augmentation`` of the settings.
        dims: how many spatial axes patches have, 2 or 3.
        patch_size: voxels, one number for each axis that the network sees.
        spacing: mm, one number for each of them.
        mirror_axes: along which of them patches may be mirrored.

    Raises:
        ConfigError: for wrong ``config.transforms``.

    Examples:
        >>> import torch
        >>> from medseg.config import AugmentationConfig
        >>> augment = build_augmentation(
        ...     AugmentationConfig(), dims=2, patch_size=(8, 8), spacing=(1.0, 1.0), mirror_axes=()
        ... )
        >>> batch = {"image": torch.rand(4, 1, 8, 8), "label": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)}
        >>> tuple(augment(batch, seed=3)["image"].shape)
        (4, 1, 8, 8)
    """
    if not len(patch_size) == len(spacing) == dims:
        raise ValueError(f"patch_size {patch_size} and spacing {spacing} should have {dims} numbers each")
    fixed_axis = through_plane_axis(patch_size, spacing)
    degrees = config.rotation_degrees
    affine = RandAffineBatch(
        spacing,
        rotation_prob=config.rotation_probability,
        rotation_degrees=rotation_limit(patch_size, spacing) if degrees is None else degrees,
        scaling_prob=config.scaling_probability,
        scaling_range=config.scaling_range,
        fixed_axis=fixed_axis,
    )
    steps: list[Step] = [
        (max(config.rotation_probability, config.scaling_probability), affine),
        (
            config.colour_probability,
            RandColourBatch(config.colour_probability, config.hue_degrees, config.saturation_range),
        ),
        *_intensity_steps(config, fixed_axis),
        (float(len(mirror_axes) > 0), RandFlipBatch(mirror_axes)),
    ]
    own = [EachSample(monai_transform(spec)) for spec in config.transforms]
    dropout = config.channel_dropout_probability
    last = [RandChannelDropoutBatch(dropout)] if dropout > 0 else []  # nothing may fill a channel again
    return Augmentation([*(transform for probability, transform in steps if probability > 0), *own, *last])


def _intensity_steps(config: AugmentationConfig, fixed_axis: int | None) -> list[Step]:
    """Returns the transforms of intensities, each with its probability, in nnU-Net's order."""
    noise, blur, zoom = config.noise_probability, config.blur_probability, config.low_resolution_probability
    brightness, contrast = config.brightness_probability, config.contrast_probability
    gamma, inverted = config.gamma_probability, config.inverted_gamma_probability
    return [
        (noise, RandGaussianNoiseBatch(noise, config.noise_variance)),
        (blur, RandGaussianBlurBatch(blur, config.blur_sigma)),
        (brightness, RandBrightnessBatch(brightness, config.brightness_range)),
        (contrast, RandContrastBatch(contrast, config.contrast_range)),
        (zoom, RandLowResolutionBatch(zoom, config.low_resolution_zoom, fixed_axis=fixed_axis)),
        (inverted, RandGammaBatch(inverted, config.gamma_range, invert=True)),
        (gamma, RandGammaBatch(gamma, config.gamma_range)),
    ]


def through_plane_axis(patch_size: Sequence[int], spacing: Sequence[float]) -> int | None:
    """Returns the axis across thick slices, out of which nothing is rotated; None in 2D and where there is none.

    It is more than 3 times as coarse as both others, or has less than a third of the longest edge's voxels.
    """
    if len(spacing) < 3:
        return None
    finer, coarsest = sorted(spacing)[-2:]
    if coarsest > ANISOTROPIC * finer:
        return list(spacing).index(coarsest)
    if max(patch_size) > ANISOTROPIC * min(patch_size):
        return list(patch_size).index(min(patch_size))
    return None


def rotation_limit(patch_size: Sequence[int], spacing: Sequence[float]) -> float:
    """Returns nnU-Net's limit of rotation, in degrees to both sides.

    It is 30 about three axes; within one plane 180, or 15 where the patch is elongated: one edge is more than 1.5 times
    the other, in mm.

    Args:
        patch_size: Voxels along each axis.
        spacing: Edges of a voxel in mm, in array-axis order.

    Examples:
        >>> rotation_limit((64, 64, 64), (1.0, 1.0, 1.0))
        30.0
        >>> rotation_limit((256, 128), (1.0, 1.0))
        15.0
    """
    fixed_axis = through_plane_axis(patch_size, spacing)
    if len(patch_size) == 3 and fixed_axis is None:
        return 30.0
    edges = [n * mm for n, mm in zip(patch_size, spacing, strict=True)]
    if fixed_axis is not None:
        del edges[fixed_axis]
    return 15.0 if max(edges) > ELONGATED * min(edges) else 180.0
