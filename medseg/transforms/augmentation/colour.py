"""Changes of the colours of pictures."""

import numpy as np
import torch

from medseg.transforms.augmentation.batch import BatchData, BatchTransform, probability, to_device_of

Range = tuple[float, float]


class RandColourBatch(BatchTransform):
    """Turns the hue of colour pictures, and makes them more or less colourful.

    Both are linear about the axis of grey, so that they can be done on normalized values: stains of pathology, light of
    photographs, haze of satellites. Images of another number of channels than three stay as they are.

    Args:
        prob: Of a sample to be changed.
        hue_degrees: The hue is turned by up to so many degrees, to both sides.
        saturation: The least and the largest factor of the distance from grey.

    Examples:
        >>> import torch
        >>> from medseg.transforms import RandColourBatch
        >>> grey = torch.ones(1, 3, 4, 4)
        >>> RandColourBatch(prob=1.0)({"image": grey})["image"].allclose(grey)
        True
    """

    def __init__(self, prob: float = 0.3, hue_degrees: float = 20.0, saturation: Range = (0.7, 1.4)) -> None:
        self.prob = probability(prob, "prob")
        self.hue_degrees, self.saturation = hue_degrees, saturation

    def __call__(self, data: BatchData) -> BatchData:
        """Returns the batch with the chosen samples changed."""
        image = data["image"]
        n = self.drawn_for(data)
        chosen = self.R.random_sample(n) < self.prob
        angles = np.radians(self.R.uniform(-self.hue_degrees, self.hue_degrees, n))
        saturation = self.R.uniform(*self.saturation, n)
        own = self.own(data)
        if image.shape[1] != 3 or not chosen[own].any():
            return dict(data)
        matrices = np.stack([_about_grey(*drawn) for drawn in zip(angles[own], saturation[own], strict=True)])
        matrices[~chosen[own]] = np.eye(3)
        changed = torch.einsum("nij,nj...->ni...", to_device_of(image, matrices), image.float())
        return {**data, "image": changed.to(image.dtype)}


def _about_grey(angle: float, saturation: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Returns the matrix that turns colours about grey, and changes how far they are from it."""
    grey = np.full((3, 3), 1 / 3)  # the projection on the axis of grey
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(
        3
    )  # the cross product with it: Rodrigues's formula
    turned = np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * across
    return np.asarray(grey + saturation * turned)
