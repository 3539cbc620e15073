"""Images whose longest axis is the last in memory: layers and networks give the same results for them."""

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from medseg.cpu_layers import on_cpu
from medseg.device import Device
from medseg.memory_order import channels_last, concatenated, in_order, in_shape, longest_axis_last, memory_order
from medseg.networks import Architecture, build_network

SHAPE = (2, 16, 14, 10, 6)  # z is the shortest axis, x the longest
ORDER = (2, 1, 0)
ORDERS = list(itertools.permutations(range(3)))


def image_of(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_longest_axis_is_last_and_channels_are_innermost(batch: int, channels: int) -> None:
    image = image_of((batch, channels, 14, 10, 6))
    for given in (image, channels_last(image)):
        ordered = longest_axis_last(given)
        assert torch.equal(ordered, image)
        assert ordered.stride()[1:] == (1, channels, 14 * channels, 10 * 14 * channels)
        assert memory_order(ordered) == ORDER


@pytest.mark.parametrize("shape", [(2, 1, 8, 8, 8), (2, 1, 6, 10, 14), (2, 1, 14, 6)])
def test_what_lies_well_or_is_flat_stays_as_it_is(shape: tuple[int, ...]) -> None:
    image = image_of(shape)
    assert longest_axis_last(image) is image
    assert memory_order(image) is None


def test_axes_of_equal_length_keep_their_order() -> None:
    assert memory_order(longest_axis_last(image_of((1, 2, 12, 12, 4)))) == (2, 0, 1)


@pytest.mark.parametrize("order", ORDERS)
def test_in_order_and_back(order: tuple[int, ...]) -> None:
    image = image_of()
    assert in_order(image, order).shape[2:] == tuple(SHAPE[2 + axis] for axis in order)
    assert torch.equal(in_shape(in_order(image, order), order), image)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv3d(16, 8, (3, 5, 1), stride=(2, 1, 1), padding=(1, 2, 0), dilation=(1, 1, 2)),
    "groups": lambda: nn.Conv3d(16, 32, 3, groups=4, bias=False),
    "same": lambda: nn.Conv3d(16, 8, (3, 1, 5), padding="same"),
    "reflected": lambda: nn.Conv3d(16, 8, (3, 3, 1), padding=(1, 1, 0), padding_mode="reflect"),
    "transposed": lambda: nn.ConvTranspose3d(16, 8, (2, 3, 1), (2, 3, 1), output_padding=(1, 0, 0)),
    "pooled": lambda: nn.AvgPool3d([2, 1, 3], (2, 1, 3)),  # type: ignore[arg-type]  # a list stays one
    "norm": lambda: nn.InstanceNorm3d(16, affine=True),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_same_in_any_order(name: str, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Output, and gradients of the image and of the parameters, against PyTorch's layer in float64."""
    monkeypatch.setattr("medseg.cpu_norms.LEAST_VALUES", 2)
    torch.manual_seed(0)
    theirs = LAYERS[name]().double()
    ours = on_cpu(copy.deepcopy(theirs).float())
    image = image_of()
    ordered = in_shape(channels_last(in_order(image, order)), order).requires_grad_()
    expected = image.double().requires_grad_()
    right, got = theirs(expected), ours(ordered)
    weights = torch.linspace(-1, 1, right.numel(), dtype=torch.float64).reshape(right.shape)
    (right * weights).sum().backward()
    (got * weights.float()).sum().backward()
    pairs = [(got, right), (ordered.grad, expected.grad)]
    pairs += [(a.grad, b.grad) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for ours_, theirs_ in pairs:
        difference = (ours_.detach().double() - theirs_.detach()).abs().max()
        assert float(difference) < 1e-4 * max(1.0, float(theirs_.detach().abs().max()))
    if name != "reflected":
        assert memory_order(got.detach()) == memory_order(ordered.detach())


def test_a_larger_image_of_a_size_that_is_given() -> None:
    layer = on_cpu(nn.ConvTranspose3d(16, 8, 2, 2))
    size = [29, 21, 13]
    assert layer(longest_axis_last(image_of()), output_size=size).shape[2:] == tuple(size)


def test_channels_are_put_together_in_the_order_of_the_second() -> None:
    first, second = image_of(), longest_axis_last(image_of() + 1)
    together = concatenated(first, second)
    assert torch.equal(together, torch.cat((first, second), dim=1))
    assert memory_order(together) == ORDER


THICK = {
    "strides": ((1, 1, 1), (2, 2, 1), (2, 2, 2)),
    "kernel_sizes": ((3, 3, 1), (3, 3, 3), (3, 3, 3)),
    "features": (8, 16, 32),
}
HALF = THICK | {"strides": ((2, 2, 1), (2, 2, 1), (2, 2, 2))}


@pytest.mark.parametrize("shape", [(2, 1, 48, 40, 12), (1, 1, 24, 48, 12)])
@pytest.mark.parametrize("name", ["unet", "residual-unet", "half-resolution"])
def test_a_network_learns_the_same(name: str, shape: tuple[int, ...]) -> None:
    """Logits of all heads, and gradients of all weights, against PyTorch's layers in float64; the weights keep their
    shapes."""
    torch.manual_seed(0)
    settings = HALF if name == "half-resolution" else THICK
    architecture = Architecture(
        name="unet" if name == "half-resolution" else name,
        deep_supervision=True,
        **settings,
    )
    network = build_network(1, 3, architecture).train()
    ours = Device(torch.device("cpu"), torch.float32).place(copy.deepcopy(network), 3)
    reference, image = network.double(), image_of(shape)
    outputs = [(net, net(each)) for net, each in ((reference, image.double()), (ours, image))]
    for net, heads in outputs:
        assert isinstance(net, nn.Module)
        sum((head * torch.linspace(-1, 1, head.numel()).reshape(head.shape)).mean() for head in heads).backward()
    for right, got in zip(outputs[0][1], outputs[1][1], strict=True):
        assert torch.allclose(right.float(), got, atol=1e-3)
    scale = max(float(p.grad.abs().max()) for p in reference.parameters() if p.grad is not None)
    for (key, right), got in zip(reference.named_parameters(), ours.parameters(), strict=True):
        assert right.shape == got.shape
        if right.grad is not None:
            assert got.grad is not None
            assert float((right.grad - got.grad).abs().max()) < 1e-3 * scale, key


def test_features_keep_the_order_down_and_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that does not know of it would copy its image twice, and be slower than before."""
    monkeypatch.setattr("medseg.cpu_norms.LEAST_VALUES", 2)
    monkeypatch.setattr("medseg.cpu_norms.LEAST_TO_FOLD", 2)
    architecture = Architecture(**THICK)
    network = Device(torch.device("cpu"), torch.float32).place(build_network(1, 3, architecture), 3).eval()
    orders = {}
    for key, module in network.named_modules():
        module.register_forward_hook(lambda _, __, out, key=key: orders.update({key: memory_order(out)}))
    network(image_of((2, 1, 48, 40, 12)))
    assert set(orders.values()) == {ORDER}


def test_graphs_have_the_usual_order() -> None:
    network = Device(torch.device("cpu"), torch.float32).place(build_network(1, 3, Architecture(**THICK)), 3).eval()
    image = image_of((1, 1, 48, 40, 12))
    with torch.no_grad():
        logits = network(image)
        exported = torch.export.export(network, (image,))
        assert torch.allclose(exported.module()(image), logits, atol=1e-4)
    assert not any("permute" in str(node.target) for node in exported.graph.nodes)


def test_a_plain_network_is_left_alone() -> None:
    """Layers of PyTorch would copy images of another order at each step."""
    network, orders = build_network(1, 3, Architecture(**THICK)), []
    network.register_forward_pre_hook(lambda _, images: orders.append(memory_order(images[0])))
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(lambda _, images: orders.append(memory_order(images[0])))
    network(image_of((1, 1, 48, 40, 12)))
    assert set(orders) == {None}
