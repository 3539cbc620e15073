"""How much of the schedule is done: measured in steps, or by the clock where there is a time budget."""

import time
from dataclasses import dataclass, field

from medseg.process_group import ALONE, ProcessGroup


@dataclass
class Clock:
    """Counts the seconds of a run over all its sittings.

    ``budget`` is the part of ``max_time`` that is left for training after what final validation needs; None where
    steps rule. The schedule lasts from ``began``, the seconds that went before the first step, to the end of the
    budget. In a process group the clock of the first process counts.
    """

    total_steps: int
    seconds_before: float = 0.0  # of earlier sittings
    budget: float | None = None
    began: float = 0.0
    started: float = field(default_factory=time.monotonic)
    processes: ProcessGroup = ALONE

    @property
    def seconds(self) -> float:
        """The seconds that the training has taken, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.started

    def progress(self, step: int) -> float:
        """Returns the part of the schedule that is done, 1 at its end."""
        if self.budget is None:
            return step / self.total_steps
        whole = self.budget - self.began
        return (self.processes.first(lambda: self.seconds) - self.began) / whole if whole > 0 else 1.0

    def time_left(self, step: int, first_step: int) -> float | None:
        """Returns the seconds that are left, estimated from the pace of this sitting where steps rule.

        Args:
            step: Steps done.
            first_step: Where this sitting began.

        Returns:
            None before there is a pace.
        """
        if self.budget is not None:
            return max(self.budget - self.seconds, 0.0)
        if step <= first_step:
            return None
        pace = (time.monotonic() - self.started) / (step - first_step)
        return pace * (self.total_steps - step)
