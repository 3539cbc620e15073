"""The network asked about one object: a window around its prompts, wider ones where it goes on, finer ones within.

nnInteractive looks in this order (Isensee et al. 2025, arXiv:2503.08373): where the user has prompted; wider and
coarser until the object ends inside of the window; then at the resolution of the model, along the border that it found.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medseg.architecture import PROMPT_CHANNELS, PromptChannels
from medseg.decoding import FirstOutputs, decoding_of
from medseg.device import Device
from medseg.errors import ModelError
from medseg.inferers.backends import noise, with_backend
from medseg.inferers.model import Model, load_model
from medseg.inferers.predictor import Predictor
from medseg.inferers.windows import Layout
from medseg.interactive.bounds import Bounds, corners_of
from medseg.interactive.constraints import WindowAppearance, agreeing, steadied, without_other_labels
from medseg.interactive.encoding import encode
from medseg.interactive.object_mask import ObjectMask
from medseg.interactive.prompts import Box, Point, Prompt
from medseg.interactive.source_grid import SourceGrid
from medseg.interactive.window import PromptWindow, wider_zooms, zoom_for
from medseg.plan import Plan
from medseg.transforms.prepared import Prepared
from medseg.transforms.resample import resample
from medseg.volume import Geometry, Points, Shape3

# Of neighbouring windows that look at a large object once more, and how many do: those nearest to the prompts.
OVERLAP = 0.25
MOST_FINE_WINDOWS = 8
# Of an object's prompts the network sees the first one and so many of the newest, as many as in training at most: more
# of them made its answers worse. The answer agrees with all.
NEWEST_SHOWN = 4

Said = tuple[Sequence[Prompt], Sequence[Prompt]]
"""All prompts of an object, and the newest ones, which no mask answers to yet."""


def prompt_channels(model: Model) -> PromptChannels:
    """Returns how a model sees prompts.

    Raises:
        ModelError: It does not.
    """
    channels = model.record.plan.architecture.prompts
    if channels is None:
        raise ModelError(
            f"{model.folder}: answers to no prompts; train a model that does by 'medseg train PREPARED --prompts'"
        )
    return channels


def load_promptable(model: str | Path, device: str | Device = "auto", backend: str = "auto") -> Model:
    """Returns a model that answers to prompts, its network run by the back end that is fast for windows with prompts.

    Args:
        model: A RUN or a model folder of ``medseg train --prompts``.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        backend: What runs the network: see ``medseg.inferers.backends.with_backend``.

    Raises:
        ModelError: The model cannot be used, or answers to no prompts.
        ConfigError: The device or the back end is not there.

    Examples:
        >>> from medseg.interactive import InteractiveSession, load_promptable
        >>> model = load_promptable("run", device="cpu")  # doctest: +SKIP
        >>> sessions = [InteractiveSession(model, image) for image in ("a.nii.gz", "b.nii.gz")]  # doctest: +SKIP
    """
    loaded = load_model(model, device)
    prompt_channels(loaded)
    n_channels = len(loaded.record.channels) + len(PROMPT_CHANNELS)
    return with_backend(loaded, backend, noise(n_channels, loaded.record.plan.network_patch))


class ObjectPredictor:
    """Asks a network that takes prompts about one object at a time.

    Args:
        model: One of ``medseg train --prompts``.
        prepared: The image.
        source_grid: Says where prompts and masks lie.

    Raises:
        ModelError: The model takes no prompts.
    """

    def __init__(self, model: Model, prepared: Prepared, source_grid: SourceGrid) -> None:
        self.plan: Plan = model.record.plan
        self.channels = prompt_channels(model)
        self.decoding = FirstOutputs(decoding_of(self.plan), 1)  # what is left out is the object
        self.image = prepared.image
        self.grid = prepared.geometry
        self.source_grid = source_grid
        self.predictor = Predictor(model.network, self.plan, model.device)

    def mask(self, prompts: Sequence[Prompt], newest: Sequence[Prompt], before: ObjectMask) -> ObjectMask:
        """Returns the mask of an object.

        Args:
            prompts: All of the object, from the oldest to the newest.
            newest: Those that no mask answers to yet: the network looks there. None: it looks at the whole mask.
            before: Its mask so far.
        """
        middle, size = self._focus(newest, before)
        mask = before
        for place in self._slices(middle, size):
            window, logits = self._window(place, size, (prompts, newest), mask)
            mask = self.source_grid.with_logits(mask, logits, window.geometry(self.grid))
            if window.extent != window.shape:
                mask = self._refined(mask, window, logits, (prompts, newest), place)
        return mask

    def seen_around(self, index: Sequence[float]) -> Bounds:
        """Returns the part of the image that the network sees of a point at first, in voxels of the image."""
        source = self.source_grid.source
        place = self.grid.index(source.world(index))
        window = PromptWindow.around(place, self.grid.shape, self.plan).geometry(self.grid)
        corners = source.index(
            window.world(corners_of(((0, window.shape[0]), (0, window.shape[1]), (0, window.shape[2]))))
        )
        ends = np.clip([np.rint(corners.min(0) + 0.5), np.rint(corners.max(0) + 0.5)], 0, source.shape).astype(int)
        x, y, z = ((int(low), int(high)) for low, high in ends.T)
        return x, y, z

    def _focus(self, newest: Sequence[Prompt], before: ObjectMask) -> tuple[Points, Points]:
        """Returns middle and edges of what the network has to see, in voxels of the model grid."""
        places = self._places(newest) if newest else self.source_grid.geometry.world(corners_of(before.bounds))
        corners = self.grid.index(places)
        return (corners.min(0) + corners.max(0)) / 2, corners.max(0) - corners.min(0)

    def _places(self, prompts: Sequence[Prompt]) -> Points:
        """Returns the corners of the boxes around prompts, ``(corner, 3)`` in RAS mm."""
        return np.concatenate([self.source_grid.source.world(corners_of(bounds_of(prompt))) for prompt in prompts])

    def _slices(self, middle: Points, size: Points) -> list[Points]:
        """Returns the middle of each window: of a 2D network one for each slice that the prompts lie on."""
        axis = self.plan.slice_axis
        if axis is None:
            return [middle]
        # Outer faces of voxels: a prompt on one slice is one voxel thick.
        ends = middle[axis] - size[axis] / 2 + 0.5, middle[axis] + size[axis] / 2 - 0.5
        first, last = (min(max(round(end), 0), self.grid.shape[axis] - 1) for end in ends)
        return [np.where(np.arange(3) == axis, place, middle) for place in range(first, max(first, last) + 1)]

    def _window(self, place: Points, size: Points, said: Said, before: ObjectMask) -> tuple[PromptWindow, torch.Tensor]:
        """Returns the window in which the object ends, or the widest one, and its logits there."""
        windows = [
            PromptWindow.around(place, self.grid.shape, self.plan, zoom)
            for zoom in wider_zooms(zoom_for(size, self.plan))
        ]
        for window in windows:
            logits = self._logits(window, said, before)
            seen = self.source_grid.seen(before, window.geometry(self.grid))
            if not window.is_left_by((logits > 0) & ~seen):
                break
        return window, logits

    def _logits(self, window: PromptWindow, said: Said, mask: ObjectMask) -> torch.Tensor:
        """Returns the object's logits of a window, ``(x, y, z)``, float32 in main memory."""
        prompts, newest = said
        grid, source = window.geometry(self.grid), self.source_grid.source
        previous = self.source_grid.seen(mask, grid)
        shown = [*prompts[:-NEWEST_SHOWN][:1], *prompts[-NEWEST_SHOWN:]]
        channels = encode(self._or_middle(shown, grid, previous), self.channels, source, grid, previous.float())
        with torch.inference_mode():
            image = window.of_image(self.image)
            outputs = self.predictor(torch.cat([image, channels])[None])[0].float().cpu()
        logits = outputs[-1]
        if newest:
            corners = grid.index(self._places(newest))
            logits = steadied(logits, previous, (corners.min(0), corners.max(0)), grid)
        logits = agreeing(logits, prompts, source, grid, WindowAppearance(image, outputs[:-1]))
        labels = self.decoding.labels(outputs, 0)
        return without_other_labels(logits, labels, prompts, previous, source, grid)

    def _refined(
        self, mask: ObjectMask, window: PromptWindow, logits: torch.Tensor, said: Said, place: Points
    ) -> ObjectMask:
        """Returns a mask that was found in a coarse window as the network sees it at the resolution of its model.

        Args:
            mask: With what was found.
            window: The coarse window.
            logits: Its logits.
            said: Of the object.
            place: The windows nearest to it are looked at, where there are many.
        """
        region = window.around_found(logits > 0, self.plan)
        if region is None:
            return mask
        layout = Layout(region.extent, self.plan.patch_size, (0, 0, 0), OVERLAP)
        coarse = resample(logits[None], window.geometry(self.grid), region.geometry(self.grid))[0]
        weight, total, weights = layout.weight(), torch.zeros_like(coarse), torch.zeros_like(coarse)
        for start in _nearest([start for row in layout.rows() for start in row.windows], region, self.plan, place):
            fine = region.part(start, self.plan.patch_size)
            there = layout.seen(start)[1:]
            inside = coarse[there] > 0
            if inside.any() and not inside.all():
                total[there] += weight * self._logits(fine, said, mask)
                weights[there] += weight
        refined = torch.where(weights > 0, total / weights, coarse)
        return self.source_grid.with_logits(mask, refined, region.geometry(self.grid))

    def _or_middle(self, prompts: Sequence[Prompt], grid: Geometry, mask: torch.Tensor) -> Sequence[Prompt]:
        """Returns the prompts; where none lies in a window, with a point in the middle of the mask there.

        In training a mask without any prompt never meant an object.

        Args:
            prompts: Of the object.
            grid: Of the window.
            mask: What the window shows of the object so far, bool ``(x, y, z)``.
        """
        from edt import edt  # takes long to import

        source = self.source_grid.source
        for prompt in prompts:
            corners = grid.index(source.world(corners_of(bounds_of(prompt))))
            if (corners.max(0) > -0.5).all() and (corners.min(0) < np.array(grid.shape) - 0.5).all():
                return prompts
        if not mask.any():
            return prompts
        depth = edt(np.pad(mask.numpy(), 1), anisotropy=grid.spacing)[1:-1, 1:-1, 1:-1]
        x, y, z = source.index(grid.world(np.unravel_index(int(depth.argmax()), depth.shape)))
        return [*prompts, Point((float(x), float(y), float(z)))]


def bounds_of(prompt: Prompt) -> Bounds:
    """Returns the box around a prompt, in voxels of the image."""
    if isinstance(prompt, Box):
        return prompt.bounds
    voxels = np.array([prompt.index]) if isinstance(prompt, Point) else prompt.voxels
    low, high = np.floor(voxels.min(0) + 0.5).astype(int), np.floor(voxels.max(0) + 0.5).astype(int) + 1
    x, y, z = ((int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _nearest(starts: Sequence[Shape3], region: PromptWindow, plan: Plan, place: Points) -> list[Shape3]:
    """Returns the windows of a region whose middle lies nearest to a place on the model grid."""
    middles = np.array(starts) + region.start + np.array(plan.patch_size) / 2
    order = np.argsort(np.linalg.norm(middles - place, axis=1), kind="stable")
    return [starts[int(i)] for i in order[:MOST_FINE_WINDOWS]]
