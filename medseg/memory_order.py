"""In which order the voxels of 3D images lie in memory, with channels innermost.

oneDNN's convolutions walk along the last axis in memory. Where that is a short one, as the 12 slices of a cardiac MR,
their gradients take up to five times as long as where it is the longest (``benchmarks/axis_order.py``). So images may
lie in memory by the length of their axes, while their shape is as ever: ``(batch, channel, x, y, z)``. Layers that know
of it read the order off the strides, and give their results the same.
"""

from typing import Any

import torch

Order = tuple[int, ...]  # of the spatial axes, outermost first


def is_computed_here(image: torch.Tensor) -> bool:
    """Returns whether an image lies on the processor and no graph is made of it: compilers know PyTorch's layers."""
    is_traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    return image.device.type == "cpu" and not is_traced


def memory_order(image: torch.Tensor) -> Order | None:
    """Returns how the spatial axes of ``(batch, channel, x, y, z)`` lie in memory; None where it is as usual."""
    if image.ndim != 5 or not is_computed_here(image):
        return None
    strides = image.stride()[2:]
    order = tuple(sorted(range(3), key=lambda axis: -strides[axis]))
    return None if order == (0, 1, 2) else order


def longest_axis_last(image: torch.Tensor) -> torch.Tensor:
    """Returns an image in the order in memory in which convolutions are fastest, its longest axis last.

    Images of other than three axes, or on another device, stay as they are.
    """
    if image.ndim != 5 or not is_computed_here(image):
        return image
    order = tuple(sorted(range(3), key=lambda axis: image.shape[2 + axis]))
    if order == (0, 1, 2):
        return image
    inner = in_order(image, order).movedim(1, -1)
    # clone() makes strides anew, also of a single channel, whose stride says nothing where nothing is copied
    return in_shape(inner.clone(memory_format=torch.contiguous_format).movedim(-1, 1), order)


def in_order(tensor: torch.Tensor, order: Order) -> torch.Tensor:
    """Returns a view of ``(·, ·, x, y, z)``, of an image or of weights, with its spatial axes in this order."""
    return tensor.permute(0, 1, *(2 + axis for axis in order))


def in_shape(tensor: torch.Tensor, order: Order) -> torch.Tensor:
    """Returns a view of what ``in_order`` gave with its axes as they were."""
    return tensor.permute(0, 1, *(2 + order.index(axis) for axis in range(3)))


def arranged(values: Any, order: Order) -> Any:
    """Returns an argument of a layer, one number an axis, in this order; one for all axes, or a name, as it is."""
    return tuple(values[axis] for axis in order) if isinstance(values, tuple | list) else values


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor of five axes in channels-last; convolutions of any other are made in channels-first."""
    return tensor.contiguous(memory_format=torch.channels_last_3d)


def concatenated(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Returns the channels of two images ``(batch, channel, *spatial)``, in the order in memory of the second."""
    order = memory_order(second)
    if order is None:
        return torch.cat((first, second), dim=1)
    return in_shape(torch.cat((in_order(first, order), in_order(second, order)), dim=1), order)
