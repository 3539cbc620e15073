"""Training begins with weights of nnU-Net v2, and with encoders of nnssl."""

import copy
from pathlib import Path
from typing import Any

import nnunet_folder
import pytest
import torch
from nnunet_folder import checkpoint, plans, state, write

from medseg.config import load
from medseg.errors import ModelError
from medseg.interop.nnunet import pretrained
from medseg.interop.nnunet.network import tensor_name
from medseg.interop.nnunet.plans import NetworkPlan
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.training.initial import InitialModel

LABELS = Labels.from_names({"tumour": 1, "vessel": 2, "liver": 3})


def begun(model: InitialModel, plan: Plan, channels: tuple[str, ...]) -> tuple[str, dict[str, torch.Tensor]]:
    plan, _ = model.shape(plan, load())
    network = build_network(len(channels), len(plan.outputs(LABELS)), plan.architecture)
    told = model.load_into(network, plan, LABELS, channels)
    return told, network.state_dict()


def theirs(weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    tensor = weights[tensor_name(name)]
    return tensor.permute(0, 1, 4, 3, 2) if tensor.ndim == 5 else tensor


def test_a_trained_folder_of_nnunet_or_one_of_its_checkpoints(tmp_path: Path, tiny_plan: Plan) -> None:
    weights = state("ResidualEncoderUNet")
    content = plans({"architecture": nnunet_folder.architecture("ResidualEncoderUNet")})
    folder = write(tmp_path / "source", content, folds={"0": checkpoint(weights)})
    for source in (folder, folder / "fold_0" / "checkpoint_final.pth"):
        model = InitialModel.read(source)
        assert (model.dims, model.channels, model.spacing) == (3, ("CT",), (1.5, 1.5, 5.0))
        told, own = begun(model, tiny_plan, ("CT",))
        assert f"{len(own)} of {len(own)} tensors of weights fit; outputs of new labels stay random: vessel" in told
        assert torch.equal(own["network.encoder.1.0.first.0.weight"], theirs(weights, "encoder.1.0.first.0.weight"))
        head, before = own["network.heads.1.weight"], theirs(weights, "heads.1.weight")
        assert torch.equal(head[[0, 3, 1]], before)  # background, liver, tumour


@pytest.fixture
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset's name for a small network."""
    architecture = nnunet_folder.architecture("ResidualEncoderUNet")
    monkeypatch.setitem(pretrained.PRESETS, "ResEncL", NetworkPlan.model_validate(architecture))


def nnssl(weights: dict[str, torch.Tensor], **changes: Any) -> dict[str, Any]:
    """A checkpoint of nnssl: an encoder below other names, and a decoder for images."""
    renamed = {name.replace("encoder.stages", "net.encoder.stages", 1): tensor for name, tensor in weights.items()}
    adaptation = {
        "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
        "pretrain_plan": {"configurations": {"onemmiso": {"spacing": [1, 1, 1], "patch_size": [160, 160, 160]}}},
        "pretrain_num_input_channels": 1,
        "recommended_downstream_patchsize": [160, 160, 160],
        "key_to_encoder": "net.encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ["encoder.stem.convs.0.conv"],
    }
    return {"network_weights": renamed, "nnssl_adaptation_plan": adaptation | changes, "citations": []}


def test_an_encoder_of_nnssl(tmp_path: Path, tiny_plan: Plan, small_preset: None) -> None:
    weights = {name: tensor for name, tensor in state("ResidualEncoderUNet").items() if "seg_layers" not in name}
    torch.save(nnssl(weights), tmp_path / "encoder.pth")
    model = InitialModel.read(tmp_path / "encoder.pth")
    assert (model.outputs, model.spacing, model.dims) == ((), (1, 1, 1), 3)
    told, own = begun(model, tiny_plan, ("T1", "T2"))
    assert "outputs of new labels stay random: background, tumour, vessel, liver" in told
    assert "inputs of new channels begin with the mean of the others: T1, T2" in told
    assert torch.equal(own["network.encoder.2.0.second.0.weight"], theirs(weights, "encoder.2.0.second.0.weight"))
    stem = theirs(weights, "encoder.0.0.0.weight")
    assert torch.equal(own["network.encoder.0.0.0.weight"], stem.expand(-1, 2, -1, -1, -1))
    assert not torch.equal(own["network.decoder.0.0.weight"], theirs(weights, "decoder.0.0.weight"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"architecture_plans": {"arch_class_name": "PrimusM"}}, "its network is a PrimusM"),
        ({"pretrain_num_input_channels": 3}, "encoder.stem.convs.0.conv.weight' is of .* follows"),
        ({"key_to_encoder": "elsewhere"}, "has no 'encoder.stages.0.blocks.0.conv1.conv.weight'"),
        ({"pretrain_num_input_channels": "many"}, "'pretrain_num_input_channels' cannot be 'many'"),
    ],
)
def test_other_checkpoints_are_refused(change: dict[str, Any], match: str, tmp_path: Path, small_preset: None) -> None:
    torch.save(nnssl(copy.copy(state("ResidualEncoderUNet")), **change), tmp_path / "encoder.pth")
    with pytest.raises(ModelError, match=match):
        InitialModel.read(tmp_path / "encoder.pth")


def test_a_checkpoint_alone_says_too_little(tmp_path: Path) -> None:
    torch.save(checkpoint(state()), tmp_path / "checkpoint_final.pth")
    with pytest.raises(ModelError, match="no checkpoint of nnssl, and lies in no trained folder of nnU-Net v2"):
        InitialModel.read(tmp_path / "checkpoint_final.pth")


def test_the_preset_is_the_published_network() -> None:
    """ResEnc-L has 102 million parameters (Isensee et al. 2024), 90 of them in its encoder."""
    plan = pretrained.RES_ENC_L.arch_kwargs
    assert (plan.features_per_stage, plan.n_blocks_per_stage) == ((32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6))
