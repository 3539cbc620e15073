"""What all metrics in MONAI's form have in common: batches of masks in, a value for each image and channel."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction, look_up_option

from medseg.metrics.masks import Mask
from medseg.volume import Spacing3

BatchSpacing = float | Sequence[float] | Sequence[Sequence[float]]
Reduced = torch.Tensor | tuple[torch.Tensor, torch.Tensor]


class MaskMetric(CumulativeIterationMetric):
    """The base of all metrics here: measures each channel of each image by itself.

    Called with ``y_pred`` and ``y``, either batches ``(batch, channel, *spatial)`` or lists of images
    ``(channel, *spatial)``, of 0 and 1 (one-hot, or a mask for each region), with two or three spatial axes. A call
    returns the values ``(batch, channel)`` and keeps them; ``aggregate()`` returns their mean, ``reset()`` drops them.
    Values that are not defined are nan, and no part of a mean.

    Args:
        include_background: Whether channel 0 is measured too. It is not by default, in any of these metrics, since the
            background is no structure. Of MONAI's, ``DiceMetric`` and ``MeanIoU`` measure it: True gives what they
            give. Masks of regions have no background: give True. A single channel is measured always, as by MONAI.
        reduction: How ``aggregate`` sums up, as in MONAI: "mean", "sum", "mean_batch", "none", …
        get_not_nans: Whether ``aggregate`` returns the number of defined values as well.
        spacing: Edges of a voxel in mm: one number for all axes, one an axis, or those of each image. None: those of
            the affine of ``y``, or else of ``y_pred``, which should be a ``MetaTensor``. Only metrics with a unit need
            it. A call may give it too, as in MONAI.

    Raises:
        ValueError: There is no such ``reduction``.

    Examples:
        A metric of your own:

        >>> import torch
        >>> from medseg.metrics import MaskMetric
        >>> class VolumeRatioMetric(MaskMetric):
        ...     def measure(self, prediction, reference, spacing):
        ...         return prediction.sum() / reference.sum() if reference.any() else None
        >>> masks = torch.ones(1, 1, 4, 4, 4)  # (batch, channel, x, y, z)
        >>> VolumeRatioMetric()(masks, masks)
        tensor([[1.]])
    """

    needs_spacing = False

    def __init__(
        self,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        spacing: BatchSpacing | None = None,
    ) -> None:
        super().__init__()
        self.include_background = include_background
        self.reduction = look_up_option(reduction, MetricReduction)
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
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, spacing: BatchSpacing | None = None, **others: Any
    ) -> torch.Tensor:
        if others:
            raise TypeError(f"{type(self).__name__} takes no {', '.join(others)}; it takes spacing")
        if y is None or y_pred.shape != y.shape:
            raise ValueError(
                f"y_pred {tuple(y_pred.shape)} and y {None if y is None else tuple(y.shape)} differ; both are masks, "
                "one a channel: make label maps one-hot first (monai.networks.one_hot)"
            )
        if y.ndim not in (4, 5):
            raise ValueError(
                f"masks of shape {tuple(y.shape)}, not (batch, channel, x, y) or (batch, channel, x, y, z)"
            )
        spacings = self._spacings(y_pred, y, self.spacing if spacing is None else spacing)
        first = 0 if self.include_background or y.shape[1] == 1 else 1
        predictions, references = _binary(y_pred[:, first:]), _binary(y[:, first:])
        values = [
            [self.measure(*masks, spacings[i]) for masks in zip(*images, strict=True)]
            for i, images in enumerate(zip(predictions, references, strict=True))
        ]
        of_images = [[np.nan if value is None else value for value in of_image] for of_image in values]
        return torch.tensor(of_images, dtype=torch.float32, device=y_pred.device).reshape(len(y), -1)

    def _spacings(self, y_pred: torch.Tensor, y: torch.Tensor, spacing: BatchSpacing | None) -> list[Spacing3]:
        """Returns the spacing of each image, with 1 mm for a third axis of 2D images."""
        n_axes = y.ndim - 2
        if not self.needs_spacing:
            return [(1.0, 1.0, 1.0)] * len(y)
        known = next((tensor for tensor in (y, y_pred) if isinstance(tensor, MetaTensor)), None)
        if spacing is not None:
            found = np.asarray(spacing, dtype=np.float64)
            if found.ndim and found.shape[-1] != n_axes:
                raise ValueError(f"a spacing of {found.shape[-1]} numbers for images of {n_axes} axes")
            if found.ndim > 2 or (found.ndim == 2 and len(found) not in (1, len(y))):
                raise ValueError(f"a spacing of shape {found.shape} for {len(y)} images")
        elif known is not None:
            affines = np.asarray(known.affine.cpu(), dtype=np.float64).reshape(-1, *known.affine.shape[-2:])
            found = np.linalg.norm(affines[:, :-1, :n_axes], axis=1)  # one affine for a batch of one, or each its own
        else:
            raise ValueError(f"{type(self).__name__}: say spacing=(…) in mm, or give MetaTensors, whose affine has it")
        edges = np.ones((len(y), 3))
        edges[:, :n_axes] = np.broadcast_to(found, (len(y), n_axes))
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
