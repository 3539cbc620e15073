"""Plans for one dataset, from the cheapest to the dearest, of which a time budget chooses one.

What a budget pays for first is width, and then patches and batches as a GPU would have them: a wider network, or a
larger patch, learns more from the same number of steps, and less from the same time where this leaves few steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from medseg.config import Config
from medseg.plan import Plan
from medseg.planning.derive import patch_budget, shrunk

# Features of the first stage, below those of the full plan, and the fewest steps that each is worth; see
# benchmarks/README.md, "The recipe".
WIDTHS = {8: 0, 16: 400, 24: 1000}
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
    """From a narrow network on a processor's patch to the ``full`` plan, that of a GPU."""
    voxels, widest = config.planning.cpu_patch_voxels, full.architecture.features[0]
    widths = {width: steps for width, steps in WIDTHS.items() if width < widest} | {widest: STEPS_OF_FULL_WIDTH}
    rungs = [Rung(shrunk(full, voxels, width), steps) for width, steps in widths.items()]
    while patch_budget(full.dims, voxels := 2 * voxels) < prod(full.patch_size):
        rungs.append(Rung(shrunk(full, voxels, widest), STEPS_OF_LARGER_PATCHES))
    return [*rungs, Rung(full, STEPS_OF_LARGER_PATCHES)]


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
