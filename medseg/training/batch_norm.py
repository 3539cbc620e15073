"""Batch normalization over a batch that several processes share: the statistics are those of all its samples.

torch's SyncBatchNorm does the same, on CUDA only.
"""

from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from medseg.process_group import ProcessGroup


def share_batch_norm(network: nn.Module, processes: ProcessGroup) -> None:
    """Makes all batch normalization in ``network`` take its statistics of all processes. Names of weights stay."""
    if processes.size == 1:
        return
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_normalized, module, processes)  # type: ignore[method-assign]


def _normalized(module: _BatchNorm, processes: ProcessGroup, features: torch.Tensor) -> torch.Tensor:
    """Returns ``features`` ``(sample, channel, *spatial)``, each process's own samples, normalized by the samples of
    all."""
    if not module.training:
        return type(module).forward(module, features)
    axes = (0, *range(2, features.ndim))
    shape = (1, -1, *[1] * (features.ndim - 2))
    values = features.float()  # sums over many voxels, whatever the network computes in
    count = processes.sum(values.new_full((), values.numel() // values.shape[1]))
    mean = processes.sum(values.sum(axes)) / count
    centred = values - mean.view(shape)
    variance = processes.sum(centred.square().sum(axes)) / count
    _track(module, mean.detach(), variance.detach() * count / (count - 1))
    result = centred * (variance + module.eps).rsqrt().view(shape)
    if module.affine:
        result = result * module.weight.view(shape) + module.bias.view(shape)
    return result.to(features.dtype)


def _track(module: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor) -> None:
    if module.running_mean is None or module.running_var is None or module.num_batches_tracked is None:
        return
    module.num_batches_tracked += 1
    momentum = 1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
    module.running_mean.lerp_(mean, momentum)
    module.running_var.lerp_(variance, momentum)
