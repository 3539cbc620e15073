import json
from pathlib import Path

import pytest
import torch

from medseg.config import InferenceConfig
from medseg.device import Device
from medseg.errors import ConfigError
from medseg.inference.model import ModelRecord, load_model, save_model
from medseg.labels import Labels
from medseg.networks.registry import build_network
from medseg.networks.unet_plus_plus import UNetPlusPlus
from medseg.plan import Architecture, Plan


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


def test_a_saved_model_answers_with_the_head_that_is_written_into_it(tmp_path: Path, tiny_plan: Plan) -> None:
    """The recipe of docs/networks.md."""
    plan = architecture((4, 4, 4)).model_copy(
        update={"strides": ((1,) * 3, (2,) * 3, (2,) * 3), "kernel_sizes": ((3,) * 3,) * 3}
    )
    network = build_network(1, 2, plan).train()
    record = ModelRecord(
        medseg="0", plan=tiny_plan.model_copy(update={"architecture": plan}), labels=Labels.from_names({"a": 1}),
        channels=("T1",), inference=InferenceConfig(), provenance={}, metrics={},
    )  # fmt: skip
    save_model(tmp_path, record, network.state_dict())
    content = json.loads((tmp_path / "model.json").read_text())
    content["plan"]["architecture"]["arguments"]["head"] = 1
    (tmp_path / "model.json").write_text(json.dumps(content))
    image = torch.randn(1, 1, 8, 8, 8)
    loaded = load_model(tmp_path, Device(torch.device("cpu"), torch.float32))
    with torch.no_grad():
        assert torch.allclose(loaded.network(image), network(image)[-1], atol=1e-5)
