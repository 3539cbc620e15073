"""Layers of PyTorch in forms that are right, and fast, on a processor.

They keep their parameters and the names of these. What they mend was found with torch 2.13.0.
"""

from typing import Any

import torch
from torch import nn

MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes
# Batch norm in channels-last is vectorized over channels; where they fill no register, it is slower than instance norm.
VECTOR = {torch.float32: 8, torch.bfloat16: 16}


def on_cpu(network: nn.Module, in_bf16: bool) -> nn.Module:
    """Gives layers of a network, in place, the forms of this file.

    Args:
        network: Any module; only layers that are exactly of PyTorch's classes change, by their class alone.
        in_bf16: Whether it computes in bfloat16.
    """
    forms = dict(INSTANCE_NORMS)
    if in_bf16:
        forms[nn.Conv3d] = Float32WhereSmallConv3d
    for module in network.modules():
        if type(module) in forms:
            module.__class__ = forms[type(module)]
    return network


class Float32WhereSmallConv3d(nn.Conv3d):
    """A ``Conv3d`` that computes in float32 where an image is hardly larger than its kernel.

    For these, oneDNN's bf16 convolutions (of torch 2.13.0, on processors with AVX-512) leave memory that was never
    written in the gradient of the weights, and may write beyond its end. Two voxels along an axis are enough,
    as deep stages of MONAI's networks have. Such a convolution costs next to nothing.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu") and self._is_small(input):
            with torch.autocast("cpu", enabled=False):
                return super()._conv_forward(input.float(), weight, bias)  # type: ignore[no-any-return]
        return super()._conv_forward(input, weight, bias)  # type: ignore[no-any-return]

    def _is_small(self, input: torch.Tensor) -> bool:
        """Returns whether a shape is one of those that fail.

        Found by trying shapes: kernels of 3 fail below 3 voxels, larger ones below twice their extent.
        """
        for n, size, dilation in zip(input.shape[2:], self.kernel_size, self.dilation, strict=True):
            extent = dilation * (size - 1) + 1
            if size > 1 and n < (extent if extent <= 3 else 2 * extent):
                return True
        return False


class CpuInstanceNorm2d(nn.InstanceNorm2d):
    """An ``InstanceNorm2d`` whose gradients are right for one sample, and that leaves images in channels-last."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Returns the normalized image, ``(batch, channel, *spatial)``."""
        return _normalized(self, input) if _is_for_cpu(self, input) else super().forward(input)


class CpuInstanceNorm3d(nn.InstanceNorm3d):
    """An ``InstanceNorm3d`` whose gradients are right for one sample, and that leaves images in channels-last."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Returns the normalized image, ``(batch, channel, *spatial)``."""
        return _normalized(self, input) if _is_for_cpu(self, input) else super().forward(input)


INSTANCE_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.InstanceNorm2d: CpuInstanceNorm2d,
    nn.InstanceNorm3d: CpuInstanceNorm3d,
}


def _is_for_cpu(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, image: torch.Tensor) -> bool:
    """Says whether it is for ``_normalized``: not what PyTorch refuses, nor graphs, whose compilers know its layer."""
    if norm.track_running_stats or image.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    is_batch = image.ndim == (5 if isinstance(norm, nn.InstanceNorm3d) else 4)
    return is_batch and image.shape[1] == norm.num_features and image[:1, :1].numel() > 1


def _normalized(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, image: torch.Tensor) -> torch.Tensor:
    """Returns the instance norm of an image as the batch norm of each sample.

    PyTorch's instance norm copies an image in channels-last to channels-first, and the next convolution copies it back
    (pytorch #67976). Of a single sample it also computes wrong gradients where that of the output comes in
    channels-last: it reads the image, which it made channels-first, as if it were so too.
    """
    width = VECTOR.get(image.dtype, 0)
    is_last = image.is_contiguous(memory_format=MEMORY_FORMATS[image.ndim])
    if is_last and width and image.shape[1] >= 16 and image.shape[1] % width == 0:
        normal: torch.Tensor = _NormOfSamples.apply(image, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
        return normal
    if len(image) == 1:
        return nn.functional.batch_norm(image, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)
    return nn.functional.instance_norm(image, weight=norm.weight, bias=norm.bias, eps=norm.eps)


class _NormOfSamples(torch.autograd.Function):
    """The batch norm of each sample by itself, written where it belongs."""

    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
    ) -> torch.Tensor:
        normal = torch.empty_like(image)
        precision = image.dtype if weight is None else weight.dtype
        means, inverses = image.new_empty((2, *image.shape[:2]), dtype=precision)
        for i in range(len(image)):
            torch.ops.aten.native_batch_norm.out(
                image[i : i + 1],
                weight,
                bias,
                None,
                None,
                True,
                0.0,
                eps,
                out=normal[i : i + 1],
                save_mean=means[i],
                save_invstd=inverses[i],
            )
        ctx.save_for_backward(image, weight, means, inverses)
        ctx.eps = eps
        return normal

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        image, weight, means, inverses = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=MEMORY_FORMATS[image.ndim])
        wanted = [True, weight is not None, weight is not None]
        of_image, of_weight, of_bias = torch.empty_like(image), [], []
        for i in range(len(image)):
            of_image[i : i + 1], *of_parameters = torch.ops.aten.native_batch_norm_backward(
                gradient[i : i + 1], image[i : i + 1], weight, None, None, means[i], inverses[i], True, ctx.eps, wanted
            )
            of_weight.append(of_parameters[0])
            of_bias.append(of_parameters[1])
        if weight is None:
            return of_image, None, None, None
        return of_image, torch.stack(of_weight).sum(0), torch.stack(of_bias).sum(0), None
