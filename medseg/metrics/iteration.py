"""The metrics in MONAI's form: batches in, one value for each image and channel, mean over all at the end.

They stand wherever MONAI's own metrics do: in a validation loop, and in ``monai.handlers.IgniteMetricHandler``.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction

from medseg.metrics.centreline import centreline_dice
from medseg.metrics.lesions import LEAST_IOU, match_lesions
from medseg.metrics.masks import Mask
from medseg.metrics.overlap import dice, iou, precision, sensitivity
from medseg.metrics.surface import assd, hd, hd95, surface_dice
from medseg.volume import Spacing3

Spacing = Sequence[float]
Reduced = torch.Tensor | tuple[torch.Tensor, torch.Tensor]


class MaskMetric(CumulativeIterationMetric):
    """The base of all metrics here: measures each channel of each image by itself.

    Called with ``y_pred`` and ``y``, either batches ``(batch, channel, *spatial)`` or lists of images
    ``(channel, *spatial)``, of 0 and 1 (one-hot, or a mask for each region), with two or three spatial axes. A call
    returns the values ``(batch, channel)`` and keeps them; ``aggregate()`` returns their mean, ``reset()`` drops them.
    Values that are not defined are nan, and no part of a mean.

    Args:
        include_background: Whether channel 0 is measured too.
        reduction: How ``aggregate`` sums up, as in MONAI: "mean", "sum", "mean_batch", "none", …
        get_not_nans: Whether ``aggregate`` returns the number of defined values as well.
        spacing: Edges of a voxel in mm, by spatial axis. None: those of the affine of ``y``, or else of ``y_pred``,
            which should be a ``MetaTensor``. Only metrics with a unit need it.
    """

    needs_spacing = False

    def __init__(
        self,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__()
        self.include_background = include_background
        self.reduction = reduction
        self.get_not_nans = get_not_nans
        self.spacing = spacing

    @abstractmethod
    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns the value of one channel of one image, None where it is not defined.

        Args:
            prediction: The predicted mask ``(x, y, z)``; a 2D image has one voxel along z.
            reference: The reference, of the same shape.
            spacing: Edges of a voxel in mm; of metrics without a unit they are 1.
        """

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Reduced:
        """Returns the reduced values of all calls since the last ``reset()``, from all processes.

        Args:
            reduction: How to sum up, in place of the one that the metric was made with.

        Returns:
            The reduced values, with the number of defined ones where ``get_not_nans`` asks for it.

        Raises:
            ValueError: When nothing was measured yet.
        """
        values = self.get_buffer()
        if values is None:
            raise ValueError(f"{type(self).__name__}: nothing was measured yet; call it with y_pred and y first")
        reduced, not_nans = do_metric_reduction(values, reduction or self.reduction)
        return (reduced, not_nans) if self.get_not_nans else reduced

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, spacing: Spacing | None = None, **others: Any
    ) -> torch.Tensor:
        if others:
            raise TypeError(f"{type(self).__name__} takes no {', '.join(others)}; it takes spacing")
        if y is None or y_pred.shape != y.shape:
            raise ValueError(f"y_pred {tuple(y_pred.shape)} and y {None if y is None else tuple(y.shape)} differ")
        if y.ndim not in (4, 5):
            raise ValueError(
                f"masks of shape {tuple(y.shape)}, not (batch, channel, x, y) or (batch, channel, x, y, z)"
            )
        spacings = self._spacings(y_pred, y, spacing or self.spacing)
        first = 0 if self.include_background else 1
        predictions, references = _binary(y_pred[:, first:]), _binary(y[:, first:])
        values = [
            [self.measure(*masks, spacings[i]) for masks in zip(*images, strict=True)]
            for i, images in enumerate(zip(predictions, references, strict=True))
        ]
        of_images = [[np.nan if value is None else value for value in of_image] for of_image in values]
        return torch.tensor(of_images, dtype=torch.float32, device=y_pred.device).reshape(len(y), -1)

    def _spacings(self, y_pred: torch.Tensor, y: torch.Tensor, spacing: Spacing | None) -> list[Spacing3]:
        """Returns the spacing of each image, with 1 mm for a third axis of 2D images."""
        n_axes = y.ndim - 2
        if not self.needs_spacing:
            return [(1.0, 1.0, 1.0)] * len(y)
        if spacing is not None and len(spacing) != n_axes:
            raise ValueError(f"a spacing of {len(spacing)} numbers for images of {n_axes} axes")
        known = next((tensor for tensor in (y, y_pred) if isinstance(tensor, MetaTensor)), None)
        if spacing is None and known is None:
            raise ValueError(f"{type(self).__name__}: say spacing=(…) in mm, or give MetaTensors, whose affine has it")
        if spacing is not None or known is None:
            found = np.tile(np.asarray(spacing, dtype=np.float64), (len(y), 1))
        else:
            affines = np.asarray(known.affine.cpu(), dtype=np.float64).reshape(-1, *known.affine.shape[-2:])
            found = np.linalg.norm(affines[:, :-1, :n_axes], axis=1)
            found = np.broadcast_to(found, (len(y), n_axes))  # one affine for a batch of one, or each its own
        edges = np.ones((len(y), 3))
        edges[:, :n_axes] = found
        return [(float(a), float(b), float(c)) for a, b, c in edges]


def _binary(batch: torch.Tensor) -> Mask:
    """Returns masks as a boolean array, ``(batch, channel, x, y, z)``.

    Raises:
        ValueError: A value is neither 0 nor 1, as of probabilities.
    """
    array = batch.detach().cpu().numpy()
    masks: Mask = array.astype(bool)
    if not np.array_equal(masks, array):
        raise ValueError("masks have to be of 0 and 1: take the argmax, or a threshold, and make them one-hot first")
    return masks if masks.ndim == 5 else masks[..., None]


class DiceMetric(MaskMetric):
    """Dice, 2|P∩R| / (|P|+|R|); nan where both masks are empty, 0 where one is.

    It is that of ``monai.metrics.DiceMetric`` but for an empty reference, of which that has no value.

    Examples:
        >>> import torch
        >>> from medseg.metrics import DiceMetric
        >>> reference = torch.zeros(2, 3, 8, 8, 8)  # (batch, channel, x, y, z); channel 0 is the background
        >>> reference[:, 1, 2:6] = 1
        >>> metric = DiceMetric()
        >>> metric(reference, reference)  # (batch, channel) without the background
        tensor([[1., nan],
                [1., nan]])
        >>> metric.aggregate().item()
        1.0
    """

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.dice`` of two masks."""
        return dice(prediction, reference)


class IoUMetric(MaskMetric):
    """Intersection over union, |P∩R| / |P∪R|; nan where both masks are empty, 0 where one is."""

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.iou`` of two masks."""
        return iou(prediction, reference)


class SensitivityMetric(MaskMetric):
    """The part of the reference that was predicted, |P∩R| / |R|; nan where the reference is empty."""

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.sensitivity`` of two masks."""
        return sensitivity(prediction, reference)


class PrecisionMetric(MaskMetric):
    """The part of the prediction that is right, |P∩R| / |P|; nan where the prediction is empty."""

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.precision`` of two masks."""
        return precision(prediction, reference)


class HausdorffDistanceMetric(MaskMetric):
    """Hausdorff distance in mm, as ``monai.metrics.HausdorffDistanceMetric``; nan where a mask is empty."""

    needs_spacing = True

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.hd`` of two masks, in mm."""
        return hd(prediction, reference, spacing)


class HausdorffDistance95Metric(MaskMetric):
    """95th percentile Hausdorff distance in mm; nan where a mask is empty.

    It is that of ``monai.metrics.HausdorffDistanceMetric(percentile=95)``.
    """

    needs_spacing = True

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.hd95`` of two masks, in mm."""
        return hd95(prediction, reference, spacing)


class AverageSurfaceDistanceMetric(MaskMetric):
    """Average symmetric surface distance in mm; nan where a mask is empty.

    It is that of ``monai.metrics.SurfaceDistanceMetric(symmetric=True)``.
    """

    needs_spacing = True

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.assd`` of two masks, in mm."""
        return assd(prediction, reference, spacing)


class SurfaceDiceMetric(MaskMetric):
    """Surface Dice at a tolerance (NSD); nan where both masks are empty, 0 where one is.

    It is that of ``monai.metrics.SurfaceDiceMetric(use_subvoxels=True)``.

    Args:
        tolerance_mm: Surfaces this close count as the same: one number for all channels that are measured.
        include_background: Whether channel 0 is measured too.
        reduction: How ``aggregate`` sums up.
        get_not_nans: Whether ``aggregate`` returns the number of defined values as well.
        spacing: Edges of a voxel in mm; None: those of the ``MetaTensor``.
    """

    needs_spacing = True

    def __init__(
        self,
        tolerance_mm: float,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        spacing: Spacing | None = None,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, spacing)
        self.tolerance_mm = tolerance_mm

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.surface_dice`` of two masks, within ``tolerance_mm``."""
        return surface_dice(prediction, reference, spacing, self.tolerance_mm)


class CentrelineDiceMetric(MaskMetric):
    """Centre-line Dice (clDice); nan where both masks are empty, 0 where one is."""

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.centreline_dice`` of two masks."""
        return centreline_dice(prediction, reference)


class LesionF1Metric(MaskMetric):
    """F1 of lesions, 2 matched / (lesions of both); nan where both masks are empty, 0 where one is.

    Args:
        least_iou: Lesions match when their IoU is above this.
        include_background: Whether channel 0 is measured too.
        reduction: How ``aggregate`` sums up.
        get_not_nans: Whether ``aggregate`` returns the number of defined values as well.
    """

    def __init__(
        self,
        least_iou: float = LEAST_IOU,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.least_iou = least_iou

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns the F1 of the lesions that ``medseg.metrics.match_lesions`` finds."""
        return match_lesions(prediction, reference, self.least_iou).f1


class PanopticQualityMetric(LesionF1Metric):
    """Panoptic quality: F1 of lesions × mean IoU of those that match; nan where both masks are empty, 0 where one is.

    The arguments are those of ``LesionF1Metric``.
    """

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns the panoptic quality of the lesions that ``medseg.metrics.match_lesions`` finds."""
        return match_lesions(prediction, reference, self.least_iou).panoptic_quality
