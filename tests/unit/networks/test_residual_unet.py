import pytest
import torch

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.registry import build_network
from medseg.networks.residual_unet import ResidualBlock, ResidualUNet


def architecture(dims: int, **rest: object) -> Architecture:
    strides = ((1,) * dims, (2,) * dims, (2,) * dims)
    return Architecture(
        **{  # type: ignore[arg-type]
            "name": "residual-unet",
            "features": (4, 8, 16),
            "strides": strides,
            "kernel_sizes": ((3,) * dims,) * 3,
            **rest,
        }
    )


@pytest.mark.parametrize(
    ("features", "dims", "inputs", "outputs", "parameters"),
    [
        ((32, 64, 128, 256), 3, 1, 3, 25_895_593),
        ((32, 64, 128, 256, 320, 320), 3, 4, 4, 102_353_972),
        ((32, 64, 128, 256, 512, 512, 512, 512), 2, 1, 2, 140_017_038),
    ],
)
def test_parameters_are_as_many_as_nnunets(
    features: tuple[int, ...], dims: int, inputs: int, outputs: int, parameters: int
) -> None:
    """As counted in ResidualEncoderUNet of dynamic-network-architectures 0.4.4, blocks 1-3-4-6-6-…; with equal weights
    its logits were equal too."""
    plan = architecture(
        dims,
        features=features,
        strides=((1,) * dims, *((2,) * dims,) * (len(features) - 1)),
        kernel_sizes=((3,) * dims,) * len(features),
    )
    with torch.device("meta"):
        network = build_network(inputs, outputs, plan)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_shapes_heads_and_gradients(dims: int, checkpointing: bool) -> None:
    network = build_network(2, 5, architecture(dims), checkpointing).train()
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            assert not module.second[1].weight.any()  # which keeps gradients from what lies before, at first
            torch.nn.init.ones_(module.second[1].weight)
    shape = (15, 24, 9)[:dims]
    heads = network(torch.randn(2, 2, *shape))
    assert [tuple(head.shape) for head in heads] == [(2, 5, *(-(-n // step) for n in shape)) for step in (1, 2)]
    sum(head.square().mean() for head in heads).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


def test_strides_and_kernels_of_anisotropic_plans() -> None:
    plan = architecture(3, strides=((1, 1, 1), (2, 2, 1), (2, 2, 2)), kernel_sizes=((3, 3, 1), (3, 3, 3), (3, 3, 3)))
    network = ResidualUNet(1, 2, plan)
    assert network.fitting_shape((15, 16, 5)) == (16, 16, 6)
    assert network.eval()(torch.zeros(1, 1, 16, 16, 6)).shape == (1, 2, 16, 16, 6)


def test_blocks_can_be_chosen() -> None:
    deep, shallow = (build_network(1, 2, architecture(2, arguments={"blocks": blocks})) for blocks in ([1, 2, 3], [1]))
    counts = [sum(isinstance(m, ResidualBlock) for m in network.modules()) for network in (deep, shallow)]
    assert counts == [6, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"block": [1]}, "network.arguments.block: .* did you mean 'blocks'"), ({"blocks": [0]}, "arguments.blocks")],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(1, 2, architecture(2, arguments=arguments))
