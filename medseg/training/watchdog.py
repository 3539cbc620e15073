"""The watchdog: sees early that a run has come to grief, and says what to change before it is tried again.

A loss or gradient that is no number, and a label that the network has given up, show in the batches, so that what the
watchdog does depends on the steps alone, and a resumed run does the same as an unbroken one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from medseg.errors import TrainingError

# A Dice that would be shown as .00.
DEAD_DICE = 0.005
# A label may stay dead for this part of the schedule, and for as many steps.
PATIENCE = 0.0999
LEAST_STEPS = 100
# So late, going back would leave no time to learn anything again.
TOO_LATE = 0.8
# How often a setting is changed before the run is given up (no numbers) or goes on as it is (a dead label).
TRIES = 3
# Parts of the schedule between the states that a run goes back to.
BETWEEN_GOOD_STATES = 0.05
RATE_CHANGE = 1 / 3
FOREGROUND_CHANGE = 2.0


class NotANumber(TrainingError):
    """The loss or its gradient at ``step``, whose batch was of ``case_ids``."""

    def __init__(self, what: str, step: int, case_ids: Sequence[str]) -> None:
        super().__init__(
            f"the {what} is not a number at step {step} (cases {', '.join(case_ids)}); check these cases, or start "
            "again with a lower training.learning_rate"
        )
        self.what, self.step, self.case_ids = what, step, tuple(case_ids)


@dataclass
class Watchdog:
    """What was seen and changed so far; plain values, stored in the checkpoint."""

    foreground_fraction: float
    rate_factor: float = 1.0
    left_out: list[str] = field(default_factory=list)  # case ids
    tries: int = 0
    notes: list[str] = field(default_factory=list)  # each change, in words
    good_at: float = 0.0  # progress of the state to go back to
    judged_at: tuple[int, float] = (0, 0.0)  # step and progress
    counts: list[list[int]] = field(default_factory=list)  # since then: by label and prediction, in voxels of patches
    dead_since: dict[str, tuple[int, float]] = field(default_factory=dict)  # by label: step and progress
    lived: list[str] = field(default_factory=list)

    def see(self, confusion: torch.Tensor | None) -> None:
        """Voxels of an epoch, or of a part of one, by label and prediction."""
        if confusion is not None:
            self.counts = (confusion + torch.tensor(self.counts)).tolist() if self.counts else confusion.tolist()

    def judge(self, labels: Sequence[str], step: int, progress: float) -> str | None:
        """Looks at the Dice of an epoch's patches; what was changed, in words, where a label has been dead for long."""
        dice = label_dice(self.counts) if self.counts else [None] * len(labels)
        before = self.judged_at
        self.counts, self.judged_at = [], (step, progress)
        for name, value in zip(labels, dice, strict=True):
            if value is not None and value >= DEAD_DICE:
                self.dead_since.pop(name, None)
                self.lived = sorted({*self.lived, name})
            elif value is not None:
                self.dead_since.setdefault(name, before)
        dead = [
            name
            for name, (since_step, since) in self.dead_since.items()
            if step - since_step >= LEAST_STEPS and progress - since >= PATIENCE
        ]
        if not dead or self.tries >= TRIES or progress > TOO_LATE:
            return None
        lost = [name for name in dead if name in self.lived]
        reason = f"Dice of {', '.join(lost or dead)} on the training patches {'fell to' if lost else 'stays'} 0"
        return self._changed(reason, lower_rate=bool(lost) or self.foreground_fraction == 1)

    def after(self, error: NotANumber, damaged: Sequence[str]) -> str:
        """What was changed, in words; ``damaged`` are the cases of the batch whose images hold what is no number.
        Raises the error when enough was tried."""
        if damaged:
            self.left_out = sorted({*self.left_out, *damaged})
            self.notes.append(f"{', '.join(damaged)}: the image holds what is no number; left out of training")
            return self.notes[-1]
        if self.tries >= TRIES:
            raise error
        where = f"at step {error.step} (cases {', '.join(error.case_ids)})"
        return self._changed(f"the {error.what} is not a number {where}", lower_rate=True)

    def is_good(self, progress: float) -> bool:
        """Whether the state is one to go back to: it is time for one, and no label that lived is dead."""
        return progress - self.good_at >= BETWEEN_GOOD_STATES and not self.dead_since.keys() & set(self.lived)

    def start_from(self, step: int, progress: float, good: bool = False) -> None:
        """Forgets what was seen: the run went back, or (``good``) its schedule was changed."""
        self.counts, self.dead_since, self.judged_at = [], {}, (step, progress)
        if good:
            self.good_at = progress

    def _changed(self, reason: str, lower_rate: bool) -> str:
        self.tries += 1
        if lower_rate:
            self.rate_factor *= RATE_CHANGE
            change = "learning rate to a third"
        else:
            self.foreground_fraction = min(FOREGROUND_CHANGE * max(self.foreground_fraction, 0.1), 1.0)
            change = f"{self.foreground_fraction:.0%} of the patches on labelled voxels"
        self.notes.append(f"{reason}: {change} (change {self.tries} of at most {TRIES})")
        return self.notes[-1]


def label_dice(counts: list[list[int]]) -> list[float | None]:
    """Of each label, from voxels by label and prediction; None for one that was in none of the patches."""
    confusion = torch.tensor(counts)
    right, reference, predicted = confusion.diagonal()[1:], confusion.sum(1)[1:], confusion.sum(0)[1:]
    dice = (2 * right / (reference + predicted).clamp(min=1)).tolist()
    return [value if there else None for value, there in zip(dice, reference.tolist(), strict=True)]
