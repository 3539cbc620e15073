"""Networks of nnU-Net and medseg's: the same structure, other names, and axes in another order."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError

from medseg.architecture import Architecture
from medseg.errors import ModelError
from medseg.interop.nnunet.plans import NetworkArguments, NetworkPlan
from medseg.networks.registry import shapes_of
from medseg.networks.unet import NEGATIVE_SLOPE
from medseg.records import explained
from medseg.weights import Tensors

# The names of medseg's networks by nnU-Net's classes, wherever their packages have them.
NETWORKS = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "residual-unet"}

# nnU-Net keeps the same tensors several times: the encoder in the decoder too, each layer in a sequence too.
REPEATED = re.compile(r"^decoder\.encoder\.|\.all_modules\.\d+\.")
# What is put before all names by training on several GPUs, and by torch.compile.
WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)+")
STATISTICS = "running_mean"  # of batch norm

SLOPES = {"LeakyReLU": NEGATIVE_SLOPE, "ReLU": 0.0}
EPSILON = 1e-5


def architecture_of(plan: NetworkPlan, axes: Sequence[int], norm: str, where: str) -> Architecture:
    """Returns nnU-Net's network as medseg names it.

    Args:
        plan: The class and its arguments.
        axes: Which of nnU-Net's axes is each axis that the network sees, in the order of medseg.
        norm: "instance" or "batch", as the weights have it.
        where: For messages: the file, and what is in it.

    Raises:
        ModelError: Neither of medseg's networks is like that one.
    """
    given, kind = plan.arch_kwargs, plan.network_class_name.rpartition(".")[2]
    if kind not in NETWORKS:
        raise ModelError(f"{where}: its network is a {kind}, and medseg has only {' and '.join(NETWORKS)}")
    _check(given, where)
    n = given.n_stages
    counts = given.n_conv_per_stage if kind == "PlainConvUNet" else given.n_blocks_per_stage
    if counts is None:
        raise ModelError(f"{where}: the plan of its {kind} does not say how many convolutions a stage has")
    slope = (given.nonlin_kwargs or {}).get("negative_slope", SLOPES[_last(given.nonlin)])
    arguments: dict[str, Any] = {
        "convolutions" if kind == "PlainConvUNet" else "blocks": _numbers(counts, n),
        "decoder_convolutions": _numbers(given.n_conv_per_stage_decoder, n - 1)[::-1],  # there from the bottleneck up
        "norm": norm,
        "bias": given.conv_bias,
        "negative_slope": slope,
    }
    try:
        return Architecture(
            name=NETWORKS[kind],
            features=_numbers(given.features_per_stage, n),
            strides=_by_axis(given.strides, n, axes),
            kernel_sizes=_by_axis(given.kernel_sizes, n, axes),
            arguments=arguments,
        )
    except (ValidationError, ValueError, IndexError) as error:
        reason = explained(error) if isinstance(error, ValidationError) else str(error)
        raise ModelError(f"{where}: its network cannot be built ({reason})") from error


def _check(given: NetworkArguments, where: str) -> None:
    """Checks that the network has no part that medseg's lack."""
    kernels = [k for each in _listed(given.kernel_sizes) for k in _listed(each)]
    first = _listed(given.strides)[0]
    odd = {
        "a 'block' of its own": given.block is not None and _last(given.block) != "BasicBlockD",
        "'bottleneck_channels'": given.bottleneck_channels is not None,
        "'stem_channels'": given.stem_channels not in (None, _listed(given.features_per_stage)[0]),
        "'nonlin_first'": given.nonlin_first,
        f"'nonlin' {_last(given.nonlin)}": _last(given.nonlin) not in SLOPES,
        f"'norm_op' {_last(given.norm_op)}": not _last(given.norm_op).startswith(("InstanceNorm", "BatchNorm")),
        "a norm without weights": not (given.norm_op_kwargs or {}).get("affine", False),
        "a norm of another 'eps'": (given.norm_op_kwargs or {}).get("eps", EPSILON) != EPSILON,
        "kernels of even edges": any(k % 2 == 0 for k in kernels),
        "a stride in its first stage": set(_listed(first)) != {1},
    }
    unknown = [what for what, is_so in odd.items() if is_so]
    if unknown:
        raise ModelError(f"{where}: its network has {unknown[0]}, which medseg's have not")


def tensor_name(name: str) -> str:
    """Returns the name that nnU-Net's state dict gives a tensor of medseg's ``unet`` or ``residual-unet``.

    Args:
        name: In the state dict of medseg's network, with or without the "network." of what fits its shapes.

    Example:
        >>> tensor_name("encoder.0.3.weight"), tensor_name("network.encoder.1.0.second.1.bias")
        ('encoder.stages.0.0.convs.1.conv.weight', 'encoder.stages.1.blocks.0.conv2.norm.bias')
    """
    name = name.removeprefix("network.")
    for pattern, peer in _NAMES:
        found = pattern.fullmatch(name)
        if found:
            return peer.format(**_parts(found.groupdict()))
    raise ValueError(f"'{name}' is no tensor of a unet or residual-unet")


_LAYER = r"(?P<layer>\d+)\.(?P<tensor>\w+)"
_NAMES = [
    (re.compile(rf"encoder\.0\.0\.{_LAYER}"), "encoder.stem.convs.0.{kind}.{tensor}"),
    (re.compile(rf"encoder\.(?P<stage>\d+)\.{_LAYER}"), "encoder.stages.{stage}.0.convs.{convolution}.{kind}.{tensor}"),
    (
        re.compile(rf"encoder\.(?P<stage>\d+)\.(?P<block>\d+)\.(?P<part>first|second)\.{_LAYER}"),
        "encoder.stages.{stage}.blocks.{block}.{part}.{kind}.{tensor}",
    ),
    (
        re.compile(rf"encoder\.(?P<stage>\d+)\.(?P<block>\d+)\.around\.(?P<step>\d)\.{_LAYER}"),
        "encoder.stages.{stage}.blocks.{block}.skip.{step}.{kind}.{tensor}",
    ),
    (re.compile(r"up\.(?P<stage>\d+)\.(?P<tensor>\w+)"), "decoder.transpconvs.{stage}.{tensor}"),
    (re.compile(rf"decoder\.(?P<stage>\d+)\.{_LAYER}"), "decoder.stages.{stage}.convs.{convolution}.{kind}.{tensor}"),
    (re.compile(r"heads\.(?P<stage>\d+)\.(?P<tensor>\w+)"), "decoder.seg_layers.{stage}.{tensor}"),
]
LAYERS = 3  # of a convolution: itself, its norm, its activation


def _parts(found: Mapping[str, str]) -> dict[str, Any]:
    """Returns the numbers and words of nnU-Net's name."""
    parts: dict[str, Any] = dict(found)
    if "layer" in parts:
        parts["convolution"], layer = divmod(int(parts["layer"]), LAYERS)
        parts["kind"] = ("conv", "norm")[layer]
    if "block" in parts:  # medseg counts the stem with the first stage
        parts["block"] = int(parts["block"]) - (parts["stage"] == "0")
    if "part" in parts:
        parts["part"] = {"first": "conv1", "second": "conv2"}[parts["part"]]
    return parts


def cleaned(weights: object, where: str) -> Tensors:
    """Returns nnU-Net's ``network_weights`` with each tensor once, and checks that they are tensors of finite numbers.

    Args:
        weights: What the checkpoint holds under this name.
        where: For messages.

    Raises:
        ModelError: They are something else, or have NaN or infinity in them.
    """
    if not isinstance(weights, Mapping) or not weights:
        raise ModelError(f"{where}: its 'network_weights' are no tensors by name")
    kept = {}
    for key, tensor in weights.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor) or not _is_plain(tensor):
            raise ModelError(f"{where}: its 'network_weights' hold '{str(key)[:80]}', which is no dense tensor")
        name = WRAPPED.sub("", key)
        if REPEATED.search(name):
            continue
        # A tensor whose strides are 0 can be as large as it likes, and take no room in the file.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelError(f"{where}: '{name}' is larger than what the file holds of it")
        if not tensor.isfinite().all():
            raise ModelError(
                f"{where}: '{name}' holds what is no number; training it diverged, take another checkpoint"
            )
        kept[name] = tensor
    return kept


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def norm_of(weights: Tensors) -> str:
    """Returns "batch" where the weights have statistics of batches, else "instance"."""
    return "batch" if any(name.endswith(STATISTICS) for name in weights) else "instance"


def translated(
    weights: Tensors,
    architecture: Architecture,
    axes: Sequence[int],
    numbers: tuple[int, int],
    where: str,
    only: str = "",
) -> Tensors:
    """Returns nnU-Net's weights as the state dict of medseg's network.

    Args:
        weights: As ``cleaned`` returns them.
        architecture: Of medseg's network.
        axes: As of ``architecture_of``: kernels are put in this order.
        numbers: Of channels, and of outputs.
        where: For messages: the file and its trainer.
        only: How the names, nnU-Net's, of those tensors begin that are wanted.

    Raises:
        ModelError: Names or shapes differ: whoever trained it changed the network.
        ConfigError: There is no such network.
    """
    wanted = shapes_of(*numbers, architecture) or {}
    result, left = {}, {name for name in weights if name.startswith(only)}
    for name, shape in wanted.items():
        peer = tensor_name(name)
        if not peer.startswith(only):
            continue
        tensor = weights.get(peer)
        if tensor is None:
            raise ModelError(f"{where}: has no '{peer}'; the network was changed, and is none that medseg can build")
        if tensor.ndim == 2 + len(axes):
            tensor = tensor.permute(0, 1, *(2 + axis for axis in axes))
        if tuple(tensor.shape) != shape:
            there, here = ("×".join(map(str, each)) or "one number" for each in (tensor.shape, shape))
            raise ModelError(
                f"{where}: '{peer}' is of {there}, and {here} follows from plans.json and dataset.json; the network "
                "was changed, or one of these files is of another model"
            )
        result[name] = tensor.float() if tensor.is_floating_point() else tensor
        left.discard(peer)
    if left:
        raise ModelError(
            f"{where}: has '{min(left)}', which no {architecture.name} has; the network was changed, and is none that "
            "medseg can build"
        )
    return result


def _last(name: str | None) -> str:
    return (name or "none").rpartition(".")[2]


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, tuple) else [given]


def _numbers(given: int | tuple[int, ...], n: int) -> tuple[int, ...]:
    """Returns a number a stage."""
    return (given,) * n if isinstance(given, int) else given


def _by_axis(given: Any, n: int, axes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Returns for each stage a number for each axis, in medseg's order."""
    stages = (given,) * n if isinstance(given, int) else given
    return tuple(tuple(each if isinstance(each, int) else each[axis] for axis in axes) for each in stages)
