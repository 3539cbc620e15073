"""What an answer of the network owes to what was said: it agrees with points and scribbles, it leaves out structures at
which nobody pointed, and away from the newest prompt it keeps what it is not sure to change."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from medseg.interactive.encoding import window_voxels
from medseg.interactive.mask_geometry import connected_to, smoothed
from medseg.interactive.prompts import Point, Prompt, Scribble
from medseg.volume import Geometry, Points, mean_edge

# Errors of a good mask are sheets of a voxel along its border: what moves more than it has to makes new ones. These
# were measured click by click (benchmarks/README.md, "Click by click"), as was DOUBT.
MARGIN = 1.0  # of a logit that was moved to agree with its prompt, or because its voxel is of another structure
BEYOND = 0.1  # part of its wrong value that it gets at least on the right side
SPREAD = 3.0  # voxels: standard deviation of how far a voxel takes its neighbours along
REACH = 3.0  # standard deviations, beyond which nothing moves
ALIKE = 0.5  # part of the move that goes with those that look alike, the rest goes with all neighbours
SPREAD_OF_ALIKE = 12.0  # voxels: standard deviation of how far it goes with them
DIFFERENCE = 1.0  # standard deviation, in those of the features, of how unlike they may be
LEAST_ALIKE = 0.5  # through which a move goes on, from voxel to voxel
MOST_OUTPUTS = 8  # by which voxels are alike: an answer has to come within a second with a hundred labels, too
DOUBT = 0.7  # logit up to which a voxel stays what it was, far from the newest prompts
NEAR = 6.0  # voxels: standard deviation of how far these reach


@dataclass(frozen=True)
class WindowAppearance:
    """By what voxels of a window are alike: the image, and what the network says of its labels there.

    Attributes:
        image: ``(channel, x, y, z)``, normalised.
        logits: Of all outputs but the object, ``(output, x, y, z)``.
    """

    image: torch.Tensor
    logits: torch.Tensor

    @cached_property
    def features(self) -> torch.Tensor:
        """The image as it is scaled, and the outputs that differ most among the voxels, with a standard deviation of 1;
        both without the noise: float32 ``(channel + output, x, y, z)``."""
        deviations, most = self.logits.flatten(1).std(1).topk(min(len(self.logits), MOST_OUTPUTS))
        scale = deviations.clamp(min=torch.finfo(torch.float32).eps).view(-1, 1, 1, 1)
        return torch.stack([smoothed(each) for each in (*self.image.float(), *(self.logits[most] / scale))])


def steadied(
    logits: torch.Tensor, before: torch.Tensor, newest: tuple[Points, Points], window: Geometry
) -> torch.Tensor:
    """Returns logits that leave a mask as it was where they are near to 0, but for the surroundings of the newest
    prompts.

    The network says all of its window anew with each prompt, and where it is in doubt it says now this, now that; so
    clicks undid what earlier ones, or nobody, had to correct. It is a prior: a logit of ``DOUBT`` for what was there.

    Args:
        logits: ``(x, y, z)`` float32, on the grid of the window.
        before: The mask so far, bool ``(x, y, z)``; of an object that just begins nothing is kept.
        newest: The lowest and the highest corner of the box around the newest prompts, in voxels of the window.
        window: The grid of the logits.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from medseg.volume import Geometry
        >>> grid, before = Geometry((40, 1, 1), np.eye(4)), torch.arange(40).view(40, 1, 1) < 30
        >>> said = torch.full((40, 1, 1), -0.5)  # nowhere, but not for sure
        >>> box = np.array([-0.5, -0.5, -0.5]), np.array([0.5, 0.5, 0.5])  # around a point in the first voxel
        >>> now = (steadied(said, before, box, grid) > 0).flatten()
        >>> bool(now[0]), bool(now[29]), bool(now[30])
        (False, True, False)
    """
    if not before.any():
        return logits
    reach_mm, exponent = NEAR * mean_edge(window.spacing, window.shape), torch.zeros(())
    for axis, (low, high, mm, n) in enumerate(zip(*newest, window.spacing, window.shape, strict=True)):
        at = np.arange(n)
        away = np.maximum(np.maximum(low - at, at - high), 0) * mm / reach_mm
        exponent = exponent - torch.from_numpy(away**2 / 2).float().view(
            [-1 if axis == each else 1 for each in range(3)]
        )
    return logits + DOUBT * (1 - exponent.exp()) * (2 * before.float() - 1)


def agreeing(
    logits: torch.Tensor,
    prompts: Sequence[Prompt],
    source: Geometry,
    window: Geometry,
    appearance: WindowAppearance | None = None,
) -> torch.Tensor:
    """Returns logits that agree with all points and scribbles.

    Where one has the wrong sign, it is moved to the right one, and others by less. Those are the voxels around it, so
    that the border that the network drew moves past the prompt and keeps its shape elsewhere; and of a point those
    farther away that look alike and hang together with it, so that a few points find a thing that the network does not
    know. Where the network was nearly right, little is moved. This is the mean of a Gaussian process with the logits of
    the network as its prior, one observation at a time.

    Source: Zhou et al. 2023, arXiv:2302.14578 (clicks as observations of a Gaussian process, whose kernel knows
    features of the network; here these are what it says of its labels, beside the image).

    Args:
        logits: ``(x, y, z)`` float32, on the grid of the window.
        prompts: Of one object, from the oldest to the newest, which wins.
        source: The grid that the indices of the prompts belong to.
        window: The grid of the logits.
        appearance: Of the window. None: only distances count.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from medseg.interactive.prompts import Point
        >>> from medseg.volume import Geometry
        >>> grid = Geometry((9, 1, 1), np.eye(4))
        >>> logits = torch.linspace(4, -4, 9).view(9, 1, 1)
        >>> (agreeing(logits, [Point((5, 0, 0))], grid, grid) > 0).flatten().int().tolist()
        [1, 1, 1, 1, 1, 1, 0, 0, 0]
    """
    values, said = logits.clone(), dict[tuple[int, ...], Point | Scribble]()
    for prompt in prompts:
        if isinstance(prompt, Point | Scribble):
            for voxel in map(tuple, window_voxels(source, window, prompt).tolist()):
                said.pop(voxel, None)  # what was said of it before counts no longer
                said[voxel] = prompt
    for voxel, prompt in said.items():
        # A stroke runs along borders, where each of its voxels would take others along on both sides.
        alike = appearance if isinstance(prompt, Point) else None
        _move(values, voxel, 1 if prompt.positive else -1, window, alike)
    return values


def without_other_labels(
    logits: torch.Tensor,
    labels: torch.Tensor,
    prompts: Sequence[Prompt],
    before: torch.Tensor,
    source: Geometry,
    window: Geometry,
) -> torch.Tensor:
    """Returns logits of an object without what the network knows by a label that the object does not have.

    Beside a structure that it was trained on, a network takes a click at something new for one at that structure, and
    answers with both. But in the same answer it says which voxels are of the structure, and a voxel is of one thing
    only. An object has the labels in which a prompt at it lies, if only by a voxel; and those that its mask so far
    holds for the most part, or mostly consists of.

    Args:
        logits: Of the object, ``(x, y, z)`` float32, on the grid of the window.
        labels: What the network says of its labels there, network values ``(x, y, z)``, uint8.
        prompts: Of the object.
        before: Its mask so far, bool ``(x, y, z)``.
        source: The grid that the indices of the prompts belong to.
        window: The grid of the logits.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from medseg.interactive.prompts import Point
        >>> from medseg.volume import Geometry
        >>> grid, said = Geometry((6, 1, 1), np.eye(4)), torch.ones(6, 1, 1)  # all of it
        >>> labels, before = torch.tensor([0, 0, 0, 0, 2, 2], dtype=torch.uint8).view(6, 1, 1), said < 0
        >>> for place in (1, 5):
        ...     made = without_other_labels(said, labels, [Point((place, 0, 0))], before, grid, grid)
        ...     (made > 0).flatten().int().tolist()
        [1, 1, 1, 1, 0, 0]
        [1, 1, 1, 1, 1, 1]
    """
    own = torch.zeros(256, dtype=torch.bool)
    own[0] = True
    for prompt in prompts:
        if prompt.positive:
            own[labels[tuple(window_voxels(source, window, prompt).T)].long()] = True
    there, held = (torch.bincount(values, minlength=256) for values in (labels.flatten(), labels[before]))
    own |= (held > 0) & (2 * held >= torch.minimum(there, held.sum()))
    return torch.where(own[labels.long()], logits, logits.clamp(max=-MARGIN))


def _move(
    values: torch.Tensor, voxel: tuple[int, ...], sign: int, window: Geometry, appearance: WindowAppearance | None
) -> None:
    """Moves the logit of a voxel that has the wrong sign, and those that go with it."""
    value = sign * float(values[voxel])
    if value > 0:
        return
    by, edge_mm = sign * (max(MARGIN, -BEYOND * value) - value), mean_edge(window.spacing, window.shape)
    part, near = _gaussian(voxel, window, SPREAD * edge_mm)
    if appearance is None:
        values[part] += by * near
        return
    values[part] += (1 - ALIKE) * by * near
    part, near = _gaussian(voxel, window, SPREAD_OF_ALIKE * edge_mm)
    features, (x, y, z), (i, j, k) = appearance.features, part, voxel
    unlike = (features[:, x, y, z] - features[:, i, j, k].view(-1, 1, 1, 1)) / DIFFERENCE
    alike = (-unlike.square().mean(0) / 2).exp()
    # A second kidney, or the nucleus beside, looks the same and is another object.
    own = connected_to([at - each.start for at, each in zip(voxel, part, strict=True)], alike >= LEAST_ALIKE)
    values[part] += ALIKE * by * near * alike * own


def _gaussian(voxel: Sequence[int], window: Geometry, spread_mm: float) -> tuple[tuple[slice, ...], torch.Tensor]:
    """Returns the part of a window around a voxel, and its Gaussian there, which is 1 at the voxel."""
    part, exponents = [], []
    for axis, (at, mm, n) in enumerate(zip(voxel, window.spacing, window.shape, strict=True)):
        reach = int(REACH * spread_mm / mm)
        part.append(slice(max(at - reach, 0), min(at + reach + 1, n)))
        away = (np.arange(n)[part[-1]] - at) * mm / spread_mm
        exponents.append((-(away**2) / 2).reshape([-1 if axis == each else 1 for each in range(3)]))
    return tuple(part), torch.from_numpy(np.exp(sum(exponents))).float()
