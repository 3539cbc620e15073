import pytest
import torch
from torch.nn import functional

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.registry import build_network
from medseg.networks.unet import UNet

HALF = Architecture(features=(8, 16, 16), strides=((2, 2, 1), (2, 2, 2), (2, 2, 1)), kernel_sizes=((3, 3, 3),) * 3)


def architecture(dims: int, **rest: object) -> Architecture:
    strides = ((1,) * dims, (2,) * dims, (2,) * dims)
    return Architecture(features=(4, 8, 16), strides=strides, kernel_sizes=((3,) * dims,) * 3, **rest)


def test_parameters_are_as_many_as_nnunets() -> None:
    """nnU-Net's PlainConvUNet for the hippocampus plan, three outputs, deep supervision: 5,603,177."""
    plan = Architecture(
        features=(32, 64, 128, 256),
        strides=((1,) * 3, (2,) * 3, (2,) * 3, (2,) * 3),
        kernel_sizes=((3,) * 3,) * 4,
    )
    network = build_network(1, 3, plan)
    assert sum(parameter.numel() for parameter in network.parameters()) == 5_603_177


@pytest.mark.parametrize("dims", [2, 3])
def test_shapes_heads_and_gradients(dims: int) -> None:
    network = build_network(2, 5, architecture(dims))
    image = torch.randn(2, 2, *(16, 24, 8)[:dims])
    heads = network.train()(image)
    assert [tuple(head.shape) for head in heads] == [
        (2, 5, *(n // step for n in (16, 24, 8)[:dims])) for step in (1, 2)
    ]
    sum(head.square().mean() for head in heads).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters() if p.ndim > 1)
    assert network.eval()(image).shape == (2, 5, *image.shape[2:])


def test_without_deep_supervision_there_is_one_head() -> None:
    network = UNet(1, 2, architecture(3, deep_supervision=False))
    assert len(network.heads) == 1
    assert network.train()(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


@pytest.mark.parametrize("deep_supervision", [True, False])
def test_a_network_of_one_stage_for_patches_too_small_to_be_pooled(deep_supervision: bool) -> None:
    plan = Architecture(
        features=(4,), strides=((1, 1, 1),), kernel_sizes=((3, 3, 3),), deep_supervision=deep_supervision
    )
    network = build_network(1, 2, plan)
    outputs = network.train()(torch.zeros(1, 1, 6, 5, 4))
    assert [tuple(o.shape) for o in (outputs if deep_supervision else [outputs])] == [(1, 2, 6, 5, 4)]
    assert network.eval()(torch.zeros(1, 1, 6, 5, 4)).shape == (1, 2, 6, 5, 4)


def test_anisotropic_strides_and_kernels() -> None:
    plan = Architecture(
        features=(4, 8, 16),
        strides=((1, 1, 1), (2, 2, 1), (2, 2, 2)),
        kernel_sizes=((3, 3, 1), (3, 3, 3), (3, 3, 3)),
    )
    network = UNet(1, 2, plan)
    assert network.fitting_shape((15, 16, 5)) == (16, 16, 6)
    assert network.eval()(torch.zeros(1, 1, 16, 16, 6)).shape == (1, 2, 16, 16, 6)
    assert build_network(1, 2, plan).eval()(torch.zeros(1, 1, 15, 16, 5)).shape == (1, 2, 15, 16, 5)


def test_an_unknown_network_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'unet'"):
        build_network(1, 2, architecture(3).model_copy(update={"name": "u-net"}))


def test_logits_are_of_each_voxel_though_the_first_stage_strides() -> None:
    network = UNet(1, 3, HALF)
    assert network.multiple_of == (8, 8, 2)
    image = torch.randn(2, 1, 16, 24, 4)
    heads = network.train()(image)
    assert [tuple(head.shape) for head in heads] == [(2, 3, 16, 24, 4), (2, 3, 4, 6, 2)]
    assert network.eval()(image).shape == (2, 3, 16, 24, 4)


@pytest.mark.parametrize("stages", [1, 3])
def test_it_learns_what_is_finer_than_its_first_stage(stages: int) -> None:
    """Single voxels, which no interpolation of half as many logits could tell."""
    torch.manual_seed(0)
    parts = {"features": HALF.features, "strides": ((2, 2), (2, 2), (2, 2)), "kernel_sizes": ((3, 3),) * 3}
    network = UNet(1, 2, Architecture(**{name: part[:stages] for name, part in parts.items()}, deep_supervision=False))
    label = (torch.rand(1, 1, 32, 32) < 0.3).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        functional.cross_entropy(network(2 * label - 1), label[:, 0].long()).backward()
        optimizer.step()
    assert (network(2 * label - 1).argmax(1) == label[:, 0]).float().mean() > 0.95  # 0.7 without
