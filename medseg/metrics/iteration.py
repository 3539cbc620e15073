"""The metrics in MONAI's form: batches in, one value for each image and channel, mean over all at the end.

They stand wherever MONAI's own metrics do: in a validation loop, and in ``monai.handlers.IgniteMetricHandler``.
"""

from monai.utils import MetricReduction

from medseg.metrics.centreline import centreline_dice
from medseg.metrics.lesions import LEAST_IOU, match_lesions
from medseg.metrics.mask_metric import BatchSpacing, MaskMetric
from medseg.metrics.masks import Mask
from medseg.metrics.overlap import dice, iou, precision, sensitivity
from medseg.metrics.surface import assd, hd, hd95, surface_dice
from medseg.volume import Spacing3


class DiceMetric(MaskMetric):
    """Dice, 2|P∩R| / (|P|+|R|); nan where both masks are empty, 0 where one is.

    It is that of ``monai.metrics.DiceMetric(include_background=False)`` but for an empty reference, of which that has
    no value. The arguments are those of ``MaskMetric``.

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
    """Intersection over union, |P∩R| / |P∪R|; nan where both masks are empty, 0 where one is.

    It is that of ``monai.metrics.MeanIoU(include_background=False)`` but for an empty reference, of which that has no
    value. The arguments are those of ``MaskMetric``.
    """

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.iou`` of two masks."""
        return iou(prediction, reference)


class SensitivityMetric(MaskMetric):
    """The part of the reference that was predicted, |P∩R| / |R|; nan where the reference is empty.

    It is also called recall. The arguments are those of ``MaskMetric``.
    """

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.sensitivity`` of two masks."""
        return sensitivity(prediction, reference)


class PrecisionMetric(MaskMetric):
    """The part of the prediction that is right, |P∩R| / |P|; nan where the prediction is empty.

    It is also called positive predictive value. The arguments are those of ``MaskMetric``.
    """

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.precision`` of two masks."""
        return precision(prediction, reference)


class HausdorffDistanceMetric(MaskMetric):
    """Hausdorff distance in mm, as ``monai.metrics.HausdorffDistanceMetric``; nan where a mask is empty.

    The arguments are those of ``MaskMetric``.
    """

    needs_spacing = True

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.hd`` of two masks, in mm."""
        return hd(prediction, reference, spacing)


class HausdorffDistance95Metric(MaskMetric):
    """95th percentile Hausdorff distance in mm; nan where a mask is empty.

    It is that of ``monai.metrics.HausdorffDistanceMetric(percentile=95)``. The arguments are those of ``MaskMetric``.
    """

    needs_spacing = True

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.hd95`` of two masks, in mm."""
        return hd95(prediction, reference, spacing)


class AverageSurfaceDistanceMetric(MaskMetric):
    """Average symmetric surface distance in mm; nan where a mask is empty.

    It is that of ``monai.metrics.SurfaceDistanceMetric(symmetric=True)``. The arguments are those of ``MaskMetric``.
    """

    needs_spacing = True

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.assd`` of two masks, in mm."""
        return assd(prediction, reference, spacing)


class SurfaceDiceMetric(MaskMetric):
    """Surface Dice at a tolerance (NSD); nan where both masks are empty, 0 where one is.

    It is that of ``monai.metrics.SurfaceDiceMetric(use_subvoxels=True)``.

    Args:
        tolerance_mm: Surfaces this close count as the same: one number for all channels that are measured. (MONAI's
            ``class_thresholds`` are one a channel.)
        include_background: Whether channel 0 is measured too; see ``MaskMetric``.
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
        spacing: BatchSpacing | None = None,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans, spacing)
        self.tolerance_mm = tolerance_mm

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.surface_dice`` of two masks, within ``tolerance_mm``."""
        return surface_dice(prediction, reference, spacing, self.tolerance_mm)


class CentrelineDiceMetric(MaskMetric):
    """Centre-line Dice (clDice); nan where both masks are empty, 0 where one is.

    The arguments are those of ``MaskMetric``.
    """

    def measure(self, prediction: Mask, reference: Mask, spacing: Spacing3) -> float | None:
        """Returns ``medseg.metrics.centreline_dice`` of two masks."""
        return centreline_dice(prediction, reference)


class LesionF1Metric(MaskMetric):
    """F1 of lesions, 2 matched / (lesions of both); nan where both masks are empty, 0 where one is.

    Args:
        least_iou: Lesions match when their IoU is above this.
        include_background: Whether channel 0 is measured too; see ``MaskMetric``.
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
