"""A time budget."""

from collections.abc import Callable

from medseg.training.callback import Callback
from medseg.training.trainer import Trainer


class TimeBudget(Callback):
    """Lets the learning rate follow the clock, so that the schedule ends when the time does.

    Args:
        seconds: Of training, over all sittings; or a function of the trainer that finds out how many there are. The
            first process asks it, before the first step.
    """

    def __init__(self, seconds: float | Callable[[Trainer], float]) -> None:
        self.seconds = seconds

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Sets the budget."""
        given = self.seconds
        trainer.clock.budget = trainer.processes.first(lambda: given(trainer) if callable(given) else given)
