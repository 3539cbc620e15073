"""A time budget."""

from collections.abc import Callable

from medseg.progress import say
from medseg.training.callback import Callback
from medseg.training.epoch import Epoch
from medseg.training.trainer import Trainer

BEGAN = "time-budget"  # in the state: the seconds that went before the first step


class TimeBudget(Callback):
    """Lets the learning rate follow the clock, so that the schedule ends when the time does.

    What goes before the first step, such as imports and trying what fits the time, is no part of the schedule. After
    the first epoch it says how many steps there will be.

    Args:
        seconds: Of training, over all sittings; or a function of the trainer that finds out how many there are. The
            first process asks it, before the first step.
    """

    def __init__(self, seconds: float | Callable[[Trainer], float]) -> None:
        self.seconds = seconds
        self._sat_down: float | None = None  # when the first step of this sitting began; None: the steps are told

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Sets the budget, and where in it the schedule begins."""
        given, clock = self.seconds, trainer.clock
        if trainer.state.step == 0:
            trainer.state.extra[BEGAN] = clock.seconds
        began = trainer.state.extra.get(BEGAN)
        clock.began = began if isinstance(began, float) else 0.0
        clock.budget = trainer.processes.first(lambda: given(trainer) if callable(given) else given)
        self._sat_down = clock.seconds

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Says once how many steps there will be, by the pace so far: with batches, and what else works beside."""
        steps, clock = epoch.step - trainer.first_step, trainer.clock
        left = clock.time_left(epoch.step, trainer.first_step)
        if self._sat_down is not None and steps and left and trainer.processes.is_first:
            pace = (clock.seconds - self._sat_down) / steps
            say(f"There is time for about {epoch.step + left / pace:,.0f} steps of {pace:.2g} s")
            self._sat_down = None
