import copy

import pytest
import torch
from torch import nn

from medseg.config import TrainingConfig
from medseg.training.learner import make_optimiser
from medseg.training.muon import LIKE_ADAMW, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_the_singular_values_of_an_update_are_about_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    update = orthogonal(matrix)
    assert update.shape == shape
    seen = torch.linalg.svdvals(update)
    assert seen.min() > 0.6 and seen.max() < 1.25
    # The directions are those of U Vᵀ: in their basis the update is nearly diagonal.
    inner = left.T @ update @ right.T
    assert (inner - inner.diag().diag()).abs().max() < 1e-3


def test_a_step_has_the_size_of_one_of_adamw() -> None:
    weight = nn.Parameter(torch.zeros(16, 16, 3, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], [], lr=0.1, weight_decay=0).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * LIKE_ADAMW, rel=0.3)  # singular values of .7 to 1.2


def test_vectors_and_the_outermost_layers_learn_as_by_adamw() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 16, 3), nn.Conv3d(16, 16, 3), nn.Conv3d(16, 3, 1))
    twin = copy.deepcopy(network)
    for each, name in ((network, "muon"), (twin, "adamw")):
        optimiser = make_optimiser(each, 1e-2, TrainingConfig(optimiser=name))  # type: ignore[arg-type]
        for step in range(3):
            optimiser.zero_grad()
            generator = torch.Generator().manual_seed(step)
            each(torch.randn(2, 1, 8, 8, 8, generator=generator)).square().mean().backward()
            if each is twin:  # so that both see the same gradients
                for own, other in zip(twin.parameters(), gradients[step], strict=True):
                    own.grad = other.clone()
            else:
                gradients = [] if step == 0 else gradients
                gradients.append([parameter.grad.clone() for parameter in network.parameters()])
            optimiser.step()
    pairs = dict(zip(dict(network.named_parameters()), zip(network.parameters(), twin.parameters(), strict=True)))
    for name, (by_muon, by_adamw) in pairs.items():
        assert torch.allclose(by_muon, by_adamw, atol=1e-6) == (name != "1.weight"), name


def test_its_state_can_be_saved_and_gives_the_same_weights() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(8, 8, 3)
    optimiser = make_optimiser(network, 1e-2, TrainingConfig(optimiser="muon"))

    def steps(network: nn.Module, optimiser: torch.optim.Optimizer, n: range) -> None:
        for seed in n:
            optimiser.zero_grad()
            image = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(seed))
            network(image).square().mean().backward()
            optimiser.step()

    steps(network, optimiser, range(3))
    other = copy.deepcopy(network)
    resumed = make_optimiser(other, 1e-2, TrainingConfig(optimiser="muon"))
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    steps(network, optimiser, range(3, 6))
    steps(other, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
