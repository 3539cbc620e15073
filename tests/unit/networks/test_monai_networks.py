from typing import Any

import pytest
import torch
from monai.networks.blocks.mednext_block import MedNeXtDownBlock

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks.monai_networks import segmentation_networks
from medseg.networks.network import Network
from medseg.networks.registry import build_network


def architecture(
    name: str, dims: int = 3, arguments: dict[str, Any] | None = None, features: tuple[int, ...] = (4, 8, 16)
) -> Architecture:
    strides = ((1,) * dims, *((2,) * dims,) * (len(features) - 1))
    kernels = ((3,) * dims,) * len(features)
    return Architecture(name=name, features=features, strides=strides, kernel_sizes=kernels, arguments=arguments or {})


def inner(network: Network) -> Network:
    return network.network  # type: ignore[return-value]


def n_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("size", "kernel_size", "millions"),
    [("S", 3, 5.6), ("B", 3, 10.5), ("M", 3, 17.6), ("L", 3, 61.8), ("S", 5, 5.9), ("L", 5, 63.0)],
)
def test_mednext_is_as_large_as_published(size: str, kernel_size: int, millions: float) -> None:
    """Roy et al. 2023, table 1."""
    plan = architecture("mednext", 3, {"size": size, "kernel_size": kernel_size}, features=(32,) * 5)
    with torch.device("meta"):
        assert n_parameters(build_network(1, 2, plan)) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("dims", [2, 3])
def test_mednext_is_monais_whose_strides_are_slices_here(dims: int) -> None:
    torch.manual_seed(0)
    own = build_network(1, 2, architecture("mednext", dims, features=(4,) * 5)).eval()
    image = torch.randn(1, 1, *(32,) * dims)
    logits = own(image)
    for part in inner(own).modules():
        if isinstance(part, MedNeXtDownBlock):
            part.res_conv._forward_pre_hooks.clear()
            part.res_conv.stride = (2,) * dims
    torch.testing.assert_close(own(image), logits)


def test_mednext_learns_with_channels_last_whatever_its_width() -> None:
    """In torch 2.13 the backward pass of strided 1×1 convolutions writes where it must not."""
    own = build_network(1, 2, architecture("mednext", 2, features=(4,) * 5)).to(memory_format=torch.channels_last)
    for _ in range(3):
        own(torch.randn(2, 1, 64, 64).contiguous(memory_format=torch.channels_last))[0].mean().backward()


def test_swin_unetr_and_segresnet_are_as_large_as_published() -> None:
    swin = build_network(1, 14, architecture("swin-unetr", 3, features=(32,) * 5))
    assert n_parameters(swin) == 62_187_296
    with torch.device("meta"):
        segresnet = build_network(4, 3, architecture("segresnet", 3, features=(32,) * 6))
    assert n_parameters(segresnet) == 87_167_276


def test_shapes_fit_the_networks_own_strides() -> None:
    multiples = {
        name: inner(build_network(1, 2, architecture(name, 3, features=(4,) * 4))).multiple_of
        for name in ("segresnet", "swin-unetr", "mednext")
    }
    assert multiples == {"segresnet": (8,) * 3, "swin-unetr": (32,) * 3, "mednext": (16,) * 3}


def test_segresnet_pools_no_axis_before_the_plan_does() -> None:
    plan = Architecture(
        name="segresnet",
        features=(4, 8, 16, 32),
        strides=((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)),
        kernel_sizes=((3, 3, 3),) * 4,
    )
    assert inner(build_network(1, 2, plan)).multiple_of == (8, 8, 2)


UNET = {"channels": [4, 8, 16], "strides": [2, 2]}


@pytest.mark.parametrize(
    ("name", "dims", "arguments", "multiple", "smallest"),
    [
        ("UNet", 2, UNET, 4, 8),
        ("UNet", 3, UNET, 4, 8),
        ("BasicUNet", 2, {"features": [4, 4, 8, 8, 8, 4]}, 1, 32),
        ("BasicUNetPlusPlus", 2, {"features": [4, 4, 8, 8, 8, 4]}, 1, 32),
        ("UNETR", 2, {"img_size": 32, "feature_size": 4, "hidden_size": 8, "mlp_dim": 8, "num_heads": 2}, 32, 32),
    ],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_any_network_of_monai_takes_any_shape(
    name: str, dims: int, arguments: dict[str, Any], multiple: int, smallest: int, checkpointing: bool
) -> None:
    network = build_network(2, 3, architecture(f"monai.{name}", dims, arguments), checkpointing)
    assert inner(network).multiple_of == (multiple,) * dims
    assert inner(network).fitting_shape((1,) * dims) == (smallest,) * dims
    shape = (9, 5, 3)[:dims]
    logits = network.train()(torch.randn(2, 2, *shape))
    assert logits.shape == (2, 3, *shape)
    logits.square().mean().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
    assert network.eval()(torch.randn(1, 2, *shape)).shape == (1, 3, *shape)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("BasicUNetPlusPlu", {}, "network.name: .* did you mean 'BasicUNetPlusPlus'"),
        ("torch", {}, "MONAI has no segmentation network 'torch'"),
        ("nn.Linear", {}, "MONAI has no segmentation network"),
        ("__builtins__", {}, "MONAI has no segmentation network"),
        ("TorchVisionFCModel", {}, "MONAI has no segmentation network"),
        ("UNet", {"channel": [4]}, "network.arguments.channel: .* did you mean 'channels'"),
        ("UNet", {"channels": [4, 8]}, "network.arguments.strides: monai.UNet needs it"),
        ("UNet", {**UNET, "in_channels": 3}, "network.arguments.in_channels: follows from the data"),
        ("UNet", {**UNET, "channels": [4]}, "network.arguments: monai.UNet cannot be built"),
        ("FlexibleUNet", {"backbone": "resnet18", "pretrained": True}, "pretrained: nothing is downloaded"),
        ("BasicUNetPlusPlus", {"deep_supervision": True}, "monai.BasicUNetPlusPlus cannot be trained here: it has 4"),
        ("PatchDiscriminator", {"channels": 4, "num_layers_d": 1}, "cannot be trained here"),
    ],
)
def test_what_cannot_be_had_of_monai_is_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(1, 2, architecture(f"monai.{name}", 2, arguments))


def test_a_patch_larger_than_the_networks_only_shape_is_refused() -> None:
    arguments = {"img_size": 32, "feature_size": 4, "hidden_size": 8, "mlp_dim": 8, "num_heads": 2}
    network = build_network(1, 2, architecture("monai.UNETR", 2, arguments))
    with pytest.raises(ConfigError, match="make planning.patch_size and img_size equal"):
        network(torch.zeros(1, 1, 40, 32))


def test_only_classes_of_monais_networks_can_be_named() -> None:
    assert {"UNet", "SwinUNETR", "DynUNet"} <= set(segmentation_networks())
    assert all(kind.__module__.startswith("monai.networks.nets.") for kind in segmentation_networks().values())
