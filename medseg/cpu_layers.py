"""Layers of PyTorch in forms that are right, and fast, on a processor.

They keep their parameters and the names of these. They take images of any order in memory (``medseg.memory_order``).
What they mend was found with torch 2.13.0.
"""

import torch
from torch import nn
from torch.nn import functional

from medseg.cpu_norms import NORMS
from medseg.memory_order import arranged, channels_last, in_order, in_shape, memory_order


def on_cpu(network: nn.Module) -> nn.Module:
    """Gives layers of a network, in place, the forms of this file.

    Args:
        network: Any module; only layers that are exactly of PyTorch's classes change, by their class alone.
    """
    for module in network.modules():
        if type(module) in LAYERS:
            module.__class__ = LAYERS[type(module)]
    return network


class CpuConv3d(nn.Conv3d):
    """A ``Conv3d`` that takes images of any order in memory, and is right in bfloat16.

    It computes in float32 where an image is hardly larger than its kernel: for these, oneDNN's bf16 convolutions (of
    torch 2.13.0, on processors with AVX-512) leave memory that was never written in the gradient of the weights, and
    may write beyond its end. Two voxels along an axis are enough, as deep stages of MONAI's networks have. Such a
    convolution costs next to nothing.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        if not (autocast or input.dtype == torch.bfloat16) or not self._is_small(input):
            return self._in_order(input, weight, bias)
        with torch.autocast("cpu", enabled=False):
            wide = self._in_order(input.float(), weight.float(), None if bias is None else bias.float())
        return wide if autocast else wide.to(input.dtype)  # as the network goes on

    def _in_order(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        order = memory_order(input)
        if order is None or self.padding_mode != "zeros":
            return super()._conv_forward(input, weight, bias)  # type: ignore[no-any-return]
        stride, padding, dilation = (arranged(each, order) for each in (self.stride, self.padding, self.dilation))
        image, kernel = channels_last(in_order(input, order)), channels_last(in_order(weight, order))
        return in_shape(functional.conv3d(image, kernel, bias, stride, padding, dilation, self.groups), order)

    def _is_small(self, input: torch.Tensor) -> bool:
        """Returns whether a shape is one of those that fail.

        Found by trying shapes: kernels of 3 fail below 3 voxels, larger ones below twice their extent.
        """
        for n, size, dilation in zip(input.shape[2:], self.kernel_size, self.dilation, strict=True):
            extent = dilation * (size - 1) + 1
            if size > 1 and n < (extent if extent <= 3 else 2 * extent):
                return True
        return False


class CpuConvTranspose3d(nn.ConvTranspose3d):
    """A ``ConvTranspose3d`` that takes images of any order in memory."""

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """Returns the larger image, ``(batch, channel, x, y, z)``."""
        order = memory_order(input)
        if order is None or output_size is not None:
            return super().forward(input, output_size)
        image, weight = channels_last(in_order(input, order)), channels_last(in_order(self.weight, order))
        stride, padding, dilation = (arranged(each, order) for each in (self.stride, self.padding, self.dilation))
        added = arranged(self.output_padding, order)
        larger = functional.conv_transpose3d(image, weight, self.bias, stride, padding, added, self.groups, dilation)
        return in_shape(larger, order)


class CpuAvgPool3d(nn.AvgPool3d):
    """An ``AvgPool3d`` that takes images of any order in memory."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Returns the smaller image, ``(batch, channel, x, y, z)``."""
        order = memory_order(input)
        if order is None:
            return super().forward(input)
        window, stride, padding = (arranged(each, order) for each in (self.kernel_size, self.stride, self.padding))
        rest = self.ceil_mode, self.count_include_pad, self.divisor_override
        return in_shape(functional.avg_pool3d(in_order(input, order), window, stride, padding, *rest), order)


LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    **NORMS,
    nn.Conv3d: CpuConv3d,
    nn.ConvTranspose3d: CpuConvTranspose3d,
    nn.AvgPool3d: CpuAvgPool3d,
}
