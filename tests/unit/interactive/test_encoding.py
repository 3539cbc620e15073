"""Prompts on the grid of a network: where they lie, how thick they are, and which of them is the strongest."""

import numpy as np
import pytest
import torch

from medseg.architecture import PROMPT_CHANNELS, PromptChannels
from medseg.interactive.encoding import encode
from medseg.interactive.prompts import Box, Lasso, Point, Prompt, Scribble, voxels_of
from medseg.volume import Geometry

CHANNELS = PromptChannels(point_radius_mm=3, scribble_radius_mm=1, decay=0.5)
SOURCE = Geometry((20, 30, 10), np.array([[-1, 0, 0, 7], [0, -1, 0, 9], [0, 0, 3, -4], [0, 0, 0, 1]]))  # LPS
POSITION = {name: i for i, name in enumerate(PROMPT_CHANNELS)}


def prompted(name: str, *prompts: Prompt, window: Geometry = SOURCE) -> torch.Tensor:
    made = encode(prompts, CHANNELS, SOURCE, window)
    others = [i for i in range(len(PROMPT_CHANNELS)) if i != POSITION[name]]
    assert not made[others].any()
    return made[POSITION[name]]


def test_a_ball_is_one_in_mm() -> None:
    ball = prompted("points inside", Point((10, 15, 5)))
    assert ball[10, 15, 5] == 1
    assert ball[11:14, 15, 5].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert ball[10, 15, 6] == ball[10, 15, 4] == 0  # 3 mm away


def test_prompts_lie_at_the_same_place_of_the_world_on_another_grid() -> None:
    fine = Geometry((40, 30, 30), SOURCE.oriented_as("RAS").affine @ np.diag([0.5, 1, 1 / 3, 1]))
    window = Geometry((20, 16, 24), fine.affine @ np.array([[1, 0, 0, 8], [0, 1, 0, 5], [0, 0, 1, -3], [0, 0, 0, 1]]))
    place = SOURCE.world((10, 15, 5))
    for name, prompt in {
        "points outside": Point((10, 15, 5), positive=False),
        "box inside": Box(((9, 12), (14, 17), (5, 6))),
        "scribbles inside": Scribble(np.array([[10, 15, 5]])),
        "box outside": Lasso(voxels_of(np.ones((3, 3, 1), dtype=bool), (9, 14, 5)), positive=False),
    }.items():
        made = prompted(name, prompt, window=window)
        centre = window.world((torch.argwhere(made > 0).double() * made[made > 0][:, None]).sum(0) / made.sum())
        assert centre == pytest.approx(place, abs=0.3), name
        assert made.max() == 1, name


def test_what_lies_outside_of_the_window_draws_nothing_or_its_part_of_it() -> None:
    window = Geometry((20, 30, 4), SOURCE.affine)
    far = [Point((10, 15, 6)), Box(((0, 20), (0, 30), (6, 8))), Scribble(np.array([[1, 1, 9]]))]
    assert not encode(far, CHANNELS, SOURCE, window).any()
    assert prompted("box inside", Box(((-5, 3), (28, 40), (2, 9))), window=window).sum() == 3 * 2 * 2


def test_a_slice_shows_what_lies_on_it_only() -> None:
    slice_4 = SOURCE.cropped((slice(0, 20), slice(0, 30), slice(4, 5)))
    assert prompted("points inside", Point((10, 15, 4)), window=slice_4)[12, 15, 0] == pytest.approx(1 / 3)
    assert not prompted("points inside", Point((10, 15, 5)), window=slice_4).any()


def test_the_voxel_of_a_point_is_marked_on_slices_thicker_than_the_ball() -> None:
    thick = Geometry((20, 30, 3), SOURCE.affine @ np.diag([1, 1, 4, 1]))
    ball = prompted("points inside", Point((10, 15, 5)), window=thick)  # 3 mm from the middle of a slice
    assert ball[10, 15].tolist() == [0, 1, 0]


def test_scribbles_are_thickened_and_stay_closed_on_a_finer_grid() -> None:
    line = Scribble(np.array([[i, 15, 5] for i in range(5, 12)]))
    drawn = prompted("scribbles inside", line)
    assert drawn[:, 15, 5].tolist() == [0.0] * 4 + [1.0] * 9 + [0.0] * 7
    assert drawn[8, :, 5].sum() == 3
    finer = Geometry((80, 120, 30), SOURCE.affine @ np.diag([0.25, 0.25, 1 / 3, 1]))
    fine = prompted("scribbles inside", line, window=finer) > 0
    assert fine[20:46, 60, 15].all()  # no holes between the voxels that were drawn


def test_the_newest_prompt_is_the_strongest() -> None:
    made = prompted("points inside", Point((3, 3, 3)), Point((10, 15, 5)), Point((16, 25, 7)))
    assert [made[3, 3, 3], made[10, 15, 5], made[16, 25, 7]] == [0.25, 0.5, 1]
    again = prompted("points inside", Point((10, 15, 5)), Point((11, 15, 5)))
    assert again[10, 15, 5] == pytest.approx(2 / 3)  # of the newer one, which covers the older


def test_the_previous_mask_is_kept_as_it_is() -> None:
    mask = torch.rand(SOURCE.shape)
    made = encode([], CHANNELS, SOURCE, SOURCE, mask)
    assert torch.equal(made[0], mask)
    assert not made[1:].any()
