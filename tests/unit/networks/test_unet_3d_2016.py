import torch

from medseg.architecture import Architecture
from medseg.networks.registry import build_network


def architecture(features: tuple[int, ...], name: str = "unet-3d-2016", **rest: object) -> Architecture:
    n = len(features)
    strides = ((1, 1, 1),) + ((2, 2, 2),) * (n - 1)
    return Architecture(name=name, features=features, strides=strides, kernel_sizes=((3, 3, 3),) * n, **rest)


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_as_many_as_published() -> None:
    """Batch norm is not counted in the paper."""
    network = build_network(3, 3, architecture((64, 128, 256, 512)))
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm3d)]
    assert len(norms) == 14
    assert parameters(network) - sum(parameters(norm) for norm in norms) == 19_069_955
    for name in ("unet-3d-2016", "unet-3d-2016-padded"):
        without = build_network(3, 3, architecture((64, 128, 256, 512), name, arguments={"norm": "none"}))
        assert parameters(without) == 19_069_955


def test_shapes_of_the_paper() -> None:
    network = build_network(3, 3, architecture((2, 2, 2, 2))).eval()
    assert network.margin == (44, 44, 44)
    assert network.fitting_shape((132, 132, 109)) == (132, 132, 116)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 132, 132, 116)).shape == (1, 3, 44, 44, 28)


def test_features_double_before_max_pooling() -> None:
    network = build_network(1, 2, architecture((8, 16, 32), convolutions_per_stage=3))
    widths = [
        [module.out_channels for module in stage.modules() if isinstance(module, torch.nn.Conv3d)]
        for stage in network.encoder
    ]
    assert widths == [[4, 8, 8], [8, 16, 16], [16, 32, 32]]
    assert [(up.in_channels, up.out_channels, up.bias) for up in network.up] == [(32, 32, None), (16, 16, None)]
