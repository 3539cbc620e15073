"""A time budget."""

from collections.abc import Callable

from medseg.training.callback import Callback
from medseg.training.trainer import Trainer

BEGAN = "time-budget"  # in the state: the seconds that went before the first step


class TimeBudget(Callback):
    """Lets the learning rate follow the clock, so that the schedule ends when the time does.

    What goes before the first step, such as imports and trying what fits the time, is no part of the schedule.

    Args:
        seconds: Of training, over all sittings; or a function of the trainer that finds out how many there are. The
            first process asks it, before the first step.
    """

    def __init__(self, seconds: float | Callable[[Trainer], float]) -> None:
        self.seconds = seconds

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Sets the budget, and where in it the schedule begins."""
        given, clock = self.seconds, trainer.clock
        if trainer.state.step == 0:
            trainer.state.extra[BEGAN] = clock.seconds
        began = trainer.state.extra.get(BEGAN)
        clock.began = began if isinstance(began, float) else 0.0
        clock.budget = trainer.processes.first(lambda: given(trainer) if callable(given) else given)
