import pytest
import torch

from medseg.decoding import SOFTMAX, Sigmoids, decoding_of
from medseg.plan import LearntRegion, Plan

WHOLE = LearntRegion(name="whole", values=(1, 2, 3), value=2)
CORE = LearntRegion(name="core", values=(1, 3), value=1)
ENHANCING = LearntRegion(name="enhancing", values=(3,), value=3)
TUMOUR = Sigmoids((WHOLE, CORE, ENHANCING))


def voxels(*logits: tuple[float, ...]) -> torch.Tensor:
    """(output, x, 1, 1) of the logits of each voxel."""
    return torch.tensor(logits, dtype=torch.float32).T[:, :, None, None]


def test_regions_write_over_one_another_in_their_order() -> None:
    logits = voxels((-1, -1, -1), (1, -1, -1), (1, 0.1, -1), (5, 5, 0.1), (-5, -5, 0.1), (1, 0, 0))
    expected = torch.tensor([0, 2, 1, 3, 3, 2], dtype=torch.uint8)
    assert torch.equal(TUMOUR.labels(logits, 0).flatten(), expected)
    assert torch.equal(TUMOUR.labels(logits.flatten(1).T, -1), expected)
    assert TUMOUR.labels(logits, 0).dtype == torch.uint8
    assert TUMOUR.n_values(3) == 4


def test_the_order_decides_where_regions_overlap_in_part() -> None:
    left, right = LearntRegion(name="left", values=(1, 2), value=1), LearntRegion(name="right", values=(2, 3), value=3)
    both = voxels((1, 1))
    assert Sigmoids((left, right)).labels(both, 0).item() == 3
    assert Sigmoids((right, left)).labels(both, 0).item() == 1


def test_probabilities_are_in_the_order_of_the_structures() -> None:
    unions = {"enhancing": (3,), "whole": (1, 2, 3), "core": (1, 3)}
    logits = voxels((2, 0, -2))
    expected = torch.tensor([2, 0, -2.0]).sigmoid()[[2, 0, 1]]
    assert torch.allclose(TUMOUR.probabilities(logits, unions).flatten(), expected)
    softmax = torch.tensor([0.1, 0.2, 0.3, 0.4])
    of_labels = SOFTMAX.probabilities(softmax.log()[:, None, None, None], unions)
    assert torch.allclose(of_labels.flatten(), torch.tensor([0.4, 0.9, 0.6]))


@pytest.mark.parametrize("decoding", [SOFTMAX, TUMOUR])
def test_entropy_goes_from_none_to_one(decoding: Sigmoids) -> None:
    logits = voxels((0, 0, 0), (100, -100, -100))
    assert torch.allclose(decoding.entropy(logits).flatten(), torch.tensor([1.0, 0.0]), atol=1e-6)


def test_entropy_of_regions_is_the_mean_of_each() -> None:
    logits = voxels((0, 100, -100))
    assert TUMOUR.entropy(logits).item() == pytest.approx(1 / 3)


def test_a_plan_says_what_its_outputs_are(tiny_plan: Plan) -> None:
    assert decoding_of(tiny_plan) is SOFTMAX
    assert decoding_of(tiny_plan.model_copy(update={"regions": (WHOLE, CORE, ENHANCING)})) == TUMOUR
