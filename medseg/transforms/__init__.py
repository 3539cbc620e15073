"""Preprocessing and augmentation as MONAI has them: transforms of dictionaries, invertible, for a ``Compose``.

Names are imported when they are first used, since PyTorch and MONAI take seconds to import.

Transforms of whole batches, each with its probability:

    >>> import torch
    >>> from medseg.transforms import (
    ...     Augmentation, RandAffineBatch, RandBrightnessBatch, RandChannelDropoutBatch, RandContrastBatch,
    ...     RandGammaBatch, RandGaussianBlurBatch, RandGaussianNoiseBatch, RandLowResolutionBatch,
    ... )
    >>> augment = Augmentation([
    ...     RandAffineBatch(spacing=(3.0, 1.0, 1.0), fixed_axis=0), RandGaussianNoiseBatch(0.1),
    ...     RandGaussianBlurBatch(0.2), RandBrightnessBatch(0.15), RandContrastBatch(0.15),
    ...     RandLowResolutionBatch(0.25), RandGammaBatch(0.3), RandChannelDropoutBatch(0.1),
    ... ])
    >>> batch = {"image": torch.rand(2, 2, 8, 8, 8), "label": torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)}
    >>> augment(batch, seed=1)["image"].shape
    torch.Size([2, 2, 8, 8, 8])

A label map of the model grid, back on the grid of its source:

    >>> import numpy as np
    >>> from medseg.transforms import restore, restore_label_map
    >>> from medseg.volume import Geometry
    >>> source = Geometry((10, 12, 14), np.eye(4))
    >>> grid = Geometry((5, 6, 7), np.array([[2.0, 0, 0, 0.5], [0, 2.0, 0, 0.5], [0, 0, 2.0, 0.5], [0, 0, 0, 1]]))
    >>> restore_label_map(torch.full((5, 6, 7), 3, dtype=torch.uint8), grid, source).unique().tolist()
    [3]
    >>> logits = torch.zeros(2, 5, 6, 7)  # (label, x, y, z)
    >>> logits[1] = 1
    >>> restore(logits, grid, source).shape
    (10, 12, 14)

What a plan does with a volume, and who looks at its logits part by part on the way back:

    >>> from medseg.plan import Grid, Normalization
    >>> from medseg.transforms import Prepared, Preprocessing, Restored, Restoring, build_preprocessing, prepare
    >>> from medseg.volume import Volume
    >>> rules = Grid(
    ...     orientation="RAS", spacing=(2, 2, 2), crop_to_nonzero=False, normalization=(Normalization(kind="zscore"),)
    ... )
    >>> volume = Volume(np.random.default_rng(0).normal(100, 10, (1, *source.shape)), source)
    >>> prepared: Prepared = prepare(volume, None, rules)
    >>> as_transforms: Preprocessing = build_preprocessing(rules)  # the same as a Compose, for Invertd
    >>> largest = []
    >>> def observe(part: Restored) -> None:
    ...     largest.append(part.logits().max().item())
    >>> restoring = Restoring(prepared.geometry, source=source, axis=0, observers=[observe])
    >>> restoring.take(torch.ones(*prepared.geometry.shape, 2), start=0)  # (x, y, z, label)
    >>> max(largest)
    1.0
"""

from typing import TYPE_CHECKING

from medseg.lazy_names import lazy_names

if TYPE_CHECKING:
    from medseg.transforms.augmentation.batch import BatchTransform
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
    from medseg.transforms.augmentation.pipeline import Augmentation, EachSample, augmentation_for, build_augmentation
    from medseg.transforms.augmentation.spatial import RandAffineBatch, RandFlipBatch
    from medseg.transforms.model_grid import ModelGridRule
    from medseg.transforms.normalize import ClipExtremesd, NormalizeChannelsd
    from medseg.transforms.prepared import Prepared, prepare
    from medseg.transforms.preprocessing import Preprocessing, build_preprocessing
    from medseg.transforms.reading import ReadVolumed
    from medseg.transforms.registry import monai_transform
    from medseg.transforms.restoring import Restored, Restoring, restore, restore_label_map
    from medseg.transforms.spatial import OrthogonalGridd, ResampleToSpacingd

_HOMES = {
    "Augmentation": "medseg.transforms.augmentation.pipeline",
    "BatchTransform": "medseg.transforms.augmentation.batch",
    "ClipExtremesd": "medseg.transforms.normalize",
    "EachSample": "medseg.transforms.augmentation.pipeline",
    "ModelGridRule": "medseg.transforms.model_grid",
    "NormalizeChannelsd": "medseg.transforms.normalize",
    "OrthogonalGridd": "medseg.transforms.spatial",
    "Prepared": "medseg.transforms.prepared",
    "Preprocessing": "medseg.transforms.preprocessing",
    "RandAffineBatch": "medseg.transforms.augmentation.spatial",
    "RandBrightnessBatch": "medseg.transforms.augmentation.intensity",
    "RandChannelDropoutBatch": "medseg.transforms.augmentation.intensity",
    "RandColourBatch": "medseg.transforms.augmentation.colour",
    "RandContrastBatch": "medseg.transforms.augmentation.intensity",
    "RandFlipBatch": "medseg.transforms.augmentation.spatial",
    "RandGammaBatch": "medseg.transforms.augmentation.intensity",
    "RandGaussianBlurBatch": "medseg.transforms.augmentation.intensity",
    "RandGaussianNoiseBatch": "medseg.transforms.augmentation.intensity",
    "RandLowResolutionBatch": "medseg.transforms.augmentation.intensity",
    "ReadVolumed": "medseg.transforms.reading",
    "ResampleToSpacingd": "medseg.transforms.spatial",
    "Restored": "medseg.transforms.restoring",
    "Restoring": "medseg.transforms.restoring",
    "augmentation_for": "medseg.transforms.augmentation.pipeline",
    "build_augmentation": "medseg.transforms.augmentation.pipeline",
    "build_preprocessing": "medseg.transforms.preprocessing",
    "monai_transform": "medseg.transforms.registry",
    "prepare": "medseg.transforms.prepared",
    "restore": "medseg.transforms.restoring",
    "restore_label_map": "medseg.transforms.restoring",
}

__all__ = [
    "Augmentation", "BatchTransform", "ClipExtremesd", "EachSample", "ModelGridRule", "NormalizeChannelsd",
    "OrthogonalGridd", "Prepared", "Preprocessing", "RandAffineBatch", "RandBrightnessBatch", "RandChannelDropoutBatch",
    "RandColourBatch", "RandContrastBatch", "RandFlipBatch", "RandGammaBatch", "RandGaussianBlurBatch",
    "RandGaussianNoiseBatch", "RandLowResolutionBatch", "ReadVolumed", "ResampleToSpacingd", "Restored", "Restoring",
    "augmentation_for", "build_augmentation", "build_preprocessing", "monai_transform", "prepare", "restore",
    "restore_label_map",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
