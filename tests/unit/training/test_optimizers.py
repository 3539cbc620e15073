import copy

import pytest
import torch
from torch import nn

from medseg.config import TrainingConfig
from medseg.training.optimizers import LIKE_ADAMW, Muon, make_optimizer, orthogonal


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_the_singular_values_of_an_update_are_about_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
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
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(
        0.1 * LIKE_ADAMW, rel=0.3
    )  # singular values of .7 to 1.2


def test_vectors_and_the_outermost_layers_learn_as_by_adamw() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 16, 3), nn.Conv3d(16, 16, 3), nn.Conv3d(16, 3, 1))
    twin = copy.deepcopy(network)
    by_muon = make_optimizer(network, 1e-2, TrainingConfig(optimizer="muon"))
    by_adamw = make_optimizer(twin, 1e-2, TrainingConfig(optimizer="adamw"))
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        for one, other in zip(network.parameters(), twin.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        by_muon.step()
        by_adamw.step()
    others = dict(twin.named_parameters())
    equal = {name: torch.allclose(own, others[name], atol=1e-6) for name, own in network.named_parameters()}
    assert [name for name, same in equal.items() if not same] == ["1.weight"]


def test_its_state_can_be_saved_and_gives_the_same_weights() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(8, 8, 3)
    optimizer = make_optimizer(network, 1e-2, TrainingConfig(optimizer="muon"))

    def steps(network: nn.Module, optimizer: torch.optim.Optimizer, n: range) -> None:
        for seed in n:
            optimizer.zero_grad()
            image = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(seed))
            network(image).square().mean().backward()
            optimizer.step()

    steps(network, optimizer, range(3))
    other = copy.deepcopy(network)
    resumed = make_optimizer(other, 1e-2, TrainingConfig(optimizer="muon"))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(network, optimizer, range(3, 6))
    steps(other, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
