"""Layers of PyTorch in forms that are right, and fast, on a processor.

They keep their parameters and the names of these. What they mend was found with torch 2.13.0.
"""

import torch
from torch import nn

from medseg.cpu_norms import NORMS


def on_cpu(network: nn.Module, in_bf16: bool) -> nn.Module:
    """Gives layers of a network, in place, the forms of this file.

    Args:
        network: Any module; only layers that are exactly of PyTorch's classes change, by their class alone.
        in_bf16: Whether it computes in bfloat16 by autocast; convolutions whose weights are bfloat16 do in any case.
    """
    for module in network.modules():
        if type(module) in NORMS:
            module.__class__ = NORMS[type(module)]
        elif type(module) is nn.Conv3d and (in_bf16 or module.weight.dtype == torch.bfloat16):
            module.__class__ = Float32WhereSmallConv3d
    return network


class Float32WhereSmallConv3d(nn.Conv3d):
    """A ``Conv3d`` that computes in float32 where an image is hardly larger than its kernel.

    For these, oneDNN's bf16 convolutions (of torch 2.13.0, on processors with AVX-512) leave memory that was never
    written in the gradient of the weights, and may write beyond its end. Two voxels along an axis are enough,
    as deep stages of MONAI's networks have. Such a convolution costs next to nothing.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        if not (autocast or input.dtype == torch.bfloat16) or not self._is_small(input):
            return super()._conv_forward(input, weight, bias)  # type: ignore[no-any-return]
        with torch.autocast("cpu", enabled=False):
            wide = super()._conv_forward(input.float(), weight.float(), None if bias is None else bias.float())
        return wide if autocast else wide.to(input.dtype)  # type: ignore[no-any-return]  # as the network goes on

    def _is_small(self, input: torch.Tensor) -> bool:
        """Returns whether a shape is one of those that fail.

        Found by trying shapes: kernels of 3 fail below 3 voxels, larger ones below twice their extent.
        """
        for n, size, dilation in zip(input.shape[2:], self.kernel_size, self.dilation, strict=True):
            extent = dilation * (size - 1) + 1
            if size > 1 and n < (extent if extent <= 3 else 2 * extent):
                return True
        return False
