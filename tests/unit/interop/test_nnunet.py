"""Trained folders of nnU-Net v2 become models: what is in them, and in which order of axes."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import nnunet_folder
import numpy as np
import pytest
import torch
from nnunet_folder import CONFIGURATION, architecture, checkpoint, plans, state, write
from typer.testing import CliRunner

import medseg
from medseg.architecture import Architecture
from medseg.cli.main import app
from medseg.inferers.model import load_model
from medseg.inferers.model_record import ModelRecord, read_model_record
from medseg.interop.nnunet.importer import KNOWN_TRAINER
from medseg.interop.nnunet.plan import AxisOrder
from medseg.networks.registry import build_network
from medseg.plan import Normalization, Resampling
from medseg.weights import read_tensors


def imported(source: Path, tmp_path: Path, **options: Any) -> ModelRecord:
    return read_model_record(medseg.import_model(source, tmp_path / "model", **options))


def test_a_trained_folder_becomes_a_model(tmp_path: Path) -> None:
    record = imported(write(tmp_path / nnunet_folder.NAME), tmp_path)
    plan, grid = record.plan, record.plan.grid
    assert (plan.dims, plan.patch_size, plan.slice_axis, plan.mirrored_axes) == (3, (24, 16, 8), None, (0, 1, 2))
    assert (grid.orientation, grid.spacing, grid.own_spacing) == ("stored", (1.5, 1.5, 5.0), ())
    assert grid.crop_to_nonzero and grid.fill_holes and not grid.resample_first
    assert grid.normalization == (Normalization(kind="ct", lower=-150, upper=350, mean=40, std=120),)
    assert grid.resampling == Resampling(rule="nnunet", interpolation="cubic", separate_z=None)
    assert plan.windows.rule == "nnunet"
    assert plan.architecture.kernel_sizes == ((3, 3, 1), (3, 3, 3), (3, 3, 3))
    assert plan.architecture.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2))
    assert (record.channels, record.labels.names, record.labels.values) == (("CT",), ["liver", "tumour"], [1, 2])
    assert record.inference.mirror and record.inference.overlap == 0.5 and not record.inference.skip_air
    assert record.origin is not None
    assert (record.origin.program, record.origin.dataset, record.origin.training_cases) == (
        "nnU-Net", "Dataset004_Liver", 30,
    )  # fmt: skip
    assert str(tmp_path) not in record.model_dump_json()


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_the_network_says_of_turned_axes_what_it_said(kind: str, tmp_path: Path) -> None:
    """The same network, built in nnU-Net's order of axes, gives the transposed logits of the transposed image."""
    weights = state(kind, channels=2)
    content = plans({"architecture": architecture(kind), "normalization_schemes": ["NoNormalization"] * 2,
                     "use_mask_for_norm": [False] * 2}, transpose_forward=[1, 0, 2])  # fmt: skip
    dataset = {"channel_names": {"0": "T1", "1": "T2"}}
    source = write(tmp_path / "source", content, dataset, {"0": checkpoint(weights)})
    medseg.import_model(source, tmp_path / "model")
    network = load_model(tmp_path / "model", "cpu").network.eval()
    ours = read_model_record(tmp_path / "model").plan.architecture
    order = AxisOrder(3, (1, 0, 2))
    assert order.seen == (2, 0, 1)  # x is nnU-Net's last axis, y its first, z its second
    theirs = Architecture(
        name=ours.name, features=ours.features, arguments=ours.arguments,
        strides=nnunet_folder.STRIDES, kernel_sizes=nnunet_folder.KERNELS,
    )  # fmt: skip
    reference = build_network(2, 3, theirs).eval()
    from medseg.interop.nnunet.network import tensor_name

    reference.load_state_dict({name: weights[tensor_name(name)] for name in reference.state_dict()})
    image = torch.randn(1, 2, 4, 8, 12)  # nnU-Net's: y, z, x
    turned = (0, 1, *(2 + axis for axis in order.seen))
    with torch.no_grad():
        difference = network(image.permute(turned)) - reference(image).permute(turned)
    assert difference.abs().max() < 1e-4


def test_a_2d_plan_leaves_out_the_axis_that_nnunet_puts_first(tmp_path: Path) -> None:
    content = plans(
        {
            "architecture": architecture(dims=2), "patch_size": [16, 24], "spacing": [0.5, 0.8],
            "median_image_size_in_voxels": [40.0, 40.0], "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [True],
        },
        transpose_forward=[1, 0, 2],
    )  # fmt: skip
    saved = checkpoint(state(dims=2), inference_allowed_mirroring_axes=(0,))
    record = imported(write(tmp_path / "source", content, folds={"0": saved}), tmp_path)
    plan, grid = record.plan, record.plan.grid
    # nnU-Net's arrays are (z, y, x), here put as (y, z, x): slices lie along y, and its network sees z and x.
    assert (plan.dims, plan.slice_axis, plan.patch_size, plan.mirrored_axes) == (2, 1, (24, 1, 16), (2,))
    assert (grid.spacing, grid.own_spacing) == ((0.8, 5.0, 0.5), (1,))
    assert grid.normalization == (Normalization(kind="zscore", nonzero=True),)


def test_regions_are_written_in_their_order(tmp_path: Path) -> None:
    dataset = {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
        "regions_class_order": [1, 2, 3],
    }
    saved = checkpoint(state(outputs=3))
    record = imported(write(tmp_path / "source", dataset=dataset, folds={"0": saved}), tmp_path)
    assert [(each.name, each.values, each.value) for each in record.plan.regions] == [
        ("whole", (1, 2, 3), 1), ("core", (2, 3), 2), ("enhancing", (3,), 3),
    ]  # fmt: skip
    assert record.labels.ignore == 4 and record.outputs == ("whole", "core", "enhancing")


def test_plans_before_2_4_say_the_same(tmp_path: Path) -> None:
    new = imported(write(tmp_path / "new"), tmp_path)
    old = {key: value for key, value in CONFIGURATION.items() if key != "architecture"} | {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [1, 2, 2], "n_conv_per_stage_decoder": [1, 2], "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": nnunet_folder.STRIDES, "conv_kernel_sizes": nnunet_folder.KERNELS,
    }  # fmt: skip
    content = plans(configurations={"3d_fullres": old})
    content["foreground_intensity_properties_by_modality"] = content.pop("foreground_intensity_properties_per_channel")
    weights = state(features=(4, 6, 6))
    folder = write(tmp_path / "old", content, folds={"0": checkpoint(weights)})
    record = read_model_record(medseg.import_model(folder, tmp_path / "model-old"))
    assert record.plan.architecture.features == (4, 6, 6)
    features = {"features": new.plan.architecture.features}
    assert record.plan.architecture.model_copy(update=features) == new.plan.architecture
    assert record.plan.grid == new.plan.grid


def test_a_configuration_inherits(tmp_path: Path) -> None:
    content = plans()
    content["configurations"]["3d_small"] = {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]}
    saved = checkpoint(state(), "3d_small")
    assert imported(write(tmp_path / "source", content, folds={"0": saved}), tmp_path).plan.patch_size == (8, 8, 8)


def test_folds_are_an_ensemble_of_what_was_cross_validated(tmp_path: Path) -> None:
    folds = {name: checkpoint(state(seed=i)) for i, name in enumerate(("0", "1", "3", "all"))}
    source = write(tmp_path / "source", folds=folds)
    model = medseg.import_model(source, tmp_path / "model")
    assert sorted(path.name for path in model.iterdir()) == ["fold_0", "fold_1", "fold_3"]
    image = torch.randn(1, 1, 12, 8, 4)
    singles = [medseg.import_model(source, tmp_path / name, folds=[name]) for name in ("0", "1", "3")]
    with torch.no_grad():
        together = load_model(model, "cpu").network(image)
        apart = [load_model(each, "cpu").network(image) for each in singles]
    assert torch.allclose(together, torch.stack(apart).mean(0), atol=1e-5)
    assert (medseg.import_model(source, tmp_path / "whole", folds=["all"]) / "weights.safetensors").is_file()


def test_another_checkpoint_can_be_taken(tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    write(tmp_path / "source", folds={"0": checkpoint(state(seed=1))}, name="checkpoint_best.pth")
    files = [
        medseg.import_model(source, tmp_path / name, checkpoint=name) / "weights.safetensors"
        for name in ("final", "best")
    ]
    final, best = (read_tensors(file, "", medseg.ModelError) for file in files)
    name = next(iter(final))
    assert not torch.equal(final[name], best[name])


@pytest.mark.parametrize("is_zip", [False, True], ids=["folder", "zip"])
def test_one_of_a_dataset_is_found_by_its_configuration(is_zip: bool, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for name in ("3d_fullres", "3d_lowres"):
        content = plans(configurations={name: plans()["configurations"]["3d_fullres"]})
        folder = results / "Dataset004_Liver" / f"nnUNetTrainer__nnUNetPlans__{name}"
        write(folder, content, folds={"0": checkpoint(state(), name)})
    source = results
    if is_zip:
        source = Path(shutil.make_archive(str(tmp_path / "exported"), "zip", results))
    with pytest.raises(
        medseg.ModelError, match="several trained models: Dataset004_Liver/nnUNetTrainer__nnUNetPlans__3d_f"
    ):
        medseg.import_model(source, tmp_path / "model")
    with pytest.raises(medseg.ModelError, match="no configuration '2d'; there are Dataset004_Liver/"):
        medseg.import_model(source, tmp_path / "model", configuration="2d")
    record = imported(source, tmp_path, configuration="3d_lowres")
    assert record.origin is not None and record.origin.details["configuration"] == "3d_lowres"
    assert record.origin.details["values of CT"].startswith("-150 to 350 (0.5th and 99.5th percentile")


def test_cross_validation_is_taken_along(tmp_path: Path) -> None:
    source = write(tmp_path / "source", folds={name: checkpoint(state()) for name in ("0", "1")})
    results = source / "crossval_results_folds_0_1"
    results.mkdir()
    function = "remove_all_but_largest_component_from_segmentation"
    rules = {
        "postprocessing_fns": [function, function],
        "postprocessing_kwargs": [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 2}],
    }
    (results / "postprocessing.json").write_text(json.dumps(rules))
    (results / "summary.json").write_text(json.dumps({"mean": {"1": {"Dice": 0.9}, "2": {"Dice": 0.6}}}))
    medseg.import_model(source, tmp_path / "model")
    record = read_model_record(tmp_path / "model" / "fold_0")
    assert [(rule.labels, rule.largest_component, rule.chosen_on) for rule in record.postprocessing] == [
        (("liver", "tumour"), True, 30), (("tumour",), True, 30),
    ]  # fmt: skip
    assert record.origin is not None and record.origin.dice == {"liver": 0.9, "tumour": 0.6}
    one = read_model_record(medseg.import_model(source, tmp_path / "one", folds=[0]))
    assert one.postprocessing == ()  # chosen on what this fold was trained on, too


def test_postprocessing_that_cannot_be_followed_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source")
    (source / "crossval_results_folds_0").mkdir()
    largest, arguments = "remove_all_but_largest_component_from_segmentation", {"labels_or_regions": [1, 99]}
    rules = {"postprocessing_fns": [largest, "os.system"], "postprocessing_kwargs": [arguments, arguments]}
    (source / "crossval_results_folds_0" / "postprocessing.json").write_text(json.dumps(rules))
    assert read_model_record(medseg.import_model(source, tmp_path / "model")).postprocessing == ()
    told = capsys.readouterr().err
    assert "_from_segmentation' is left out: the model has no labels [1, 99]" in told
    assert "'os.system' is left out: medseg does not know it" in told


def test_weights_of_older_numpy_of_several_gpus_and_of_batch_norm_are_read(tmp_path: Path) -> None:
    weights = {}
    for name, tensor in state().items():
        weights[f"module._orig_mod.{name}"] = tensor
        if name.endswith("norm.weight"):
            weights[f"module._orig_mod.{name.removesuffix('weight')}running_mean"] = torch.ones_like(tensor)
            weights[f"module._orig_mod.{name.removesuffix('weight')}running_var"] = torch.ones_like(tensor)
            weights[f"module._orig_mod.{name.removesuffix('weight')}num_batches_tracked"] = torch.tensor(7)
    saved = checkpoint(weights, trainer_name="nnUNetTrainerBN")
    source = write(tmp_path / "source", folds={"0": saved})
    file = source / "fold_0" / "checkpoint_final.pth"
    rename_module(file, b"numpy._core.multiarray", b"numpy.core.multiarray")
    record = imported(source, tmp_path)
    assert record.plan.architecture.arguments["norm"] == "batch"
    assert load_model(tmp_path / "model", "cpu").network(torch.zeros(1, 1, 4, 4, 2)).isfinite().all()


def rename_module(file: Path, old: bytes, new: bytes) -> None:
    """Names a module in the pickle of a checkpoint as NumPy before 2 does."""
    import struct

    with zipfile.ZipFile(file) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            if member.endswith("data.pkl"):
                assert b"c" + old + b"\n" in content or struct.pack("<B", len(old)) + old in content
                content = content.replace(b"c" + old + b"\n", b"c" + new + b"\n")
                content = content.replace(struct.pack("<I", len(old)) + old, struct.pack("<I", len(new)) + new)
            archive.writestr(member, content)


def test_images_can_be_turned_as_in_training(tmp_path: Path) -> None:
    saved = checkpoint(state(), inference_allowed_mirroring_axes=None)
    source = write(tmp_path / "source", folds={"0": saved})
    record = imported(source, tmp_path, orientation="LPS")
    assert record.plan.grid.orientation == "LPS" and record.plan.mirrored_axes == () and not record.inference.mirror
    content = plans(image_reader_writer="NibabelIOWithReorient")
    turned = read_model_record(medseg.import_model(write(tmp_path / "turned", content), tmp_path / "model-turned"))
    assert turned.plan.grid.orientation == "RAS"


@pytest.mark.parametrize(
    ("scheme", "rule"),
    [
        ("NoNormalization", Normalization(kind="none")),
        ("RescaleTo01Normalization", Normalization(kind="none", rescaled=(0, 1))),
        ("RGBTo01Normalization", Normalization(kind="linear", mean=0, std=255)),
        ("ZScoreNormalization", Normalization(kind="zscore")),
    ],
)
def test_schemes_of_normalization(scheme: str, rule: Normalization, tmp_path: Path) -> None:
    content = plans({"normalization_schemes": [scheme]})
    assert imported(write(tmp_path / "source", content), tmp_path).plan.grid.normalization == (rule,)


def test_resampling_by_torch_is_linear(tmp_path: Path) -> None:
    how = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
    functions = {f"resampling_fn_{what}": "resample_torch_fornnunet" for what in ("data", "probabilities")}
    content = plans({**functions, "resampling_fn_data_kwargs": how, "resampling_fn_probabilities_kwargs": how})
    grid = imported(write(tmp_path / "source", content), tmp_path).plan.grid
    assert grid.resampling == Resampling(rule="nnunet", interpolation="linear", separate_z=False)


def test_trainers_of_nnunet_are_known() -> None:
    known = [
        "nnUNetTrainer", "nnUNetTrainer_250epochs", "nnUNetTrainer_4000epochs_NoMirroring", "nnUNetTrainerDA5_10epochs",
        "nnUNetTrainer_onlyMirror01_1500ep", "nnUNetTrainer_DASegOrd0_NoMirroring", "nnUNetTrainerDA5Segord0",
        "nnUNetTrainerDiceTopK10Loss", "nnUNetTrainerAdan1en3", "nnUNetTrainer_probabilisticOversampling_033",
        "nnUNetTrainerVanillaAdam3en4", "nnUNetTrainerBN", "nnUNetTrainerSkeletonRecall",
    ]  # fmt: skip
    assert [name for name in known if not KNOWN_TRAINER.fullmatch(name)] == []
    assert not KNOWN_TRAINER.fullmatch("nnUNetTrainerMedNeXt")


def test_the_model_is_one_like_any_other(tmp_path: Path) -> None:
    """It is imported by the command, predicts an image whose axes point anywhere, is packed, and predicts the same."""
    folds = {str(seed): state(seed=seed) for seed in (0, 1)}
    for weights in folds.values():  # so that all labels are about as likely
        for name in ("decoder.stages.1.convs.1.norm.weight", "decoder.seg_layers.1.weight"):
            weights[name].fill_(1)
        weights["decoder.seg_layers.1.weight"][:, :3] = 4 * torch.eye(3)[..., None, None, None]
        for name in ("decoder.stages.1.convs.1.norm.bias", "decoder.seg_layers.1.bias"):
            weights[name].zero_()
    saved = {name: checkpoint(each, inference_allowed_mirroring_axes=(2,)) for name, each in folds.items()}
    source = write(tmp_path / nnunet_folder.NAME, folds=saved)
    arguments = ["import", str(source), "-o", str(tmp_path / "model"), "--folds", "0, 1", "--checkpoint", "final"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    affine = np.array([[0, 0, -5.0, 3], [1.5, 0, 0, 4], [0, -1.5, 0, 5], [0, 0, 0, 1]])
    values = np.random.default_rng(0).normal(50, 150, (30, 20, 12)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "scan.nii.gz")
    image, by = tmp_path / "scan.nii.gz", {"device": "cpu", "backend": "torch"}
    (prediction,) = medseg.predict(tmp_path / "model", image, tmp_path / "masks", **by)  # type: ignore[arg-type]
    mask = nibabel.load(tmp_path / "masks" / "scan.nii.gz")
    assert np.array_equal(mask.affine, affine) and len(np.unique(prediction.label_map.array)) > 1
    medseg.package(tmp_path / "model", tmp_path / "liver.zip")
    (again,) = medseg.predict(tmp_path / "liver.zip", image, **by)  # type: ignore[arg-type]
    assert np.array_equal(again.label_map.array, prediction.label_map.array)
