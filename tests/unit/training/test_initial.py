from pathlib import Path

import pytest
import torch
from model_records import record_of

from medseg.architecture import PROMPT_CHANNELS, PromptChannels
from medseg.config import load
from medseg.errors import ConfigError
from medseg.inferers.model import save_model
from medseg.labels import Labels
from medseg.networks.network import Network
from medseg.networks.registry import build_network
from medseg.plan import LearntRegion, Plan
from medseg.training.initial import InitialModel

LABELS = Labels.from_names({"liver": 1, "tumour": 2})


@pytest.fixture
def model(tmp_path: Path, tiny_plan: Plan) -> tuple[InitialModel, Network]:
    torch.manual_seed(0)
    network = build_network(2, 3, tiny_plan.architecture)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)  # biases too
    two = tiny_plan.grid.model_copy(update={"normalization": tiny_plan.grid.normalization * 2})
    record = record_of(tiny_plan.model_copy(update={"grid": two}), LABELS, ("T1", "T2"))
    save_model(tmp_path / "model", record, network.state_dict())
    return InitialModel.read(tmp_path), network.eval()


def begun(
    model: InitialModel, plan: Plan, labels: Labels, channels: tuple[str, ...]
) -> tuple[str, Network, dict[str, torch.Tensor]]:
    network = build_network(len(channels), len(plan.outputs(labels)), plan.architecture)
    random = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return model.load_into(network, plan, labels, channels), network.eval(), random


def image(n: int) -> torch.Tensor:
    return torch.randn(1, n, 8, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_same_labels_and_channels_give_the_same_logits(
    model: tuple[InitialModel, Network], tiny_plan: Plan
) -> None:
    told, network, _ = begun(model[0], tiny_plan, LABELS, ("T1", "T2"))
    with torch.inference_mode():
        assert torch.equal(network(image(2)), model[1](image(2)))
    n = len(network.state_dict())
    assert told == f"{n} of {n} tensors of weights fit"


def test_outputs_go_by_the_names_of_labels(model: tuple[InitialModel, Network], tiny_plan: Plan) -> None:
    labels = Labels.from_names({"Tumour": 1, "vessel": 2, "liver": 4})
    told, network, random = begun(model[0], tiny_plan, labels, ("T1", "T2"))
    with torch.inference_mode():
        theirs, ours = model[1](image(2)), network(image(2))
    assert torch.allclose(ours[:, [0, 3, 1]], theirs, atol=1e-4)  # background, liver, tumour
    assert "outputs of new labels stay random: vessel" in told
    heads = [name for name, tensor in network.state_dict().items() if tensor.shape[0] == 4 and "heads" in name]
    assert heads
    for name in heads:
        assert torch.equal(network.state_dict()[name][2], random[name][2])


def test_as_many_labels_of_other_names_are_not_taken_for_the_old_ones(
    model: tuple[InitialModel, Network], tiny_plan: Plan
) -> None:
    told, network, random = begun(model[0], tiny_plan, Labels.from_names({"spleen": 1, "kidney": 2}), ("T1", "T2"))
    assert "stay random: spleen, kidney" in told
    head = next(name for name in random if "heads" in name and name.endswith("weight"))
    assert torch.equal(network.state_dict()[head][1:], random[head][1:])
    assert not torch.equal(network.state_dict()[head][0], random[head][0])


def test_inputs_go_by_the_names_of_channels_and_new_ones_begin_with_the_mean(
    model: tuple[InitialModel, Network], tiny_plan: Plan
) -> None:
    told, network, _ = begun(model[0], tiny_plan, LABELS, ("FLAIR", "T2", "T1"))
    assert "begin with the mean of the others: FLAIR" in told
    swapped = image(3)
    swapped[:, 0] = 0
    with torch.inference_mode():
        assert torch.allclose(network(swapped), model[1](swapped[:, [2, 1]]), atol=1e-4)


def test_channels_of_other_names_go_by_their_order(model: tuple[InitialModel, Network], tiny_plan: Plan) -> None:
    told, network, _ = begun(model[0], tiny_plan, LABELS, ("0", "1"))
    assert "channels" not in told
    with torch.inference_mode():
        assert torch.equal(network(image(2)), model[1](image(2)))


def test_a_network_that_nothing_fits_is_refused(model: tuple[InitialModel, Network], tiny_plan: Plan) -> None:
    wider = tiny_plan.model_copy(
        update={"architecture": tiny_plan.architecture.model_copy(update={"features": (6, 12)})}
    )
    with pytest.raises(ConfigError, match="training.init: nothing in .*model fits this network"):
        begun(model[0], wider, LABELS, ("T1", "T2"))


def test_the_network_is_the_models_save_for_what_the_user_sets(
    model: tuple[InitialModel, Network], tiny_plan: Plan
) -> None:
    architecture = tiny_plan.architecture.model_copy(update={"features": (16, 32)})
    plan, config = model[0].shape(tiny_plan.model_copy(update={"architecture": architecture}), load())
    assert plan.architecture.features == (4, 8)
    assert config.network.features == [4, 8]
    other = load(overrides=["network.name=unet++"])
    assert model[0].shape(plan, other) == (plan, other)
    set_by_user = load(overrides=["network.deep_supervision=false"])
    assert model[0].shape(plan, set_by_user)[1].network.deep_supervision is False


def test_outputs_of_labels_say_nothing_of_regions(model: tuple[InitialModel, Network], tiny_plan: Plan) -> None:
    """Not even where they have the same names."""
    regions = (
        LearntRegion(name="liver", values=(1, 2), value=1),
        LearntRegion(name="tumour", values=(2,), value=2),
    )
    labels = Labels.from_names({"tumour": 2}, {"liver": (1, 2)})
    plan = tiny_plan.model_copy(update={"regions": regions})
    told, network, random = begun(model[0], plan, labels, ("T1", "T2"))
    assert "outputs of new labels stay random: liver, tumour" in told
    heads = [name for name in random if "heads" in name]
    assert heads and all(torch.equal(network.state_dict()[name], random[name]) for name in heads)


def test_networks_that_read_values_while_they_are_built_can_be_begun_with(tmp_path: Path, tiny_plan: Plan) -> None:
    """SwinUNETR of MONAI asks tensors for their values, which those of torch's meta device have not."""
    architecture = tiny_plan.architecture.model_copy(update={"name": "swin-unetr"})
    plan = tiny_plan.model_copy(update={"architecture": architecture})
    record = record_of(plan, LABELS, ("T1",))
    save_model(tmp_path / "model", record, build_network(1, 3, architecture).state_dict())
    told, _, _ = begun(InitialModel.read(tmp_path), plan, Labels.from_names({"liver": 1}), ("T1",))
    assert "tensors of weights fit" in told


def test_a_network_that_takes_prompts_begins_as_the_model_that_takes_none(
    model: tuple[InitialModel, Network], tiny_plan: Plan, tmp_path: Path
) -> None:
    prompts = PromptChannels(point_radius_mm=3, scribble_radius_mm=1)
    architecture = tiny_plan.architecture.model_copy(update={"prompts": prompts})
    plan = tiny_plan.model_copy(update={"architecture": architecture})
    told, network, _ = begun(model[0], plan, LABELS, ("T1", "T2"))
    seen = torch.cat([image(2), torch.rand(1, len(PROMPT_CHANNELS), 8, 8, 8)], 1)
    with torch.inference_mode():
        assert torch.allclose(network(image(2)), model[1](image(2)), atol=1e-6)
        assert torch.allclose(network(seen)[:, :3], model[1](image(2)), atol=1e-6)  # it has yet to learn what they mean
    assert "what it makes of prompts stays random" in told

    two = plan.grid.model_copy(update={"normalization": plan.grid.normalization * 2})
    save_model(
        tmp_path / "prompted",
        record_of(plan.model_copy(update={"grid": two}), LABELS, ("T1", "T2")),
        network.state_dict(),
    )
    again = InitialModel.read(tmp_path / "prompted")
    _, same, _ = begun(again, plan, LABELS, ("T2", "T1"))
    swapped = seen[:, [1, 0, *range(2, seen.shape[1])]]
    with torch.inference_mode():
        assert torch.allclose(same(swapped), network(seen), atol=1e-5)
    _, without, _ = begun(again, tiny_plan, LABELS, ("T1", "T2"))
    with torch.inference_mode():
        assert torch.allclose(without(image(2)), model[1](image(2)), atol=1e-6)
