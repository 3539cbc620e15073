"""Trained folders of nnU-Net v2 with random weights, made without nnU-Net: what its files hold, by its names.

It imports nothing of medseg: peers/nnunet_models.py takes plans from here, in an environment of nnU-Net.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

Shapes = dict[str, tuple[int, ...]]

FEATURES, KERNELS, STRIDES = (4, 6, 8), ((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2))
CONVOLUTIONS, DECODER_CONVOLUTIONS, BLOCKS = (1, 2, 2), (1, 2), (1, 2, 1)
NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"

SPLINES = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
CT = {"mean": 40.0, "std": 120.0, "percentile_00_5": -150.0, "percentile_99_5": 350.0, "min": -1024.0, "max": 3000.0}

CONFIGURATION = {
    "preprocessor_name": "DefaultPreprocessor",
    "data_identifier": "nnUNetPlans_3d_fullres",
    "batch_size": 2,
    "patch_size": [8, 16, 24],
    "spacing": [5.0, 1.5, 1.5],
    "median_image_size_in_voxels": [20.0, 40.0, 40.0],
    "normalization_schemes": ["CTNormalization"],
    "use_mask_for_norm": [False],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": SPLINES,
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_seg_kwargs": SPLINES | {"is_seg": True, "order": 1},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": SPLINES | {"order": 1},
    "batch_dice": False,
}  # fmt: skip
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": 2},
    "numTraining": 30,
    "file_ending": ".nii.gz",
}


def architecture(
    kind: str = "PlainConvUNet",
    dims: int = 3,
    kernels: Sequence[Sequence[int]] = KERNELS,
    strides: Sequence[Sequence[int]] = STRIDES,
    features: Sequence[int] = FEATURES,
    **arguments: Any,
) -> dict[str, Any]:
    """``architecture`` of a configuration."""
    counts = (
        {"n_conv_per_stage": list(CONVOLUTIONS)} if kind == "PlainConvUNet" else {"n_blocks_per_stage": list(BLOCKS)}
    )
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": len(features),
            "features_per_stage": list(features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [list(each[-dims:]) for each in kernels],
            "strides": [list(each[-dims:]) for each in strides],
            **counts,
            "n_conv_per_stage_decoder": list(DECODER_CONVOLUTIONS),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
            **arguments,
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(configuration: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """plans.json with one configuration, 3d_fullres."""
    return {
        "dataset_name": "Dataset004_Liver",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "original_median_spacing_after_transp": [5.0, 0.8, 0.8],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": CT},
        "configurations": {"3d_fullres": {**CONFIGURATION, "architecture": architecture(), **(configuration or {})}},
        **changes,
    }


def state(
    kind: str = "PlainConvUNet",
    dims: int = 3,
    channels: int = 1,
    outputs: int = 3,
    seed: int = 0,
    features: Sequence[int] = FEATURES,
) -> dict[str, torch.Tensor]:
    """``network_weights`` as nnU-Net's state dict has them, each layer several times."""
    shapes = dict(_encoder(kind, dims, channels, features))
    encoder = dict(shapes)
    shapes |= {f"decoder.{name}": shape for name, shape in encoder.items()} | dict(_decoder(dims, outputs, features))
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        original = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
        original = original.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")
        drawn = tensors.get(original)
        tensors[name] = torch.randn(shape, generator=generator) * 0.3 if drawn is None else drawn
    return tensors


def _layer(prefix: str, kernel: Sequence[int], before: int, after: int, bias: bool = True) -> Iterator[tuple[str, Any]]:
    """A convolution and its norm, by both of their names."""
    for conv, norm in (("conv", "norm"), ("all_modules.0", "all_modules.1")):
        yield f"{prefix}.{conv}.weight", (after, before, *kernel)
        if bias:
            yield f"{prefix}.{conv}.bias", (after,)
        yield from ((f"{prefix}.{norm}.{what}", (after,)) for what in ("weight", "bias"))


def _encoder(kind: str, dims: int, channels: int, features: Sequence[int]) -> Iterator[tuple[str, Any]]:
    kernels = [each[-dims:] for each in KERNELS]
    if kind == "PlainConvUNet":
        before = channels
        for stage, (n, width) in enumerate(zip(CONVOLUTIONS, features, strict=True)):
            for c in range(n):
                yield from _layer(f"encoder.stages.{stage}.0.convs.{c}", kernels[stage], before, width)
                before = width
        return
    yield from _layer("encoder.stem.convs.0", kernels[0], channels, features[0])
    before = features[0]
    for stage, (n, width) in enumerate(zip(BLOCKS, features, strict=True)):
        for block in range(n):
            prefix = f"encoder.stages.{stage}.blocks.{block}"
            yield from _layer(f"{prefix}.conv1", kernels[stage], before, width)
            yield from _layer(f"{prefix}.conv2", kernels[stage], width, width)
            if before != width:  # behind a pool
                yield from _layer(f"{prefix}.skip.1", (1,) * dims, before, width, bias=False)
            before = width


def _decoder(dims: int, outputs: int, features: Sequence[int]) -> Iterator[tuple[str, Any]]:
    for i, stage in enumerate((1, 0)):  # from the bottleneck up
        below, width, kernel = features[stage + 1], features[stage], KERNELS[stage][-dims:]
        yield f"decoder.transpconvs.{i}.weight", (below, width, *STRIDES[stage + 1][-dims:])
        yield f"decoder.transpconvs.{i}.bias", (width,)
        for c in range(DECODER_CONVOLUTIONS[i]):
            yield from _layer(f"decoder.stages.{i}.convs.{c}", kernel, width if c else 2 * width, width)
        yield f"decoder.seg_layers.{i}.weight", (outputs, width, *(1,) * dims)
        yield f"decoder.seg_layers.{i}.bias", (outputs,)


def checkpoint(weights: Mapping[str, Any], configuration: str = "3d_fullres", **changes: Any) -> dict[str, Any]:
    """What nnU-Net's trainer saves, logs with NumPy's numbers among it."""
    return {
        "network_weights": dict(weights),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.6)], "epoch_end_timestamps": [1.0]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 1000,
        "init_args": {"configuration": configuration, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changes,
    }


def write(
    folder: Path,
    content: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    folds: Mapping[str, Mapping[str, Any]] | None = None,
    name: str = "checkpoint_final.pth",
) -> Path:
    """Writes a trained folder: plans.json, dataset.json, and a checkpoint a fold."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(content or plans()))
    (folder / "dataset.json").write_text(json.dumps(DATASET | dict(dataset or {})))
    for fold, saved in (folds or {"0": checkpoint(state())}).items():
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(copy.copy(saved), folder / f"fold_{fold}" / name)
    return folder
