"""A case on the model grid: oriented, cropped, normalized, resampled, then changed by the user's own transforms.

It is what ``build_preprocessing`` does (``medseg.transforms.preprocessing``), for a ``Volume`` that was read, without
MONAI, which takes seconds to import. The way back (``medseg.transforms.restoring``) needs the two grids only, and takes
logits slab by slab.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from medseg.errors import SourceError
from medseg.plan import STORED, Grid, Normalization
from medseg.transforms.extremes import without_extremes
from medseg.transforms.grids import label_map_on_grid, on_grid, orthogonal_grid
from medseg.transforms.intensities import Floats, profile, quantiles
from medseg.transforms.model_grid import ModelGridRule, mask_channels
from medseg.transforms.resample import resample_label_map
from medseg.volume import SHEAR_TOLERANCE, Array, Box, Geometry, Volume, box_of

# In units of normalized values, which are stored in steps of a thousandth.
FLAT_BELOW = 1e-3

# A deviation, or a range, is divided by no less.
LEAST_RANGE = 1e-8


@dataclass(frozen=True)
class Prepared:
    """A case on the model grid.

    Attributes:
        image: ``(channel, x, y, z)``, float32.
        label_map: ``(x, y, z)``, in network values; None where the case has none.
        geometry: The model grid.
        source: The grid of the source.
        profiles: The quantiles of the source's values that are compared from case to case, one a channel.
        oddities: What is odd about these values, by channel, in words.
    """

    image: torch.Tensor
    label_map: torch.Tensor | None
    geometry: Geometry
    source: Geometry
    profiles: tuple[Floats, ...] = ()  # of the source's values, one a channel
    oddities: Mapping[int, str] = field(default_factory=dict)  # of these values, by channel, in words


def prepare(volume: Volume, label_map: Array | None, grid: Grid) -> Prepared:
    """Returns a case on the model grid.

    A sheared volume is resampled to an orthogonal grid first, and ``Restoring`` maps its labels back.

    Args:
        volume: as it was read.
        label_map: (x, y, z) on the volume's grid, in network values; None where there is none.
        grid: the plan's.

    Raises:
        SourceError: for a wrong number of channels.
        ConfigError: for transforms of the user that fail or change the grid.

    Examples:
        >>> import numpy as np
        >>> from medseg.plan import STORED, Grid, Normalization
        >>> from medseg.volume import Geometry, Volume
        >>> rule = Normalization(kind="zscore")
        >>> grid = Grid(orientation="RAS", spacing=(2, 2, 2), crop_to_nonzero=False, normalization=(rule,))
        >>> array = np.random.default_rng(0).normal(100, 10, (1, 10, 12, 14))
        >>> prepared = prepare(Volume(array, Geometry((10, 12, 14), np.eye(4))), None, grid)
        >>> prepared.image.shape, prepared.geometry.spacing
        (torch.Size([1, 5, 6, 7]), (2.0, 2.0, 2.0))
    """
    check_channels(len(volume.array), grid.normalization)
    source = volume.geometry
    array, oddities = without_extremes(volume.array, grid.normalization)
    profiles = tuple(profile(quantiles(channel), rule) for channel, rule in zip(array, grid.normalization, strict=True))
    volume = Volume(array, source)
    if source.shear > SHEAR_TOLERANCE:
        volume = on_grid(volume, orthogonal_grid(source))
        label_map = None if label_map is None else label_map_on_grid(label_map, source, volume.geometry)
    labels = None if label_map is None else Volume(label_map[None], volume.geometry)
    on_model_grid, labels = _oriented(volume, labels, grid)
    steps = (_resampled, _cropped, _normalized) if grid.resample_first else (_cropped, _normalized, _resampled)
    for step in steps:
        on_model_grid, labels = step(on_model_grid, labels, grid)
    image, geometry = torch.from_numpy(on_model_grid.array), on_model_grid.geometry
    label = None if labels is None else torch.from_numpy(np.ascontiguousarray(labels.array[0]))
    if grid.transforms:
        from medseg.transforms.registry import with_changed_values  # imports MONAI, which few plans need here

        image, label = with_changed_values(grid.transforms, image, label, geometry)
    if grid.crop_last:
        image, label, geometry = _above_zero(image, label, geometry)
    label = None if label is None else label.to(torch.uint8).contiguous()
    image = image.contiguous()
    oddities |= {i: _why_flat(volume.array[i]) for i in _flat_channels(image) if i not in mask_channels(grid)}
    return Prepared(image, label, geometry, source, profiles, oddities)


_OnGrid = tuple[Volume, Volume | None]  # image and label map


def _oriented(volume: Volume, labels: Volume | None, grid: Grid) -> _OnGrid:
    """Returns image and label map with the plan's orientation."""
    if grid.orientation in (STORED, volume.geometry.orientation):
        return volume, labels
    return volume.oriented_as(grid.orientation), None if labels is None else labels.oriented_as(grid.orientation)


def _cropped(volume: Volume, labels: Volume | None, grid: Grid) -> _OnGrid:
    """Returns image and label map without the border in which the image is zero, where the plan says so."""
    if not grid.crop_to_nonzero:
        return volume, labels
    masks = mask_channels(grid)
    images = np.delete(volume.array, masks, 0) if masks else volume.array
    box, geometry = _cropped_to((images != 0).any(0), volume.geometry)
    return Volume(volume.array[:, *box], geometry), None if labels is None else Volume(labels.array[:, *box], geometry)


def _above_zero(
    image: torch.Tensor, label: torch.Tensor | None, geometry: Geometry
) -> tuple[torch.Tensor, torch.Tensor | None, Geometry]:
    """Returns image, label map and grid of the box in which the image is above 0."""
    box, geometry = _cropped_to((image > 0).any(0).numpy(), geometry)
    return image[:, *box], None if label is None else label[*box], geometry


def _cropped_to(mask: Array, geometry: Geometry) -> tuple[Box, Geometry]:
    """Returns the smallest box that holds a mask, and its grid; the whole grid where the mask is empty."""
    box = box_of(mask)
    return (geometry.box, geometry) if box is None else (box, geometry.cropped(box))


def _normalized(volume: Volume, labels: Volume | None, grid: Grid) -> _OnGrid:
    image = normalized(torch.from_numpy(native(volume.array)), grid.normalization, grid.fill_holes)
    return Volume(image.numpy(), volume.geometry), labels


def _resampled(volume: Volume, labels: Volume | None, grid: Grid) -> _OnGrid:
    rule, source = ModelGridRule.of(grid), volume.geometry
    target = rule.grid_of(source)
    image = rule.images_on(torch.from_numpy(native(volume.array)), source, target)
    if labels is not None and target is not source:
        label_map = torch.from_numpy(np.ascontiguousarray(labels.array[0]))
        labels = Volume(resample_label_map(label_map, source, target)[None].numpy(), target)
    return Volume(image.numpy(), target), labels


def _flat_channels(image: torch.Tensor) -> Iterator[int]:
    """Yields the channels of a normalized image with nothing in them that a network could see."""
    for i, channel in enumerate(image):
        if float(channel.max() - channel.min()) < FLAT_BELOW:
            yield i


def _why_flat(channel: Array) -> str:
    lowest, highest = float(channel.min()), float(channel.max())
    if lowest == highest:
        return f"it is constant: all its voxels have the value {lowest:.4g}"
    return f"nothing is left of it after normalization: its values lie between {lowest:.4g} and {highest:.4g}"


def check_channels(n_channels: int, rules: Sequence[Normalization]) -> None:
    """Checks that there is one rule a channel.

    Raises:
        SourceError: There are more or fewer.
    """
    if n_channels != len(rules):
        raise SourceError(f"{n_channels} channels where the plan has {len(rules)}")


def normalized(image: torch.Tensor, rules: Sequence[Normalization], fill_holes: bool = False) -> torch.Tensor:
    """Returns an image with each channel normalized by its rule, float32.

    Args:
        image: ``(channel, x, y, z)``, of any type of numbers; it stays as it is.
        rules: One a channel.
        fill_holes: Whether rules over non-zero voxels count those that are zero in all channels only, but for zeros
            that others enclose. Masks are then -1 there, where they have no label: nnU-Net takes that for a label of
            its own while it resamples them.

    Raises:
        SourceError: There are more or fewer rules than channels.
    """
    check_channels(len(image), rules)
    masks = [i for i, rule in enumerate(rules) if rule.kind == "mask"]
    asked = fill_holes and (masks or any(rule.nonzero for rule in rules))
    zero = _zero_outside(image, masks) if asked else None
    result = torch.stack([_normalized_channel(channel, rule, zero) for channel, rule in zip(image, rules, strict=True)])
    if zero is not None and masks:
        result[masks] = result[masks].masked_fill(zero, -1)
    return result


def _zero_outside(image: torch.Tensor, masks: Sequence[int]) -> torch.Tensor:
    """Returns where all images are zero, but for holes: zeros from which no path of them leads to the border.

    What a mask has a label for is not outside, as nnU-Net has it.
    """
    from scipy.ndimage import label  # takes long to import

    labelled = (image[masks] != 0).any(0)
    zero = (image[[i for i in range(len(image)) if i not in masks]] == 0).all(0).numpy()
    components, n = label(zero)
    at_border = np.zeros(n + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            at_border[np.unique(components.take(end, axis))] = True
    at_border[0] = False
    return torch.from_numpy(at_border[components]) & ~labelled


def _normalized_channel(channel: torch.Tensor, rule: Normalization, zero: torch.Tensor | None) -> torch.Tensor:
    channel = channel.float()
    if rule.kind == "ct":
        channel = channel.clamp(rule.lower, rule.upper).sub_(rule.mean).div_(rule.std)
    elif rule.kind == "linear":
        channel = channel.sub(rule.mean).div_(rule.std)
    elif rule.kind == "zscore":
        channel = _standardized(channel, rule, zero)
    if rule.rescaled is None:
        return channel
    lowest, (low, high) = channel.min(), rule.rescaled
    return (channel - lowest).mul_((high - low) / max(float(channel.max() - lowest), LEAST_RANGE)).add_(low)


def _standardized(channel: torch.Tensor, rule: Normalization, zero: torch.Tensor | None) -> torch.Tensor:
    """Returns a channel with mean 0 and deviation 1."""
    outside = torch.zeros_like(channel, dtype=torch.bool)
    if rule.nonzero:
        outside = channel == 0 if zero is None else zero
    if outside.all():
        return channel
    mean, std = _mean_and_std(channel.numpy()[~outside.numpy()])
    return (channel - mean).div_(std).masked_fill_(outside, 0)


def _mean_and_std(values: Array) -> tuple[float, float]:
    """Returns mean and deviation, and overwrites ``values``.

    It sums in float64, since a float32 mean over a large bright volume loses the third digit; by NumPy, since torch
    would copy the volume to float64 (and indices of all voxels) first.
    """
    mean = float(values.mean(dtype=np.float64))
    values -= mean
    np.square(values, out=values)
    return mean, max(float(values.mean(dtype=np.float64)) ** 0.5, LEAST_RANGE)


def native(array: Array) -> Array:
    """Returns an array as float32 in native byte order, which torch needs."""
    return np.ascontiguousarray(array, dtype=np.float32)
