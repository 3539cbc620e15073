"""Bundles as the MONAI Model Zoo has them, with small networks of random weights, and MONAI's own run of them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser

Config = dict[str, Any]

# What all bundles of the zoo begin and end with, around what is their own.
AROUND: Config = {
    "imports": ["$import glob", "$import numpy", "$import os"],
    "bundle_root": ".",
    "image_key": "image",
    "output_dir": "$@bundle_root + '/eval'",
    "output_ext": ".nii.gz",
    "load_pretrain": True,
    "dataset_dir": "/workspace/data",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network": "$@network_def.to(@device)",
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': i} for i in @datalist]",
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 4},
    "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": "@handlers",
        "amp": True,
    },
    "checkpointloader": {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/model.pt'",
        "load_dict": {"model": "@network"},
    },
    "initialize": [
        "$monai.utils.set_determinism(seed=123)",
        "$@checkpointloader(@evaluator) if @load_pretrain else None",
    ],
    "run": ["$@evaluator.run()"],
}
LOAD = [{"_target_": "LoadImaged", "keys": "@image_key"}, {"_target_": "EnsureChannelFirstd", "keys": "@image_key"}]
RAS = {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"}
SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
SAVE = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_ext": "@output_ext"}


def inverse(nearest: bool) -> Config:
    return {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "@image_key",
        "nearest_interp": nearest,
        "to_tensor": True,
    }


def composed(*steps: Config) -> Config:
    return {"_target_": "Compose", "transforms": list(steps)}


def spleen() -> Config:
    """As spleen_ct_segmentation: probabilities come back linearly, windows count alike."""
    return AROUND | {
        "network_def": {
            "_target_": "UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [4, 8, 16],
            "strides": [2, 2],
            "num_res_units": 2,
            "norm": "batch",
        },
        "preprocessing": composed(
            *LOAD,
            RAS,
            {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "@image_key",
                "a_min": -57,
                "a_max": 164,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "@image_key"},
        ),
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [24, 24, 24], "sw_batch_size": 4, "overlap": 0.5},
        "postprocessing": composed(SOFTMAX, inverse(nearest=False), ARGMAX, SAVE),
    }


def whole_body() -> Config:
    """As wholeBody_ct_segmentation: a label map comes back, z-scores are scaled, and a switch chooses the spacing."""
    return AROUND | {
        "displayable_configs": {"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
        "pixdim": "$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
        "modelname": "$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
        "network_def": {
            "_target_": "SegResNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 7,
            "init_filters": 8,
            "blocks_down": [1, 2],
            "blocks_up": [1],
            "dropout_prob": 0.2,
        },
        "preprocessing": composed(
            LOAD[0],
            {"_target_": "EnsureTyped", "keys": "@image_key"},
            LOAD[1],
            RAS,
            {"_target_": "Spacingd", "keys": "@image_key", "pixdim": "@pixdim", "mode": "bilinear"},
            {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True},
            {"_target_": "ScaleIntensityd", "keys": "@image_key", "minv": -1.0, "maxv": 1.0},
        ),
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [32, 32, 32],
            "sw_batch_size": "@displayable_configs#sw_batch_size",
            "overlap": "@displayable_configs#sw_overlap",
            "padding_mode": "replicate",
            "mode": "gaussian",
            "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        },
        "postprocessing": composed(SOFTMAX, ARGMAX, inverse(nearest=True), SAVE),
        "checkpointloader": AROUND["checkpointloader"] | {"load_path": "$@bundle_root + '/models/' + @modelname"},
    }


def tumour() -> Config:
    """As brats_mri_segmentation: sigmoids of regions, which a function merges, on the grid of the image."""
    return AROUND | {
        "network_def": {
            "_target_": "SegResNet",
            "blocks_down": [1, 2],
            "blocks_up": [1],
            "init_filters": 8,
            "in_channels": 2,
            "out_channels": 3,
            "dropout_prob": 0.2,
        },
        "preprocessing": composed(
            {"_target_": "LoadImaged", "keys": "@image_key", "image_only": False},
            {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
            {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True, "channel_wise": True},
        ),
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 16], "sw_batch_size": 1, "overlap": 0.5},
        "postprocessing": composed(
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            inverse(nearest=False),
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
            {
                "_target_": "Lambdad",
                "keys": "pred",
                "func": "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, "
                "torch.where(x[[1]] > 0, 2, 0)))",
            },
            SAVE,
        ),
    }


def short_axis() -> Config:
    """As ventricular_short_axis_3label: a 2D network that sees slices along z."""
    return AROUND | {
        "network_def": {
            "_target_": "UNet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 4,
            "channels": [4, 8],
            "strides": [2],
            "num_res_units": 2,
        },
        "preprocessing": composed(*LOAD, {"_target_": "ScaleIntensityd", "keys": "image"}),
        "inferer": {"_target_": "SliceInferer", "roi_size": [16, 24], "spatial_dim": 2},
        "postprocessing": composed(SOFTMAX, inverse(nearest=False), ARGMAX, SAVE),
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": 1},
            }
        ],
    }


def abdomen() -> Config:
    """As pediatric_abdominal_ct_segmentation: DynUNet, and a box of what is above 0 in the end."""
    bundle = spleen()
    bundle["network_def"] = {
        "_target_": "monai.networks.nets.DynUNet",
        "spatial_dims": "$len(@spatial_size)",
        "in_channels": 1,
        "out_channels": 4,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, [2, 2, 1]],
        "upsample_kernel_size": [2, [2, 2, 1]],
        "filters": [4, 8, 16],
        "norm_name": "instance",
        "deep_supervision": False,
        "res_block": True,
    }
    bundle["spatial_size"] = [24, 24, 24]
    crop = {"_target_": "CropForegroundd", "keys": ["@image_key"], "source_key": "@image_key", "mode": ["minimum"]}
    bundle["preprocessing"] = composed(*bundle["preprocessing"]["transforms"], crop)
    return bundle


BUNDLES: dict[str, Callable[[], Config]] = {
    each.__name__: each for each in (spleen, whole_body, tumour, short_axis, abdomen)
}


def metadata(config: Config) -> Config:
    n_in, n_out = (config["network_def"].get(key, 1) for key in ("in_channels", "out_channels"))
    outputs = {str(i): f"structure {i}" if i or n_out == 3 else "background" for i in range(n_out)}
    inputs = {str(i): "image" if n_in == 1 else f"sequence {i}" for i in range(n_in)}
    return {
        "version": "0.5.9",
        "name": "Spleen CT segmentation",
        "data_source": "Task09_Spleen.tar from http://medicaldecathlon.com/",
        "eval_metrics": {"mean_dice": 0.961},
        "references": ["Isensee et al."],
        "network_data_format": {
            "inputs": {"image": {"modality": "CT", "num_channels": n_in, "channel_def": inputs}},
            "outputs": {"pred": {"num_channels": n_out, "channel_def": outputs}},
        },
    }


def write_bundle(folder: Path, config: Config) -> Path:
    """Writes a bundle with random weights, under the name that its configuration asks for."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config, indent=4))
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata(config), indent=4))
    (folder / "LICENSE").write_text("\n    Apache License\n  Version 2.0, January 2004\n")
    network = parsed(folder, "network_def")
    generator = torch.Generator().manual_seed(0)
    state = {name: randomised(tensor, generator) for name, tensor in network.state_dict().items()}
    torch.save(state, folder / "models" / "model.pt")
    return folder


def randomised(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Weights that make logits of some size, and variances of batch normalization above 0."""
    if not tensor.is_floating_point():
        return tensor
    noise = torch.randn(tensor.shape, generator=generator)
    return tensor + 0.2 * noise.abs() if tensor.ndim < 2 else tensor + 0.05 * noise


def parsed(folder: Path, *names: str) -> Any:
    """What MONAI makes of a bundle's configuration."""
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser["bundle_root"] = str(folder)
    steps = parser.get("postprocessing")["transforms"]
    parser["postprocessing"]["transforms"] = [step for step in copy.deepcopy(steps) if step["_target_"] != "SaveImaged"]
    found = [parser.get_parsed_content(name) for name in names]
    return found[0] if len(found) == 1 else found


def run_by_monai(folder: Path, image: Path | list[Path]) -> tuple[torch.Tensor, np.ndarray]:
    """Returns logits (label, x, y, z) on the model grid, and the label map on the grid of the image, by MONAI alone."""
    before, network, inferer, after = parsed(folder, "preprocessing", "network_def", "inferer", "postprocessing")
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    network.eval()
    data = before({"image": image})
    with torch.no_grad():
        data["pred"] = inferer(data["image"][None], network)[0]
    logits = data["pred"].as_tensor().clone()
    return logits, after(data)["pred"].as_tensor()[0].numpy()


def write_image(path: Path, affine: np.ndarray, shape: tuple[int, int, int], seed: int = 0) -> Path:
    """An image with values as of CT: air around a body with structures in it."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = (places**2).sum(0) < 0.8
    waves = sum(np.sin(places[axis] * rate * 9 + rng.normal()) for axis in range(3) for rate in (0.5, 1))
    values = np.where(inside, 40 + 60 * waves + rng.normal(0, 8, shape), -1000 + rng.normal(0, 8, shape))
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), affine), path)
    return path
