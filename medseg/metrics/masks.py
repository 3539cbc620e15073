"""The masks that all metrics measure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.volume import Spacing3

Mask = npt.NDArray[np.bool_]  # (x, y, z): where a label or region is
MaskLike = npt.ArrayLike  # a mask of any number type: 0 outside of it, one other value inside
Spacing = Sequence[float] | float  # edges of a voxel in mm: one number an axis, or one for all


def as_array(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Returns values as a NumPy array; those of a tensor of torch from any device."""
    detach = getattr(values, "detach", None)
    return np.asarray(values if detach is None else detach().cpu())


def checked(prediction: MaskLike, reference: MaskLike) -> tuple[Mask, Mask]:
    """Returns both masks as boolean arrays; what is not 0 is in the mask.

    Args:
        prediction: The mask that was predicted, of any shape and number type; a tensor of torch may be on any device.
        reference: The mask that it should be like, of the same shape.

    Returns:
        Prediction and reference; boolean arrays are not copied.

    Raises:
        ValueError: When the shapes differ, or one has several values beside 0, as label maps and probabilities have.
    """
    predicted, referred = _mask(prediction, "prediction"), _mask(reference, "reference")
    if predicted.shape != referred.shape:
        raise ValueError(f"masks of different shapes: {predicted.shape} and {referred.shape}")
    return predicted, referred


def checked_in_space(prediction: MaskLike, reference: MaskLike, spacing: Spacing = 1.0) -> tuple[Mask, Mask, Spacing3]:
    """Returns both masks as boolean arrays ``(x, y, z)``, and the spacing of the three axes.

    Args:
        prediction: The mask that was predicted, ``(x, y, z)`` or ``(x, y)``.
        reference: The mask that it should be like, of the same shape.
        spacing: Edges of a voxel in mm: one number an axis, or one for all. The third axis of a 2D image has 1.

    Raises:
        ValueError: As of ``checked``; when the masks have other axes, or the spacing does not fit them.
    """
    predicted, referred = checked(prediction, reference)
    n_axes = predicted.ndim
    if n_axes not in (2, 3):
        raise ValueError(
            f"masks of shape {predicted.shape}: give (x, y, z) or (x, y), one label of one image at a time"
        )
    edges = np.asarray(spacing, dtype=np.float64)
    if edges.shape not in ((), (n_axes,)):
        raise ValueError(f"spacing {spacing}: give {n_axes} numbers for masks of {n_axes} axes, or one for all")
    if not (np.isfinite(edges).all() and (edges > 0).all()):
        raise ValueError(f"spacing {spacing}: the edges of a voxel are above 0 mm")
    x, y, z = (*np.broadcast_to(edges, n_axes).tolist(), 1.0)[:3]
    if n_axes == 2:
        predicted, referred = predicted[..., None], referred[..., None]
    return predicted, referred, (x, y, z)


def _mask(values: MaskLike, name: str) -> Mask:
    array = as_array(values)
    if array.dtype == bool:
        return array
    mask: Mask = array != 0
    inside = array[mask]
    if inside.size and not inside.min() == inside.max():
        raise ValueError(
            f"the {name} holds values from {inside.min()} to {inside.max()} beside 0, as label maps and probabilities "
            f"do; give a mask: {name} == 1, or {name} > 0.5"
        )
    return mask
