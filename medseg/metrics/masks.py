"""The masks that all metrics measure."""

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]  # (x, y, z): where a label or region is


def checked(prediction: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[Mask, Mask]:
    """Returns both masks as boolean arrays; what is not 0 is in the mask.

    Args:
        prediction: The mask that was predicted, ``(x, y, z)`` of any number type.
        reference: The mask that it should be like, of the same shape.

    Returns:
        Prediction and reference; boolean arrays are not copied.

    Raises:
        ValueError: When the shapes differ.
    """
    predicted, referred = np.asarray(prediction, dtype=bool), np.asarray(reference, dtype=bool)
    if predicted.shape != referred.shape:
        raise ValueError(f"masks of different shapes: {predicted.shape} and {referred.shape}")
    return predicted, referred
