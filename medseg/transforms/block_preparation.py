"""Boxes of the model grid of a case whose voxels are on disk: each is what ``prepared.prepare`` has there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Protocol

import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from medseg.errors import ConfigError
from medseg.plan import STORED, Grid, Normalization
from medseg.transforms.interpolation import BLOCK, AxisResampling
from medseg.transforms.model_grid import ModelGridRule
from medseg.transforms.prepared import LEAST_RANGE, native
from medseg.transforms.resample import parallel_coordinates
from medseg.transforms.value_statistics import ChannelStatistics, ImageStatistics
from medseg.volume import SHEAR_TOLERANCE, Array, Box, Geometry

VOXELS_OF_TILE = 2**22  # of the source, that are prepared together


class Readable(Protocol):
    """Voxels that are read a box at a time."""

    @property
    def geometry(self) -> Geometry:
        """The grid of the voxels, in RAS mm."""

    def read(self, box: Box) -> Array:
        """Returns the voxels ``(channel, x, y, z)`` of a box."""


def check_in_blocks(grid: Grid, source: Geometry) -> None:
    """Checks that cases can be prepared block by block.

    Raises:
        ConfigError: A step of the preparation looks at the whole image.
    """
    step = ""
    if grid.resampling.rule != "medseg" or grid.resampling.whole_numbers or grid.resampling.restored != "logits":
        step = f"its resampling is that of {grid.resampling.rule}; --resampling medseg takes medseg's"
    elif grid.resample_first and (grid.crop_to_nonzero or any(rule.kind == "zscore" for rule in grid.normalization)):
        step = "it resamples before it normalizes"
    elif grid.transforms:
        step = f"it has transforms of the user ({grid.transforms[0].get('name')})"
    elif grid.fill_holes or grid.crop_last or any(rule.kind == "mask" for rule in grid.normalization):
        step = "its preparation looks for holes, or crops, in the whole image"
    elif source.shear > SHEAR_TOLERANCE:
        step = "the axes of the image are not at right angles"
    if step:
        raise ConfigError(f"the model cannot predict this case block by block: {step}; give it the memory of the whole")


@dataclass(frozen=True)
class BlockPreparation:
    """Prepares boxes of the model grid.

    Args:
        volume: The image, on disk.
        grid: How cases are prepared.
        statistics: Of the whole image.
    """

    volume: Readable
    grid: Grid
    statistics: ImageStatistics

    @cached_property
    def oriented(self) -> Geometry:
        """The grid of the source, its axes as those of the model grid."""
        return self.grid.oriented(self.volume.geometry)

    @cached_property
    def crop(self) -> Box:
        """The box of the oriented grid that is not cropped away."""
        if not self.grid.crop_to_nonzero:
            return _whole(self.oriented)
        x, y, z = (slice(*ends) for ends in self.statistics.nonzero)
        return self._turned((x, y, z))

    @cached_property
    def cropped(self) -> Geometry:
        """The oriented grid, cropped."""
        return self.oriented.cropped(self.crop)

    @cached_property
    def model(self) -> Geometry:
        """The model grid."""
        return ModelGridRule.of(self.grid).grid_of(self.cropped)

    @cached_property
    def axes(self) -> list[AxisResampling]:
        """How values are resampled from the cropped grid to the model grid, along each array axis."""
        how = self.grid.resampling.interpolation
        places = parallel_coordinates(self.cropped, self.model)
        return [AxisResampling(each, n, how) for each, n in zip(places, self.cropped.shape, strict=True)]

    def image(self, box: Box) -> torch.Tensor:
        """Returns the prepared image ``(channel, x, y, z)``, float32, of a box of the model grid.

        It is put together of tiles, so that little of the source, which may be much finer, is in memory at a time.
        """
        result = torch.empty(len(self.grid.normalization), *(part.stop - part.start for part in box))
        cuts = [_cuts(part, edge) for part, edge in zip(box, self._tile, strict=True)]
        for x, y, z in product(*cuts):
            place = [slice(p.start - b.start, p.stop - b.start) for p, b in zip((x, y, z), box, strict=True)]
            result[:, place[0], place[1], place[2]] = self._image((x, y, z))
        return result

    @cached_property
    def _tile(self) -> tuple[int, int, int]:
        """The edges of a tile, in voxels of the model grid: multiples of what is resampled together."""
        ratios = [max(a / b, 1.0) for a, b in zip(self.model.spacing, self.cropped.spacing, strict=True)]
        edge = BLOCK
        while prod(2 * edge * ratio for ratio in ratios) <= VOXELS_OF_TILE:
            edge *= 2
        return edge, edge, edge

    def _image(self, box: Box) -> torch.Tensor:
        rows = [axis.whole_rows(part) for axis, part in zip(self.axes, box, strict=True)]
        needed = [axis.needed(part) for axis, part in zip(self.axes, rows, strict=True)]
        image = self.normalized((needed[0], needed[1], needed[2]))
        if self.model is not self.cropped:
            for dim, (axis, part) in enumerate(zip(self.axes, rows, strict=True)):
                image = axis.values(image, dim + 1, part)
        inner = [slice(part.start - row.start, part.stop - row.start) for part, row in zip(box, rows, strict=True)]
        return image[:, inner[0], inner[1], inner[2]]

    def normalized(self, box: Box) -> torch.Tensor:
        """Returns the normalized image of a box of the cropped grid."""
        moved = [
            slice(part.start + crop.start, part.stop + crop.start) for part, crop in zip(box, self.crop, strict=True)
        ]
        array = self._read((moved[0], moved[1], moved[2]))
        rules = zip(array, self.grid.normalization, self.statistics.channels, strict=True)
        return torch.stack([normalized_channel(channel, rule, known) for channel, rule, known in rules])

    def _read(self, box: Box) -> Array:
        """Returns the voxels of a box of the oriented grid."""
        array = self.volume.read(self._stored(box))
        if self.grid.orientation in (STORED, self.volume.geometry.orientation):
            return array
        return np.stack([apply_orientation(channel, self.change) for channel in array])

    @cached_property
    def change(self) -> Array:
        """The axis of the model grid that each axis of the source becomes, and 1 or -1 (flipped): ``(3, 2)``."""
        if self.grid.orientation == STORED:
            return np.array([[0, 1], [1, 1], [2, 1]])
        own = io_orientation(self.volume.geometry.affine)
        change: Array = ornt_transform(own, axcodes2ornt(tuple(self.grid.orientation)))
        return change

    def _stored(self, box: Box) -> Box:
        """Returns a box of the oriented grid on the grid of the source."""
        parts = []
        for n, (axis, sign) in zip(self.volume.geometry.shape, self.change, strict=True):
            part = box[int(axis)]
            parts.append(part if sign > 0 else slice(n - part.stop, n - part.start))
        return parts[0], parts[1], parts[2]

    def _turned(self, box: Box) -> Box:
        """Returns a box of the grid of the source on the oriented grid."""
        parts = [slice(0)] * 3
        for n, part, (axis, sign) in zip(self.volume.geometry.shape, box, self.change, strict=True):
            parts[int(axis)] = part if sign > 0 else slice(n - part.stop, n - part.start)
        return parts[0], parts[1], parts[2]

    def model_box(self, box: Box) -> Box | None:
        """Returns the box of the model grid that decides what a box of the source is.

        Args:
            box: Of the grid of the source.

        Returns:
            None where the box was cropped away.
        """
        parts = []
        places = parallel_coordinates(self.model, self.oriented)
        for at, part, n in zip(places, self._turned(box), self.model.shape, strict=True):
            inside = at[part]
            inside = inside[(inside > -0.5 - 1e-3) & (inside < n - 0.5 + 1e-3)]
            if not len(inside):
                return None
            low, high = int(inside[0].floor()), int(inside[-1].floor()) + 2
            parts.append(slice(min(max(low, 0), n - 1), min(max(high, 1), n)))
        return parts[0], parts[1], parts[2]

    def shares(self, edges: Sequence[int]) -> list[list[int]]:
        """Returns where the model grid is cut, so that each block of the source has a share of its own.

        Args:
            edges: Of blocks of the source, in voxels of its own axes.

        Returns:
            For each axis of the source even places of the model grid, or its end: one more than there are blocks.
        """
        cuts = []
        places = parallel_coordinates(self.model, self.oriented)
        for axis, (n, edge) in enumerate(zip(self.volume.geometry.shape, edges, strict=True)):
            of_model, sign = (int(each) for each in self.change[axis])
            at, m = places[of_model], self.model.shape[of_model]
            starts = [start if sign > 0 else n - start for start in range(0, n, edge)] + [n if sign > 0 else 0]
            step = float(at[1] - at[0]) if n > 1 else 1.0
            cuts.append([min(max(2 * round(float(at[0] + (s - 0.5) * step) / 2), 0), m) for s in starts])
            cuts[-1][0], cuts[-1][-1] = (0, m) if sign > 0 else (m, 0)
        return cuts

    def share(self, cuts: Sequence[Sequence[int]], number: Sequence[int]) -> Box:
        """Returns the share of a block in the model grid; together they are all of it, and none lies in two.

        Args:
            cuts: What ``shares`` gave.
            number: Of the block along each axis of the source.
        """
        parts = [slice(0)] * 3
        for axis, (of_axis, i) in enumerate(zip(cuts, number, strict=True)):
            parts[int(self.change[axis][0])] = slice(*sorted((of_axis[i], of_axis[i + 1])))
        return parts[0], parts[1], parts[2]


def normalized_channel(channel: Array, rule: Normalization, known: ChannelStatistics) -> torch.Tensor:
    """Returns a part of a channel, normalized by what is known of all of it, float32.

    Args:
        channel: ``(x, y, z)``.
        rule: Of its normalization.
        known: Of the whole channel.
    """
    if known.clip is not None:
        channel = channel.clip(*(channel.dtype.type(end) for end in known.clip))
    values = torch.from_numpy(native(channel))
    result = _by_rule(values, rule, known)
    if rule.rescaled is None:
        return result
    ends = _by_rule(torch.tensor([known.lowest, known.highest], dtype=torch.float32), rule, known)
    zeros = [torch.zeros(1)] if rule.kind == "zscore" and rule.nonzero and known.has_zero else []
    ends = torch.cat([ends, *zeros])
    lowest, (low, high) = ends.min(), rule.rescaled
    return (result - lowest).mul_((high - low) / max(float(ends.max() - lowest), LEAST_RANGE)).add_(low)


def _by_rule(values: torch.Tensor, rule: Normalization, known: ChannelStatistics) -> torch.Tensor:
    if rule.kind == "ct":
        return values.clamp(rule.lower, rule.upper).sub_(rule.mean).div_(rule.std)
    if rule.kind == "linear":
        return values.sub(rule.mean).div_(rule.std)
    if rule.kind != "zscore" or (rule.nonzero and known.lowest == known.highest == 0):
        return values
    result = (values - known.mean).div_(max(known.std, LEAST_RANGE))
    return result.masked_fill_(values == 0, 0) if rule.nonzero else result


def _whole(grid: Geometry) -> Box:
    x, y, z = grid.shape
    return slice(0, x), slice(0, y), slice(0, z)


def _cuts(part: slice, edge: int) -> list[slice]:
    """Returns the parts of a part of an axis, cut at multiples of an edge."""
    starts = [part.start, *range((part.start // edge + 1) * edge, part.stop, edge)]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], part.stop], strict=True)]
