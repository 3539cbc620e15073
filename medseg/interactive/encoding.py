"""Prompts as the channels that a network sees behind those of the image, on its own grid."""

from collections.abc import Sequence
from math import ceil, floor

import numpy as np
import torch
from torch.nn import functional

from medseg.architecture import PROMPT_CHANNELS, PromptChannels
from medseg.interactive.bounds import corners_of
from medseg.interactive.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.volume import Array, Geometry

# The first of the two channels of each kind: what is inside; what is outside comes after it.
FIRST_CHANNEL = {Point: 1, Box: 3, Lasso: 3, Scribble: 5}


def encode(
    prompts: Sequence[Prompt],
    channels: PromptChannels,
    source: Geometry,
    window: Geometry,
    previous_mask: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Returns the channels of prompts, ``(channel, x, y, z)`` float32, in the order of ``PROMPT_CHANNELS``.

    A point is a ball in mm, which fades to its surface. Boxes and lassos are filled. Scribbles are as thick as
    ``channels`` says. Each prompt is weaker than the one that came after it. Along an axis of which the window has one
    voxel only, as those of 2D networks, it shows what lies on that very slice.

    Source: Isensee et al. 2025, arXiv:2503.08373 (nnInteractive: channels, decay).

    Args:
        prompts: Of one object, from the oldest to the newest.
        channels: The radii and the decay.
        source: The grid that the indices of the prompts belong to.
        window: The grid of the channels: a part of the model grid, which may reach beyond it.
        previous_mask: What the network said before, or the user gave, ``(x, y, z)`` on the grid of the window, from 0
            to 1. None: nothing.
        device: Where the channels are made.

    Examples:
        >>> import numpy as np
        >>> from medseg.architecture import PromptChannels
        >>> from medseg.volume import Geometry
        >>> grid = Geometry((5, 5, 5), np.eye(4))
        >>> made = encode([Point((2, 2, 2))], PromptChannels(point_radius_mm=2, scribble_radius_mm=1), grid, grid)
        >>> made[1, 2, 2].tolist()  # points inside
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    made = torch.zeros(len(PROMPT_CHANNELS), *window.shape, device=device)
    if previous_mask is not None:
        made[0] = previous_mask
    for age, prompt in enumerate(reversed(prompts)):
        channel, strength = made[FIRST_CHANNEL[type(prompt)] + (not prompt.positive)], channels.decay**age
        if isinstance(prompt, Point):
            centre = _moved(source, window, np.array([prompt.index]))[0]
            _draw_ball(channel, centre, window.spacing, channels.point_radius_mm, strength)
        elif isinstance(prompt, Box):
            _draw_box(channel, _moved(source, window, corners_of(prompt.bounds)), strength)
        else:
            drawn = _drawn(source, window, prompt.voxels)
            thickness = channels.scribble_radius_mm if isinstance(prompt, Scribble) else 0.0
            _draw_voxels(channel, drawn, window.spacing, thickness, strength)
    return made


def window_voxels(source: Geometry, window: Geometry, prompt: Prompt) -> Array:
    """Returns the voxels of a window that hold those of a prompt, ``(voxel, 3)``; none where it lies beyond the window.

    Args:
        source: The grid that the indices of the prompt belong to.
        window: A part of the model grid, which may be coarser.
        prompt: What was drawn or clicked; of a box all that it holds.
    """
    if isinstance(prompt, Point):
        place = np.round(_moved(source, window, np.array([prompt.index]))).astype(int)
        return place[((place >= 0) & (place < window.shape)).all(1)]
    if isinstance(prompt, Box):
        filled = torch.zeros(window.shape)
        _draw_box(filled, _moved(source, window, corners_of(prompt.bounds)), 1.0)
        return np.argwhere(filled.numpy())
    return np.argwhere(_drawn(source, window, prompt.voxels))


def _moved(source: Geometry, window: Geometry, indices: Array) -> Array:
    """Returns indices of the source as (fractional) ones of the window, ``(point, 3)``."""
    return window.index(source.world(indices))


def _draw_ball(
    channel: torch.Tensor, centre: Array, spacing: Sequence[float], radius_mm: float, strength: float
) -> None:
    """Draws a ball that fades linearly from its centre to its surface; the voxel that holds the centre is as strong."""
    nearest = np.round(centre).astype(int)
    part, squares = [], []
    for axis, (at, own, mm, size) in enumerate(zip(centre, nearest, spacing, channel.shape, strict=True)):
        reach = radius_mm / mm if size > 1 else 0.0
        first, last = max(min(ceil(at - reach), own), 0), min(max(floor(at + reach), own), size - 1)
        if first > last:
            return
        away = torch.arange(first, last + 1, dtype=torch.float32, device=channel.device) - (at if size > 1 else own)
        squares.append((away * mm).square().view([-1 if axis == each else 1 for each in range(3)]))
        part.append(slice(first, last + 1))
    ball = 1 - (squares[0] + squares[1] + squares[2]).sqrt() / radius_mm
    _strengthen(channel[tuple(part)], ball * strength)
    if ((nearest >= 0) & (nearest < channel.shape)).all():
        _strengthen(channel[tuple(nearest)], torch.tensor(strength, device=channel.device))


def _draw_box(channel: torch.Tensor, corners: Array, strength: float) -> None:
    """Fills a box; one that is thinner than a voxel fills the voxels in which it lies."""
    inside = []
    for low, high, size in zip(corners.min(0), corners.max(0), channel.shape, strict=True):
        first, last = ceil(low), ceil(high) - 1
        if first > last:
            first = last = round((low + high) / 2)
        inside.append(slice(max(first, 0), max(min(last, size - 1) + 1, 0)))
    _strengthen(channel[tuple(inside)], torch.tensor(strength, device=channel.device))


def _drawn(source: Geometry, window: Geometry, voxels: Array) -> Array:
    """Returns which voxels of the window were drawn, bool ``(x, y, z)``.

    These are the ones that hold a voxel of the source, which matters where the window is coarser; and the ones that lie
    in one, where it is finer.
    """
    drawn = np.zeros(window.shape, dtype=bool)
    if len(voxels) == 0:
        return drawn
    places = np.round(_moved(source, window, voxels)).astype(int)
    drawn[tuple(places[((places >= 0) & (places < window.shape)).all(1)].T)] = True
    if max(source.spacing) <= min(window.spacing):
        return drawn
    first, end = voxels.min(0), voxels.max(0) + 1
    mask = np.zeros(end - first, dtype=bool)
    mask[tuple((voxels - first).T)] = True
    corners = _moved(source, window, corners_of(list(zip(first, end, strict=True))))
    lower = np.clip(np.ceil(corners.min(0)), 0, window.shape).astype(int)
    upper = np.clip(np.floor(corners.max(0)) + 1, 0, window.shape).astype(int)
    part = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    held = np.round(_moved(window, source, np.moveaxis(np.mgrid[part], 0, -1))).astype(int) - first
    known = ((held >= 0) & (held < mask.shape)).all(-1)
    drawn[part][known] |= mask[tuple(held[known].T)]
    return drawn


def _draw_voxels(
    channel: torch.Tensor, drawn: Array, spacing: Sequence[float], radius_mm: float, strength: float
) -> None:
    """Draws voxels, and all within ``radius_mm`` of them."""
    if not drawn.any():
        return
    reach = [int(radius_mm / mm) if size > 1 else 0 for mm, size in zip(spacing, drawn.shape, strict=True)]
    places = np.argwhere(drawn)
    limits = zip(places.min(0), places.max(0) + 1, reach, drawn.shape, strict=True)
    part = tuple(slice(max(a - r, 0), min(b + r, size)) for a, b, r, size in limits)
    thick = torch.from_numpy(drawn[part]).to(channel.device, torch.float32)
    if any(reach):
        x, y, z = ((torch.arange(-r, r + 1) * mm).square() for r, mm in zip(reach, spacing, strict=True))
        ball = x[:, None, None] + y[:, None] + z <= radius_mm**2
        summed = functional.conv3d(thick[None, None], ball.to(thick)[None, None], padding=reach)[0, 0]
        thick = (summed > 0.5).float()
    _strengthen(channel[part], thick * strength)


def _strengthen(part: torch.Tensor, values: torch.Tensor) -> None:
    """Puts values where a channel, of which ``part`` is a view, is weaker than they are."""
    torch.maximum(part, values.to(part), out=part)
