import pytest
import torch
from transunets import SMALL, architecture

from medseg.errors import ConfigError
from medseg.networks.registry import build_network
from medseg.networks.transunet import TransUNet
from medseg.plan import Plan
from medseg.planning.network import fit_to_network


def n_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_full_size_has_as_many_parameters_as_the_authors_code() -> None:
    """R50-ViT-B_16 for nine outputs at 224×224 at commit 02ef001: 105,277,081. With equal weights (through
    ``load_from`` and ``load_pretrained`` of one .npz) logits were equal to 1.5e-8 where its pooling had ceil_mode."""
    with torch.device("meta"):
        network = build_network(1, 9, architecture(2, (32,) * 5, size="full", token_grid=[14, 14]))
        assert n_parameters(network) == 105_277_081
        assert network(torch.zeros(1, 1, 224, 224)).shape == (1, 9, 224, 224)


def test_sizes_go_with_the_plan() -> None:
    with torch.device("meta"):
        counts = [n_parameters(build_network(1, 3, architecture(d, (w,) * 4))) for d in (2, 3) for w in (32, 16)]
    assert [round(count / 1e6, 1) for count in counts] == [26.3, 6.6, 33.1, 8.3]


def test_tokens_follow_the_plans_strides_up_to_four_times() -> None:
    assert TransUNet(1, 2, architecture(3, **SMALL)).multiple_of == (8, 8, 8)
    assert TransUNet(1, 2, architecture(2, (4,) * 7, **SMALL)).multiple_of == (16, 16)
    flat = architecture(3, **SMALL).model_copy(
        update={
            "strides": ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)),
            "kernel_sizes": ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)),
        }
    )
    network = TransUNet(1, 2, flat)
    assert network.multiple_of == (8, 8, 2)
    assert network.eval()(torch.zeros(1, 1, 16, 16, 6)).shape == (1, 2, 16, 16, 6)


def test_positions_matter_and_are_interpolated_for_other_grids() -> None:
    network = TransUNet(1, 2, architecture(2, token_grid=[2, 2], **SMALL)).eval()
    images = torch.randn(1, 1, 16, 16), torch.randn(1, 1, 32, 24)
    before = [network(image) for image in images]
    torch.nn.init.normal_(network.positions)
    assert all(not torch.allclose(network(i), logits) for i, logits in zip(images, before, strict=True))


def test_training_gives_each_token_of_its_patch_a_position_of_its_own(tiny_plan: Plan) -> None:
    plan = tiny_plan.model_copy(update={"architecture": architecture(3, **SMALL), "patch_size": (40, 56, 36)})
    fitted = fit_to_network(plan, build_network(1, 2, plan.architecture))
    assert fitted.architecture.arguments["token_grid"] == [5, 7, 5]  # strides of 8, 36 voxels are padded to 40
    network = build_network(1, 2, fitted.architecture)
    assert network.network.positions.shape[2:] == (5, 7, 5)  # type: ignore[union-attr]
    assert fit_to_network(fitted, network) == fitted
    chosen = plan.model_copy(update={"architecture": architecture(3, token_grid=[2, 2, 2], **SMALL)})
    assert fit_to_network(chosen, build_network(1, 2, chosen.architecture)) == chosen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "huge"}, "network.arguments.size"),
        ({"heads": 5}, "network.arguments.heads cannot be 5: 48 .* take 1"),
        ({"token_grid": [4, 4, 4]}, "network.arguments.token_grid has 3 numbers; give 2 for 2D"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(1, 2, architecture(2, **arguments))
