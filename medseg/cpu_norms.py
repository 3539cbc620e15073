"""Norms of PyTorch in forms that are right, exact and fast on a processor, in channels-last.

They keep their parameters and the names of these. What they mend was found with torch 2.13.0.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from medseg.memory_order import in_order, is_computed_here, memory_order

ATEN = torch.ops.aten
MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes
Pair = tuple[torch.Tensor | None, torch.Tensor | None]
# Batch norm in channels-last is vectorized over channels: where they fill no register, it is slower than instance norm.
REGISTER = {torch.float32: 8, torch.bfloat16: 16}
FEWEST_CHANNELS = 16
# Sample by sample gains nothing where samples have fewer values, and many samples lose by it.
LEAST_VALUES = 2**15
# Neighbouring voxels stand for more channels where channels are too few, in samples of so many values or more.
NEIGHBOURS = (2, 4)
LEAST_TO_FOLD = 2**17
# In float32, norms are of so many sums at once, each of so many terms at most: an error of 1e-6 of 64³ voxels, where
# one sum a channel errs by 2e-4.
MOST_SUMS, MOST_TERMS = 1024, 2**15
# Samples of fewer values gain nothing: PyTorch's own errs by 1e-5 at most, and is as fast.
LEAST_OF_GROUPS = {torch.float32: 2**18, torch.bfloat16: 2**17}


class CpuInstanceNorm2d(nn.InstanceNorm2d):
    """An ``InstanceNorm2d`` whose gradients are right for one sample, and that leaves images in channels-last."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Returns the normalized image, ``(batch, channel, *spatial)``."""
        return _normalized(self, input) if _is_for_cpu(self, input) else super().forward(input)


class CpuInstanceNorm3d(nn.InstanceNorm3d):
    """An ``InstanceNorm3d`` whose gradients are right for one sample, and that leaves images in channels-last.

    It keeps their order in memory (``medseg.memory_order``).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Returns the normalized image, ``(batch, channel, *spatial)``."""
        return _normalized(self, input) if _is_for_cpu(self, input) else super().forward(input)


class CpuGroupNorm(nn.GroupNorm):
    """A ``GroupNorm`` that is as exact, and as fast, in channels-last as in channels-first.

    PyTorch's adds the voxels of a channel up one by one in channels-last, in float32 (an error of 4e-4 of 96³ voxels).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Returns the normalized image, ``(batch, channel, *spatial)``."""
        memory_format = MEMORY_FORMATS.get(input.ndim)
        if memory_format is None or not is_computed_here(input) or input.shape[1] != self.num_channels:
            return super().forward(input)
        if input.is_contiguous() or not input.is_contiguous(memory_format=memory_format):
            return super().forward(input)
        if input[0].numel() < LEAST_OF_GROUPS.get(input.dtype, float("inf")):  # whose sums have few terms
            return super().forward(input)
        if fold := _fold_for_sums(input):
            arguments = self.weight, self.bias, self.eps, (fold, self.num_groups)
            return _NormOfGroups.apply(input, *arguments)  # type: ignore[no-any-return, no-untyped-call]
        return super().forward(input.contiguous()).contiguous(memory_format=memory_format)


NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.InstanceNorm2d: CpuInstanceNorm2d,
    nn.InstanceNorm3d: CpuInstanceNorm3d,
    nn.GroupNorm: CpuGroupNorm,
}


def _is_for_cpu(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, image: torch.Tensor) -> bool:
    """Says whether it is for ``_normalized``: not what PyTorch refuses, nor graphs."""
    if norm.track_running_stats or not is_computed_here(image):
        return False
    is_batch = image.ndim == (5 if isinstance(norm, nn.InstanceNorm3d) else 4)
    return is_batch and image.shape[1] == norm.num_features and image[:1, :1].numel() > 1


def _normalized(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, image: torch.Tensor) -> torch.Tensor:
    """Returns the instance norm of an image as the batch norm of each sample.

    PyTorch's instance norm copies an image in channels-last to channels-first, and the next convolution copies it back
    (pytorch #67976). Of a single sample it also computes wrong gradients where that of the output comes in
    channels-last: it reads the image, which it made channels-first, as if it were so too.
    """
    if _ordered(image, image).is_contiguous(memory_format=MEMORY_FORMATS[image.ndim]) and (fold := _fold_of(image)):
        arguments = image, norm.weight, norm.bias, norm.eps
        if fold == 1:
            return _NormOfSamples.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]
        return _NormOfGroups.apply(*arguments, (fold, image.shape[1]))  # type: ignore[no-any-return, no-untyped-call]
    if len(image) == 1:
        return nn.functional.batch_norm(image, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)
    return nn.functional.instance_norm(image, weight=norm.weight, bias=norm.bias, eps=norm.eps)


def _fold_of(image: torch.Tensor) -> int:
    """Returns how many neighbouring voxels together have channels for whole registers; 0 where that gains nothing."""
    register, channels, values = REGISTER.get(image.dtype, 0), image.shape[1], image[0].numel()
    if not register or values < LEAST_VALUES:
        return 0
    # Of 96³ voxels, one sum a channel errs by 6e-4; bfloat16 has fewer digits than that.
    if image.dtype == torch.float32 and values // channels > MOST_TERMS and (fold := _fold_for_sums(image)):
        return fold
    if channels >= FEWEST_CHANNELS and channels % register == 0:
        return 1
    for fold in NEIGHBOURS if values >= LEAST_TO_FOLD else ():
        if (fold * channels) % FEWEST_CHANNELS == 0 and values % (fold * channels) == 0:
            return fold
    return 0


def _fold_for_sums(image: torch.Tensor) -> int:
    """Returns how many neighbouring voxels together have so many channels that the sum of each has few terms.

    These are added one by one, so that rounding errors grow with their number. 0: it needs channels-first.
    """
    channels, voxels, fold = image.shape[1], image[0, 0].numel(), 1
    while 2 * fold * channels <= MOST_SUMS and voxels % (2 * fold) == 0:
        fold *= 2
    is_exact = voxels // fold <= MOST_TERMS and (fold * channels) % FEWEST_CHANNELS == 0
    return fold if is_exact else 0


class _NormOfSamples(torch.autograd.Function):
    """The batch norm of each sample by itself, written where it belongs."""

    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
    ) -> torch.Tensor:
        normal = torch.empty_like(image)
        means, inverses = image.new_empty((2, *image.shape[:2]), dtype=_precision(image, weight))
        samples, outs = _ordered(image, image), _ordered(normal, image)
        for i in range(len(image)):
            statistics = {"save_mean": means[i], "save_invstd": inverses[i]}
            sample, out = samples[i : i + 1], outs[i : i + 1]
            ATEN.native_batch_norm.out(sample, weight, bias, None, None, True, 0.0, eps, out=out, **statistics)
        ctx.save_for_backward(image, weight, means, inverses)
        ctx.eps = eps
        return normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        image, weight, means, inverses = ctx.saved_tensors
        of_image, of_weight, of_bias = torch.empty_like(image), [], []
        gradient, samples, outs = _alike(gradients[0], image), _ordered(image, image), _ordered(of_image, image)
        for i in range(len(image)):
            outs[i : i + 1], *of_parameters = ATEN.native_batch_norm_backward(
                gradient[i : i + 1],
                samples[i : i + 1],
                weight,
                None,
                None,
                means[i],
                inverses[i],
                True,
                ctx.eps,
                [True] * 3,
            )
            of_weight.append(of_parameters[0])
            of_bias.append(of_parameters[1])
        return of_image, *_of_parameters(ctx, of_weight, of_bias), None


class _NormOfGroups(torch.autograd.Function):
    """The norm of groups of channels, sample by sample; some neighbouring voxels' are taken for so many more channels.

    Instance norm has as many groups as channels. The statistics of a group are put together: the mean is that of its
    channels' means, the variance that of their variances and means. With these as running statistics, batch norm
    normalizes. The gradient of the image is, for ``x̂`` the normalized image, N values a group and ``w`` the weights
    (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3; Wu & He 2018, arXiv:1803.08494),
    ``(w g - Σ(w g)/N - x̂ Σ(w g x̂)/N) / σ``: its first term and the sums are the gradients of that batch norm, the
    others a batch norm of the image.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
        folded_and_groups: tuple[int, int],
    ) -> torch.Tensor:
        fold, groups = folded_and_groups
        normal = torch.empty_like(image)
        precision = _precision(image, weight)
        means, variances = image.new_empty((2, len(image), groups), dtype=precision)
        affine = _repeated(weight, fold), _repeated(bias, fold)
        for i in range(len(image)):
            sample = _folded(image[i], fold)
            statistics = ATEN.batch_norm_update_stats(sample, None, None, 0.0)
            mean, variance = (each.to(precision).view(fold, groups, -1) for each in statistics)
            means[i] = mean.mean((0, 2))
            variances[i] = variance.mean((0, 2)) + (mean - means[i, :, None]).square().mean((0, 2))
            wide = [_of_channels(each, len(image[i]), fold) for each in (means[i], variances[i])]
            _normalize(sample, affine, wide, eps, _folded(normal[i], fold))
        ctx.save_for_backward(image, weight, means, variances)
        ctx.eps, ctx.fold = eps, fold
        return normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (image, weight, means, variances), eps, fold = ctx.saved_tensors, ctx.eps, ctx.fold
        gradient = _alike(gradients[0], image)
        of_image, of_weight, of_bias = torch.empty_like(image), [], []
        (channels, groups), wide = (image.shape[1], means.shape[1]), _repeated(weight, fold)
        n_values = image[0].numel() // groups
        for i in range(len(image)):
            sample, out = _folded(image[i], fold), _folded(of_image[i], fold)
            statistics = [_of_channels(each, channels, fold) for each in (means[i], variances[i])]
            first, *sums = ATEN.native_batch_norm_backward(
                _folded(gradient[i], fold), sample, wide, *statistics, None, None, False, eps, [True] * 3
            )
            with_normal, alone = (each.unflatten(0, (fold, -1)).sum(0) for each in sums)
            of_weight.append(with_normal)
            of_bias.append(alone)
            scale = -(variances[i] + eps).rsqrt() / n_values
            weighted = (each if weight is None else each * weight for each in (with_normal, alone))
            affine = [_of_channels(scale * each.view(groups, -1).sum(1), channels, fold) for each in weighted]
            _normalize(sample, affine, statistics, eps, out)
            out.add_(first)
        return of_image, *_of_parameters(ctx, of_weight, of_bias), None, None


def _ordered(tensor: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Returns a view of an image or its gradient, its axes in the order in which those of the image lie in memory."""
    order = memory_order(image)
    return tensor if order is None else in_order(tensor, order)


def _alike(gradient: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Returns ``_ordered`` in channels-last."""
    return _ordered(gradient, image).contiguous(memory_format=MEMORY_FORMATS[image.ndim])


def _of_channels(of_groups: torch.Tensor, channels: int, fold: int) -> torch.Tensor:
    """Returns the values of groups for each of their channels, and these again for each of the folded voxels."""
    return of_groups.repeat_interleave(channels // len(of_groups)).repeat(fold)


def _folded(sample: torch.Tensor, fold: int) -> torch.Tensor:
    """Returns a view (1, fold · channel, voxel / fold, 1), in channels-last as the sample (channel, *spatial) is."""
    channels = fold * len(sample)
    n = sample.numel() // channels
    return sample.as_strided((1, channels, n, 1), (n * channels, 1, channels, channels))


def _normalize(
    sample: torch.Tensor,
    affine: Sequence[torch.Tensor | None],
    statistics: Sequence[torch.Tensor],
    eps: float,
    out: torch.Tensor,
) -> None:
    """Writes a sample, which may be folded, normalized by given statistics, to ``out``."""
    unused = {"save_mean": statistics[0].new_empty(0), "save_invstd": statistics[0].new_empty(0)}
    ATEN.native_batch_norm.out(sample, *affine, *statistics, False, 0.0, eps, out=out, **unused)


def _repeated(parameter: torch.Tensor | None, fold: int) -> torch.Tensor | None:
    return None if parameter is None else parameter.repeat(fold)


def _precision(image: torch.Tensor, weight: torch.Tensor | None) -> torch.dtype:
    """Returns the precision in which PyTorch wants statistics."""
    return image.dtype if weight is None else weight.dtype


def _of_parameters(ctx: Any, of_weight: list[torch.Tensor], of_bias: list[torch.Tensor]) -> Pair:
    """Returns the gradients of weight and bias, where there are these, from those that the samples gave."""
    _, has_weight, has_bias, *_ = ctx.needs_input_grad
    weight = torch.stack(of_weight).sum(0) if has_weight else None
    return weight, torch.stack(of_bias).sum(0) if has_bias else None
