"""Objects compared one by one, against an assignment."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from medseg.metrics.objects import object_pairs


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.55, 0.7]), st.integers(1, 4))
def test_average_precision_is_that_of_the_best_assignment(seed, iou, smallest):
    random = np.random.default_rng(seed)
    reference = random.integers(0, 5, 30)
    predicted = np.where(random.random(30) < 0.7, reference, random.integers(0, 6, 30))
    large = [n for n in range(1, 6) if (predicted == n).sum() >= smallest]
    small = [n for n in range(1, 5) if (reference == n).any()]
    table = np.array(
        [[((reference == a) & (predicted == b)).sum() / ((reference == a) | (predicted == b)).sum() for b in large]
         for a in small]
    ).reshape(len(small), len(large))  # fmt: skip
    rows, columns = linear_sum_assignment(-(table >= iou).astype(float))
    matches = int((table[rows, columns] >= iou).sum())
    either = len(small) + len(large) - matches
    wanted = matches / either if either else 1.0
    assert object_pairs(reference, predicted).average_precision(iou, smallest) == wanted


def test_nothing_to_find_and_nothing_found():
    nothing, some = np.zeros(9, int), np.arange(9)
    assert object_pairs(nothing, nothing).mean_precision() == 1
    assert object_pairs(some, nothing).mean_precision() == object_pairs(nothing, some).mean_precision() == 0
    assert object_pairs(some, some).mean_precision() == 1
