"""How many threads PyTorch's operations take on a processor, chosen by the time that steps take.

The threads of an operation wait for each other at its end. Where another program wants a core of theirs, each operation
lasts as long as its slowest thread: on two cores, one of them busy, a training step takes three times as long as alone,
and one thread is faster than two. What else runs on a machine changes, so it is measured all the time.
"""

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from statistics import fmean

import torch

# What is compared is the mean of at least so many steps that took at least so many seconds, without the slowest: less
# would be taken in by chance, more would cost time.
LOOK, LOOK_SECONDS = 4, 0.5
# Another number of threads has to be faster than this part of the time, or nothing changes.
FASTER = 0.9
# Steps that take so much longer than they did call for a try at once, and end one that is under way.
SLOWER = 1.3
# Seconds between tries: twice as many after each that changed nothing.
FIRST_WAIT, LONGEST_WAIT = 4.0, 60.0


class Threads:
    """Times steps, tries half or twice as many threads now and then, and keeps what is faster.

    Outside of ``timed`` PyTorch has the number of threads that the user, or the system, gave it; that is also the most
    that are taken. With ``fixed`` it is always that number, and nothing is tried: sums are then added in the same
    order, and a run that is resumed has the same weights to the bit.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, fixed: int | None = None) -> None:
        self.fixed = fixed
        self.clock = clock
        self.most = self.count = fixed or 0
        self.changes: list[str] = []  # in words
        self._kind: Hashable = None
        self._times: list[float] = []  # seconds for a unit of work
        self._seconds = 0.0  # of these steps
        self._usual = float("inf")  # seconds for a unit of work with ``count`` threads
        self._before: tuple[int, float] | None = None  # threads and seconds before the try that is under way
        self._next_is_fewer = True
        self._wait = FIRST_WAIT
        self._try_at = clock()

    @contextmanager
    def timed(self, kind: Hashable, work: float = 1.0) -> Iterator[None]:
        """Runs a step by as many threads as are fast at present.

        Args:
            kind: Steps of one kind are compared with each other.
            work: They are compared by their time for a unit of work.
        """
        given = torch.get_num_threads()
        if self.fixed is None and given != self.most:
            self.most, self.count = given, min(self.count or given, given)
        if kind != self._kind:
            self._turn_to(kind)
        with using(self.count):
            start = self.clock()
            yield
            seconds = self.clock() - start
        if self.fixed is None and self.most > 1:
            self._see(seconds, work)

    def settle(self, step: Callable[[], object]) -> None:
        """Tries a step with all threads, with half of them, and so on as long as fewer are faster.

        Args:
            step: It is ``timed``.
        """
        if self.fixed is not None:
            return
        count = most = torch.get_num_threads()
        seconds = self._least(step, count)
        while count > 1 and (fewer := self._least(step, count // 2)) < FASTER * seconds:
            self._take(count // 2, count, fewer, seconds)
            count, seconds = count // 2, fewer
        self.count, self.most = count, most

    def told(self) -> list[str]:
        """Returns the changes since the last call, in words."""
        changes, self.changes = self.changes, []
        return changes

    def _least(self, step: Callable[[], object], count: int) -> float:
        """Returns the seconds of a step with so many threads. The first ones are slower, so it is the least of some."""
        taken = []
        for _ in range(LOOK - 1):
            self.count = count
            start = self.clock()
            step()
            taken.append(self.clock() - start)
            self._turn_to(None)
        return min(taken)

    def _turn_to(self, kind: Hashable) -> None:
        """Forgets what steps of another kind took, and a try that is under way."""
        if self._before is not None:
            self.count = self._before[0]
        self._kind, self._before = kind, None
        self._times, self._seconds, self._usual = [], 0.0, float("inf")

    def _see(self, seconds: float, work: float) -> None:
        self._times.append(seconds / work)
        self._seconds += seconds
        if not self._have_seen_enough():
            return
        usual = fmean(sorted(self._times)[:-1] or self._times)
        self._times, self._seconds = [], 0.0
        if self._before is None:
            self._look(usual)
        else:
            self._judge(usual, *self._before)

    def _have_seen_enough(self) -> bool:
        """Returns whether the steps so far can be compared with others."""
        if self._seconds < LOOK_SECONDS:
            return False
        if self._before is not None and min(self._times) > SLOWER * self._before[1]:
            return True  # a number of threads that is far from being kept: each further step would cost time
        return len(self._times) >= LOOK

    def _look(self, seconds: float) -> None:
        """Begins a try when it is time for one, or when steps have become slower."""
        became_slower = seconds > SLOWER * self._usual
        self._usual = seconds if became_slower else min(self._usual, seconds)
        if self.clock() < self._try_at and not became_slower:
            return
        self._before = self.count, seconds
        fewer = self.count > 1 and (self._next_is_fewer or became_slower or self.count == self.most)
        self.count = self.count // 2 if fewer else min(2 * self.count, self.most)

    def _judge(self, seconds: float, count_before: int, seconds_before: float) -> None:
        """Keeps the number that was tried, or goes back."""
        tried, self._before = self.count, None
        is_faster = seconds < FASTER * seconds_before
        if is_faster:
            self._take(tried, count_before, seconds, seconds_before)
            self._usual, self._wait = seconds, FIRST_WAIT
        else:
            self.count = count_before
            self._wait = min(2 * self._wait, LONGEST_WAIT)
        self._next_is_fewer = is_faster == (tried < count_before)
        self._try_at = self.clock() + self._wait

    def _take(self, count: int, before: int, seconds: float, seconds_before: float) -> None:
        why = "something else keeps the processor busy" if count < before else "the processor is free again"
        self.count = count
        self.changes.append(
            f"{count} of {self.most} threads: {why} ({seconds:.2g} s a step, before {seconds_before:.2g} s)"
        )


@contextmanager
def using(count: int) -> Iterator[None]:
    """Lets PyTorch have so many threads, and afterwards as many as before."""
    given = torch.get_num_threads()
    if count != given:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != given:
            torch.set_num_threads(given)
