"""From a volume to an array on the model grid, and from logits on the model grid back to the source.

The way forward is a ``monai.transforms.Compose``: orient, crop, normalise, resample, then the user's own. The way
back needs the two grids only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Orientationd

from medseg.errors import ConfigError, SourceError
from medseg.plan import Grid
from medseg.preprocessing.by_name import monai_transform
from medseg.preprocessing.common_grid import on_grid
from medseg.preprocessing.resample import parallel_coordinates, resample_axis
from medseg.preprocessing.transforms import LABEL, Normalised, ResampleToSpacingd, geometry_of
from medseg.preprocessing.upright import label_map_on_grid, upright_grid
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry, Volume

IMAGE = "image"

# Logits of this many values are resampled at a time on the way back (256 MB in float32).
VALUES_PER_SLAB = 2**26


@dataclass(frozen=True)
class Prepared:
    """A case on the model grid: ``image`` (channel, x, y, z) float32, ``label_map`` (x, y, z) in network values."""

    image: torch.Tensor
    label_map: torch.Tensor | None
    geometry: Geometry
    source: Geometry


def prepare(volume: Volume, label_map: Array | None, grid: Grid, n_labels: int) -> Prepared:
    """Brings a case to the model grid. ``label_map`` (x, y, z) lies on the volume's grid, in network values.

    A sheared volume is resampled to an upright grid first, and ``restore`` maps its labels back.

    Raises ``SourceError`` for a wrong number of channels and ``ConfigError`` for transforms of the user that break
    the grid.
    """
    if len(volume.array) != len(grid.normalisation):
        raise SourceError(f"{len(volume.array)} channels where the plan has {len(grid.normalisation)}")
    source = volume.geometry
    if source.shear > SHEAR_TOLERANCE:
        upright = upright_grid(source)
        volume = on_grid(volume, upright)
        label_map = None if label_map is None else label_map_on_grid(label_map, source, upright)
    affine = torch.from_numpy(volume.geometry.affine)
    data = {IMAGE: MetaTensor(torch.from_numpy(_native(volume.array)), affine=affine)}
    if label_map is not None:
        data[LABEL] = MetaTensor(torch.from_numpy(np.ascontiguousarray(label_map))[None], affine=affine)
    data = pipeline(grid, n_labels, list(data))(data)
    data = _own_transforms(grid, data)
    # The user's transforms may have changed the types.
    image = data[IMAGE].as_tensor().float().contiguous()
    label = data[LABEL].as_tensor()[0].to(torch.uint8).contiguous() if LABEL in data else None
    return Prepared(image, label, geometry_of(data[IMAGE]), source)


def pipeline(grid: Grid, n_labels: int, keys: Sequence[str]) -> Compose:
    """The standard steps; every one is a MONAI transform or has its interface."""
    steps: list[Callable[..., object]] = [Orientationd(keys, axcodes=grid.orientation, labels=None)]
    if grid.crop_to_nonzero:
        # A fully black image is left as it is (allow_smaller has no meaning without padding).
        steps.append(CropForegroundd(keys, source_key=IMAGE, select_fn=_any_channel_nonzero, allow_smaller=True))
    steps.append(Normalised([IMAGE], grid.normalisation))
    steps.append(ResampleToSpacingd(keys, grid.spacing, n_labels))
    return Compose(steps)


def restore(logits: torch.Tensor, grid: Geometry, source: Geometry, orientation: str) -> Array:
    """Decodes logits (label, x, y, z) on the model grid to network labels (x, y, z, uint8) on the source grid.

    The logits are resampled and then decoded, slab by slab along the last axis, so that never more than one slab of
    them exists at the source's size. Voxels outside the model grid (cropped away before) are background.
    """
    if source.shear > SHEAR_TOLERANCE:
        upright = upright_grid(source)
        return label_map_on_grid(restore(logits, grid, upright, orientation), upright, source)
    oriented = source.oriented_as(orientation)
    x, y, z = parallel_coordinates(grid, oriented)
    inside = [
        torch.nonzero((c > -0.5 - 1e-3) & (c < n - 0.5 + 1e-3)).flatten()
        for c, n in zip((x, y, z), grid.shape, strict=True)
    ]
    result = torch.zeros(oriented.shape, dtype=torch.uint8)
    if all(len(axis) for axis in inside):
        (x0, x1), (y0, y1), (z0, z1) = ((int(axis[0]), int(axis[-1]) + 1) for axis in inside)
        thickness = max(1, VALUES_PER_SLAB // (len(logits) * (x1 - x0) * (y1 - y0)))
        for start in range(z0, z1, thickness):
            stop = min(start + thickness, z1)
            slab = resample_axis(logits, z[start:stop], 3)
            slab = resample_axis(slab, x[x0:x1], 1)
            slab = resample_axis(slab, y[y0:y1], 2)
            result[x0:x1, y0:y1, start:stop] = slab.argmax(0).to("cpu", torch.uint8)
    return Volume(result.numpy()[None], oriented).oriented_as(source.orientation).label_map


def _own_transforms(grid: Grid, data: dict[str, MetaTensor]) -> dict[str, MetaTensor]:
    for spec in grid.transforms:
        before = geometry_of(data[IMAGE])
        data = monai_transform(spec)(data)
        difference = before.difference(geometry_of(data[IMAGE]))
        if difference is not None:
            raise ConfigError(
                f"preprocessing.transforms: {spec.get('name')} changes the grid ({difference}); only transforms of "
                "values can be added, set preprocessing.spacing or .orientation for the grid"
            )
    return data


def _any_channel_nonzero(image: torch.Tensor) -> torch.Tensor:
    nonzero = (image != 0).any(0, keepdim=True)
    # CropForeground would leave nothing of an image that is zero everywhere.
    return nonzero if bool(nonzero.any()) else torch.ones_like(nonzero)


def _native(array: Array) -> Array:
    """Float32 in native byte order, which torch needs."""
    return np.ascontiguousarray(array, dtype=np.float32)
