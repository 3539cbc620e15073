"""The augmentation of a training batch: nnU-Net's recipe, then the user's own MONAI transforms."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from monai.utils import convert_to_tensor

from medseg.config import AugmentationConfig
from medseg.errors import ConfigError, cause_of
from medseg.plan import Plan
from medseg.transforms.augmentation.batch import Batch, BatchTransform
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


class Augmentation:
    """A list of batch transforms. The same seed does the same to the same batch, on every device."""

    def __init__(self, transforms: Sequence[BatchTransform]) -> None:
        self.transforms = tuple(transforms)

    def __call__(
        self, batch: Batch, seed: int | Sequence[int], *, first: int = 0, n_samples: int | None = None
    ) -> Batch:
        """The batch augmented; its tensors are left as they were. ``seed`` may be a sequence: (run, step).

        ``batch`` may hold a part only of ``n_samples``, from ``first`` on: what happens to them is the same.
        """
        seeds = np.random.SeedSequence(seed).generate_state(len(self.transforms))
        # Under autocast the sampling grid would be computed in half precision: voxels off.
        with torch.no_grad(), torch.autocast(batch["image"].device.type, enabled=False):
            for transform, transform_seed in zip(self.transforms, seeds, strict=True):
                transform.set_random_state(seed=int(transform_seed))
                transform.first, transform.n_samples = first, n_samples
                batch = transform(batch)
        return batch


class EachSample(BatchTransform):
    """A MONAI dictionary transform of single samples (channel, *spatial), for each sample of a batch."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, data: Batch) -> Batch:
        seeds = self.R.randint(2**31, size=self.drawn_for(data))[self.own(data)]
        samples = [
            self._transformed({"image": image.clone(), "label": label.clone()}, int(seed))
            for image, label, seed in zip(data["image"], data["label"], seeds, strict=True)
        ]
        return {
            **data,
            "image": torch.stack([sample["image"] for sample in samples]),
            "label": torch.stack([sample["label"] for sample in samples]),
        }

    def _transformed(self, sample: Batch, seed: int) -> Batch:
        name = type(self.transform).__name__
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed=seed)
        try:
            changed = self.transform(dict(sample))
            result: Batch = {
                key: convert_to_tensor(changed[key], before.dtype, before.device, track_meta=False)
                for key, before in sample.items()
            }
        except Exception as error:
            cause = cause_of(error)
            reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
            raise ConfigError(f"augmentation.transforms: {name} failed on a patch: {reason}") from error
        for key, before in sample.items():
            if result[key].shape != before.shape:
                raise ConfigError(
                    f"augmentation.transforms: {name} makes {tuple(result[key].shape)} of the {key} "
                    f"{tuple(before.shape)}; only transforms that keep the shape can be used"
                )
        return result


def augmentation_for(plan: Plan, config: AugmentationConfig) -> Augmentation:
    """The augmentation of the plan's patches."""
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
    """The augmentation of patches with ``dims`` spatial axes, of which ``mirror_axes`` may be mirrored.

    ``patch_size`` (voxels) and ``spacing`` (mm) have one number per axis that the network sees. Steps with
    probability 0 are left out. Raises ``ConfigError`` for wrong ``config.transforms``.
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
        *_intensity_steps(config, fixed_axis),
        (float(len(mirror_axes) > 0), RandFlipBatch(mirror_axes)),
    ]
    own = [EachSample(monai_transform(spec)) for spec in config.transforms]
    dropout = config.channel_dropout_probability
    last = [RandChannelDropoutBatch(dropout)] if dropout > 0 else []  # nothing may fill a channel again
    return Augmentation([*(transform for probability, transform in steps if probability > 0), *own, *last])


def _intensity_steps(config: AugmentationConfig, fixed_axis: int | None) -> list[Step]:
    """Each with its probability, in nnU-Net's order."""
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
    """The axis across thick slices, out of which nothing is rotated; None in 2D and where there is none.

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
    """Degrees to both sides, nnU-Net's: 30 about three axes; within one plane 180, or 15 where the patch is
    elongated (one edge more than 1.5 times the other, in mm)."""
    fixed_axis = through_plane_axis(patch_size, spacing)
    if len(patch_size) == 3 and fixed_axis is None:
        return 30.0
    edges = [n * mm for n, mm in zip(patch_size, spacing, strict=True)]
    if fixed_axis is not None:
        del edges[fixed_axis]
    return 15.0 if max(edges) > ELONGATED * min(edges) else 180.0
