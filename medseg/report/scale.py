"""An axis of a drawing: values to places on the page, with round numbers at its ticks."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log10

MOST_TICKS = 5
ROUND = (1, 2, 5, 10)
ROOM = 0.04  # beyond the outermost values, as part of their range


@dataclass(frozen=True)
class Scale:
    """A linear axis, from values to places on the page.

    Attributes:
        low: The value at ``start``.
        high: The value at ``end``.
        start: A place on the page.
        end: A place on the page.
        least_step: Between ticks: 1 for what is counted.
    """

    low: float
    high: float
    start: float
    end: float
    least_step: float = 0.0

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, least_step: float = 0.0) -> "Scale":
        """Returns an axis with room for all values; one that cannot be told from the others has some too.

        Args:
            values: Of all that is drawn.
            start: The place on the page of the lowest.
            end: The place on the page of the highest.
            least_step: Between ticks: 1 for what is counted.
        """
        known = list(values) or [0.0, 1.0]
        low, high = min(known), max(known)
        room = (high - low) * ROOM or abs(low) * ROOM or 1.0
        return cls(low - room, high + room, start, end, least_step)

    def __call__(self, value: float) -> float:
        """Returns the place of a value on the page."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The place of each tick on the page, and its number as text."""
        least = max((self.high - self.low) / MOST_TICKS, self.least_step)
        power = 10.0 ** floor(log10(least))
        step = power * next(each for each in ROUND if each * power >= least * (1 - 1e-9))
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [(self(i * step), f"{i * step:.6g}") for i in range(first, last + 1)]
