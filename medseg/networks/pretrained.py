"""Weights to begin the training with, from a file of the user's. Nothing is downloaded, and nothing is unpickled."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from medseg.errors import ConfigError, reading
from medseg.networks.transunet import Bottleneck, TransUNet
from medseg.weights import read_tensors


def load_pretrained(network: torch.nn.Module, path: Path) -> list[str]:
    """Loads all weights that fit by name and shape, and returns the names of those that didn't and stay random.

    Args:
        network: What gets the weights.
        path: ``weights.safetensors`` of a model, for any network; or, for transunet in 2D, Google's ``.npz`` of
            R50+ViT-B_16 (Dosovitskiy et al. 2021), which the authors begin with.

    Raises:
        ConfigError: The file cannot be read, or nothing in it fits.
    """
    if not path.is_file():
        raise ConfigError(f"network.weights: there is no such file as {path}")
    own = network.state_dict()
    weights = _google(network, path) if path.suffix == ".npz" else _safetensors(path)
    fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise ConfigError(
            f"network.weights: nothing in {path} fits this network; give weights of a network of the same name and "
            "sizes (for Google's .npz: transunet with arguments size=full, trained with --dims 2)"
        )
    network.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    return read_tensors(path, "give weights.safetensors of a model, or Google's .npz by network.weights", ConfigError)


def _google(network: torch.nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """Returns Google's arrays by the names of our parameters."""
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, TransUNet)]
    if not found or len(found[0][1].multiple_of) != 2:
        raise ConfigError(f"network.weights: {path} holds weights of transunet in 2D; other networks take .safetensors")
    prefix, transunet = found[0]
    with reading(path, "an .npz", "give another file by network.weights", ConfigError):
        if not zipfile.is_zipfile(path):
            raise ConfigError(f"network.weights: {path} is no .npz; copy it again")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(np.asarray(file[name], np.float32)) for name in file.files}
    try:
        weights = _transunet(arrays, transunet)
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise ConfigError(
            f"network.weights: {path} is not Google's R50+ViT-B_16 ({error}), or the network isn't its size; give "
            "R50+ViT-B_16.npz, and set network.arguments.size=full"
        ) from error
    return {f"{prefix}.{name}".lstrip("."): tensor for name, tensor in weights.items()}


def _transunet(arrays: Mapping[str, torch.Tensor], network: TransUNet) -> dict[str, torch.Tensor]:
    weights = {
        "resnet.0.0.0.weight": _kernel(arrays["conv_root/kernel"]),
        **_norm("resnet.0.0.1", arrays, "gn_root"),
        "embedding.weight": _kernel(arrays["embedding/kernel"]),
        "embedding.bias": arrays["embedding/bias"],
        "positions": _positions(arrays["Transformer/posembed_input/pos_embedding"], network.positions.shape[2:]),
        **_norm("norm", arrays, "Transformer/encoder_norm"),
    }
    root = network.get_parameter("resnet.0.0.0.weight")
    if root.shape[1] != 3:  # other channels than those of photographs get their mean
        weights["resnet.0.0.0.weight"] = weights["resnet.0.0.0.weight"].mean(1, keepdim=True).expand_as(root)
    for i, stage in enumerate(list(network.resnet.children())[1:], start=1):
        units = [(str(j), block) for j, block in stage.named_children() if isinstance(block, Bottleneck)]
        for unit, (j, block) in enumerate(units, start=1):
            ours, theirs = f"resnet.{i}.{j}", f"block{i}/unit{unit}"
            for k in range(3):
                weights[f"{ours}.convolutions.{k}.weight"] = _kernel(arrays[f"{theirs}/conv{k + 1}/kernel"])
                weights |= _norm(f"{ours}.norms.{k}", arrays, f"{theirs}/gn{k + 1}")
            if len(block.projection):
                weights[f"{ours}.projection.0.weight"] = _kernel(arrays[f"{theirs}/conv_proj/kernel"])
                weights |= _norm(f"{ours}.projection.1", arrays, f"{theirs}/gn_proj")
    for i in range(len(network.transformer)):
        weights |= _layer(f"transformer.{i}", arrays, f"Transformer/encoderblock_{i}")
    return weights


def _layer(ours: str, arrays: Mapping[str, torch.Tensor], theirs: str) -> dict[str, torch.Tensor]:
    attention = f"{theirs}/MultiHeadDotProductAttention_1"
    out = arrays[f"{attention}/out/kernel"]  # (head, size, hidden)
    projections = [arrays[f"{attention}/{name}/kernel"].flatten(1).T for name in ("query", "key", "value")]
    biases = [arrays[f"{attention}/{name}/bias"].flatten() for name in ("query", "key", "value")]
    return {
        **_norm(f"{ours}.norm1", arrays, f"{theirs}/LayerNorm_0"),
        f"{ours}.self_attn.in_proj_weight": torch.cat(projections),
        f"{ours}.self_attn.in_proj_bias": torch.cat(biases),
        f"{ours}.self_attn.out_proj.weight": out.flatten(0, 1).T,
        f"{ours}.self_attn.out_proj.bias": arrays[f"{attention}/out/bias"],
        **_norm(f"{ours}.norm2", arrays, f"{theirs}/LayerNorm_2"),
        f"{ours}.linear1.weight": arrays[f"{theirs}/MlpBlock_3/Dense_0/kernel"].T,
        f"{ours}.linear1.bias": arrays[f"{theirs}/MlpBlock_3/Dense_0/bias"],
        f"{ours}.linear2.weight": arrays[f"{theirs}/MlpBlock_3/Dense_1/kernel"].T,
        f"{ours}.linear2.bias": arrays[f"{theirs}/MlpBlock_3/Dense_1/bias"],
    }


def _kernel(array: torch.Tensor) -> torch.Tensor:
    return array.permute(3, 2, 0, 1)  # (height, width, in, out) before


def _norm(ours: str, arrays: Mapping[str, torch.Tensor], theirs: str) -> dict[str, torch.Tensor]:
    return {f"{ours}.weight": arrays[f"{theirs}/scale"].flatten(), f"{ours}.bias": arrays[f"{theirs}/bias"].flatten()}


def _positions(array: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    """Returns the embeddings of a class token and a square of tokens, ``(1, token, hidden)``, as ``(1, hidden,
    *grid)``."""
    edge = int((array.shape[1] - 1) ** 0.5)
    positions = array[:, 1:].transpose(1, 2).reshape(1, -1, edge, edge)
    return functional.interpolate(positions, tuple(grid), mode="bilinear", align_corners=True)
