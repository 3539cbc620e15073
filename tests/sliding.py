"""Plans and a network for tests of sliding windows."""

import torch

from medseg.architecture import Architecture
from medseg.device import Device
from medseg.plan import Grid, Normalization, Plan

CPU = Device(torch.device("cpu"), torch.float32)


def plan(dims: int, orientation: str = "RAS") -> Plan:
    grid = Grid(
        orientation=orientation,
        spacing=(1, 1, 1),
        crop_to_nonzero=False,
        normalization=(Normalization(kind="none"),),
    )
    architecture = Architecture(features=(4,), strides=((1,) * dims,), kernel_sizes=((3,) * dims,))
    axis = 1 if dims == 2 else None
    patch = (8, 1, 8) if dims == 2 else (8, 8, 8)
    return Plan(dims=dims, grid=grid, patch_size=patch, batch_size=2, slice_axis=axis, architecture=architecture)


class Ramps(torch.nn.Module):
    """Logits that depend on the values and on the place in the window: every window says something else of a voxel."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        dims = image.ndim - 2
        ramps = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in image.shape[2:]), indexing="ij")
        place = sum((axis + 1) * ramp for axis, ramp in enumerate(ramps))
        assert isinstance(place, torch.Tensor)
        assert place.ndim == dims
        value = image[:, :1]
        return torch.cat([value, value * value + place, 0 * value + place.sin()], dim=1)
