"""Our own preprocessing steps with MONAI's dictionary interface; MONAI's serve for the others.

All of them keep the affine of their ``MetaTensor`` true, which is all that is needed to go back: ``Restoring`` compares
the two grids and doesn't care which steps led from one to the other.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.plan import Normalization
from medseg.transforms.resample import Interpolation, grid_with_spacing, resample, resample_label_map
from medseg.volume import Array, Geometry, Spacing3

LABEL = "label"


def geometry_of(tensor: MetaTensor) -> Geometry:
    """The grid of a ``(channel, x, y, z)`` MetaTensor."""
    x, y, z = tensor.shape[1:]
    return Geometry((x, y, z), np.asarray(tensor.affine, dtype=np.float64))


class ResampleToSpacingd(MapTransform):  # type: ignore[misc]
    """To the given spacing (mm, array-axis order): images by cubic or linear interpolation, the key ``label`` as
    network labels."""

    def __init__(
        self, keys: Sequence[str], spacing: Spacing3, n_labels: int, interpolation: Interpolation = "cubic"
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.spacing = spacing
        self.n_labels = n_labels
        self.interpolation = interpolation

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            source = geometry_of(tensor)
            target = grid_with_spacing(source, self.spacing)
            if source.shape == target.shape:
                continue
            plain = tensor.as_tensor()
            if key == LABEL:
                moved = resample_label_map(plain[0], source, target, self.n_labels)[None]
            else:
                moved = resample(plain, source, target, self.interpolation)
            result[key] = MetaTensor(moved, affine=torch.from_numpy(target.affine))
        return result


class Normalized(MapTransform):  # type: ignore[misc]
    """Each channel by its own rule (see ``medseg.plan.Normalization``); float32."""

    def __init__(self, keys: Sequence[str], rules: Sequence[Normalization]) -> None:
        super().__init__(keys)
        self.rules = rules

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            channels = [_normalize(channel, rule) for channel, rule in zip(tensor.as_tensor(), self.rules, strict=True)]
            result[key] = MetaTensor(torch.stack(channels), affine=tensor.affine)
        return result


def _normalize(channel: torch.Tensor, rule: Normalization) -> torch.Tensor:
    channel = channel.float()
    if rule.kind == "ct":
        return channel.clamp(rule.lower, rule.upper).sub_(rule.mean).div_(rule.std)
    if rule.kind == "zscore":
        outside = channel == 0 if rule.nonzero else torch.zeros_like(channel, dtype=torch.bool)
        if outside.all():
            return channel
        mean, std = _mean_and_std(channel.numpy()[~outside.numpy()])
        return (channel - mean).div_(std).masked_fill_(outside, 0)
    return channel


def _mean_and_std(values: Array) -> tuple[float, float]:
    """Overwrites ``values``. Sums in float64, since a float32 mean over a large bright volume loses the third digit;
    by NumPy, since torch would copy the volume to float64 (and indices of all voxels) first."""
    mean = float(values.mean(dtype=np.float64))
    values -= mean
    np.square(values, out=values)
    return mean, max(float(values.mean(dtype=np.float64)) ** 0.5, 1e-8)
