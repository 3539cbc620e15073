import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from model_records import record_of
from typer.testing import CliRunner

from medseg.architecture import Architecture
from medseg.cli.main import app
from medseg.device import Device
from medseg.errors import ConfigError
from medseg.inferers.model import load_model, save_model
from medseg.networks.registry import build_network
from medseg.networks.unet_plus_plus import UNetPlusPlus
from medseg.plan import Plan


def architecture(features: tuple[int, ...], **rest: object) -> Architecture:
    n = len(features)
    strides = ((1, 1),) + ((2, 2),) * (n - 1)
    return Architecture(name="unet++", features=features, strides=strides, kernel_sizes=((3, 3),) * n, **rest)


def test_parameters_are_as_many_as_published() -> None:
    """9.04 M: one channel in, one output, head 4 only."""
    published = (32, 64, 128, 256, 512)
    network = build_network(1, 1, architecture(published, deep_supervision=False))
    assert sum(p.numel() for p in network.parameters()) == 9_041_601
    supervised = build_network(1, 1, architecture(published))
    assert sum(p.numel() for p in supervised.parameters()) == 9_041_601 + 3 * 33


def test_four_heads_at_full_resolution_weigh_the_same() -> None:
    network = build_network(1, 2, architecture((4, 4, 4, 4, 4)))
    heads = network.train()(torch.zeros(1, 1, 32, 16))
    assert [tuple(head.shape) for head in heads] == [(1, 2, 32, 16)] * 4
    assert network.head_weights == (1, 1, 1, 1)


def test_each_head_answers_alone_and_computes_what_it_needs() -> None:
    whole = build_network(1, 2, architecture((4, 4, 4, 4, 4))).train()
    image = torch.randn(2, 1, 32, 32)
    heads = whole(image)[::-1]
    assert torch.allclose(whole.eval()(image), torch.stack(heads).mean(dim=0), atol=1e-5)
    for number, expected in enumerate(heads, start=1):
        pruned = build_network(1, 2, architecture((4, 4, 4, 4, 4), arguments={"head": number}))
        pruned.load_state_dict(whole.state_dict())
        computed: list[torch.nn.Module] = []
        for module in pruned.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda module, *_, seen=computed: seen.append(module))
        assert torch.allclose(pruned.eval()(image), expected, atol=1e-5)
        nodes = (number + 1) * (number + 2) // 2
        assert len(computed) == 2 * nodes + 1  # two convolutions a node and the head
        assert len(pruned.train()(image)) == 4  # training has all heads, whatever prediction uses


@pytest.mark.parametrize(
    ("deep_supervision", "head", "message"),
    [(True, 4, "cannot be 4: there is head 1, 2$"), (False, 1, "there is head 2; with network.deep_supervision")],
)
def test_a_head_that_is_not_there_is_refused(deep_supervision: bool, head: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UNetPlusPlus(1, 2, architecture((4, 4, 4), deep_supervision=deep_supervision, arguments={"head": head}))


@pytest.fixture
def saved(tmp_path: Path, tiny_plan: Plan) -> tuple[Path, torch.nn.Module]:
    """A RUN with a model of two heads that differ, and its network in training, which gives the logits of both."""
    plan = architecture((4, 4, 4)).model_copy(
        update={"strides": ((1,) * 3, (2,) * 3, (2,) * 3), "kernel_sizes": ((3,) * 3,) * 3}
    )
    torch.manual_seed(1)
    network = build_network(1, 2, plan).train()
    record = record_of(tiny_plan.model_copy(update={"architecture": plan}), {"a": 1}, ("T1",))
    save_model(tmp_path / "run" / "model", record, network.state_dict())
    return tmp_path / "run", network


@pytest.mark.parametrize("head", [1, 2])
def test_a_saved_model_answers_with_the_head_that_is_asked_for(saved: tuple[Path, torch.nn.Module], head: int) -> None:
    run, network = saved
    image = torch.randn(1, 1, 8, 8, 8)
    loaded = load_model(run, Device(torch.device("cpu"), torch.float32), head=head)
    with torch.no_grad():
        assert torch.allclose(loaded.network(image), network(image)[-head], atol=1e-5)
    assert loaded.record.plan.architecture.arguments["head"] == head


def test_predict_prunes_and_predicts_again_with_another_head(
    saved: tuple[Path, torch.nn.Module], tmp_path: Path
) -> None:
    run, _ = saved
    image = np.random.default_rng(0).normal(size=(12, 12, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "scan.nii.gz")
    masks, done = [], []
    for head in ("1", "2", "2", None):
        asked = [] if head is None else ["--head", head]
        command = ["predict", str(run), str(tmp_path / "scan.nii.gz"), "-o", str(tmp_path / "masks"), "--device", "cpu"]
        result = CliRunner().invoke(app, [*command, *asked])
        assert result.exit_code == 0, result.output
        done.append("done before" in result.output)
        masks.append(nibabel.load(tmp_path / "masks" / "scan.nii.gz").get_fdata())
        told = json.loads((tmp_path / "masks" / "predictions.json").read_text())["network"]
        assert told == {"name": "unet++", "arguments": {} if head is None else {"head": int(head)}}
    assert done == [False, False, True, False]
    assert not np.array_equal(masks[0], masks[1])  # random weights: heads differ
    assert np.array_equal(masks[1], masks[2])


def test_a_head_is_refused_where_there_is_none(saved: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    run, _ = saved
    device = Device(torch.device("cpu"), torch.float32)
    with pytest.raises(ConfigError, match="head cannot be 3: there is head 1, 2$"):
        load_model(run, device, head=3)
    content = json.loads((run / "model" / "model.json").read_text())
    content["plan"]["architecture"]["name"] = "unet"
    (run / "model" / "model.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="--head 2: the model is a unet, and only unet\\+\\+ has heads; leave it out"):
        load_model(run, device, head=2)
