"""Preprocessing and augmentation as MONAI has them: transforms of dictionaries, invertible, for a ``Compose``.

Names are imported when they are first used, since PyTorch and MONAI take seconds to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.transforms.augmentation.batch import BatchTransform
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
    from medseg.transforms.normalize import ClipExtremesd, NormalizeChannelsd
    from medseg.transforms.preprocessing import Prepared, Preprocessing, build_preprocessing, prepare
    from medseg.transforms.reading import ReadVolumed
    from medseg.transforms.registry import monai_transform
    from medseg.transforms.restoring import Restored, Restoring, restore, restore_label_map
    from medseg.transforms.spatial import OrthogonalGridd, ResampleToSpacingd

_HOMES = {
    "Augmentation": "augmentation.pipeline",
    "BatchTransform": "augmentation.batch",
    "ClipExtremesd": "normalize",
    "EachSample": "augmentation.pipeline",
    "NormalizeChannelsd": "normalize",
    "OrthogonalGridd": "spatial",
    "Prepared": "preprocessing",
    "Preprocessing": "preprocessing",
    "RandAffineBatch": "augmentation.spatial",
    "RandBrightnessBatch": "augmentation.intensity",
    "RandChannelDropoutBatch": "augmentation.intensity",
    "RandContrastBatch": "augmentation.intensity",
    "RandFlipBatch": "augmentation.spatial",
    "RandGammaBatch": "augmentation.intensity",
    "RandGaussianBlurBatch": "augmentation.intensity",
    "RandGaussianNoiseBatch": "augmentation.intensity",
    "RandLowResolutionBatch": "augmentation.intensity",
    "ReadVolumed": "reading",
    "ResampleToSpacingd": "spatial",
    "Restored": "restoring",
    "Restoring": "restoring",
    "augmentation_for": "augmentation.pipeline",
    "build_augmentation": "augmentation.pipeline",
    "build_preprocessing": "preprocessing",
    "monai_transform": "registry",
    "prepare": "preprocessing",
    "restore": "restoring",
    "restore_label_map": "restoring",
}

__all__ = [
    "Augmentation", "BatchTransform", "ClipExtremesd", "EachSample", "NormalizeChannelsd", "OrthogonalGridd",
    "Prepared", "Preprocessing", "RandAffineBatch", "RandBrightnessBatch", "RandChannelDropoutBatch",
    "RandContrastBatch", "RandFlipBatch", "RandGammaBatch", "RandGaussianBlurBatch", "RandGaussianNoiseBatch",
    "RandLowResolutionBatch", "ReadVolumed", "ResampleToSpacingd", "Restored", "Restoring", "augmentation_for",
    "build_augmentation", "build_preprocessing", "monai_transform", "prepare", "restore", "restore_label_map",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg.transforms' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"medseg.transforms.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
