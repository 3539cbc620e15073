"""Where the windows of a case lie on the model grid: the same for validation and prediction, for 2D and 3D.

Windows lie as MONAI's ``sliding_window_inference`` lays them. They are visited in rows along one axis, so that what no
window to come will touch can leave: see ``medseg.inferers.stream``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import torch
from torch.nn import functional

from medseg.config import InferenceConfig
from medseg.errors import ConfigError
from medseg.networks.network import Network
from medseg.plan import GAUSSIAN_SIGMA, Plan
from medseg.volume import Shape3

LEAST_WEIGHT = 1e-3  # of any voxel of a window
NNUNET_WEIGHT = 10.0  # of the voxel in the centre of a window

OVERLAP = 0.5  # of neighbouring windows, where neither the user nor the model says


@dataclass(frozen=True)
class WindowRow:
    """Windows that are predicted before the next voxels leave."""

    start: int  # along the layout's axis: what lies before is finished
    stop: int  # of the windows
    windows: tuple[Shape3, ...]  # their first voxels


@dataclass(frozen=True)
class Layout:
    """Windows over an image of ``shape`` ``(x, y, z)``, in voxels of the padded image.

    The first ``margin`` of them before and behind are seen by the network, but get no logits.
    """

    shape: Shape3  # of the image
    patch_size: Shape3  # of windows, without the margin
    margin: Shape3
    overlap: float | tuple[float, ...]  # of all axes, or of each
    rows_at_once: int = 1
    mode: str = "gaussian"  # how windows are weighted: so, or "constant"
    sigma_scale: float | tuple[float, ...] = GAUSSIAN_SIGMA
    padding_mode: str = "constant"  # of images that are smaller than a window, as in torch
    padding_value: float = 0.0
    rule: str = "monai"  # where they lie, and what a Gaussian is: as MONAI's, or "nnunet"

    @classmethod
    def of(cls, network: object, plan: Plan, shape: Shape3, config: InferenceConfig) -> "Layout":
        """Returns the windows for a network.

        Valid convolutions take tiles that lie side by side.

        Args:
            network: What the windows are for.
            plan: Its plan.
            shape: Voxels of the image on the model grid.
            config: The size of windows, and how far they overlap.

        Raises:
            ConfigError: The size is of more or fewer axes than the network sees.
        """
        seen = window_of(network, plan, config, shape)
        if not isinstance(network, Network) or not any(network.margin):
            of, none = plan.windows, (0, 0, 0)
            how = {"mode": of.weighting, "sigma_scale": of.sigma, "padding_mode": of.padding, "rule": of.rule}
            return cls(shape, plan.in_space(seen, 1), none, window_overlap(config), **how)  # type: ignore[arg-type]
        window = [n - 2 * lost for n, lost in zip(seen, network.margin, strict=True)]
        return cls(shape, plan.in_space(window, 1), plan.in_space(network.margin, 0), 0.0)

    @property
    def padded_shape(self) -> Shape3:
        """The shape of the voxels that get logits: no axis is shorter than a window."""
        x, y, z = (max(n, patch) for n, patch in zip(self.shape, self.patch_size, strict=True))
        return x, y, z

    @property
    def before(self) -> Shape3:
        """The voxels that were added before the first one of the image, along each axis."""
        x, y, z = ((m - n) // 2 for n, m in zip(self.shape, self.padded_shape, strict=True))
        return x, y, z

    @property
    def axis(self) -> int:
        """The array axis along which the windows advance: that where the fewest sums are held at a time."""
        heights = [patch / n for patch, n in zip(self.patch_size, self.padded_shape, strict=True)]
        return heights.index(min(heights))

    @property
    def height(self) -> int:
        """The largest number of voxels along ``axis`` whose sums are held at a time."""
        rows = self.rows()
        return max(row.stop - row.start for row in rows)

    @property
    def windows_per_row(self) -> int:
        """How many windows lie side by side at each step along the axis."""
        return prod(len(self.starts_along(axis)) for axis in range(3) if axis != self.axis)

    @property
    def n_windows(self) -> int:
        """How many windows there are."""
        return prod(len(self.starts_along(axis)) for axis in range(3))

    def rows(self) -> list[WindowRow]:
        """Returns the rows from the first to the last; ``rows_at_once`` of them are taken together."""
        along = self.starts_along(self.axis)
        groups = [along[i : i + self.rows_at_once] for i in range(0, len(along), self.rows_at_once)]
        return [WindowRow(group[0], group[-1] + self.patch_size[self.axis], self._windows(group)) for group in groups]

    def _windows(self, along: Sequence[int]) -> tuple[Shape3, ...]:
        starts = [along if axis == self.axis else self.starts_along(axis) for axis in range(3)]
        return tuple((x, y, z) for x, y, z in product(*starts))

    def starts_along(self, axis: int) -> list[int]:
        """Returns the first voxels of windows along an axis, in the padded image."""
        n, patch = self.padded_shape[axis], self.patch_size[axis]
        overlap = self.overlap[axis] if isinstance(self.overlap, tuple) else self.overlap
        if self.rule == "nnunet":
            steps = ceil((n - patch) / max(1, patch * (1 - overlap)))
            return [round((n - patch) / steps * i) for i in range(steps + 1)] if steps else [0]
        step = max(1, int(patch * (1 - overlap)))
        return [*range(0, n - patch, step), n - patch]

    def weight(self) -> torch.Tensor:
        """Returns the weight of each voxel of a window, float32: that of MONAI's ``compute_importance_map``, or of
        nnU-Net's ``compute_gaussian``, whose values are those of float16.

        Logits of valid convolutions are as good at the border as inside.
        """
        if any(self.margin) or self.mode == "constant":
            return torch.ones(self.patch_size)
        scales = self.sigma_scale if isinstance(self.sigma_scale, tuple) else (self.sigma_scale,) * 3
        weight = torch.ones(())
        for n, scale in zip(self.patch_size, scales, strict=True):
            centre, dtype = (n // 2, torch.float64) if self.rule == "nnunet" else ((n - 1) / 2, torch.float32)
            from_centre = torch.arange(n, dtype=dtype) - centre
            weight = weight[..., None] * torch.exp(from_centre**2 / (-2 * (n * scale) ** 2))
        if self.rule == "nnunet":
            weight = (NNUNET_WEIGHT * weight).half().float()
            return weight.clamp_(min=float(weight[weight > 0].min()))
        return weight.clamp_(min=max(float(weight.min()), LEAST_WEIGHT))

    def pad(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the image ``(channel, x, y, z)`` with the margin.

        As MONAI does, zeros are added where it is smaller than a window; valid convolutions see it mirrored at its
        border (overlap-tile, Ronneberger et al. 2015).
        """
        if any(self.margin):
            for axis in range(3):
                first = -self.before[axis] - self.margin[axis]
                last = first + self.padded_shape[axis] + 2 * self.margin[axis]
                mirrored = mirrored_index(torch.arange(first, last), self.shape[axis])
                image = image.index_select(axis + 1, mirrored)
            return image
        after = [m - n - b for n, m, b in zip(self.shape, self.padded_shape, self.before, strict=True)]
        added = [end for pair in zip(self.before[::-1], after[::-1], strict=True) for end in pair]
        if not any(added):
            return image
        if self.padding_mode == "constant":
            return functional.pad(image, added, value=self.padding_value)
        return functional.pad(image[None], added, mode=self.padding_mode)[0]

    def seen(self, start: Shape3) -> tuple[slice, ...]:
        """Returns what the network sees of the padded image for the window at ``start``, all channels."""
        ends = zip(start, self.patch_size, self.margin, strict=True)
        return (slice(None), *(slice(first, first + n + 2 * margin) for first, n, margin in ends))

    def place(self, start: Shape3) -> tuple[slice, ...]:
        """Returns where in the image ``(x, y, z)`` the window lies that the network sees; beyond its ends where
        voxels were added."""
        offsets = zip(self.before, self.margin, strict=True)
        moved = zip(self.seen(start)[1:], offsets, strict=True)
        return tuple(slice(s.start - before - margin, s.stop - before - margin) for s, (before, margin) in moved)


def window_overlap(config: InferenceConfig) -> float:
    """Returns how far windows overlap, as a fraction of their edges."""
    return OVERLAP if config.overlap is None else config.overlap


def window_of(network: object, plan: Plan, config: InferenceConfig, shape: Shape3 | None = None) -> tuple[int, ...]:
    """Returns what the network sees at once: voxels along each of its axes, the margin of valid convolutions among
    them.

    Windows that are larger than the patch are made no larger than a small image needs.

    Args:
        network: A module that takes windows, or what runs it.
        plan: Its plan.
        config: May ask for windows of another size than the patch.
        shape: Voxels of the image on the model grid; None: of one that is large enough.

    Raises:
        ConfigError: The size is of more or fewer axes than the network sees.
    """
    patch, window = plan.network_patch, config.window or plan.network_patch
    if len(window) != plan.dims:
        raise ConfigError(f"inference.window has {len(window)} numbers; give {plan.dims} for a {plan.dims}D model")
    if isinstance(network, Network) and any(network.margin):
        return network.fitting_shape(patch)
    if shape is not None:
        needed = [max(shape[axis], n) for axis, n in zip(plan.spatial_axes, patch, strict=True)]
        window = tuple(map(min, window, needed))
    return network.fitting_shape(window) if isinstance(network, Network) and window != patch else window


def mirrored_index(index: torch.Tensor, n: int) -> torch.Tensor:
    """Returns the indices within ``n`` voxels that are mirrored at both ends, as often as needed.

    The outermost voxels are not repeated.
    """
    if n == 1:
        return torch.zeros_like(index)
    period = 2 * (n - 1)
    index = index % period
    return torch.minimum(index, period - index)
