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

from typing import TYPE_CHECKING

from medseg.lazy_names import lazy_names

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

_HOMES = {
    "AverageSurfaceDistanceMetric": "medseg.metrics.iteration",
    "CentrelineDiceMetric": "medseg.metrics.iteration",
    "DiceMetric": "medseg.metrics.iteration",
    "HausdorffDistance95Metric": "medseg.metrics.iteration",
    "HausdorffDistanceMetric": "medseg.metrics.iteration",
    "IoUMetric": "medseg.metrics.iteration",
    "LesionF1Metric": "medseg.metrics.iteration",
    "Lesions": "medseg.metrics.lesions",
    "MaskMetric": "medseg.metrics.mask_metric",
    "Overlap": "medseg.metrics.overlap",
    "PanopticQualityMetric": "medseg.metrics.iteration",
    "PrecisionMetric": "medseg.metrics.iteration",
    "RandScores": "medseg.metrics.rand",
    "SensitivityMetric": "medseg.metrics.iteration",
    "SurfaceDiceMetric": "medseg.metrics.iteration",
    "SurfaceDistances": "medseg.metrics.surface",
    "assd": "medseg.metrics.surface",
    "centreline_dice": "medseg.metrics.centreline",
    "count_overlaps": "medseg.metrics.overlap",
    "dice": "medseg.metrics.overlap",
    "hd": "medseg.metrics.surface",
    "hd95": "medseg.metrics.surface",
    "iou": "medseg.metrics.overlap",
    "match_lesions": "medseg.metrics.lesions",
    "precision": "medseg.metrics.overlap",
    "rand_scores": "medseg.metrics.rand",
    "sensitivity": "medseg.metrics.overlap",
    "surface_dice": "medseg.metrics.surface",
    "surface_distances": "medseg.metrics.surface",
}

__all__ = [
    "AverageSurfaceDistanceMetric", "CentrelineDiceMetric", "DiceMetric", "HausdorffDistance95Metric",
    "HausdorffDistanceMetric", "IoUMetric", "LesionF1Metric", "Lesions", "MaskMetric", "Overlap",
    "PanopticQualityMetric", "PrecisionMetric", "RandScores", "SensitivityMetric", "SurfaceDiceMetric",
    "SurfaceDistances", "assd", "centreline_dice", "count_overlaps", "dice", "hd", "hd95", "iou", "match_lesions",
    "precision", "rand_scores", "sensitivity", "surface_dice", "surface_distances",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
