import json

import pytest
import torch
from typer.testing import CliRunner

import medseg
from medseg.architecture import Architecture
from medseg.cli.main import app
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError
from medseg.networks.blocks import convolutions
from medseg.networks.entries import NETWORKS
from medseg.networks.network import Network
from medseg.plan import Plan
from medseg.training.network_cost import kept_bytes, network_cost


def test_costs_of_a_network_that_can_be_counted_by_hand(tiny_plan: Plan) -> None:
    architecture = Architecture(
        name="unet-2015-padded",
        features=(4,),
        strides=((1, 1, 1),),
        kernel_sizes=((3, 3, 3),),
        arguments={"norm": "none"},
    )
    plan = tiny_plan.model_copy(update={"architecture": architecture})
    cost = network_cost(plan, inputs=1, outputs=2)
    multiplications = 27 * 1 * 4 + 27 * 4 * 4 + 4 * 2  # two convolutions and the head, a voxel
    assert cost.parameters == multiplications + 4 + 4 + 2
    assert cost.gflop == pytest.approx(2 * multiplications * 8**3 / 1e9)
    assert (cost.patch_size, cost.batch_size) == ((8, 8, 8), 2)


def test_memory_grows_with_the_batch_and_not_where_nothing_is_kept(tiny_plan: Plan) -> None:
    costs = [network_cost(tiny_plan.model_copy(update={"batch_size": n}), 1, 2) for n in (2, 4, 6)]
    first, second, third = (cost.training_mb for cost in costs)
    assert second - first == pytest.approx(third - second)
    assert second > first > costs[0].parameters * 20 / 2**20


def test_what_is_kept_is_what_training_really_keeps() -> None:
    """A convolution keeps its input, ReLU its output; both are counted, once."""

    class Small(Network):
        def __init__(self) -> None:
            super().__init__((1, 1))
            self.layers = convolutions(1, (3, 2), (3, 3), "none")

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.layers(image)  # type: ignore[no-any-return]

    small, large = (kept_bytes(Small().to("meta"), torch.empty(1, 1, n, n, device="meta")) for n in (8, 16))
    assert large > small >= 4 * 8 * 8 * (1 + 3 + 2)
    assert large == pytest.approx(4 * small, rel=0.01)


def test_every_network_is_listed_with_its_costs_on_a_prepared_dataset(prepared: PreparedDataset) -> None:
    found = medseg.list_networks(prepared=prepared.folder, dims=2)
    assert [each.name for each in found] == list(NETWORKS)
    for each in found:
        assert each.costs or each.refusals, each.name
        assert each.about and each.source and all(argument.about for argument in each.arguments)
        for cost in each.costs:
            assert cost.dims == 2 and cost.gflop > 0 and cost.training_mb > 0


def test_python_and_json_say_the_same(prepared: PreparedDataset) -> None:
    arguments = ["networks", "unet", "unet++", "--prepared", str(prepared.folder), "--dims", "3", "--json"]
    result = CliRunner().invoke(app, arguments)
    found = medseg.list_networks(["unet", "unet++"], prepared=prepared.folder, dims=3)
    assert json.loads(result.stdout) == json.loads(json.dumps([each.as_json() for each in found]))


def test_a_network_is_described_with_its_arguments(prepared: PreparedDataset) -> None:
    options = ["--prepared", str(prepared.folder), "--dims", "2"]
    text = " ".join(CliRunner().invoke(app, ["networks", "unet++", *options]).stdout.split())
    assert "norm = none [none, batch, instance] After each convolution." in text
    assert "Zhou et al. 2018, doi:10.1007/978-3-030-00889-5_1" in text and "GFLOP" in text
    text = " ".join(CliRunner().invoke(app, ["networks", "monai.UNet", *options]).stdout.split())
    assert "channels = needed" in text and "monai.UNet needs it" in text


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'unet"):
        medseg.list_networks(["unet+"])
