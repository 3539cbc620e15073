"""Candidate plans for one dataset, from the cheapest to the dearest, of which a time budget chooses one.

What a budget pays for first is a whole batch, then width, and then patches and batches as a GPU would have them. More
of each teaches more in the same number of steps, and less in the same time where this leaves few steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from medseg.config import Config
from medseg.plan import Plan
from medseg.planning.derive import MIN_BATCH_SIZE, begins_at_half_resolution, shrunk_plan
from medseg.planning.patch import patch_budget

# Features of the first stage, below those of the full plan, and the fewest steps that each is worth; see
# benchmarks/README.md, "The recipe".
WIDTHS = {8: 200, 16: 400, 24: 1000}
STEPS_OF_FULL_WIDTH = 1000
STEPS_OF_LARGER_PATCHES = 5000  # a guess: no dataset was at hand on which they help


@dataclass(frozen=True, eq=False)
class CandidatePlan:
    """A plan that may be trained, where there is time for it.

    Attributes:
        plan: The plan.
        least_steps: The fewest steps for which it is worth taking.
    """

    plan: Plan
    least_steps: int

    @property
    def activations(self) -> int:
        """The number of activations of the first stage for one batch, with which memory and time grow."""
        architecture = self.plan.architecture
        voxels = prod(self.plan.patch_size) // prod(architecture.strides[0])
        return voxels * self.plan.batch_size * architecture.features[0]


def candidate_plans(full: Plan, config: Config) -> list[CandidatePlan]:
    """Returns the candidates, the cheapest first.

    Args:
        full: The plan for a GPU, which is the last candidate.
        config: The settings; ``planning.cpu_patch_voxels`` is the size of the smallest patches. Where these begin at
            half the resolution, all but the full plan do.

    Returns:
        Candidates from a narrow network with few patches of a processor's size up to the full plan.
    """
    voxels, widest = config.planning.cpu_patch_voxels, full.architecture.features[0]
    widths = {width: steps for width, steps in WIDTHS.items() if width < widest} | {widest: STEPS_OF_FULL_WIDTH}
    half = begins_at_half_resolution(full, config)
    by_width = [CandidatePlan(shrunk_plan(full, voxels, width, half), steps) for width, steps in widths.items()]
    larger, parts = [], prod(by_width[0].plan.architecture.strides[0])
    while parts * patch_budget(full.dims, voxels := 2 * voxels) < prod(full.patch_size):
        larger.append(CandidatePlan(shrunk_plan(full, voxels, widest, half), STEPS_OF_LARGER_PATCHES))
    return [*_of_fewer_patches(by_width[0]), *by_width, *larger, CandidatePlan(full, STEPS_OF_LARGER_PATCHES)]


def _of_fewer_patches(candidate: CandidatePlan) -> list[CandidatePlan]:
    """Returns the candidate with an eighth of the batch, a quarter, and half of it."""
    whole = candidate.plan.batch_size
    sizes = sorted({max(whole // part, MIN_BATCH_SIZE) for part in (8, 4, 2)} - {whole})
    return [replace(candidate, plan=candidate.plan.model_copy(update={"batch_size": size})) for size in sizes]


def dearest_affordable(
    candidates: Sequence[CandidatePlan], start: int, pays_for: Callable[[CandidatePlan], bool]
) -> CandidatePlan:
    """Returns the dearest candidate that the budget pays for, looked for from one of them on.

    Args:
        candidates: The cheapest first.
        start: The index of the one that is tried first.
        pays_for: Whether the budget is enough for a candidate. It is called as rarely as possible, since it trains a
            few steps.

    Returns:
        The last one before the first that is too dear, going up from ``start``; or, where that is too dear itself, the
        first going down that is not. The cheapest one where all are too dear.
    """
    if not pays_for(candidates[start]):
        lower = candidates[:start][::-1]
        return next(filter(pays_for, lower), candidates[0])
    for higher in candidates[start + 1 :]:
        if not pays_for(higher):
            break
        start += 1
    return candidates[start]
