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

WIDTHS = (8, 16, 24)  # features of the first stage, below those of the full plan
# Fewest steps for which a network is made wider, and a patch larger. See benchmarks/README.md, "The recipe".
STEPS_TO_WIDEN = 500
STEPS_TO_ENLARGE = 5000


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
    widths = [*(width for width in WIDTHS if width < widest), widest]
    rungs = [Rung(shrunk(full, voxels, width), STEPS_TO_WIDEN) for width in widths]
    while patch_budget(full.dims, voxels := 2 * voxels) < prod(full.patch_size):
        rungs.append(Rung(shrunk(full, voxels, widest), STEPS_TO_ENLARGE))
    return [*rungs, Rung(full, STEPS_TO_ENLARGE)]


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
