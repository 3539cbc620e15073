"""The learning rate over the part of the schedule that is done, whether steps or the clock measure it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from medseg.errors import ConfigError, MedsegError
from medseg.plugin_errors import PluginError, errors_of_plugins
from medseg.plugins import plugin_of
from medseg.setting_types import NAMES

Decay = Callable[[float], float]
"""The learning rate after the warm-up, as a part of the highest one, over the part of the schedule that is done."""

# As nnU-Net: (1 - progress) ** 0.9.
POLY_POWER = 0.9
# Part of what is left in which the rate moves onto a schedule that was made longer.
JOINING = 0.1


@dataclass(frozen=True)
class Join:
    """Where a run stood when its schedule was made longer or shorter."""

    progress: float  # on the new schedule
    rate: float  # the last of the old one


@dataclass
class Schedule:
    """The rate over the progress of a run.

    A schedule that is changed on the way is joined without a jump: from the last rate of the old one, the rate moves
    in a straight line, over a tenth of what is left, onto the new schedule, and follows it.
    """

    peak: float
    warm_up: float
    shape: str | Decay
    factor: float = 1.0  # of the watchdog
    join: Join | None = None

    def rate(self, progress: float) -> float:
        """Returns the learning rate at ``progress``, the part of the schedule that is done, in 0 … 1."""
        if self.join is None or progress >= (end := self.join.progress + JOINING * (1 - self.join.progress)):
            return self.factor * learning_rate(progress, self.peak, self.warm_up, self.shape)
        target = self.factor * learning_rate(end, self.peak, self.warm_up, self.shape)
        done = max(progress - self.join.progress, 0.0) / (end - self.join.progress)
        return self.join.rate + done * (target - self.join.rate)


def learning_rate(progress: float, peak: float, warm_up: float, shape: str | Decay) -> float:
    """Returns the learning rate of a schedule.

    It rises in a straight line during the warm-up, then decays to 0.

    Args:
        progress: The part of the schedule that is done, in 0 … 1.
        peak: The highest rate.
        warm_up: The part of the schedule that the rise takes.
        shape: Of the decay: "cosine", half of one; "poly", (1 - progress) ** 0.9, as in nnU-Net; what a plugin
            registered; or a function of the part of what comes after the warm-up that is done, in 0 … 1.

    Raises:
        PluginError: The schedule of a plugin raised an error, or gave no rate.
        ConfigError: The function gave no rate.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warm_up:
        # Not from zero: the first step would be lost.
        return peak * max(progress / warm_up, 0.01)
    rest = (progress - warm_up) / (1 - warm_up)
    if callable(shape):
        return peak * _part(shape(rest), rest, "schedule", ConfigError)
    if (plugin := plugin_of("schedule", shape, is_taken=shape in NAMES["schedule"])) is not None:
        with errors_of_plugins():
            part = plugin.build(rest)
        return peak * _part(part, rest, f"{plugin.file}: the schedule '{shape}'", PluginError)
    if shape == "poly":
        return float(peak * (1 - rest) ** POLY_POWER)
    return peak * 0.5 * (1 + math.cos(math.pi * rest))


def _part(part: object, rest: float, whose: str, raises: type[MedsegError]) -> float:
    """Returns what a function of the user's gave, which has to be a part of the highest rate."""
    if not isinstance(part, int | float) or not 0 <= part < math.inf:
        raise raises(f"{whose} gave {part!r} at {rest:.3f}; give a part of the rate")
    return part
