"""The watchdog: sees early that a run has come to grief, and says what to change before it is tried again.

A loss or gradient that is no number, and a label that the network has given up, show in the batches, so that what the
watchdog does depends on the steps alone, and a resumed run does the same as an unbroken one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from medseg.errors import TrainingError
from medseg.metrics.overlap import Overlap, overlaps_in
from medseg.progress import counted

# A Dice that would be shown as .00.
DEAD_DICE = 0.005
# So far above the Dice of chance, a label was learnt. Random weights predict all labels here and there, and forget that
# before they learn any.
LEARNT = 0.1
# A label may stay dead for this part of the schedule, if that is no less and no more than so many steps.
PATIENCE = 0.0999
LEAST_STEPS, MOST_STEPS = 100, 2500
# So late, going back would leave no time to learn anything again.
TOO_LATE = 0.8
# How often a setting is changed before the run is given up (no numbers) or goes on as it is (a dead label).
TRIES = 3
# Parts of the schedule between the states that a run goes back to.
BETWEEN_GOOD_STATES = 0.05
RATE_CHANGE = 1 / 3
FOREGROUND_CHANGE = 2.0
MOST_FOREGROUND = 0.9


class NotANumber(TrainingError):
    """The loss or its gradient at ``step``, whose batch was of ``case_ids``."""

    def __init__(self, what: str, step: int, case_ids: Sequence[str]) -> None:
        super().__init__(
            f"the {what} is not a number at step {step} (cases {', '.join(case_ids)}); check these cases, or start "
            "again with a lower training.learning_rate"
        )
        self.what, self.step, self.case_ids = what, step, tuple(case_ids)


def check_numbers(losses: torch.Tensor, norms: torch.Tensor, seen: Sequence[Sequence[str]], first: int) -> None:
    """Checks that all losses and gradients are numbers.

    Args:
        losses: ``(step,)``.
        norms: ``(step,)``, of the gradients.
        seen: The cases of each step's batch.
        first: The number of the first of these steps.

    Raises:
        NotANumber: Of the first step that went wrong: the loss of the next one is none either.
    """
    wrong = torch.nonzero(~(losses.isfinite() & norms.isfinite())).flatten()
    if len(wrong):
        at = int(wrong[0])
        raise NotANumber("gradient" if losses[at].isfinite() else "loss", first + at, seen[at])


@dataclass(frozen=True)
class SettingChange:
    """What the watchdog changed, in words, and whether the run goes back to the last good state."""

    note: str
    goes_back: bool = True


@dataclass
class WatchdogState:
    """What the watchdog has seen and changed so far: plain values, which a checkpoint stores."""

    foreground_fraction: Annotated[float, Field(ge=0, le=1)]
    rate_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    left_out: list[str] = field(default_factory=list)  # case ids
    tries: int = 0
    notes: list[str] = field(default_factory=list)  # each change, in words that name no case: models carry them
    good_at: float = 0.0  # progress of the state to go back to
    judged_at: tuple[int, float] = (0, 0.0)  # step and progress
    counts: list[list[int]] = field(default_factory=list)  # since then: by label and prediction, in voxels of patches
    dead_since: dict[str, tuple[int, float]] = field(default_factory=dict)  # by label: step and progress
    lived: list[str] = field(default_factory=list)  # labels that were learnt
    helped: list[str] = field(default_factory=list)  # labels that never lived and got more foreground, once

    def see(self, confusion: torch.Tensor | None) -> None:
        """Adds the voxels of an epoch, or of a part of one, by label and prediction."""
        if confusion is not None:
            self.counts = (confusion + torch.tensor(self.counts)).tolist() if self.counts else confusion.tolist()

    def judge(self, unions: Mapping[str, Sequence[int]], step: int, progress: float) -> SettingChange | None:
        """Looks at the Dice of an epoch's patches, and returns what was changed where a structure has been dead for
        long.

        One that was lost lowers the rate, and the run goes back. One that never lived gets more foreground, once, and
        the run goes on from where it is: it may be too small to be learnt, which must not cost the others anything.

        Args:
            unions: The labels and regions, as of ``Labels.unions``.
            step: Steps done.
            progress: The part of the schedule that is done.
        """
        present = overlaps_of_patches(self.counts, unions) if self.counts else {}
        voxels = sum(map(sum, self.counts))
        self.lived = sorted({*self.lived, *(name for name, each in present.items() if is_learnt(each, voxels))})
        before = self.judged_at
        self.counts, self.judged_at = [], (step, progress)
        for name, each in present.items():
            if each.dice is not None and each.dice >= DEAD_DICE:
                self.dead_since.pop(name, None)
            else:
                self.dead_since.setdefault(name, before)
        dead = [
            name
            for name, (since_step, since) in self.dead_since.items()
            if step - since_step >= (LEAST_STEPS if progress - since >= PATIENCE else MOST_STEPS)
            if name in self.lived or name not in self.helped
        ]
        if not dead or progress > TOO_LATE:
            return None
        lost = [name for name in dead if name in self.lived]
        if not lost:
            return self._more_foreground(dead)
        if self.tries >= TRIES:
            return None
        return self._lower_rate(f"Dice of {', '.join(lost)} on the training patches fell to 0")

    def after(self, error: NotANumber, damaged: Sequence[str]) -> SettingChange:
        """Returns what was changed after a loss or a gradient that is no number.

        Args:
            error: What was found.
            damaged: The cases of the batch whose images hold what is no number.

        Raises:
            NotANumber: Enough was tried.
        """
        if damaged:
            self.left_out = sorted({*self.left_out, *damaged})
            reason = "the image holds what is no number; left out of training"
            return self._noted(f"{', '.join(damaged)}: {reason}", told=f"{counted(len(damaged), 'case')}: {reason}")
        if self.tries >= TRIES:
            raise error
        reason = f"the {error.what} is not a number at step {error.step}"
        return self._lower_rate(reason, f" (cases {', '.join(error.case_ids)})")

    def is_good(self, progress: float) -> bool:
        """Returns whether the state is one to go back to: it is time for one, and no label that lived is dead."""
        return progress - self.good_at >= BETWEEN_GOOD_STATES and not self.dead_since.keys() & set(self.lived)

    def start_from(self, step: int, progress: float, good: bool = False) -> None:
        """Forgets what was seen: the run went back, or (``good``) its schedule was changed."""
        self.counts, self.dead_since, self.judged_at = [], {}, (step, progress)
        if good:
            self.good_at = progress

    def _lower_rate(self, reason: str, where: str = "") -> SettingChange:
        self.tries += 1
        self.rate_factor *= RATE_CHANGE
        change = f"learning rate to a third (change {self.tries} of at most {TRIES})"
        return self._noted(f"{reason}{where}: {change}", told=f"{reason}: {change}")

    def _more_foreground(self, names: Sequence[str]) -> SettingChange | None:
        self.helped += names
        if self.foreground_fraction >= MOST_FOREGROUND:
            return None
        self.foreground_fraction = min(FOREGROUND_CHANGE * max(self.foreground_fraction, 0.1), MOST_FOREGROUND)
        share = f"{self.foreground_fraction:.0%} of the patches on labelled voxels from now on"
        return self._noted(f"Dice of {', '.join(names)} on the training patches stays 0: {share}", goes_back=False)

    def _noted(self, note: str, goes_back: bool = True, told: str = "") -> SettingChange:
        """Notes a change, in words that name no cases (``told``) where ``note`` names some, and returns it."""
        self.notes.append(told or note)
        return SettingChange(note, goes_back)


def dice_of_patches(counts: list[list[int]], unions: Mapping[str, Sequence[int]]) -> dict[str, float | None]:
    """Returns the Dice of each structure of ``Labels.unions``, from voxels by label and prediction.

    None is the Dice of a structure that was in none of the patches.
    """
    present = overlaps_of_patches(counts, unions)
    return {name: present[name].dice if name in present else None for name in unions}


def overlaps_of_patches(counts: list[list[int]], unions: Mapping[str, Sequence[int]]) -> dict[str, Overlap]:
    """Returns the overlaps of the structures that were in the patches."""
    overlaps = overlaps_in(np.array(counts).T, unions.values())
    return {name: each for name, each in zip(unions, overlaps, strict=True) if each.reference}


def is_learnt(overlap: Overlap, voxels: int) -> bool:
    """Returns whether its Dice is above that of as many voxels predicted anywhere, as Cohen's kappa is above 0."""
    by_chance = 2 * overlap.prediction * overlap.reference / voxels / (overlap.prediction + overlap.reference)
    return overlap.dice is not None and overlap.dice - by_chance >= LEARNT * (1 - by_chance)
