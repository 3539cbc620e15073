"""What holds for every network by name, in 2D and 3D, as ``build_network`` makes it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.losses import DiceCrossEntropyLoss
from medseg.networks.entries import NETWORKS
from medseg.networks.network import Network
from medseg.networks.registry import build_network

EVERY = [(name, dims) for name, entry in NETWORKS.items() for dims in entry.dims]
SLOW = [("swin-unetr", 3)]  # 64×32×32 is the least that it takes
every_network = pytest.mark.parametrize(
    ("name", "dims"),
    [pytest.param(*e, id=f"{e[0]}-{e[1]}d", marks=[pytest.mark.slow] if e in SLOW else []) for e in EVERY],
)
# Arguments that make a network small, or that it cannot be built without.
SMALL: dict[str, dict[str, Any]] = {"transunet": {"layers": 2, "blocks": [1, 2, 1]}}


def architecture(name: str, dims: int, **rest: Any) -> Architecture:
    strides = ((1,) * dims, (2,) * dims, (2,) * dims)
    settings = {"features": (4, 8, 16), "strides": strides, "kernel_sizes": ((3,) * dims,) * 3}
    return Architecture(name=name, arguments=SMALL.get(name, {}), **(settings | rest))


def small(name: str, dims: int, **rest: Any) -> Network:
    torch.manual_seed(0)
    return build_network(2, 3, architecture(name, dims, **rest))


def image_for(network: Network, shape: tuple[int, ...], batch: int = 2) -> torch.Tensor:
    """Random, of a fitting shape whose logits are at least of ``shape``."""
    enough = [n + 2 * margin for n, margin in zip(shape, network.margin, strict=True)]
    return torch.randn(batch, 2, *network.fitting_shape(enough), generator=torch.Generator().manual_seed(1))


def loss_of(outputs: torch.Tensor | list[torch.Tensor], label: torch.Tensor | None = None) -> torch.Tensor:
    finest = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    if label is None:
        label = torch.randint(3, (len(finest), 1, *finest.shape[2:]), generator=torch.Generator().manual_seed(2))
    loss: torch.Tensor = DiceCrossEntropyLoss(1.0, 1.0)(outputs, label)
    return loss


def trained_a_little(network: Network, image: torch.Tensor, steps: int = 2) -> Network:
    optimizer = torch.optim.SGD(network.train().parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(network(image)).backward()
        optimizer.step()
    return network


@every_network
@pytest.mark.parametrize("shape", [(16, 24, 8), (13, 9, 11), (3, 2, 1)], ids=["even", "odd", "tiny"])
def test_logits_are_as_large_as_the_image_but_for_the_margin(name: str, dims: int, shape: tuple[int, ...]) -> None:
    network = small(name, dims).eval()
    shape = shape[:dims]
    if any(network.margin):  # takes fitting shapes only, and so the logits may be larger than asked for
        image = image_for(network, shape)
        expected = tuple(n - 2 * margin for n, margin in zip(image.shape[2:], network.margin, strict=True))
        assert all(n >= asked for n, asked in zip(expected, shape, strict=True))
    else:
        image, expected = torch.randn(2, 2, *shape), shape
    with torch.no_grad():
        assert network(image).shape == (2, 3, *expected)


@every_network
def test_fitting_shapes_are_the_smallest(name: str, dims: int) -> None:
    network = small(name, dims)
    inner = network if any(network.margin) else network.network  # type: ignore[union-attr]
    for n in (2 * max(network.margin) + 40, 2 * max(network.margin) + 41):
        fitting = inner.fitting_shape((n,) * dims)
        assert all(0 <= m - n < multiple for m, multiple in zip(fitting, inner.multiple_of, strict=True))
        assert inner.fitting_shape(fitting) == fitting


@every_network
@pytest.mark.parametrize("deep_supervision", [True, False])
def test_every_parameter_gets_a_gradient(name: str, dims: int, deep_supervision: bool) -> None:
    network = small(name, dims, deep_supervision=deep_supervision)
    image = image_for(network, (8, 8, 8)[:dims])
    trained_a_little(network, image, steps=3)  # some parts of some networks begin as zeros, and pass nothing on
    # That of a bias before a norm is zero but for rounding.
    parts = network.named_parameters()
    assert [part for part, p in parts if p.grad is None or (p.ndim > 1 and not p.grad.abs().sum() > 0)] == []


@every_network
def test_heads_and_their_weights(name: str, dims: int) -> None:
    network = small(name, dims).train()
    outputs = network(image_for(network, (8, 8, 8)[:dims]))
    assert isinstance(outputs, list) == network.deep_supervision
    if network.deep_supervision:
        sizes = [head.shape[2:].numel() for head in outputs]
        assert sizes == sorted(sizes, reverse=True)
        assert network.head_weights is None or len(network.head_weights) == len(outputs)
    shallow = small(name, dims, deep_supervision=False).train()
    assert isinstance(shallow(image_for(network, (8, 8, 8)[:dims])), torch.Tensor)


@every_network
def test_saved_and_loaded_it_gives_the_same_logits(name: str, dims: int, tmp_path: Path) -> None:
    network = small(name, dims)
    image = image_for(network, (8, 8, 8)[:dims])
    trained_a_little(network, image).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    loaded = build_network(2, 3, architecture(name, dims)).eval()
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(network(image), loaded(image))


@every_network
def test_memory_format_and_precision_change_little(name: str, dims: int) -> None:
    network = small(name, dims).eval()
    image = image_for(network, (16, 16, 8)[:dims])
    channels_last = torch.channels_last_3d if dims == 3 else torch.channels_last
    with torch.no_grad():
        logits = network(image)
        other = copy.deepcopy(network).to(memory_format=channels_last)(image.contiguous(memory_format=channels_last))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(image)
    assert torch.allclose(logits, other, atol=1e-4 * float(logits.abs().max()))
    assert float((half - logits).abs().mean()) < 0.05 * float(logits.abs().mean()) + 0.05 * float(logits.std())


@every_network
def test_checkpointing_changes_memory_and_no_gradient(name: str, dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import medseg.networks.network as module

    checkpoint, calls = module.checkpoint, []
    monkeypatch.setattr(module, "checkpoint", lambda *args, **rest: calls.append(1) or checkpoint(*args, **rest))
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = build_network(2, 3, architecture(name, dims), checkpointing=checkpointing).train()
        torch.manual_seed(3)  # dropout draws from it
        loss_of(network(image_for(network, (8, 8, 8)[:dims]))).backward()
        gradients.append([p.grad for p in network.parameters()])
        assert bool(calls) == checkpointing
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


@every_network
@pytest.mark.parametrize("stages", [1, 2])
def test_plans_of_few_stages_work_or_say_what_to_do(name: str, dims: int, stages: int) -> None:
    strides = ((1,) * dims, (2,) * dims)[:stages]
    plan = architecture(name, dims, features=(4, 8)[:stages], strides=strides, kernel_sizes=((3,) * dims,) * stages)
    try:
        network = build_network(2, 3, plan)
    except ConfigError as error:
        assert "patch_size" in str(error)
        return
    image = image_for(network, (4, 4, 4)[:dims])
    loss_of(network.train()(image)).backward()
    assert network.eval()(image).shape[:2] == (2, 3)


@every_network
def test_anisotropic_plans(name: str, dims: int) -> None:
    strides = ((1, 1, 1), (2, 2, 1), (2, 2, 2))
    kernels = ((3, 3, 1), (3, 3, 3), (3, 3, 3))
    if dims == 2:
        strides, kernels = ((1, 1), (2, 1), (2, 2)), ((3, 1), (3, 3), (3, 3))  # type: ignore[assignment]
    network = small(name, dims, strides=strides, kernel_sizes=kernels).eval()
    image = image_for(network, (11, 10, 5)[:dims])
    expected = tuple(n - 2 * margin for n, margin in zip(image.shape[2:], network.margin, strict=True))
    with torch.no_grad():
        assert network(image).shape == (2, 3, *expected)


@every_network
def test_unknown_arguments_are_refused(name: str, dims: int) -> None:
    plan = architecture(name, dims)
    plan = plan.model_copy(update={"arguments": plan.arguments | {"wheels": 4}})
    with pytest.raises(ConfigError, match="network.arguments.wheels"):
        build_network(1, 2, plan)


@pytest.mark.slow
@every_network
def test_two_cases_are_learnt_by_heart(name: str, dims: int) -> None:
    """Dice ≥ .95 of both labels of two made cases."""
    network = small(name, dims, features=(8, 16, 32))
    shape = (24, 24) if dims == 2 else (12, 12, 12)
    image = 0.5 * image_for(network, shape)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in image.shape[2:]), indexing="ij")).float()
    middle = torch.tensor(image.shape[2:]).float().reshape(dims, *(1,) * dims) / 2
    label = torch.zeros(2, 1, *image.shape[2:], dtype=torch.long)
    for case, moved in enumerate((-1.0, 2.0)):
        distance = (grid - middle - moved).norm(dim=0)
        label[case, 0][distance < 5] = 1
        label[case, 0][distance < 3] = 2
    image[:, 0] += label[:, 0]
    cut = [slice(margin, n - margin) for margin, n in zip(network.margin, image.shape[2:], strict=True)]
    label = label[(slice(None), slice(None), *cut)]
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    dice = torch.zeros(2)
    for step in range(400):
        network.train()
        optimizer.zero_grad()
        loss_of(network(image), label).backward()
        optimizer.step()
        if step % 10 == 9:
            with torch.no_grad():
                found = network.eval()(image).argmax(dim=1, keepdim=True)
            dice = torch.tensor([_dice(found == value, label == value) for value in (1, 2)])
            if dice.min() >= 0.95:
                return
    pytest.fail(f"Dice {dice.tolist()} after 400 steps")


def _dice(found: torch.Tensor, reference: torch.Tensor) -> float:
    return float(2 * (found & reference).sum() / (found.sum() + reference.sum()))


@pytest.mark.slow
@every_network
def test_onnx_gives_the_same_logits(name: str, dims: int, tmp_path: Path) -> None:
    reason = "ONNX is tested where onnx, onnxscript and onnxruntime are installed (medseg[test])"
    pytest.importorskip("onnxscript", reason=reason)
    onnxruntime = pytest.importorskip("onnxruntime", reason=reason)
    network = small(name, dims)
    image = image_for(network, (15, 16, 9)[:dims])
    trained_a_little(network, image).eval()
    torch.onnx.export(network, (image,), tmp_path / "network.onnx", dynamo=True, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    logits = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(logits), network(image), atol=1e-4)
