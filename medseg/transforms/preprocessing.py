"""From a volume to an array on the model grid: orient, crop, normalize, resample, then the user's own transforms.

``build_preprocessing`` has all of it as a ``monai.transforms.Compose`` of dictionaries, with a way back by
``monai.transforms.Invertd``. ``prepare`` is what the commands call: the same steps for a ``Volume`` that was read.
Their way back (``medseg.transforms.restoring``) needs the two grids only, and takes logits slab by slab.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Orientationd

from medseg.errors import MedsegError, cause_of
from medseg.labels import Labels
from medseg.plan import Grid, Plan
from medseg.transforms.extremes import without_extremes
from medseg.transforms.grids import label_map_on_grid, on_grid, orthogonal_grid
from medseg.transforms.intensities import Floats, profile, quantiles
from medseg.transforms.normalize import ClipExtremesd, NormalizeChannelsd, check_channels
from medseg.transforms.reading import IMAGE, ReadVolumed, native
from medseg.transforms.registry import ValueTransform
from medseg.transforms.spatial import LABEL, OrthogonalGridd, ResampleToSpacingd, geometry_of
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry, Volume

# In units of normalized values, which are stored in steps of a thousandth.
FLAT_BELOW = 1e-3

KEYS = (IMAGE, LABEL)


class Preprocessing(Compose):
    """A ``Compose`` in which an error that a user can cause stays what it is: a ``MedsegError`` with its message."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the data after all transforms.

        Raises:
            MedsegError: What a transform raised, in place of the ``RuntimeError`` that MONAI makes of it.
        """
        try:
            return super().__call__(*args, **kwargs)
        except RuntimeError as error:
            cause = cause_of(error)
            if isinstance(cause, MedsegError):
                raise cause from error
            raise


def build_preprocessing(plan: Plan | Grid, labels: Labels | None = None) -> Preprocessing:
    """Returns the plan's own preprocessing, as it was before training and is before prediction.

    It takes a dictionary with ``image``, and ``label`` if there is one. Each is a path of anything that
    ``medseg.read_volume`` reads (of several channels: a sequence of paths), or a ``MetaTensor`` (channel, x, y, z) with
    its affine (RAS mm). It gives ``MetaTensor``s on the model grid: ``image`` float32, normalized, and ``label`` uint8
    (1, x, y, z) in network values. Other keys pass through.

    The trace is kept: ``Invertd(keys="prediction", transform=this, orig_keys="image")`` brings a label map
    (1, x, y, z) back onto the grid of the source, equal to what ``medseg predict`` does; with ``nearest_interp=False``
    it interpolates logits or probabilities (channel, x, y, z) linearly. MONAI wants a ``MetaTensor`` there, as networks
    return for one.

    Args:
        plan: of a model (``model.json``) or a prepared dataset (``plan.json``), or its ``grid``.
        labels: of the same place; the label map holds values of the user's files then. None: it holds network values.

    Returns:
        A ``monai.transforms.Compose``. Calling it raises ``MedsegError``: ``SourceError`` for what cannot be read and
        for a wrong number of channels, ``GeometryError`` where image and label lie on different grids, ``LabelError``
        for a value that is no label's, ``ConfigError`` for transforms of the user that change the grid.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from monai.transforms import Invertd
        >>> from medseg.plan import Grid, Normalization
        >>> rule = Normalization(kind="zscore")
        >>> grid = Grid(orientation="RAS", spacing=(2, 2, 2), crop_to_nonzero=False, normalization=(rule,))
        >>> preprocess = build_preprocessing(grid)
        >>> case = preprocess({"image": MetaTensor(torch.rand(1, 10, 12, 14))})
        >>> tuple(case["image"].shape)
        (1, 5, 6, 7)
        >>> case["prediction"] = MetaTensor(torch.ones(1, 5, 6, 7, dtype=torch.uint8))
        >>> tuple(Invertd("prediction", preprocess, "image")(case)["prediction"].shape)
        (1, 10, 12, 14)
    """
    grid = plan.grid if isinstance(plan, Plan) else plan
    return Preprocessing(
        [
            ReadVolumed(KEYS, labels, tolerance=grid.tolerance, registered=grid.registered),
            ClipExtremesd([IMAGE], grid.normalization),
            OrthogonalGridd(KEYS),
            *_steps(grid),
        ]
    )


def _steps(grid: Grid) -> list[Callable[..., Any]]:
    """Returns the transforms from an orthogonal grid to the model grid; each one has the interface of MONAI's."""
    steps: list[Callable[..., Any]] = [
        Orientationd(KEYS, axcodes=grid.orientation, labels=None, allow_missing_keys=True)
    ]
    if grid.crop_to_nonzero:
        # A fully black image is left as it is (allow_smaller has no meaning without padding). What was cut is not noted
        # in the dictionary, where it would be no part of a case.
        crop = CropForegroundd(
            KEYS,
            source_key=IMAGE,
            select_fn=_any_channel_nonzero,
            allow_smaller=True,
            start_coord_key=None,
            end_coord_key=None,
            allow_missing_keys=True,
        )
        steps.append(crop)
    steps.append(NormalizeChannelsd([IMAGE], grid.normalization))
    steps.append(ResampleToSpacingd(KEYS, grid.spacing))
    return [*steps, *(ValueTransform(spec) for spec in grid.transforms)]


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
        >>> from medseg.plan import Grid, Normalization
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
    volume = Volume(array, source)
    if source.shear > SHEAR_TOLERANCE:
        orthogonal = orthogonal_grid(source)
        volume = on_grid(volume, orthogonal)
        label_map = None if label_map is None else label_map_on_grid(label_map, source, orthogonal)
    affine = torch.from_numpy(volume.geometry.affine)
    data = {IMAGE: MetaTensor(torch.from_numpy(native(volume.array)), affine=affine)}
    if label_map is not None:
        data[LABEL] = MetaTensor(torch.from_numpy(np.ascontiguousarray(label_map))[None], affine=affine)
    data = Preprocessing(_steps(grid))(data)
    # The user's transforms may have changed the types.
    image = data[IMAGE].as_tensor().float().contiguous()
    label = data[LABEL].as_tensor()[0].to(torch.uint8).contiguous() if LABEL in data else None
    profiles = tuple(profile(quantiles(channel), rule) for channel, rule in zip(array, grid.normalization, strict=True))
    oddities |= {i: _why_flat(volume.array[i]) for i in _flat_channels(image)}
    return Prepared(image, label, geometry_of(data[IMAGE]), source, profiles, oddities)


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


def _any_channel_nonzero(image: torch.Tensor) -> torch.Tensor:
    nonzero = (image != 0).any(0, keepdim=True)
    # CropForeground would leave nothing of an image that is zero everywhere.
    return nonzero if bool(nonzero.any()) else torch.ones_like(nonzero)
