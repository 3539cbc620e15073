"""Layers of PyTorch in the forms that they have on a processor, against its own in float64."""

import copy
import itertools

import pytest
import torch
from torch import nn

from medseg.cpu_layers import on_cpu
from medseg.cpu_norms import CpuInstanceNorm2d, CpuInstanceNorm3d
from medseg.device import Device
from medseg.networks import Architecture, build_network

LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
Gradients = tuple[torch.Tensor, ...]


def norms(channels: int, dims: int, affine: bool) -> tuple[nn.Module, nn.Module]:
    """PyTorch's own in float64, and ours."""
    norm: nn.Module = (nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 2](channels, affine=affine)
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)
    return copy.deepcopy(norm).double(), on_cpu(norm)


def run(norm: nn.Module, image: torch.Tensor, gradient: torch.Tensor) -> Gradients:
    """Output, gradient of the image, and those of the parameters."""
    image = image.detach().requires_grad_()
    normal = norm(image)
    normal.backward(gradient)
    assert image.grad is not None
    return (normal.detach(), image.grad, *(p.grad for p in norm.parameters() if p.grad is not None))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [3, 8, 12, 16, 24, 32])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_instance_norm_and_its_gradients_are_right(
    batch: int, dims: int, channels: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all layouts of image and gradient: PyTorch's are wrong for one sample whose gradient is in channels-last."""
    monkeypatch.setattr("medseg.cpu_norms.LEAST_TO_FOLD", 2)
    monkeypatch.setattr("medseg.cpu_norms.LEAST_VALUES", 2)
    generator = torch.Generator().manual_seed(0)
    shape = (batch, channels, *(12, 10, 6)[:dims])
    for affine, image_is_last, gradient_is_last in itertools.product((True, False), repeat=3):
        reference, ours = norms(channels, dims, affine)
        image = (3 * torch.randn(shape, generator=generator) + 5).to(dtype)
        gradient = torch.randn(shape, generator=generator).to(dtype)
        expected = run(reference, image.double(), gradient.double())
        image = image.contiguous(memory_format=LAST[dims]) if image_is_last else image
        gradient = gradient.contiguous(memory_format=LAST[dims]) if gradient_is_last else gradient
        for got, right in zip(run(ours, image, gradient), expected, strict=True):
            tolerance = (1e-4 if dtype == torch.float32 else 3e-2) * max(1.0, float(right.abs().max()))
            assert float((got.double() - right).abs().max()) < tolerance


@pytest.mark.parametrize("channels", [8, 16])
def test_a_norm_without_bias_has_a_gradient(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.cpu_norms.LEAST_TO_FOLD", 2)
    monkeypatch.setattr("medseg.cpu_norms.LEAST_VALUES", 2)
    _, ours = norms(channels, 3, affine=True)
    ours.register_parameter("bias", None)
    reference = copy.deepcopy(ours).double()
    image, gradient = torch.randn(2, 2, channels, 8, 6, 4)
    expected = run(reference, image.double(), gradient.double())
    got = run(ours, image.contiguous(memory_format=torch.channels_last_3d), gradient)
    assert len(got) == len(expected) == 3
    for ours_, right in zip(got, expected, strict=True):
        assert float((ours_.double() - right).abs().max()) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "groups"), [(4, 2), (8, 8), (12, 3), (16, 1), (32, 8)])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("terms", [0, 2**15])  # of a sum: PyTorch's form in channels-first, or the own one
def test_group_norm_and_its_gradients_are_right(
    terms: int, dims: int, channels: int, groups: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.cpu_norms.LEAST_OF_GROUPS", dict.fromkeys((torch.float32, torch.bfloat16), 2))
    monkeypatch.setattr("medseg.cpu_norms.MOST_TERMS", terms)
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels, *(12, 10, 6)[:dims])
    for affine, image_is_last, gradient_is_last in itertools.product((True, False), repeat=3):
        norm = nn.GroupNorm(groups, channels, affine=affine)
        for parameter in norm.parameters():
            nn.init.uniform_(parameter, 0.5, 2)
        reference, ours = copy.deepcopy(norm).double(), on_cpu(norm)
        image = (3 * torch.randn(shape, generator=generator) + 5).to(dtype)
        gradient = torch.randn(shape, generator=generator).to(dtype)
        expected = run(reference, image.double(), gradient.double())
        image = image.contiguous(memory_format=LAST[dims]) if image_is_last else image
        gradient = gradient.contiguous(memory_format=LAST[dims]) if gradient_is_last else gradient
        got = run(ours, image, gradient)
        assert got[0].is_contiguous(memory_format=LAST[dims]) == image_is_last
        for each, right in zip(got, expected, strict=True):
            tolerance = (1e-4 if dtype == torch.float32 else 3e-2) * max(1.0, float(right.abs().max()))
            assert float((each.double() - right).abs().max()) < tolerance


def test_group_norm_of_many_voxels_is_exact_in_channels_last() -> None:
    """PyTorch's errs by 2e-4 here."""
    image = torch.randn(1, 32, 64, 64, 64, generator=torch.Generator().manual_seed(0)) + 0.3
    norm = on_cpu(nn.GroupNorm(8, 32))
    with torch.inference_mode():
        ours, right = norm(image.contiguous(memory_format=torch.channels_last_3d)), norm(image)
    assert float((ours - right).abs().max()) < 1e-5


def test_instance_norm_of_many_voxels_is_exact_in_channels_last() -> None:
    """A sum for each channel errs by 1e-4 here."""
    image = 3 * torch.randn(1, 16, 64, 64, 48, generator=torch.Generator().manual_seed(0)) + 5
    _, ours = norms(16, 3, affine=True)
    with torch.inference_mode():
        right = nn.functional.instance_norm(image.double(), weight=ours.weight.double(), bias=ours.bias.double())
        got = ours(image.contiguous(memory_format=torch.channels_last_3d))
    assert float((got - right).abs().max()) < 1e-5


def test_a_traced_network_has_the_layer_of_pytorch() -> None:
    _, ours = norms(16, 3, affine=True)
    image = torch.randn(2, 16, 16, 16, 8).contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        traced = torch.jit.trace(ours, image)
    assert torch.allclose(traced(image), ours(image), atol=1e-5)
    assert "instance_norm" in str(traced.graph)


def test_instance_norm_leaves_channels_last() -> None:
    _, ours = norms(16, 3, affine=True)
    image = torch.randn(2, 16, 16, 16, 8).contiguous(memory_format=torch.channels_last_3d)
    assert ours(image).is_contiguous(memory_format=torch.channels_last_3d)


def test_only_layers_of_pytorch_change_and_keep_their_state() -> None:
    class Own(nn.InstanceNorm3d):
        pass

    network = nn.Sequential(Own(16, affine=True), nn.InstanceNorm2d(16, affine=True), nn.InstanceNorm3d(16))
    names = list(network.state_dict())
    on_cpu(network)
    assert [type(layer) for layer in network] == [Own, CpuInstanceNorm2d, CpuInstanceNorm3d]
    assert list(network.state_dict()) == names


def test_what_pytorch_refuses_is_refused() -> None:
    _, ours = norms(16, 3, affine=True)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        ours(torch.randn(2, 16, 1, 1, 1).contiguous(memory_format=torch.channels_last_3d))


def test_running_statistics_are_kept() -> None:
    norm = nn.InstanceNorm3d(16, track_running_stats=True)
    on_cpu(norm)(torch.randn(2, 16, 4, 4, 4) + 5)
    assert norm.running_mean is not None
    assert float(norm.running_mean.mean()) > 0.3


def test_graphs_have_the_layer_of_pytorch() -> None:
    _, ours = norms(16, 3, affine=True)
    image = torch.randn(2, 16, 8, 8, 4).contiguous(memory_format=torch.channels_last_3d)
    names = [str(node.target) for node in torch.export.export(ours, (image,)).graph.nodes]
    assert any("instance_norm" in name for name in names)


def test_a_network_learns_from_one_sample() -> None:
    """A batch of one, in the layout of training, has the gradients of float64."""
    torch.manual_seed(0)
    architecture = Architecture(features=(8, 16), strides=((1,) * 3, (2,) * 3), kernel_sizes=((3,) * 3,) * 2)
    network = build_network(1, 2, architecture).train()
    reference = copy.deepcopy(network).double()
    placed = Device(torch.device("cpu"), torch.float32).place(network, 3)
    image = torch.randn(1, 1, 16, 16, 16)
    for each, precise in ((placed, False), (reference, True)):
        heads = each(image.double() if precise else image.contiguous(memory_format=torch.channels_last_3d))
        sum(head.pow(2).mean() for head in heads).backward()
    for ours, right in zip(placed.parameters(), reference.parameters(), strict=True):
        assert ours.grad is not None
        assert right.grad is not None
        assert float((ours.grad - right.grad).abs().max()) < 1e-3 * max(1.0, float(right.grad.abs().max()))
