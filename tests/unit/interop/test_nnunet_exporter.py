"""Models of medseg as trained folders of nnU-Net: what is written, what comes back, and what nnU-Net cannot do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import medseg
from medseg.architecture import Architecture
from medseg.config import InferenceConfig
from medseg.errors import ConfigError
from medseg.inferers.model import ModelRecord, load_model, save_model
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Grid, LearntRegion, Normalization, Plan, Resampling, Windows
from medseg.postprocessing.components import Rule
from medseg.weights import read_tensors

CT = Normalization(kind="ct", lower=-150, upper=250, mean=40, std=80)
ZSCORE = Normalization(kind="zscore", nonzero=True)
LABELS = Labels.from_names({"liver": 1, "tumour": 2})
GRID = Grid(
    orientation="RAS",
    spacing=(0.8, 1.5, 3.0),
    crop_to_nonzero=True,
    fill_holes=True,
    normalization=(CT,),
    resampling=Resampling(rule="nnunet"),
)
STRIDES, KERNELS = ((1, 1, 1), (2, 2, 1), (2, 2, 2)), ((3, 3, 1), (3, 3, 3), (3, 3, 3))


def plan_of(**changes: Any) -> Plan:
    architecture = Architecture(features=(4, 6, 8), strides=STRIDES, kernel_sizes=KERNELS)
    plan = Plan(
        dims=3,
        grid=GRID,
        patch_size=(16, 24, 8),
        batch_size=2,
        slice_axis=None,
        architecture=architecture,
        mirrored_axes=(0, 2),
        windows=Windows(rule="nnunet"),
    )
    return Plan.model_validate(plan.model_dump() | changes)


def write_model(folder: Path, plan: Plan, labels: Labels = LABELS, seed: int = 0, **changes: Any) -> Path:
    torch.manual_seed(seed)
    record = ModelRecord(
        medseg=medseg.__version__,
        plan=plan,
        labels=labels,
        channels=("CT", "PET")[: len(plan.grid.normalization)],
        inference=InferenceConfig(mirror=True),
        provenance={"training_cases": 7},
        metrics={},
    ).model_copy(update=changes)
    network = build_network(len(record.channels), len(record.outputs), plan.architecture)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    save_model(folder, record, network.state_dict())
    return folder


FLAT = {
    "dims": 2,
    "slice_axis": 1,
    "patch_size": (16, 1, 8),
    "mirrored_axes": (0,),
    "grid": GRID.model_copy(update={"own_spacing": (1,), "orientation": "stored"}).model_dump(),
    "architecture": {"features": (4, 6), "strides": ((1, 1), (2, 2)), "kernel_sizes": ((3, 1), (3, 3))},
}
RESIDUAL = {
    "architecture": {
        "name": "residual-unet", "features": (4, 6, 8), "strides": STRIDES, "kernel_sizes": KERNELS,
        "arguments": {"blocks": (1, 2), "norm": "batch", "negative_slope": 0.1},
    },
    "grid": GRID.model_copy(update={"normalization": (ZSCORE, Normalization(kind="none"))}).model_dump(),
}  # fmt: skip
HALF = {"features": (4, 6), "strides": ((2, 2, 1), (2, 2, 2)), "kernel_sizes": ((3, 3, 1), (3, 3, 3))}


@pytest.mark.parametrize("changes", [{}, FLAT, RESIDUAL], ids=["3D", "2D", "residual"])
def test_it_comes_back_as_it_was(changes: dict[str, Any], tmp_path: Path) -> None:
    model = write_model(tmp_path / "run" / "model", plan_of(**changes))
    results = medseg.package(model, tmp_path / "results", format="nnunet")
    back = medseg.import_model(results, tmp_path / "back")
    before, after = load_model(model, "cpu"), load_model(back, "cpu")
    kept = {"dims", "grid", "patch_size", "slice_axis", "mirrored_axes", "regions", "windows"}
    for name in kept:
        assert getattr(after.record.plan, name) == getattr(before.record.plan, name), name
    assert after.record.labels.values == [1, 2]
    assert after.record.channels == before.record.channels
    image = torch.randn(1, len(before.record.channels), *before.record.plan.network_patch)
    with torch.inference_mode():
        assert torch.equal(after.network(image), before.network(image))


def test_all_folds_of_an_ensemble_are_written(tmp_path: Path) -> None:
    for fold in range(2):
        write_model(tmp_path / "run" / "model" / f"fold_{fold}", plan_of(), seed=fold)
    results = medseg.package(tmp_path / "run", tmp_path / "results", format="nnunet")
    back = medseg.import_model(results, tmp_path / "back")
    for fold in range(2):
        was, is_now = (
            read_tensors(folder / f"fold_{fold}" / "weights.safetensors", "", ConfigError)
            for folder in (tmp_path / "run" / "model", back)
        )
        assert all(torch.equal(was[name], is_now[name]) for name in was)


def test_regions_keep_their_order(tmp_path: Path) -> None:
    labels = Labels.from_names({"core": 1}, {"whole": (1, 5)})
    regions = (LearntRegion(name="whole", values=(1, 2), value=2), LearntRegion(name="core", values=(1,), value=1))
    model = write_model(tmp_path / "model", plan_of(regions=[region.model_dump() for region in regions]), labels)
    results = medseg.package(model, tmp_path / "results", format="nnunet")
    (file,) = results.glob("*/*/dataset.json")
    dataset = json.loads(file.read_text())
    assert dataset["labels"] == {"background": 0, "whole": [1, 2], "core": [1]}
    assert dataset["regions_class_order"] == [2, 1]
    assert medseg.import_model(results, tmp_path / "back")
    assert load_model(tmp_path / "back", "cpu").record.plan.regions == regions


def test_a_network_without_deep_supervision_has_nnunets_heads_too(tmp_path: Path) -> None:
    plan = plan_of()
    architecture = plan.architecture.model_copy(update={"deep_supervision": False})
    model = write_model(tmp_path / "model", plan.model_copy(update={"architecture": architecture}))
    results = medseg.package(model, tmp_path / "results", format="nnunet")
    (file,) = results.glob("*/*/fold_0/checkpoint_final.pth")
    weights = torch.load(file, weights_only=True)["network_weights"]
    heads = [weights[f"decoder.seg_layers.{i}.weight"] for i in range(2)]
    assert [tuple(head.shape) for head in heads] == [(3, 6, 1, 1, 1), (3, 4, 1, 1, 1)]
    assert heads[1].any()
    assert not heads[0].any()
    image = torch.randn(1, 1, 16, 24, 8)
    back = medseg.import_model(results, tmp_path / "back")
    with torch.inference_mode():
        assert torch.equal(load_model(back, "cpu").network(image), load_model(model, "cpu").network(image))


def test_what_nnunet_does_in_another_way_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = GRID.model_copy(update={"resampling": Resampling(), "crop_to_nonzero": False}).model_dump()
    plan = plan_of(grid=grid, windows={"rule": "monai"}, patch_size=(15, 24, 8))
    model = write_model(
        tmp_path / "model",
        plan,
        Labels.from_names({"liver": 5, "tumour": 9}),
        inference=InferenceConfig(overlap=0.25),
        postprocessing=(Rule(label="liver", largest_component=True),),
    )
    results = medseg.package(model, tmp_path / "results", format="nnunet")
    told = " ".join(capsys.readouterr().err.split())
    for part in (
        "liver 1, tumour 2", "by B-splines", "spreads windows evenly", "-step_size 0.75", "16×24×8 voxels",
        "cuts off margins", "liver: the largest component only",
    ):  # fmt: skip
        assert part in told, part
    (file,) = results.glob("*/*/fold_0/checkpoint_final.pth")
    assert torch.load(file, weights_only=True)["inference_allowed_mirroring_axes"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": RESIDUAL["architecture"] | {"name": "dynunet", "arguments": {}}},
         "has no 'dynunet', only residual-unet and unet"),
        ({"grid": GRID.model_copy(update={"orientation": "LPS"}).model_dump()}, "has no axes of LPS"),
        ({"grid": GRID.model_copy(update={"resampling": Resampling(rule="monai")}).model_dump()}, "cannot resample as"),
        ({"grid": GRID.model_copy(update={"transforms": ({"name": "Flipd", "keys": ["image"]},)}).model_dump()},
         "transforms of your own"),
        ({"grid": GRID.model_copy(update={"normalization": (
            Normalization(kind="linear", mean=3, std=2),)}).model_dump()}, "has no normalization 'linear'"),
        ({"architecture": HALF}, "begins at half the resolution.*planning.cpu_half_resolution"),
    ],
    ids=["network", "orientation", "resampling", "transforms", "normalization", "resolution"],
)  # fmt: skip
def test_what_nnunet_cannot_do_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", plan_of(**changes))
    with pytest.raises(ConfigError, match=message):
        medseg.package(model, tmp_path / "results", format="nnunet")
    assert not (tmp_path / "results").exists()
