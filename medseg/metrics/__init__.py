"""Metrics of two masks and a spacing: overlap, surfaces, lesions, centre lines, pieces.

Each metric is a function of a prediction and a reference (masks of one shape: arrays or tensors of two values), and has
the form of MONAI's ``CumulativeIterationMetric`` too, for MONAI's loops and evaluators. What a function gives is None
where its formula is 0/0, and where a distance has no surface to go to; the MONAI form has nan there, which its means
leave out.

Example:
    >>> import numpy as np
    >>> from medseg.metrics import SurfaceDistances, assd, dice, hd, hd95, surface_dice, surface_distances
    >>> reference = np.zeros((20, 20, 20), bool)
    >>> reference[5:15, 5:15, 5:15] = True
    >>> prediction = np.roll(reference, 1, axis=0)
    >>> dice(prediction, reference)
    0.9
    >>> hd95(prediction, reference, spacing=(2.0, 1.0, 1.0))  # mm
    2.0
    >>> surface_dice(prediction, reference, spacing=(2.0, 1.0, 1.0), tolerance_mm=2.0)
    1.0
    >>> distances: SurfaceDistances
    >>> distances = surface_distances(prediction, reference, spacing=(2.0, 1.0, 1.0))  # once for all three
    >>> distances.assd_mm == assd(prediction, reference, spacing=(2.0, 1.0, 1.0))
    True
    >>> hd(prediction, reference, spacing=(2.0, 1.0, 1.0)) == distances.hd_mm
    True

The MONAI forms take batches, one-hot:

    >>> import torch
    >>> from medseg.metrics import HausdorffDistance95Metric, SurfaceDiceMetric
    >>> one_hot = torch.from_numpy(np.stack([~reference, reference])).float()[None]  # (batch, channel, x, y, z)
    >>> HausdorffDistance95Metric(spacing=(2.0, 1.0, 1.0))(one_hot.roll(1, dims=2), one_hot).item()
    2.0
    >>> SurfaceDiceMetric(tolerance_mm=2.0, spacing=(2.0, 1.0, 1.0))(one_hot.roll(1, dims=2), one_hot).item()
    1.0

Several at once, over the batches of a validation loop:

    >>> from medseg.metrics import (
    ...     AverageSurfaceDistanceMetric, CentrelineDiceMetric, HausdorffDistanceMetric, IoUMetric, LesionF1Metric,
    ...     PanopticQualityMetric, PrecisionMetric, SensitivityMetric,
    ... )
    >>> metrics = [
    ...     IoUMetric(), SensitivityMetric(), PrecisionMetric(), CentrelineDiceMetric(), LesionF1Metric(),
    ...     PanopticQualityMetric(), HausdorffDistanceMetric(spacing=1.0), AverageSurfaceDistanceMetric(spacing=1.0),
    ... ]
    >>> for metric in metrics:
    ...     _ = metric(one_hot, one_hot)  # for each batch
    >>> [metric.aggregate().item() for metric in metrics]
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.metrics.centreline import centreline_dice
    from medseg.metrics.iteration import (
        AverageSurfaceDistanceMetric,
        CentrelineDiceMetric,
        DiceMetric,
        HausdorffDistance95Metric,
        HausdorffDistanceMetric,
        IoUMetric,
        LesionF1Metric,
        PanopticQualityMetric,
        PrecisionMetric,
        SensitivityMetric,
        SurfaceDiceMetric,
    )
    from medseg.metrics.lesions import Lesions, match_lesions
    from medseg.metrics.mask_metric import MaskMetric
    from medseg.metrics.overlap import Overlap, count_overlaps, dice, iou, precision, sensitivity
    from medseg.metrics.rand import RandScores, rand_scores
    from medseg.metrics.surface import SurfaceDistances, assd, hd, hd95, surface_dice, surface_distances

# Where each name is defined. It is imported when it is first used: MONAI and scikit-image take seconds to import.
_HOMES = {
    "centreline": ("centreline_dice",),
    "iteration": (
        "AverageSurfaceDistanceMetric", "CentrelineDiceMetric", "DiceMetric", "HausdorffDistance95Metric",
        "HausdorffDistanceMetric", "IoUMetric", "LesionF1Metric", "PanopticQualityMetric", "PrecisionMetric",
        "SensitivityMetric", "SurfaceDiceMetric",
    ),
    "lesions": ("Lesions", "match_lesions"),
    "mask_metric": ("MaskMetric",),
    "overlap": ("Overlap", "count_overlaps", "dice", "iou", "precision", "sensitivity"),
    "rand": ("RandScores", "rand_scores"),
    "surface": ("SurfaceDistances", "assd", "hd", "hd95", "surface_dice", "surface_distances"),
}  # fmt: skip

__all__ = [
    "AverageSurfaceDistanceMetric", "CentrelineDiceMetric", "DiceMetric", "HausdorffDistance95Metric",
    "HausdorffDistanceMetric", "IoUMetric", "LesionF1Metric", "Lesions", "MaskMetric", "Overlap",
    "PanopticQualityMetric", "PrecisionMetric", "RandScores", "SensitivityMetric", "SurfaceDiceMetric",
    "SurfaceDistances", "assd", "centreline_dice", "count_overlaps", "dice", "hd", "hd95", "iou", "match_lesions",
    "precision", "rand_scores", "sensitivity", "surface_dice", "surface_distances",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"medseg.metrics.{module}"), name)
    raise AttributeError(f"module 'medseg.metrics' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
