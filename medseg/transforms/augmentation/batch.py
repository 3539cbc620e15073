"""What the transforms of whole batches share: MONAI's interface, and no waiting for the device."""

from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform

BatchData = dict[str, torch.Tensor]
"""``image`` (sample, channel, *spatial), any float type; ``label`` (sample, 1, *spatial), integers, if there is one;
``targets`` (sample, output, *spatial), what is learnt of objects, 0 … 1, if there is any."""

# How each is interpolated where it is moved.
MODES = {"image": "bilinear", "label": "nearest", "targets": "bilinear"}

Reals = np.ndarray[Any, np.dtype[np.float64]]


class BatchTransform(Randomizable, Transform):
    """A random transform of a whole ``BatchData``, in 2D or 3D, on the batch's own device.

    Subclasses draw with ``self.R`` on the host, so that ``set_random_state(seed)`` gives the same decisions
    on every device, and change only the samples that were drawn. The tensors that came in stay as they were.

    They draw for ``n_samples`` of a batch, of which ``data`` holds ``first`` and those after it. So the same happens to
    a sample, whether several processes share the batch or not.

    Examples:
        A transform of your own:

        >>> import torch
        >>> from medseg.transforms import BatchTransform
        >>> class RandNegativeBatch(BatchTransform):
        ...     def __call__(self, data):
        ...         chosen = self.R.random_sample(self.drawn_for(data))[self.own(data)] < 0.5
        ...         sign = torch.from_numpy(1.0 - 2.0 * chosen).to(data["image"]).view(-1, 1, 1, 1)
        ...         return {**data, "image": data["image"] * sign}
        >>> batch = {"image": torch.ones(4, 1, 2, 2)}
        >>> RandNegativeBatch().set_random_state(seed=0)(batch)["image"].shape
        torch.Size([4, 1, 2, 2])
    """

    first = 0
    n_samples: int | None = None  # None: as many as ``data`` holds

    def drawn_for(self, data: BatchData) -> int:
        """Returns how many samples to draw for: those of the whole batch, of which ``data`` may hold a part."""
        return len(data["image"]) if self.n_samples is None else self.n_samples

    def own(self, data: BatchData) -> slice:
        """Returns which samples of the whole batch ``data`` holds."""
        return slice(self.first, self.first + len(data["image"]))

    def __call__(self, data: BatchData) -> BatchData:
        """Returns the batch changed."""
        raise NotImplementedError


def probability(value: float, name: str) -> float:
    """Returns a probability.

    Raises:
        ValueError: It does not lie between 0 and 1.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} {value}: a probability lies between 0 and 1")
    return value


def to_device_of(tensor: torch.Tensor, values: np.ndarray[Any, np.dtype[Any]]) -> torch.Tensor:
    """Returns ``values`` on the tensor's device; reals become float32. It doesn't wait for the device."""
    if np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float32)
    return torch.from_numpy(values).to(tensor.device, non_blocking=True)
