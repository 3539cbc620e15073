"""Batches from whatever the user trains on: medseg's sampler, a DataLoader, a list of dictionaries."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Transform

from medseg.dataset.patches import Batch, PatchSampler
from medseg.errors import TrainingError
from medseg.progress import say
from medseg.transforms.augmentation.batch import BatchData, BatchTransform
from medseg.transforms.augmentation.pipeline import Augmentation, EachSample

Batches = PatchSampler | Iterable[Batch | Mapping[str, Any]]


def batches_from(source: Batches, first_step: int) -> Generator[Batch, None, None]:
    """Yields batches, without end where the source can be gone through again.

    Args:
        source: A ``PatchSampler``, which begins at ``first_step`` exactly; or anything that gives ``Batch``es or
            dictionaries of ``"image"`` (sample, channel, *spatial) and ``"label"`` (sample, 1, *spatial), and
            ``"targets"`` (sample, output, *spatial), 0 … 1, where objects are learnt.
        first_step: Steps done so far. Where there were some, another source than a ``PatchSampler`` begins anew, which
            is told: what a ``DataLoader`` would have given next is not known.
    """
    if isinstance(source, PatchSampler):
        yield from source.prefetched(first_step)
        return
    if first_step:
        kind = type(source).__name__
        say(
            f"Going on at step {first_step} with data from their beginning: a {kind} cannot be entered at a step, as "
            "medseg's own batches are"
        )
    some = True
    while some:
        some = False
        for item in source:
            some = True
            yield item if isinstance(item, Batch) else as_batch(item)


def as_batch(item: Mapping[str, Any]) -> Batch:
    """Returns the batch of a dictionary.

    Raises:
        TrainingError: It has no ``"image"`` or no ``"label"``, or the two are not of the same samples and axes.
    """
    if not isinstance(item, Mapping) or not {"image", "label"} <= set(item):
        raise TrainingError('a batch has to be a dictionary with "image" and "label", or a medseg Batch')
    image, label = (_plain(item[key]) for key in ("image", "label"))
    if label.ndim != image.ndim or len(label) != len(image):
        raise TrainingError(
            f'a batch with "image" {tuple(image.shape)} and "label" {tuple(label.shape)}: give (sample, channel, '
            "*spatial) and (sample, 1, *spatial)"
        )
    targets = _plain(item["targets"]).float() if "targets" in item else None
    return Batch(image.float(), label, _names(item, len(image)), targets=targets)


def _plain(values: object) -> torch.Tensor:
    return values.as_tensor() if isinstance(values, MetaTensor) else torch.as_tensor(values)


def _names(item: Mapping[str, Any], n: int) -> tuple[str, ...]:
    """Returns the names by which errors call the samples."""
    names = item.get("case_id")
    if names is None and isinstance(item["image"], MetaTensor):
        names = item["image"].meta.get("filename_or_obj")
    if isinstance(names, Sequence) and not isinstance(names, str) and len(names) == n:
        return tuple(map(str, names))
    return tuple(f"sample {i}" for i in range(n))


def augmentation_from(transforms: Callable[..., Any] | None) -> Augmentation:
    """Returns transforms of any kind as an augmentation, which is a function of the step and not of what was before.

    Args:
        transforms: medseg's own augmentation; a ``Compose`` or another transform of MONAI for dictionaries of single
            samples (channel, *spatial), which is applied to each sample of a batch; or any other function of a
            dictionary of whole batches. None: nothing.
    """
    if transforms is None:
        return Augmentation([])
    if isinstance(transforms, Augmentation):
        return transforms
    steps: Any = transforms.transforms if isinstance(transforms, Compose) else (transforms,)
    if all(isinstance(step, BatchTransform) for step in steps):
        return Augmentation(list(steps))
    return Augmentation([EachSample(transforms) if isinstance(transforms, Transform) else _WholeBatch(transforms)])


class _WholeBatch(BatchTransform):
    """A function of a dictionary of whole batches. What it draws from torch and NumPy follows from the step too."""

    def __init__(self, function: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
        self.function = function

    def __call__(self, data: BatchData) -> BatchData:
        seed = int(self.R.randint(2**31)) + self.first
        torch.manual_seed(seed)
        np.random.seed(seed)  # that is where functions draw that know no generator
        return self.function(dict(data))
