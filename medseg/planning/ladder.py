"""Plans for one dataset, from the cheapest to the dearest, of which a time budget chooses one.

What a budget pays for first is a whole batch, then width, and then patches and batches as a GPU would have them. More
of each teaches more in the same number of steps, and less in the same time where this leaves few steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from medseg.config import Config
from medseg.plan import Plan
from medseg.planning.derive import MIN_BATCH_SIZE, patch_budget, shrunk

# Features of the first stage, below those of the full plan, and the fewest steps that each is worth; see
# benchmarks/README.md, "The recipe".
WIDTHS = {8: 200, 16: 400, 24: 1000}
STEPS_OF_FULL_WIDTH = 1000
STEPS_OF_LARGER_PATCHES = 5000  # a guess: no dataset was at hand on which they help


@dataclass(frozen=True, eq=False)
class Rung:
    """A plan, and the fewest steps for which it is taken."""

    plan: Plan
    least_steps: int

    @property
    def weight(self) -> int:
        """How much its activations take, in numbers of the first stage."""
        return prod(self.plan.patch_size) * self.plan.batch_size * self.plan.architecture.features[0]


def ladder(full: Plan, config: Config) -> list[Rung]:
    """From a narrow network with few patches of a processor's size to the ``full`` plan, that of a GPU."""
    voxels, widest = config.planning.cpu_patch_voxels, full.architecture.features[0]
    widths = {width: steps for width, steps in WIDTHS.items() if width < widest} | {widest: STEPS_OF_FULL_WIDTH}
    by_width = [Rung(shrunk(full, voxels, width), steps) for width, steps in widths.items()]
    larger = []
    while patch_budget(full.dims, voxels := 2 * voxels) < prod(full.patch_size):
        larger.append(Rung(shrunk(full, voxels, widest), STEPS_OF_LARGER_PATCHES))
    return [*_of_fewer_patches(by_width[0]), *by_width, *larger, Rung(full, STEPS_OF_LARGER_PATCHES)]


def _of_fewer_patches(rung: Rung) -> list[Rung]:
    """An eighth of the batch, a quarter, and half of it."""
    whole = rung.plan.batch_size
    sizes = sorted({max(whole // part, MIN_BATCH_SIZE) for part in (8, 4, 2)} - {whole})
    return [replace(rung, plan=rung.plan.model_copy(update={"batch_size": size})) for size in sizes]


def climb(rungs: Sequence[Rung], at: int, pays_for: Callable[[Rung], bool]) -> Rung:
    """From ``rungs[at]`` up while there is enough for the next one, or else down until there is, or the ladder ends."""
    if not pays_for(rungs[at]):
        lower = rungs[:at][::-1]
        return next(filter(pays_for, lower), rungs[0])
    for higher in rungs[at + 1 :]:
        if not pays_for(higher):
            break
        at += 1
    return rungs[at]
