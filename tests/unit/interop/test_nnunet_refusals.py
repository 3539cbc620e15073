"""What medseg cannot do as nnU-Net does, and what is damaged or means harm: one line each, and nothing is written."""

import copy
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_folder import CONFIGURATION, SPLINES, architecture, checkpoint, plans, state, write

import medseg


def refused(source: Path, tmp_path: Path, match: str, **options: Any) -> None:
    """Asserts that an import fails with one line, and leaves nothing behind."""
    with pytest.raises(medseg.MedsegError, match=match) as error:
        medseg.import_model(source, tmp_path / "out" / "model", **options)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").glob("**/*")) if (tmp_path / "out").exists() else True


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_checkpoint_that_would_run_code_is_not_read(is_zip: bool, tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    saved = checkpoint(state(), my_init_kwargs=Runs(tmp_path / "ran"))
    torch.save(saved, source / "fold_0" / "checkpoint_final.pth", _use_new_zipfile_serialization=is_zip)
    refused(source, tmp_path, r"checkpoint_final.pth: holds more than weights: posix.mkdir, which could run code")
    assert not (tmp_path / "ran").exists()


def test_a_zip_that_leads_out_of_its_place_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("Dataset004/../../../evil.json", "{}")
    refused(tmp_path / "model.zip", tmp_path, "a path that leads out of it")


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path, "no model that medseg knows")
    refused(tmp_path / "nowhere", tmp_path, "no such file or folder")
    source = write(tmp_path / "source")
    refused(source / "fold_0" / "checkpoint_final.pth", tmp_path, "is weights alone.*'medseg train --init' takes")
    refused(source, tmp_path, "fold 4 has no checkpoint_final.pth; folds that have one: 0", folds=[4])
    refused(source, tmp_path, "no fold has a checkpoint_best.pth; take --checkpoint final", checkpoint="best")
    refused(source, tmp_path, "--checkpoint newest: is not known", checkpoint="newest")
    refused(source, tmp_path, "--orientation up: give three letters", orientation="up")
    (tmp_path / "taken").mkdir()
    with pytest.raises(medseg.OutputError, match="is there already"):
        medseg.import_model(source, tmp_path / "taken")


Change = Callable[[dict[str, Any]], None]


def of_configuration(**changes: Any) -> Change:
    return lambda content: content["configurations"]["3d_fullres"].update(changes)


def of_network(**changes: Any) -> Change:
    return lambda content: content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (of_configuration(patch_size=[10**6, 10**6, 10**6]), "a patch of 1,000,000,000,000,000,000 voxels"),
        (of_configuration(patch_size=[0, 16, 16]), "'patch_size.0' cannot be 0"),
        (of_configuration(spacing=[1.0, 1.0]), "different numbers of axes"),
        (of_configuration(spacing=[1.0, 1.0, 1e-9]), "'spacing.2' cannot be 1e-09"),
        (of_network(n_stages=10**9), "n_stages' cannot be 1000000000"),
        (of_network(features_per_stage=[10**9] * 3), "cannot be 1000000000"),
        (of_network(n_conv_per_stage=[10**9] * 3), r"n_conv_per_stage.*cannot be \[1000000000"),
        (of_network(features_per_stage=[4, 6]), "network cannot be built"),
        (of_network(kernel_sizes=[[2, 2, 2]] * 3), "kernels of even edges"),
        (of_network(strides=[[2, 2, 2]] * 3), "a stride in its first stage"),
        (of_network(nonlin="torch.nn.GELU"), "'nonlin' GELU"),
        (of_network(norm_op=None), "'norm_op' none"),
        (of_network(norm_op_kwargs={"eps": 1e-3, "affine": True}), "a norm of another 'eps'"),
        (of_configuration(architecture=architecture() | {"network_class_name": "a.b.Primus"}), "network is a Primus"),
        (of_configuration(normalization_schemes=["MyNormalization"]), "normalized by 'MyNormalization'"),
        (of_configuration(use_mask_for_norm=[]), "1 normalization schemes, and masks for 0"),
        (of_configuration(resampling_fn_data="my_resampling"), "resampled by my_resampling and resample_data_or_seg"),
        (of_configuration(resampling_fn_data_kwargs=SPLINES | {"order_z": 3}), "medseg cannot do that"),
        (of_configuration(preprocessor_name="MyPreprocessor"), "prepared by 'MyPreprocessor'"),
        (of_configuration(previous_stage="3d_lowres"), "second stage of a cascade"),
        (of_configuration(inherits_from="2d"), "has no configuration '2d'"),
        (of_configuration(inherits_from="3d_fullres"), "inherit from each other"),
        (lambda content: content.update(image_reader_writer="MyIO"), "read by 'MyIO'"),
        (lambda content: content.update(transpose_forward=[0, 0, 1]), "no order of axes"),
        (lambda content: content.update(foreground_intensity_properties_per_channel={}), "intensities of channel 0"),
    ],
)  # fmt: skip
def test_a_plan_that_medseg_cannot_follow_is_refused_by_name(change: Change, match: str, tmp_path: Path) -> None:
    content = copy.deepcopy(plans())
    change(content)
    refused(write(tmp_path / "source", content), tmp_path, match)


def test_another_number_of_labels_or_channels_is_told(tmp_path: Path) -> None:
    source = write(tmp_path / "source", dataset={"labels": {"background": 0, "liver": 1}})
    refused(source, tmp_path, r"'decoder.seg_layers.0.weight' is of 3×6×1×1×1, and 2×6×1×1×1 follows from plans.json")
    source = write(tmp_path / "source", dataset={"channel_names": {"0": "CT", "1": "PET"}})
    refused(source, tmp_path, "encoder.stages.0.0.convs.0.conv.weight' is of 4×1×3×3×1, and 4×2×3×3×1 follows")
    refused(write(tmp_path / "source", dataset={"labels": {}}), tmp_path, "names no labels")
    source = write(tmp_path / "source", dataset={"labels": {"background": 0, "liver": -1, "tumour": 2}})
    refused(source, tmp_path, "a label has the value -1; those of nnU-Net are 1 and above")


def broken(name: str, change: Callable[[torch.Tensor], Any]) -> dict[str, Any]:
    weights: dict[str, Any] = state()
    weights[name] = change(weights[name])
    return weights


HEAD = "decoder.seg_layers.1.weight"


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        (broken(HEAD, lambda tensor: tensor.fill_(torch.nan)), f"'{HEAD}' holds what is no number"),
        (broken(HEAD, lambda tensor: torch.zeros(1).expand(2**30, 2**10)), f"'{HEAD}' is larger than what"),
        (broken(HEAD, lambda tensor: tensor.to_sparse()), f"'{HEAD}', which is no dense tensor"),
        (broken(HEAD, lambda tensor: "weights"), f"'{HEAD}', which is no dense tensor"),
        ({**state(), "encoder.attention.weight": torch.zeros(3)}, "MyTrainer.*'encoder.attention.weight', which no"),
        ({k: v for k, v in state().items() if k != HEAD}, f"MyTrainer.*has no '{HEAD}'; the network was changed"),
        ([torch.zeros(3)], "'network_weights' are no tensors by name"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(weights: Any, match: str, tmp_path: Path) -> None:
    saved = checkpoint({}, network_weights=weights, trainer_name="nnUNetTrainerMyTrainer")
    refused(write(tmp_path / "source", folds={"0": saved}), tmp_path, match)


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    file = source / "fold_0" / "checkpoint_final.pth"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    refused(source, tmp_path, "checkpoint_final.pth: truncated, damaged")
    torch.save({"state_dict": {}}, file)
    refused(source, tmp_path, "no 'network_weights', so it is no checkpoint of nnU-Net v2")
    torch.save(checkpoint(state(), inference_allowed_mirroring_axes=(7,)), file)
    refused(source, tmp_path, "'inference_allowed_mirroring_axes' are no axes")


def test_folds_of_different_configurations_are_no_ensemble(tmp_path: Path) -> None:
    content = plans()
    content["configurations"]["3d_other"] = {**CONFIGURATION, "architecture": architecture(), "patch_size": [8, 8, 8]}
    folds = {"0": checkpoint(state()), "1": checkpoint(state(), "3d_other")}
    refused(write(tmp_path / "source", content, folds=folds), tmp_path, "of another network or configuration")


def test_an_unknown_trainer_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = checkpoint(state(), trainer_name="nnUNetTrainerMedNeXt")
    medseg.import_model(write(tmp_path / "source", folds={"0": saved}), tmp_path / "model")
    assert "nnUNetTrainerMedNeXt is no trainer of nnU-Net's own" in capsys.readouterr().err
