"""Batches of patches from a prepared dataset. Batch ``k`` is a function of the seed and ``k`` alone, so that a resumed
run sees exactly what the unbroken one would have seen."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from medseg.dataset.prepared_arrays import FULL
from medseg.dataset.store import PreparedDataset
from medseg.plan import Plan
from medseg.volume import Array

WHOLE = slice(None)


@dataclass(frozen=True)
class Batch:
    """Patches, and whose they are. Of a batch that several processes share, these are the samples of one of them.

    Attributes:
        image: (sample, channel, *spatial) float32, normalized.
        label: (sample, 1, *spatial) uint8, network values; 255 where nobody annotated.
        case_ids: Of all samples of the whole batch.
        first: Which of them the first sample here is.
        annotated: (sample, network value): which labels were drawn in each sample; None: all.
        targets: (sample, output, *spatial) float32, 0 … 1: what is learnt of single objects; None: nothing.

    Examples:
        >>> import torch
        >>> from medseg.dataset import Batch
        >>> label = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> batch = Batch(torch.zeros(2, 1, 8, 8), label, case_ids=("patient_1", "patient_2"))
    """

    image: torch.Tensor
    label: torch.Tensor
    case_ids: tuple[str, ...]  # of the whole batch
    first: int = 0
    annotated: torch.Tensor | None = None
    targets: torch.Tensor | None = None


class PatchSampler:
    """Draws patches: every case equally often, and a part of the patches centred on a labelled voxel. In cases that are
    not annotated everywhere, the other patches are centred on a voxel that is.

    With ``by_component`` that part finds what is rare and small: each label comes equally often, from whichever cases
    have it, then each of its connected components, then each voxel of it.

    Examples:
        >>> from medseg.dataset import PatchSampler, PreparedDataset
        >>> dataset = PreparedDataset("prepared")  # what medseg preprocess wrote
        >>> plan = dataset.plans.plan_3d
        >>> sampler = PatchSampler(dataset, plan, batch_size=2, foreground_fraction=1 / 3, seed=0)
        >>> batch = sampler.batch(step=0)
        >>> batch.image.shape == (2, 1, *plan.patch_size), batch.label.dtype
        (True, torch.uint8)
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        plan: Plan,
        *,
        batch_size: int,
        foreground_fraction: float,
        seed: int,
        margin: Sequence[int] = (0, 0, 0),
    ) -> None:
        """Takes what to draw from.

        Args:
            dataset: With the cases to draw from, such as ``dataset.subset(split.training)``.
            plan: Says the size of patches, and which axis 2D networks don't see.
            batch_size: Samples of a batch.
            foreground_fraction: Of patches that are centred on a voxel of a label.
            seed: With the step it says all that is drawn.
            margin: Voxels of context on each side (x, y, z) that the network sees only; beyond the image it is
                mirrored.
        """
        self.dataset = dataset
        self.case_ids = dataset.case_ids
        self.plan = plan
        self.batch_size = batch_size
        self.foreground_fraction = foreground_fraction
        self.seed = seed
        self.by_component = False  # how patches are centred on labels
        self.readers = 1  # threads that read batches, each one of its own
        self._share = WHOLE
        self.margin = tuple(margin)
        self.centre = tuple(n - 2 * m for n, m in zip(plan.patch_size, self.margin, strict=True))

    def shared(self, share: slice) -> "PatchSampler":
        """Returns a sampler of the same batches, of which ``prefetched`` gives a share of the samples only.

        Args:
            share: The samples that fall to one of several processes.
        """
        sampler = copy(self)
        sampler._share = share
        return sampler

    def batch(self, step: int, share: slice = WHOLE) -> Batch:
        """Returns the batch of this step, or a share of its samples.

        Args:
            step: From 0.
            share: Which of the samples.
        """
        indices = range(step * self.batch_size, (step + 1) * self.batch_size)
        case_ids = tuple(self._case(index) for index in indices)
        samples = zip(indices[share], case_ids[share], strict=True)
        patches = [self._sample(index, case_id) for index, case_id in samples]
        images, labels, targets = zip(*patches, strict=True)
        return Batch(
            torch.from_numpy(np.stack(images).astype(np.float32)),
            torch.from_numpy(np.stack(labels)),
            case_ids,
            share.start or 0,
            self._annotated(case_ids[share]),
            None if self.plan.objects is None else torch.from_numpy(np.stack(targets).astype(np.float32) / FULL),
        )

    def _annotated(self, case_ids: Sequence[str]) -> torch.Tensor | None:
        rows = torch.from_numpy(np.stack([self.dataset.is_annotated(case_id) for case_id in case_ids]))
        return None if bool(rows.all()) else rows

    def prefetched(self, first_step: int) -> Generator[Batch, None, None]:
        """Yields batches from ``first_step`` on, without end; the next ones are read while this one is trained on."""
        threads = ThreadPoolExecutor(self.readers)
        try:
            coming = deque(threads.submit(self.batch, first_step + i, self._share) for i in range(self.readers))
            for step in count(first_step + self.readers):
                batch = coming.popleft().result()
                coming.append(threads.submit(self.batch, step, self._share))
                yield batch
        finally:
            threads.shutdown(cancel_futures=True)

    def _sample(self, index: int, case_id: str) -> tuple[Array, Array, Array | None]:
        random = np.random.default_rng([self.seed, 1, index])
        image, label_map = self.dataset.image(case_id), self.dataset.label_map(case_id)
        centre = None
        if self._is_forced(index):
            label = self._label_and_case(index)[0] if self.by_component else None
            centre = self._foreground_voxel(case_id, label, random)
        start = self._start(case_id, label_map.shape, centre, random)
        squeezed = () if self.plan.slice_axis is None else (self.plan.slice_axis + 1,)
        labels = self._cut(label_map[None], start)
        self.dataset.check_values(case_id, labels)
        targets = None
        if self.plan.objects is not None:
            stored = [self.dataset.targets(case_id, kind, self.plan.dims) for kind in self.plan.objects.targets]
            targets = np.concatenate([self._cut(each[None], start).squeeze(squeezed) for each in stored])
        return self._cut(image, start).squeeze(squeezed), labels.squeeze(squeezed), targets

    def _cut(self, array: Array, start: Sequence[int]) -> Array:
        if not any(self.margin):
            return cut(array, start, self.plan.patch_size)
        return mirrored_cut(array, [s - m for s, m in zip(start, self.margin, strict=True)], self.plan.patch_size)

    def _case(self, index: int) -> str:
        """Returns the case of a sample; cases are in a new random order on each pass.

        Where a label is to be found, it is one that has it.
        """
        if self.by_component and self._is_forced(index) and (case_id := self._label_and_case(index)[1]) is not None:
            return case_id
        rounds, position = divmod(index, len(self.case_ids))
        order = np.random.default_rng([self.seed, 0, rounds]).permutation(len(self.case_ids))
        return self.case_ids[int(order[position])]

    def _is_forced(self, index: int) -> bool:
        """Returns whether a sample is centred on a label: exactly the wanted part, spread evenly over the steps."""
        return int((index + 1) * self.foreground_fraction) > int(index * self.foreground_fraction)

    def _label_and_case(self, index: int) -> tuple[int | None, str | None]:
        """Returns the label that a sample is centred on, each equally often, and a case that has it.

        None and None where no case has any.
        """
        random = np.random.default_rng([self.seed, 2, index])
        labels = self.dataset.labels.names
        cases = [self.dataset.cases[case_id] for case_id in self.case_ids]
        held = {name: [case.case_id for case in cases if name in case.volumes_ml] for name in labels}
        names = [name for name in labels if held[name]]
        if not names:
            return None, None
        name = names[int(random.integers(len(names)))]
        return labels.index(name) + 1, held[name][int(random.integers(len(held[name])))]

    def _start(
        self, case_id: str, shape: Sequence[int], centre: Array | None, random: np.random.Generator
    ) -> tuple[int, ...]:
        """Returns the first voxel of the patch, margin aside.

        It is anywhere inside the image; an image that is smaller lies anywhere inside of the patch.
        """
        if centre is None:
            centre = self._annotated_voxel(case_id, random)
        start = []
        for axis, (size, edge) in enumerate(zip(shape, self.centre, strict=True)):
            low, high = min(0, size - edge), max(0, size - edge)
            if centre is None or size <= edge:
                start.append(int(random.integers(low, high + 1)))
            else:
                start.append(int(np.clip(centre[axis] - edge // 2, low, high)))
        return tuple(start)

    def _foreground_voxel(self, case_id: str, label: int | None, random: np.random.Generator) -> Array | None:
        """Returns a voxel of a label; None when the case has none.

        Args:
            case_id: The case.
            label: Its network value; where it is gone on the model grid, or None, one of those that the case has.
            random: What is drawn from.
        """
        rows = self.dataset.components(case_id) if self.by_component else self.dataset.foreground(case_id)
        if len(rows) == 0:
            return None
        values = np.unique(rows[:, 0])
        chosen = label if label in values else random.choice(values)
        rows = rows[rows[:, 0] == chosen]
        if self.by_component:
            rows = rows[rows[:, 1] == random.choice(np.unique(rows[:, 1]))]
        return np.asarray(rows[random.integers(len(rows)), -3:])

    def _annotated_voxel(self, case_id: str, random: np.random.Generator) -> Array | None:
        """Returns an annotated voxel; None for a case that is annotated everywhere, or nowhere."""
        voxels = self.dataset.annotated_voxels(case_id)
        return None if voxels is None or len(voxels) == 0 else np.asarray(voxels[random.integers(len(voxels))])


def cut(array: Array, start: Sequence[int], edges: Sequence[int]) -> Array:
    """Returns the box of an array, zero where it reaches beyond the array.

    Args:
        array: (channel, x, y, z).
        start: Its first voxel (x, y, z); may be negative.
        edges: How many voxels it has (x, y, z).

    Examples:
        >>> import numpy as np
        >>> cut(np.ones((1, 2, 2, 2)), (-1, 0, 0), (2, 1, 1)).ravel().tolist()
        [0.0, 1.0]
    """
    inside = tuple(
        slice(max(s, 0), max(min(s + edge, size), 0))
        for s, edge, size in zip(start, edges, array.shape[1:], strict=True)
    )
    part = array[(slice(None), *inside)]
    if part.shape[1:] == tuple(edges):
        return np.array(part)  # a view would keep the file open, two for each patch of the batch
    result = np.zeros((len(array), *edges), dtype=array.dtype)
    place = tuple(slice(i.start - s, i.start - s + n) for i, s, n in zip(inside, start, part.shape[1:], strict=True))
    result[(slice(None), *place)] = part
    return result


def mirrored_cut(array: Array, start: Sequence[int], edges: Sequence[int]) -> Array:
    """Returns the box of an array as ``cut`` does, mirrored where it reaches beyond the array.

    It is mirrored at the first and last voxel of each axis (the overlap-tile strategy of Ronneberger et al. 2015).
    """
    boxes = zip(start, edges, array.shape[1:], strict=True)
    index = [_mirrored(np.arange(first, first + edge), size) for first, edge, size in boxes]
    # In two steps, since an index of scattered voxels would read a file on disk voxel by voxel.
    part = np.asarray(array[(slice(None), *(slice(i.min(), i.max() + 1) for i in index))])
    mirrored: Array = part[np.ix_(np.arange(len(part)), *(i - i.min() for i in index))]
    return mirrored


def _mirrored(index: Array, size: int) -> Array:
    period = max(2 * (size - 1), 1)
    index = index % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
