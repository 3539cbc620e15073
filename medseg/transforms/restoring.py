"""From logits on the model grid back to labels on the source grid, slab by slab.

Logits are interpolated linearly, then decoded. Between voxels of one label nothing has to be interpolated: the label
whose logit is largest at all corners of a cell is largest everywhere in it, and a region whose logit is above 0 at all
of them is so everywhere. So only cells at borders are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from torch.nn import functional

from medseg.decoding import SOFTMAX, Decoding, or_on_processor
from medseg.errors import lacks_gpu_memory
from medseg.transforms.grids import label_map_on_grid, orthogonal_grid
from medseg.transforms.interpolation import ALONG_NO_AXIS, NearestAxes, Taps, taps_at
from medseg.transforms.resample import orientation_along, parallel_coordinates
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry

# Source voxels that are decoded at a time, and values that are interpolated at a time.
VOXELS_AT_ONCE = 2**21
VALUES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Restored:
    """A finished part of the source grid, its axes ordered as those of the model grid.

    Attributes:
        label_map: ``(x, y, z)``, uint8; a view: what is written into it is in the result.
        place: Where it lies in what ``Restoring.oriented`` gives.
        logits: Interpolates those of all labels: ``(label, x, y, z)``, float32. Of a boolean array of the part's shape,
            those of its voxels, in their order: ``(label, voxel)``.
        axis: Along which parts follow each other.
    """

    label_map: Array
    place: tuple[slice, slice, slice]
    logits: Callable[..., torch.Tensor]
    axis: int = 0


Observer = Callable[[Restored], None]


class Restoring:
    """Takes slabs of logits along ``axis``, from the first to the last, and makes the label map.

    Voxels outside of the model grid (cropped away before) are background. Memory depends on the slab, not on the number
    of labels times the volume.

    Args:
        grid: The model grid.
        source: The grid of the result.
        axis: Along which slabs come: 0, 1 or 2.
        observers: Are called for each finished part.
        decoding: What logits say: one softmax over labels, or a sigmoid a region.
        nearest: Axes of the model grid along which logits are those of the nearest voxel.

    Raises:
        GeometryError: The axes of the grids are not parallel.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from medseg.transforms import Restoring
        >>> from medseg.volume import Geometry
        >>> grid = Geometry((5, 6, 7), np.eye(4))
        >>> restoring = Restoring(grid, source=grid, axis=0)
        >>> logits = torch.zeros(5, 6, 7, 2)  # (x, y, z, label)
        >>> restoring.take(logits[:3], start=0)
        >>> restoring.take(logits[2:], start=2)  # the last voxel of the slab before comes again
        >>> restoring.label_map.shape
        (5, 6, 7)
    """

    def __init__(
        self,
        grid: Geometry,
        source: Geometry,
        axis: int,
        observers: Sequence[Observer] = (),
        decoding: Decoding = SOFTMAX,
        nearest: NearestAxes = ALONG_NO_AXIS,
    ) -> None:
        self.source = source
        self.orthogonal = orthogonal_grid(source) if source.shear > SHEAR_TOLERANCE else source
        self.orientation = orientation_along(grid, self.orthogonal)
        self.axis = axis
        self.decoding = decoding
        self.observers = observers
        self._label_map = np.zeros(self.orthogonal.shape, dtype=np.uint8)
        coordinates = parallel_coordinates(grid, self.orthogonal.oriented_as(self.orientation))
        axes = list(zip(coordinates, grid.shape, strict=True))
        inside = [torch.nonzero((c > -0.5 - 1e-3) & (c < n - 0.5 + 1e-3)).flatten() for c, n in axes]
        self._inside = [slice(int(i[0]), int(i[-1]) + 1) if len(i) else slice(0, 0) for i in inside]
        self._taps = [taps_at(c[i], n, nearest, a) for a, ((c, n), i) in enumerate(zip(axes, inside, strict=True))]
        self._done = 0  # voxels of the source along the axis, of those inside

    @property
    def label_map(self) -> Array:
        """The network labels ``(x, y, z)``, uint8, on the source grid."""
        if self.orthogonal is self.source:
            return self._label_map
        return label_map_on_grid(self._label_map, self.orthogonal, self.source)

    def oriented(self, array: Array) -> Array:
        """Returns a view of an array on the source grid (orthogonal where it is sheared), with the axes of
        ``place``."""
        return oriented(array, self.orthogonal, self.orientation)

    def take(self, logits: torch.Tensor, start: int) -> None:
        """Takes the next slab.

        Args:
            logits: (x, y, z, output) of the model grid's voxels from ``start`` on along the axis.
            start: The last voxel of the slab before; 0 for the first one.
        """
        along = self._taps[self.axis]
        # Taps are clamped, so that with the last slab everything is ready.
        ready = int(torch.searchsorted(along.high, start + logits.shape[self.axis]))
        if ready == self._done or not all(len(taps.low) for taps in self._taps):
            return
        slab = or_on_processor(lambda each: _Slab(self.decoding.interpolated(each), self.decoding), logits)
        area = prod(len(taps.low) for axis, taps in enumerate(self._taps) if axis != self.axis)
        # Observers may ask for the logits of all voxels.
        at_once = VALUES_AT_ONCE // logits.shape[-1] if self.observers else VOXELS_AT_ONCE
        thickness = max(1, at_once // area)
        for first in range(self._done, ready, thickness):
            part = slice(first, min(first + thickness, ready))
            taps = [t[part].after(start) if axis == self.axis else t for axis, t in enumerate(self._taps)]
            try:
                self._decode(slab, taps, part)
            except RuntimeError as error:
                if not lacks_gpu_memory(error):
                    raise
                slab = _Slab(self.decoding.interpolated(logits.cpu()), self.decoding)
                self._decode(slab, taps, part)
        self._done = ready

    def _decode(self, slab: "_Slab", taps: list[Taps], part: slice) -> None:
        first = self._inside[self.axis].start
        place = list(self._inside)
        place[self.axis] = slice(first + part.start, first + part.stop)
        x, y, z = place
        taps = [each.to(slab.logits.device) for each in taps]
        label_map = self.oriented(self._label_map)[x, y, z]
        label_map[:] = slab.decoded(taps).cpu().numpy()
        for observer in self.observers:
            observer(Restored(label_map, (x, y, z), partial(slab.interpolated, taps), self.axis))


class _Slab:
    """Logits (x, y, z, label) of a slab, and where in it labels meet."""

    def __init__(self, logits: torch.Tensor, decoding: Decoding) -> None:
        self.logits = logits
        self.decoding = decoding
        self.shape = logits.shape[:3]
        self.table = logits.reshape(-1, logits.shape[-1])  # one row a voxel; a copy only where voxels were padded
        self.labels = _labels(self.table, decoding).view(self.shape)

    def decoded(self, taps: Sequence[Taps]) -> torch.Tensor:
        """Returns the labels ``(x, y, z)``, uint8, at the places of the taps."""
        low = [each.low for each in taps]
        result = _select(self.labels, low)
        between = [axis for axis, each in enumerate(taps) if not each.on_voxels]
        if not between:
            return result
        least = most = self.labels
        for axis in between:
            least, most = torch.minimum(least, _next(least, axis)), torch.maximum(most, _next(most, axis))
        for place in _in_pieces(torch.nonzero(_select(least != most, low)), self.table.shape[1]):
            result[tuple(place.T)] = self.decoding.labels(self._interpolate(taps, place), -1)
        return result

    def interpolated(self, taps: Sequence[Taps], which: Array | None = None) -> torch.Tensor:
        """Returns logits ``(label, x, y, z)`` at the places of the taps, or ``(label, voxel)`` at ``which`` of them."""
        shape = [len(each.low) for each in taps]
        places = torch.from_numpy(np.argwhere(np.ones(shape, bool) if which is None else which)).to(self.logits.device)
        rows = [self._interpolate(taps, place) for place in _in_pieces(places, self.table.shape[1])]
        logits = self.decoding.logits(torch.cat(rows)) if rows else self.table[:0].float()
        return logits.T if which is not None else logits.view(*shape, -1).permute(3, 0, 1, 2)

    def _interpolate(self, taps: Sequence[Taps], place: torch.Tensor) -> torch.Tensor:
        """Returns logits ``(voxel, label)`` at ``place`` ``(voxel, 3)``: indices of the taps."""
        index = torch.zeros(len(place), 1, dtype=torch.long, device=place.device)
        weight = torch.ones(len(place), 1, device=place.device)
        for axis, each in enumerate(taps):
            own, stride = place[:, axis], prod(self.shape[axis + 1 :])
            ends, parts = [each.low[own]], [1 - each.part[own]]
            if not each.on_voxels:
                ends, parts = [*ends, each.high[own]], [*parts, each.part[own]]
            index = (index[:, :, None] + torch.stack(ends, 1)[:, None] * stride).flatten(1)
            weight = (weight[:, :, None] * torch.stack(parts, 1)[:, None]).flatten(1)
        # The weighted sum of rows of a table is what an embedding bag is; it is fast, and needs no copies of the rows.
        table = self.table
        return functional.embedding_bag(index, table, mode="sum", per_sample_weights=weight.to(table)).float()


def oriented(array: Array, geometry: Geometry, orientation: str) -> Array:
    """Returns a view of an array (x, y, z) on ``geometry`` with its axes along ``orientation``, such as "RAS"."""
    change = ornt_transform(io_orientation(geometry.affine), axcodes2ornt(tuple(orientation)))
    view: Array = apply_orientation(array, change)
    return view


def restore(
    logits: torch.Tensor,
    grid: Geometry,
    source: Geometry,
    decoding: Decoding = SOFTMAX,
    nearest: NearestAxes = ALONG_NO_AXIS,
) -> Array:
    """Returns the network labels (x, y, z, uint8) on the source grid of logits on the model grid.

    Args:
        logits: (output, x, y, z) on ``grid``.
        grid: The model grid.
        source: The grid of the result.
        decoding: What logits say: one softmax over labels, or a sigmoid a region.
        nearest: Axes of the model grid along which logits are those of the nearest voxel.

    Raises:
        GeometryError: The axes of the grids are not parallel.
        ValueError: The logits do not lie on ``grid``.
    """
    if tuple(logits.shape[1:]) != grid.shape:
        raise ValueError(f"logits {tuple(logits.shape)} do not lie on a grid of shape {grid.shape}")
    restoring = Restoring(grid, source, 0, (), decoding, nearest)
    restoring.take(logits.permute(1, 2, 3, 0).contiguous(), 0)
    return restoring.label_map


def restore_label_map(
    label_map: torch.Tensor, grid: Geometry, source: Geometry, nearest: NearestAxes = ALONG_NO_AXIS
) -> torch.Tensor:
    """Returns a label map ``(x, y, z)`` of the model grid on the source grid.

    Each voxel gets the label with the largest share in what lies around it, as ``restore`` gives it for logits that are
    1 for the label and 0 for all others.

    Args:
        label_map: Whole numbers of any type, at most 256 different ones; outside of ``grid`` is 0.
        grid: Where it lies.
        source: The grid of the result.
        nearest: Axes of ``grid`` along which labels are those of the nearest voxel.

    Raises:
        GeometryError: The axes of the grids are not parallel.
        ValueError: The label map does not lie on ``grid``.
    """
    if tuple(label_map.shape) != grid.shape:
        raise ValueError(f"a label map {tuple(label_map.shape)} does not lie on a grid of shape {grid.shape}")
    values = torch.unique(torch.cat([label_map.new_zeros(1), label_map.flatten()]))
    index = torch.searchsorted(values, label_map.contiguous())
    restoring = Restoring(grid, source, axis=0, nearest=nearest)
    thickness = max(2, VALUES_AT_ONCE // (len(values) * prod(label_map.shape[1:])))
    for start in range(0, max(len(index) - 1, 1), thickness - 1):
        restoring.take(functional.one_hot(index[start : start + thickness], len(values)).float(), start)
    restored: torch.Tensor = values.cpu()[torch.from_numpy(restoring.label_map).int()]
    return restored


def _labels(table: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Returns the labels of logits ``(voxel, output)``.

    On a processor it takes a part at a time, as what lies between is larger than they are.
    """
    if table.is_cuda:
        return decoding.labels(table, -1)
    labels = torch.empty(len(table), dtype=torch.uint8)
    step = max(1, VALUES_AT_ONCE // table.shape[1])
    for i in range(0, len(table), step):
        labels[i : i + step] = decoding.labels(table[i : i + step], -1)
    return labels


def _select(array: torch.Tensor, indices: Sequence[torch.Tensor]) -> torch.Tensor:
    for axis, index in enumerate(indices):
        array = array.index_select(axis, index)
    return array


def _next(array: torch.Tensor, axis: int) -> torch.Tensor:
    """Returns the neighbour of each voxel along an axis; the last ones are their own."""
    n = array.shape[axis]
    return torch.cat([array.narrow(axis, 1, n - 1), array.narrow(axis, n - 1, 1)], axis)


def _in_pieces(places: torch.Tensor, n_labels: int) -> Iterator[torch.Tensor]:
    step = max(1, VALUES_AT_ONCE // max(n_labels, 32))
    for i in range(0, len(places), step):
        yield places[i : i + step]
