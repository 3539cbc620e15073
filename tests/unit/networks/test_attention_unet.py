import pytest
import torch

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.attention_unet import AttentionUNet, Gate
from medseg.networks.registry import build_network


def architecture(features: tuple[int, ...], **rest: object) -> Architecture:
    n = len(features)
    settings = {"strides": ((1, 1, 1),) + ((2, 2, 2),) * (n - 1), "kernel_sizes": ((3, 3, 3),) * n}
    return Architecture(name="attention-unet", features=features, **(settings | rest))


def test_parameters_are_as_many_as_published() -> None:
    """6.40 M, and 5.88 M without gates (the paper cuts the third digit off)."""
    network = build_network(1, 2, architecture((16, 32, 64, 128, 256)))
    parameters = {name: p.numel() for name, p in network.named_parameters()}
    assert sum(parameters.values()) == 6_406_480
    assert sum(n for name, n in parameters.items() if ".skips." not in name) == 5_887_466


def test_attention_has_the_shape_of_the_image_and_is_what_weighs_the_skips() -> None:
    plan = architecture((4, 8, 16, 16), strides=((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)), deep_supervision=False)
    network = AttentionUNet(1, 2, plan).eval()
    image = torch.randn(2, 1, 15, 16, 7)
    with torch.no_grad():
        maps = network.attention(image)
    assert [tuple(gate.shape) for gate in maps] == [(2, 1, 15, 16, 7)] * 4  # two gated skips, two gates each
    assert all(float(gate.min()) >= 0 and float(gate.max()) <= 1 for gate in maps)
    seen = []
    for module in network.modules():
        if isinstance(module, Gate):
            module.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[1]))
    fitting = torch.randn(2, 1, 16, 16, 8)
    maps = network.attention(fitting)
    assert [tuple(weights.shape[2:]) for weights in seen] == [(4, 4, 4)] * 2 + [(8, 8, 8)] * 2
    finest = torch.nn.functional.interpolate(seen[2], size=(16, 16, 8), mode="trilinear")
    assert torch.allclose(maps[0], finest, atol=1e-6)


def test_gates_begin_open_and_a_closed_gate_hides_the_skip() -> None:
    gate = Gate(4, 8, (2, 2), "none")
    skip, gating = torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)
    torch.nn.init.constant_(gate.psi.bias, -100.0)
    passed, weights = gate(skip, gating)
    assert float(weights.max()) < 1e-6
    assert torch.allclose(passed, gate.out(torch.zeros_like(skip)), atol=1e-6)
    opened = AttentionUNet(1, 2, architecture((4, 8, 16)))
    assert all(float(m.psi.bias.sigmoid()) > 0.9 for m in opened.modules() if isinstance(m, Gate))


def test_deep_supervision_merges_the_logits_of_all_resolutions() -> None:
    image = torch.randn(1, 1, 16, 16, 16)
    merged = AttentionUNet(1, 3, architecture((4, 8, 16, 16))).train()
    assert len(merged.heads) == 3 and merged(image).shape == (1, 3, 16, 16, 16)
    plain = AttentionUNet(1, 3, architecture((4, 8, 16, 16), deep_supervision=False)).train()
    assert len(plain.heads) == 1 and plain(image).shape == (1, 3, 16, 16, 16)


def test_too_few_stages_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs three stages.*planning.patch_size"):
        AttentionUNet(1, 2, architecture((4, 8)))
