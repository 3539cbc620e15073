"""From a volume to an array on the model grid: orient, crop, normalize, resample, then the user's own transforms.

``build_preprocessing`` has all of it as a ``monai.transforms.Compose`` of dictionaries, with a way back by
``monai.transforms.Invertd``. The commands call ``medseg.transforms.prepared``: the same steps for a ``Volume`` that was
read.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.transforms import Compose, CropForegroundd, Orientationd

from medseg.errors import MedsegError, cause_of
from medseg.labels import Labels
from medseg.plan import STORED, Grid, Plan
from medseg.transforms.model_grid import mask_channels
from medseg.transforms.normalize import ClipExtremesd, NormalizeChannelsd
from medseg.transforms.reading import IMAGE, ReadVolumed
from medseg.transforms.registry import ValueTransform
from medseg.transforms.spatial import LABEL, OrthogonalGridd, ResampleToSpacingd

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
    steps: list[Callable[..., Any]] = []
    if grid.orientation != STORED:
        steps.append(Orientationd(KEYS, axcodes=grid.orientation, labels=None, allow_missing_keys=True))
    resampled = ResampleToSpacingd(KEYS, grid.wanted_spacing, grid.resampling, mask_channels(grid))
    if grid.resample_first:
        steps.append(resampled)
    if grid.crop_to_nonzero:
        steps.append(_crop(partial(_any_channel_nonzero, masks=mask_channels(grid))))
    steps.append(NormalizeChannelsd([IMAGE], grid.normalization, grid.fill_holes))
    if not grid.resample_first:
        steps.append(resampled)
    steps.extend(ValueTransform(spec) for spec in grid.transforms)
    return [*steps, _crop(_any_channel_above_zero)] if grid.crop_last else steps


def _crop(select: Callable[[torch.Tensor], torch.Tensor]) -> CropForegroundd:
    """Returns the transform that leaves the box of what ``select`` finds.

    A fully black image is left as it is (allow_smaller has no meaning without padding). What was cut is not noted in
    the dictionary, where it would be no part of a case.
    """
    return CropForegroundd(
        KEYS,
        source_key=IMAGE,
        select_fn=select,
        allow_smaller=True,
        start_coord_key=None,
        end_coord_key=None,
        allow_missing_keys=True,
    )


def _any_channel_nonzero(image: torch.Tensor, masks: Sequence[int]) -> torch.Tensor:
    return _or_all((image[[i for i in range(len(image)) if i not in masks]] != 0).any(0, keepdim=True))


def _any_channel_above_zero(image: torch.Tensor) -> torch.Tensor:
    return _or_all((image > 0).any(0, keepdim=True))


def _or_all(mask: torch.Tensor) -> torch.Tensor:
    """Returns the mask, or all voxels where it is empty: CropForeground would leave nothing of the image."""
    return mask if bool(mask.any()) else torch.ones_like(mask)
