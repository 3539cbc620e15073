"""Networks by name, for those who use them alone."""

import pytest
import torch
from fingerprints import measured
from torch import nn

from medseg.config import Config
from medseg.errors import ConfigError
from medseg.networks import NETWORKS, create_network, default_architecture
from medseg.planning.derive import derive_plans


def test_a_network_without_a_plan_is_a_plain_module() -> None:
    network = create_network(in_channels=2, out_channels=3, spatial_dims=2)
    assert isinstance(network, nn.Module)
    logits = network.train()(torch.randn(2, 2, 65, 70))
    assert logits.shape == (2, 3, 65, 70)


def test_depth_and_width_are_those_of_nnunets_plans_of_large_images() -> None:
    plans = derive_plans(measured((512, 512, 512), (1.0, 1.0, 1.0), n=100), ["image"], Config())
    assert plans.plan_3d is not None
    for dims, plan in ((2, plans.plan_2d), (3, plans.plan_3d)):
        usual = default_architecture(dims, deep_supervision=True)  # type: ignore[arg-type]
        assert usual == plan.architecture


def test_a_plan_says_how_deep_and_wide_it_is() -> None:
    plan = derive_plans(measured((36, 50, 35), (1.0, 1.0, 1.0), n=100), ["image"], Config()).plan_3d
    assert plan is not None
    narrow = plan.model_copy(update={"architecture": plan.architecture.model_copy(update={"features": (4, 8, 16, 32)})})
    of_plan = create_network("residual-unet", in_channels=1, out_channels=3, plan=narrow, blocks=(1, 1))
    of_architecture = create_network(
        "residual-unet", in_channels=1, out_channels=3, plan=narrow.architecture, blocks=(1, 1)
    )
    shapes = [{k: v.shape for k, v in each.state_dict().items()} for each in (of_plan, of_architecture)]
    assert shapes[0] == shapes[1]
    heads = of_plan.train()(torch.randn(2, 1, *narrow.network_patch))
    assert [head.shape[2] for head in heads] == [40, 20, 10]
    with pytest.raises(ConfigError, match="network.arguments.block: residual-unet has no such argument"):
        create_network("residual-unet", in_channels=1, out_channels=3, plan=narrow, block=(1, 1))


def test_networks_of_monai_by_name() -> None:
    network = create_network(
        "monai.BasicUNet", in_channels=1, out_channels=2, spatial_dims=2, features=(4, 4, 8, 8, 8, 4)
    )
    assert network(torch.randn(1, 1, 40, 33)).shape == (1, 2, 40, 33)
    with pytest.raises(ConfigError, match="there is no network 'dynunets'; did you mean 'dynunet'"):
        create_network("dynunets", in_channels=1, out_channels=2)
    assert "dynunet" in NETWORKS


def test_arguments_and_images_of_other_axes_are_named() -> None:
    with pytest.raises(ConfigError, match="spatial_dims 4: give 2 or 3"):
        create_network(in_channels=1, out_channels=2, spatial_dims=4)  # type: ignore[arg-type]
    network = create_network(in_channels=1, out_channels=2, spatial_dims=2)
    for shape in ((1, 16, 16), (1, 1, 16, 16, 16)):
        with pytest.raises(
            ValueError, match=r"spatial shape .*: this is a 2D network; its images are \(batch, channel"
        ):
            network(torch.zeros(shape))
