from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from medseg.metrics.rand import rand_scores


def grid_of_cells(*walls: int) -> np.ndarray:
    """Cells of a 30×30 picture, parted by walls of one pixel along x."""
    cells = np.ones((30, 30), bool)
    cells[list(walls)] = False
    return cells


def test_the_width_of_membranes_does_not_matter() -> None:
    reference = grid_of_cells(14, 15, 16)
    assert rand_scores(grid_of_cells(13, 14, 15, 16, 17), reference) == pytest.approx((1, 1))
    assert rand_scores(grid_of_cells(15), reference) == pytest.approx((1, 1))


def test_two_cells_that_merge() -> None:
    """Of two equal cells made one: half of the pairs that are together should be; all information is lost."""
    rand_score, information_score = rand_scores(np.ones((30, 30), bool), grid_of_cells(14, 15))
    assert rand_score == pytest.approx(2 * 0.5 / (1 + 0.5), abs=2e-3)
    assert information_score == pytest.approx(0)


def test_empty_masks() -> None:
    empty, full = np.zeros((9, 9), bool), np.ones((9, 9), bool)
    assert rand_scores(full, empty) is None
    assert rand_scores(empty, full) == (0, 0)
    assert rand_scores(full, full) == (1, 1)
    pixel = empty.copy()
    pixel[4, 4] = True
    assert rand_scores(pixel, pixel) == (1, 1)


def test_real_membranes_agree_with_the_formulas_of_the_challenge(real_data: Path) -> None:
    """V_Rand and V_Info written out over the table of all pieces, as in Arganda-Carreras et al. 2015."""
    reference = np.asarray(Image.open(real_data / "membrane/labels/16.png")) > 0
    prediction = reference.copy()
    prediction[:, 100:105], prediction[200:208, 300:400] = False, True
    pieces, _ = scipy.ndimage.label(prediction)
    true_pieces, n = scipy.ndimage.label(reference)
    nearest = scipy.ndimage.distance_transform_edt(~prediction, return_distances=False, return_indices=True)
    pieces = pieces[tuple(nearest)]  # grown until they meet, without a line
    joint = np.zeros((n + 1, pieces.max() + 1))
    np.add.at(joint, (true_pieces[reference], pieces[reference]), 1)
    p = joint / joint.sum()
    s, t = p.sum(0), p.sum(1)
    rand_score = 2 * (p**2).sum() / ((s**2).sum() + (t**2).sum())
    entropies = [-(each[each > 0] * np.log(each[each > 0])).sum() for each in (s, t, p)]
    information_score = 2 * (entropies[0] + entropies[1] - entropies[2]) / (entropies[0] + entropies[1])
    assert 0.5 < rand_score < 0.99
    # The line of pixels that are pieces of their own is worth this much.
    assert rand_scores(prediction, reference) == pytest.approx((rand_score, information_score), abs=0.02)
