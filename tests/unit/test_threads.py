from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch

from medseg.threads import LONGEST_WAIT, Threads, using


class Machine:
    """A processor whose steps take a time that depends on their threads, and a clock that shows it."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.used: list[int] = []

    def clock(self) -> float:
        return self.now

    def step(self) -> None:
        self.used.append(torch.get_num_threads())
        self.now += self.seconds(torch.get_num_threads())

    def run(self, threads: Threads, steps: int) -> list[int]:
        """How many threads the steps took."""
        self.used = []
        for _ in range(steps):
            with threads.timed("training"):
                self.step()
        return self.used


def quiet(threads: int) -> float:
    return 0.5 / threads**0.7


def busy(threads: int) -> float:
    """One of two cores has another program: two threads wait for each other at each operation."""
    return {1: 0.75, 2: 1.45}[threads]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with using(2):
        yield


def test_on_a_quiet_machine_all_threads_are_taken_and_few_steps_are_tries() -> None:
    machine = Machine(quiet)
    used = machine.run(Threads(machine.clock), 1000)
    assert used.count(1) < 40
    assert used[-1] == 2
    assert torch.get_num_threads() == 2


def test_beside_a_busy_program_fewer_threads_are_taken() -> None:
    machine = Machine(busy)
    threads = Threads(machine.clock)
    used = machine.run(threads, 200)
    assert used[:4] == [2] * 4
    assert used.count(2) < 40
    (change,) = threads.told()
    assert change == "1 of 2 threads: something else keeps the processor busy (0.75 s a step, before 1.4 s)"
    assert threads.told() == []
    assert torch.get_num_threads() == 2  # outside of steps


def test_a_try_that_is_far_slower_ends_with_its_first_long_step() -> None:
    machine = Machine({1: 1.9, 2: 1.0}.__getitem__)
    used = machine.run(Threads(machine.clock), 100)
    assert 3 <= used.count(1) <= 6
    assert (1, 1) not in pairwise(used)
    assert used[-1] == 2


@pytest.mark.parametrize("scale", [0.1, 0.5, 1, 4], ids=lambda scale: f"{scale}")
@pytest.mark.parametrize("seconds", [quiet, busy], ids=["quiet", "busy"])
def test_trying_costs_a_tenth_of_the_time_at_most(seconds: Callable[[int], float], scale: float) -> None:
    machine = Machine(lambda n: scale * seconds(n))
    machine.run(Threads(machine.clock), 100)
    assert machine.now < 1.1 * 100 * scale * min(seconds(1), seconds(2))


def test_a_program_that_begins_or_ends_meanwhile_is_noticed() -> None:
    machine = Machine(quiet)
    threads = Threads(machine.clock)
    machine.run(threads, 400)
    machine.seconds = busy
    assert machine.run(threads, 40)[8:].count(1) >= 20  # at once, since steps have become slower
    machine.seconds = quiet
    begin = machine.now
    used = machine.run(threads, 400)
    assert used[-1] == 2
    first = used.index(2)
    assert sum(quiet(n) for n in used[:first]) < LONGEST_WAIT
    assert machine.now > begin
    assert "the processor is free again" in threads.told()[-1]


def test_of_many_threads_half_are_tried_then_a_quarter() -> None:
    with using(16):
        machine = Machine(lambda n: 0.1 + abs(n - 4) * 0.05)
        threads = Threads(machine.clock)
        machine.run(threads, 400)
        assert threads.count == 4


def test_steps_of_another_kind_are_not_compared_with_these() -> None:
    machine = Machine(quiet)
    threads = Threads(machine.clock)
    for kind, cost in (("a window", 0.001), ("a step", 0.3), ("another step", 3.0)):
        machine.seconds = lambda n, cost=cost: cost
        for _ in range(3):  # fewer than are compared
            with threads.timed(kind):
                machine.step()
    assert set(machine.used) == {2}
    assert not threads.changes


def test_time_is_that_of_a_unit_of_work() -> None:
    machine = Machine(quiet)
    threads = Threads(machine.clock)
    machine.run(threads, 100)
    for size in (1, 4, 2, 4, 1, 4, 4, 4) * 5:
        machine.seconds = lambda n, size=size: size * quiet(n)
        with threads.timed("training", size):
            machine.step()
    assert not threads.changes


@pytest.mark.parametrize(("seconds", "count"), [(busy, 1), (quiet, 2)])
def test_a_step_is_tried_before_many_are_done(seconds: Callable[[int], float], count: int) -> None:
    machine = Machine(seconds)
    threads = Threads(machine.clock)
    threads.settle(lambda: machine.run(threads, 1))
    assert threads.count == count
    assert len(threads.told()) == (count == 1)
    assert set(machine.run(threads, 3)) == {count}
    assert torch.get_num_threads() == 2


def test_a_fixed_number_is_kept_whatever_steps_take() -> None:
    machine = Machine(busy)
    threads = Threads(machine.clock, fixed=2)
    threads.settle(lambda: machine.run(threads, 1))
    assert set(machine.run(threads, 200)) == {2}
    assert not threads.changes
    assert set(machine.run(Threads(machine.clock, fixed=1), 20)) == {1}
