"""What the transforms of whole batches share: MONAI's interface, and no waiting for the device."""

from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform

Batch = dict[str, torch.Tensor]
"""``image`` (sample, channel, *spatial), any float type; ``label`` (sample, 1, *spatial), integers."""

Reals = np.ndarray[Any, np.dtype[np.float64]]


class BatchTransform(Randomizable, Transform):  # type: ignore[misc]
    """A random transform of a whole ``Batch``, in 2D or 3D, on the batch's own device.

    Subclasses draw with ``self.R`` on the host, so that ``set_random_state(seed)`` gives the same decisions
    on every device, and change only the samples that were drawn. The tensors that came in stay as they were.
    """

    def __call__(self, data: Batch) -> Batch:
        raise NotImplementedError


def to_device_of(tensor: torch.Tensor, values: np.ndarray[Any, np.dtype[Any]]) -> torch.Tensor:
    """``values`` on the tensor's device; reals as float32. Doesn't wait for the device."""
    if np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float32)
    return torch.from_numpy(values).to(tensor.device, non_blocking=True)
