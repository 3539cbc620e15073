"""From a volume to an array on the model grid: orient, crop, normalize, resample, then the user's own transforms.

The way is a ``monai.transforms.Compose``. The way back (``medseg.transforms.restoring``) needs the two grids only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Orientationd

from medseg.errors import ConfigError, SourceError, cause_of, lacks_memory
from medseg.plan import Grid
from medseg.transforms.dictionary import LABEL, Normalized, ResampleToSpacingd, geometry_of
from medseg.transforms.extremes import without_extremes
from medseg.transforms.grids import label_map_on_grid, on_grid, orthogonal_grid
from medseg.transforms.intensities import Floats, profile, quantiles
from medseg.transforms.registry import monai_transform
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry, Volume

IMAGE = "image"
# In units of normalized values, which are stored in steps of a thousandth.
FLAT_BELOW = 1e-3


@dataclass(frozen=True)
class Prepared:
    """A case on the model grid: ``image`` (channel, x, y, z) float32, ``label_map`` (x, y, z) in network values."""

    image: torch.Tensor
    label_map: torch.Tensor | None
    geometry: Geometry
    source: Geometry
    profiles: tuple[Floats, ...] = ()  # of the source's values, one a channel
    oddities: Mapping[int, str] = field(default_factory=dict)  # of these values, by channel, in words


def prepare(volume: Volume, label_map: Array | None, grid: Grid, n_labels: int) -> Prepared:
    """Brings a case to the model grid. ``label_map`` (x, y, z) lies on the volume's grid, in network values.

    A sheared volume is resampled to an orthogonal grid first, and ``Restoring`` maps its labels back.

    Raises ``SourceError`` for a wrong number of channels and ``ConfigError`` for transforms of the user that break
    the grid.
    """
    if len(volume.array) != len(grid.normalization):
        raise SourceError(f"{len(volume.array)} channels where the plan has {len(grid.normalization)}")
    source = volume.geometry
    array, oddities = without_extremes(volume.array, grid.normalization)
    volume = Volume(array, source)
    if source.shear > SHEAR_TOLERANCE:
        orthogonal = orthogonal_grid(source)
        volume = on_grid(volume, orthogonal)
        label_map = None if label_map is None else label_map_on_grid(label_map, source, orthogonal)
    affine = torch.from_numpy(volume.geometry.affine)
    data = {IMAGE: MetaTensor(torch.from_numpy(_native(volume.array)), affine=affine)}
    if label_map is not None:
        data[LABEL] = MetaTensor(torch.from_numpy(np.ascontiguousarray(label_map))[None], affine=affine)
    data = pipeline(grid, n_labels, list(data))(data)
    data = _own_transforms(grid, data)
    # The user's transforms may have changed the types.
    image = data[IMAGE].as_tensor().float().contiguous()
    label = data[LABEL].as_tensor()[0].to(torch.uint8).contiguous() if LABEL in data else None
    profiles = tuple(profile(quantiles(channel), rule) for channel, rule in zip(array, grid.normalization, strict=True))
    oddities |= {i: _why_flat(volume.array[i]) for i in _flat_channels(image)}
    return Prepared(image, label, geometry_of(data[IMAGE]), source, profiles, oddities)


def pipeline(grid: Grid, n_labels: int, keys: Sequence[str]) -> Compose:
    """The standard steps; every one is a MONAI transform or has its interface."""
    steps: list[Callable[..., object]] = [Orientationd(keys, axcodes=grid.orientation, labels=None)]
    if grid.crop_to_nonzero:
        # A fully black image is left as it is (allow_smaller has no meaning without padding).
        steps.append(CropForegroundd(keys, source_key=IMAGE, select_fn=_any_channel_nonzero, allow_smaller=True))
    steps.append(Normalized([IMAGE], grid.normalization))
    steps.append(ResampleToSpacingd(keys, grid.spacing, n_labels))
    return Compose(steps)


def _own_transforms(grid: Grid, data: dict[str, MetaTensor]) -> dict[str, MetaTensor]:
    for spec in grid.transforms:
        before = geometry_of(data[IMAGE])
        transform = monai_transform(spec)
        try:
            data = transform(data)
        except Exception as error:
            cause = cause_of(error)
            if lacks_memory(cause):
                raise
            reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
            raise ConfigError(f"preprocessing.transforms: {spec.get('name')} failed: {reason}") from error
        difference = before.difference(geometry_of(data[IMAGE]))
        if difference is not None:
            raise ConfigError(
                f"preprocessing.transforms: {spec.get('name')} changes the grid ({difference}); only transforms of "
                "values can be added, set preprocessing.spacing or .orientation for the grid"
            )
    return data


def _flat_channels(image: torch.Tensor) -> Iterator[int]:
    """Of a normalized image, those with nothing in them that a network could see."""
    for i, channel in enumerate(image):
        if float(channel.max() - channel.min()) < FLAT_BELOW:
            yield i


def _why_flat(channel: Array) -> str:
    lowest, highest = float(channel.min()), float(channel.max())
    if lowest == highest:
        return f"it is constant: all its voxels have the value {lowest:.4g}"
    return f"nothing is left of it after normalization: its values lie between {lowest:.4g} and {highest:.4g}"


def _any_channel_nonzero(image: torch.Tensor) -> torch.Tensor:
    nonzero = (image != 0).any(0, keepdim=True)
    # CropForeground would leave nothing of an image that is zero everywhere.
    return nonzero if bool(nonzero.any()) else torch.ones_like(nonzero)


def _native(array: Array) -> Array:
    """Float32 in native byte order, which torch needs."""
    return np.ascontiguousarray(array, dtype=np.float32)
