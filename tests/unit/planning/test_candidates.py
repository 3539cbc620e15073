from math import prod

import pytest
from fingerprints import measured

from medseg.config import Config, load
from medseg.plan import Plan
from medseg.planning.candidates import CandidatePlan, candidate_plans, dearest_affordable
from medseg.planning.derive import derive_plans, fit_to_cpu


def plans(config: Config, shape: tuple[int, int, int] = (512, 512, 300)) -> list[Plan]:
    derived = derive_plans(measured(shape, (0.8, 0.8, 1.5), n=100), ["CT"], config)
    assert derived.plan_3d is not None
    return [derived.plan_2d, derived.plan_3d]


@pytest.mark.parametrize("shape", [(36, 50, 35), (512, 512, 300), (320, 320, 20)])
def test_each_candidate_is_dearer_than_the_one_before(shape: tuple[int, int, int]) -> None:
    for full in plans(Config(), shape):
        candidates = candidate_plans(full, Config())
        assert candidates[-1].plan == full
        assert fit_to_cpu(full, Config()) in [candidate.plan for candidate in candidates]
        costs = [candidate.activations for candidate in candidates]
        assert costs == sorted(costs)
        assert all(prod(candidate.plan.patch_size) <= prod(full.patch_size) for candidate in candidates)
        widths = [candidate.plan.architecture.features[0] for candidate in candidates]
        assert widths == sorted(widths)
        assert set(widths) == {8, 16, 24, 32}
        batches = [
            candidate.plan.batch_size for candidate in candidates if candidate.plan.architecture.features[0] == 8
        ]
        assert batches[0] >= 2
        assert batches == sorted(set(batches))
        assert len(batches) == (4 if batches[-1] >= 16 else 3 if batches[-1] >= 8 else 2 if batches[-1] > 2 else 1)


def test_a_narrow_plan_is_the_widest() -> None:
    config = load(overrides=["planning.base_features=12"])
    for full in plans(config):
        candidates = candidate_plans(full, config)
        assert {candidate.plan.architecture.features[0] for candidate in candidates} == {8, 12}
        assert fit_to_cpu(full, config) in [candidate.plan for candidate in candidates]


@pytest.mark.parametrize(
    ("begin", "enough_for", "chosen", "tried"),
    [
        (1, 5, 3, [1, 2, 3]),  # up to the end
        (1, 3, 2, [1, 2, 3]),  # up to the last that is paid for
        (3, 2, 1, [3, 2, 1]),  # down to the first
        (2, 0, 0, [2, 1, 0]),  # nothing is: the cheapest
    ],
)
def test_dearer_ones_are_tried_until_the_budget_ends(
    begin: int, enough_for: int, chosen: int, tried: list[int]
) -> None:
    candidates = [CandidatePlan(plan, 1) for plan in plans(Config()) * 2]
    seen = []

    def pays_for(candidate: CandidatePlan) -> bool:
        seen.append(candidates.index(candidate))
        return seen[-1] < enough_for

    assert dearest_affordable(candidates, begin, pays_for) is candidates[chosen]
    assert seen == tried
