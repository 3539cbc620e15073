"""MapTransforms that change the values of an image, channel by channel.

MONAI's ``NormalizeIntensityd`` is not used: it has one rule for all channels, and sums in float32, in which the mean of
a large bright volume loses the third digit.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.plan import Normalization
from medseg.transforms.extremes import without_extremes
from medseg.transforms.prepared import check_channels, normalized

logger = logging.getLogger(__name__)


class ClipExtremesd(MapTransform):
    """Clips a few voxels with extreme values to the range of all others, and logs a warning where it does.

    It does so in channels that are normalized by their own mean and deviation (``medseg.transforms.extremes``).

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from medseg.plan import Normalization
        >>> image = torch.arange(1000.0).view(1, 10, 10, 10)
        >>> image[0, 0, 0, 0] = 1e30
        >>> clip = ClipExtremesd(["image"], [Normalization(kind="zscore")])
        >>> float(clip({"image": MetaTensor(image)})["image"].max())
        999.0
    """

    def __init__(self, keys: Sequence[str], rules: Sequence[Normalization]) -> None:
        """Takes the ``keys`` of images (channel, x, y, z), and one rule a channel."""
        super().__init__(keys)
        self.rules = rules

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, Any]:
        """Returns the data with extreme values clipped."""
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = _meta_tensor(result[key])
            check_channels(len(tensor), self.rules)
            array, notes = without_extremes(tensor.as_tensor().numpy(), self.rules)
            for channel, note in notes.items():
                logger.warning("channel %d of '%s': %s", channel, key, note)
            if notes:
                result[key] = MetaTensor(torch.from_numpy(array)).copy_meta_from(tensor)
        return result


class NormalizeChannelsd(MapTransform):
    """Normalizes each channel by its own rule (``medseg.plan.Normalization``); the result is float32.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from medseg.plan import Normalization
        >>> ct = Normalization(kind="ct", lower=-100, upper=300, mean=100, std=200)
        >>> image = MetaTensor(torch.tensor([-1000.0, 100.0, 1000.0]).view(1, 3, 1, 1))
        >>> NormalizeChannelsd(["image"], [ct])({"image": image})["image"].flatten().tolist()
        [-1.0, 0.0, 1.0]
    """

    def __init__(self, keys: Sequence[str], rules: Sequence[Normalization], fill_holes: bool = False) -> None:
        """Takes what to normalize.

        Args:
            keys: Of images (channel, x, y, z).
            rules: One a channel.
            fill_holes: Whether enclosed zeros count as non-zero voxels (``medseg.plan.Grid.fill_holes``).
        """
        super().__init__(keys)
        self.rules = rules
        self.fill_holes = fill_holes

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, Any]:
        """Returns the data with each channel normalized by its rule."""
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = _meta_tensor(result[key])
            result[key] = MetaTensor(normalized(tensor.as_tensor(), self.rules, self.fill_holes)).copy_meta_from(tensor)
        return result


def _meta_tensor(values: object) -> MetaTensor:
    """Returns the same ``MetaTensor``, or a tensor or array as one, as MONAI's transforms do."""
    return values if isinstance(values, MetaTensor) else MetaTensor(torch.as_tensor(values))
