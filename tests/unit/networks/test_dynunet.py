"""The DynUNet of MONAI: as the plan says, and as MONAI computes it."""

from itertools import accumulate

import pytest
import torch
from monai.networks.nets import DynUNet as MonaiDynUNet

from medseg.architecture import Architecture
from medseg.errors import ConfigError
from medseg.networks import DynUNet, build_network

PLAN = Architecture(
    name="dynunet",
    features=(4, 8, 16, 32),
    strides=((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 1, 2)),
    kernel_sizes=((3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 1, 3)),
)


def monais(plan: Architecture) -> MonaiDynUNet:
    return MonaiDynUNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=3,
        kernel_size=plan.kernel_sizes,
        strides=plan.strides,
        upsample_kernel_size=plan.strides[1:],
        filters=plan.features,
        norm_name=("instance", {"affine": True}),
        deep_supervision=plan.deep_supervision,
        deep_supr_num=2,
    )


def test_strides_kernels_features_and_heads_are_the_plans() -> None:
    network = DynUNet(2, 3, PLAN).train()
    assert network.multiple_of == (8, 4, 4)
    convolutions = [stage.conv1.conv for stage in (network.network.input_block, *network.network.downsamples)]
    convolutions.append(network.network.bottleneck.conv1.conv)
    assert tuple(each.stride for each in convolutions) == PLAN.strides
    assert tuple(each.kernel_size for each in convolutions) == PLAN.kernel_sizes
    assert tuple(each.out_channels for each in convolutions) == PLAN.features
    shape = (16, 8, 8)
    heads = network(torch.randn(1, 2, *shape))
    sizes = list(
        accumulate(PLAN.strides, lambda size, stride: tuple(map(int.__floordiv__, size, stride)), initial=shape)
    )
    assert [tuple(head.shape) for head in heads] == [(1, 3, *size) for size in sizes[1:-1]]
    assert network.eval()(torch.randn(1, 2, *shape)).shape == (1, 3, *shape)


def test_logits_are_those_of_monais_class_with_its_weights() -> None:
    torch.manual_seed(0)
    theirs, own = monais(PLAN).train(), DynUNet(2, 3, PLAN).train()
    weights = {f"network.{name}": tensor for name, tensor in theirs.state_dict().items()}
    own.load_state_dict({name: weights[name] for name in own.state_dict()})
    assert len(own.state_dict()) < len(weights)  # each once
    image = torch.randn(2, 2, 16, 8, 8)
    stacked, heads = theirs(image).unbind(1), own(image)
    torch.testing.assert_close(heads[0], stacked[0])
    for head, interpolated in zip(heads[1:], stacked[1:], strict=True):
        torch.testing.assert_close(torch.nn.functional.interpolate(head, image.shape[2:]), interpolated)
    torch.testing.assert_close(own.eval()(image), theirs.eval()(image))


def test_its_own_arguments() -> None:
    plan = PLAN.model_copy(update={"arguments": {"norm": "batch", "residual": True, "dropout": 0.1}})
    kinds = {type(module).__name__ for module in build_network(1, 2, plan).modules()}
    assert {"BatchNorm3d", "UnetResBlock", "Dropout"} & kinds >= {"BatchNorm3d", "UnetResBlock"}
    with pytest.raises(ConfigError, match=r"network.arguments.norm of dynunet cannot be 'group'"):
        build_network(1, 2, PLAN.model_copy(update={"arguments": {"norm": "group"}}))
