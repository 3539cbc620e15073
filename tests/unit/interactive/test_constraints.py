"""Answers that agree with what the user said."""

import numpy as np
import pytest
import torch

from medseg.interactive.constraints import DOUBT, WindowAppearance, agreeing, steadied, without_other_labels
from medseg.interactive.mask_geometry import smoothed
from medseg.interactive.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.volume import Geometry

SOURCE = Geometry((24, 24, 12), np.diag([1.0, 1.0, 2.0, 1.0]))


def noise(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("positive", [True, False])
def test_points_and_scribbles_hold_wherever_they_lie(positive: bool) -> None:
    window = Geometry((20, 20, 10), SOURCE.affine @ np.array([[1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 1, 1], [0, 0, 0, 1]]))
    stroke = np.array([[12, y, 5] for y in range(4, 15)])
    prompts: list[Prompt] = [Point((2, 3, 1), positive), Point((21.4, 22, 10), positive), Scribble(stroke, positive)]
    made = agreeing(3 * noise(window.shape), prompts, SOURCE, window)
    voxels = np.concatenate([[[0, 0, 0], [19, 19, 9]], stroke - [2, 3, 1]])
    assert ((made[tuple(voxels.T)] > 0) == positive).all()


def test_what_agrees_or_is_far_stays_bit_by_bit() -> None:
    logits = noise(SOURCE.shape)
    logits[5, 5, 5], logits[18, 18, 5] = 0.01, -2
    beyond, box = Point((30, 5, 5)), Box(((0, 9), (0, 9), (0, 9)), positive=False)
    assert torch.equal(agreeing(logits, [Point((5, 5, 5)), beyond, box], SOURCE, SOURCE), logits)
    made = agreeing(logits, [Point((18, 18, 5))], SOURCE, SOURCE)
    changed = (made != logits).nonzero()
    distance = ((changed - torch.tensor([18, 18, 5])) * torch.tensor([1.0, 1.0, 2.0])).norm(dim=1)
    assert len(changed) > 300 and distance.max() < 25
    assert (made >= logits).all() and logits[18, 18, 5] == -2


def test_a_thing_that_the_network_does_not_know_is_found_by_what_looks_alike() -> None:
    image = 0.2 * noise((1, *SOURCE.shape))
    image[:, 4:14] += 3
    seen = WindowAppearance(image, torch.stack([noise(SOURCE.shape, seed) for seed in (1, 2)]))
    logits = -torch.ones(SOURCE.shape)
    clicked = [Point((8, 12, 5))]
    alike = agreeing(logits, clicked, SOURCE, SOURCE, seen)
    nearby = agreeing(logits, clicked, SOURCE, SOURCE)
    assert (alike > 0)[4:14].sum() > 2 * (nearby > 0)[4:14].sum()
    assert alike[8, 12, 5] == pytest.approx(1) and not (alike > 0)[15:].any()
    nearly = torch.where(torch.arange(24).view(24, 1, 1) < 8, 0.1, -3.0).expand(SOURCE.shape)
    moved = agreeing(nearly, [Point((6, 12, 5), positive=False)], SOURCE, SOURCE, seen)
    assert (moved[:, :, 5] > 0)[:8].float().mean() < 0.9 and torch.equal(moved[14:] > 0, nearly[14:] > 0)


def test_features_have_one_scale_and_no_channel_needs_to_differ() -> None:
    outputs = torch.stack([torch.zeros(8, 8, 8), 1000 * noise((8, 8, 8))])
    made = WindowAppearance(torch.zeros(1, 8, 8, 8), outputs).features
    assert made.shape == (3, 8, 8, 8) and bool(made.isfinite().all()) and made.abs().max() < 4
    many = torch.stack([noise((8, 8, 8), seed) * seed for seed in range(12)])
    made = WindowAppearance(torch.zeros(1, 8, 8, 8), many).features
    assert len(made) == 1 + 8 and torch.allclose(made[1], smoothed(many[11] / many[11].std()))


def test_the_newest_wins() -> None:
    said = [Point((8, 8, 5), positive) for positive in (True, False, True, False)]
    assert agreeing(noise(SOURCE.shape), said, SOURCE, SOURCE)[8, 8, 5] < 0
    assert agreeing(noise(SOURCE.shape), said[:-1], SOURCE, SOURCE)[8, 8, 5] > 0


def test_other_slices_do_not_feel_a_point_of_a_2d_network() -> None:
    flat = Geometry((24, 24, 1), SOURCE.affine)
    logits = -torch.ones(flat.shape)
    assert torch.equal(agreeing(logits, [Point((8, 8, 1))], SOURCE, flat), logits)
    assert agreeing(logits, [Point((8, 8, 0))], SOURCE, flat)[8, 8, 0] > 0


def test_away_from_the_newest_prompt_doubt_changes_nothing() -> None:
    before = torch.zeros(SOURCE.shape, dtype=torch.bool)
    before[:12] = True
    newest = np.array([3.5, 3.5, 3.5]), np.array([4.5, 4.5, 4.5])  # a point at (4, 4, 4)
    doubtful, sure = torch.where(before, -0.5, 0.5), torch.where(before, -0.9, 0.9)
    kept = steadied(doubtful, before, newest, SOURCE) > 0
    assert torch.equal(kept[17:], before[17:]) and torch.equal(kept[:, 17:], before[:, 17:])
    assert not kept[2:7, 2:7, 3:6].any()  # around the point it counts
    assert torch.equal(steadied(sure, before, newest, SOURCE) > 0, ~before)
    assert (steadied(doubtful, before, newest, SOURCE) - doubtful).abs().max() <= DOUBT
    assert torch.equal(steadied(doubtful, torch.zeros_like(before), newest, SOURCE), doubtful)


def test_a_box_reaches_along_all_of_its_edges_and_slices_are_near_within_their_plane() -> None:
    before = torch.ones(24, 24, 1, dtype=torch.bool)
    box = np.array([3.5, 3.5, -0.5]), np.array([9.5, 9.5, 0.5])
    moved = steadied(torch.zeros(before.shape), before, box, Geometry((24, 24, 1), SOURCE.affine))
    assert not moved[4:10, 4:10].any()
    assert moved[23, 23] > 0.6 and (moved[10:, 5].diff(dim=0) > 0).all()


NOTHING = torch.zeros(SOURCE.shape, dtype=torch.bool)


def labels_left(prompts: list[Prompt], before: torch.Tensor = NOTHING, window: Geometry = SOURCE) -> set[int]:
    """Which labels an answer has that wants all of a window: 1 and 2 are a fourth of it each, 0 is the rest."""
    labels = torch.zeros(SOURCE.shape, dtype=torch.uint8)
    labels[:6], labels[6:12] = 1, 2
    made = without_other_labels(torch.ones(SOURCE.shape), labels, prompts, before, SOURCE, window)
    assert set(made.unique().tolist()) <= {-1.0, 1.0}
    return set(labels[made > 0].unique().tolist())


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        (Point((20, 3, 3)), {0}),
        (Point((2, 3, 3)), {0, 1}),
        (Point((2, 3, 3), positive=False), {0}),
        (Point((99, 3, 3)), {0}),
        (Scribble(np.array([[11, 3, 3], [12, 3, 3]])), {0, 2}),
        (Box(((5, 8), (2, 9), (3, 4))), {0, 1, 2}),
        (Box(((14, 18), (2, 9), (3, 4))), {0}),
        (Lasso(np.array([[8, 3, 3], [8, 4, 3], [9, 3, 3]])), {0, 2}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_an_object_has_the_labels_that_its_prompts_lie_in(prompt: Prompt, left: set[int]) -> None:
    assert labels_left([prompt]) == left
    assert labels_left([Point((20, 3, 3)), prompt]) == left


def test_an_object_keeps_the_labels_that_its_mask_holds_or_consists_of() -> None:
    held, part, begun = NOTHING.clone(), NOTHING.clone(), NOTHING.clone()
    held[:5] = held[12:] = True  # most of label 1, and more of the rest
    part[:2] = part[12:] = True  # some of it, and more of the rest
    begun[:1] = True  # a window at the end of an object that has this label
    assert [labels_left([Point((20, 3, 3))], mask) for mask in (held, part, begun)] == [{0, 1}, {0}, {0, 1}]


def test_labels_and_prompts_need_not_share_a_grid() -> None:
    moved = Geometry(SOURCE.shape, SOURCE.affine @ np.array([[1, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert labels_left([Point((6, 3, 3))], window=moved) == {0, 1}
    assert labels_left([Point((6, 3, 3))]) == {0, 2}
