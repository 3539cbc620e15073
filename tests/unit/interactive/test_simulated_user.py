"""What a simulated user says in training: at the object, and at the errors of a mask."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from medseg.interactive.drawn_objects import drawn_object, seed_of
from medseg.interactive.mask_geometry import depth, filled_box, picked
from medseg.interactive.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.interactive.simulated_user import SimulatedUser
from medseg.interactive.target_objects import TargetObjects, grown_region

VOLUME, SLICE = (24, 30, 12), (24, 30, 1)


def ball(shape: tuple[int, int, int], radius: float = 5, centre: tuple[int, int, int] = (12, 14, 6)) -> torch.Tensor:
    middle = [min(at, n - 1) for at, n in zip(centre, shape, strict=True)]
    grid = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    return sum((axis - at) ** 2 for axis, at in zip(grid, middle, strict=True)) <= radius**2


def first_prompts(mask: torch.Tensor, n: int = 80) -> list[Prompt]:
    return [SimulatedUser(np.random.default_rng([1, i])).first(mask) for i in range(n)]


@pytest.mark.parametrize("shape", [VOLUME, SLICE])
def test_first_prompts_are_of_all_kinds_and_lie_at_the_object(shape: tuple[int, int, int]) -> None:
    mask = ball(shape)
    prompts = first_prompts(mask)
    assert {type(prompt) for prompt in prompts} == {Point, Box, Scribble, Lasso}
    for prompt in prompts:
        assert prompt.positive
        if isinstance(prompt, Point):
            assert mask[tuple(map(int, prompt.index))]
        elif isinstance(prompt, Scribble):
            assert mask[tuple(prompt.voxels.T)].all()
            assert len(np.unique(prompt.voxels, axis=0)) == len(prompt.voxels)
        elif isinstance(prompt, Lasso):
            assert mask[tuple(prompt.voxels.T)].float().mean() > 0.4  # the object on that slice, and a voxel around it
            assert sorted(np.ptp(prompt.voxels, axis=0))[0] == 0
        else:
            inside = mask[tuple(slice(a, b) for a, b in prompt.bounds)]
            assert inside.any()
            assert all(0 <= a < b <= n for (a, b), n in zip(prompt.bounds, shape, strict=True))


def test_boxes_are_loose_more_often_than_tight() -> None:
    mask = ball(VOLUME)
    boxes = [p for p in first_prompts(mask, 300) if isinstance(p, Box) and all(b - a > 1 for a, b in p.bounds)]
    sizes = np.array([[b - a for a, b in box.bounds] for box in boxes])
    assert len(boxes) > 10
    assert (sizes.mean(0) > [b - a for a, b in filled_box(mask)]).all()
    assert len(np.unique(sizes, axis=0)) > 5


def test_a_seed_says_all() -> None:
    mask, other = ball(VOLUME), ball(VOLUME, centre=(9, 14, 6))

    def said(seed: int) -> list[str]:
        user = SimulatedUser(np.random.default_rng(seed))
        return [repr(user.first(mask)), *(repr(user.correction(mask, other)) for _ in range(4))]

    assert said(3) == said(3)
    assert said(3) != said(4)


def test_corrections_lie_in_the_thickest_error_mostly() -> None:
    target = ball(VOLUME, 6)
    thin, thick = torch.zeros_like(target), ball(VOLUME, 3, (20, 24, 6)) & ~target
    thin[12, 14] = target[12, 14]
    mask = (target & ~thin) | thick
    said = [SimulatedUser(np.random.default_rng([2, i])).correction(target, mask) for i in range(60)]
    negative = [prompt for prompt in said if prompt is not None and not prompt.positive]
    assert 0.65 < len(negative) / len(said) < 0.95
    for prompt in said:
        voxels = prompt.voxels if isinstance(prompt, Scribble) else np.array([prompt.index])
        assert (thin if prompt.positive else thick)[tuple(voxels.astype(int).T)].all()
    assert SimulatedUser(np.random.default_rng(0)).correction(target, target) is None


def test_depth_is_the_distance_to_the_surface_in_voxels() -> None:
    mask = torch.zeros(9, 9, 9, dtype=torch.bool)
    mask[1:8, 1:8, 1:8] = True
    assert depth(mask)[4, 4].tolist() == [0, 1, 2, 3, 4, 3, 2, 1, 0]
    assert depth(torch.ones(5, 5, 1, dtype=torch.bool))[2, :, 0].tolist() == [1, 2, 3, 2, 1]


def test_voxels_are_drawn_as_likely_as_their_weights() -> None:
    weights = torch.tensor([[[1.0, 0.0]], [[2.0, 5.0]]])
    shares = (np.arange(80) + 0.5) / 80
    drawn = [picked(weights, share) for share in shares]
    assert [drawn.count(place) for place in [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)]] == [10, 0, 20, 50]


def test_objects_are_labels_and_regions_unless_anything_may_be_one() -> None:
    label = torch.zeros(VOLUME, dtype=torch.uint8)
    label[ball(VOLUME, 5)] = 1
    label[ball(VOLUME, 3)] = 3
    label[:2] = 255
    image = label[None].float() + 0.05 * torch.randn(1, *VOLUME, generator=torch.Generator().manual_seed(0))
    known = [TargetObjects([(1, 3)], False).drawn(image, label, np.random.default_rng(i)) for i in range(30)]
    assert {drawn.values for drawn in known if drawn is not None} == {(1,), (3,), (1, 3)}
    anything = [TargetObjects([(1, 3)], True).drawn(image, label, np.random.default_rng(i)) for i in range(60)]
    others = [drawn.mask for drawn in anything if drawn is not None and not drawn.values]
    assert 25 < len(others) < 55
    assert any((mask & (label == 1)).any() and not (mask & (label == 0)).any() for mask in others)  # a part
    assert any((mask & (label == 0)).any() for mask in others)  # what only the image sets apart
    drawn = [each for each in anything if each is not None and each.image is not None]
    assert 8 < len(drawn) < 30
    assert all((each.image != image)[0][each.mask].all() for each in drawn)
    grown = [each.mask for each in anything if each is not None and each.image is None and not each.values]
    assert not any((mask & (label == 255)).any() for mask in grown)
    assert TargetObjects([], False).drawn(image, torch.zeros_like(label), np.random.default_rng(0)) is None


def test_a_grown_region_keeps_to_one_side_of_an_edge() -> None:
    image = torch.zeros(1, *VOLUME)
    image[:, 12:] = 5
    image += 0.3 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    allowed = torch.ones(VOLUME, dtype=torch.bool)
    grown = [grown_region(image, allowed, np.random.default_rng(i)) for i in range(12)]
    shares = [float(mask[:12].sum() / mask.sum()) for mask in grown if mask is not None]
    assert len(shares) > 6
    assert all(min(share, 1 - share) < 0.1 for share in shares)
    assert grown_region(image, ~allowed, np.random.default_rng(0)) is None


@pytest.mark.parametrize("shape", [VOLUME, SLICE])
def test_drawn_objects_are_smooth_stand_out_and_hang_together(shape: tuple[int, int, int]) -> None:
    image = 0.05 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    image[:, 12:] += 5
    drawn = [drawn_object(image, np.random.default_rng(i)) for i in range(20)]
    again = drawn_object(image, np.random.default_rng(3))
    assert torch.equal(again.mask, drawn[3].mask) and torch.equal(again.image, drawn[3].image)
    sizes = [int(each.mask.sum()) for each in drawn]
    assert len(set(sizes)) > 15 and max(sizes) < 0.6 * image[0].numel()
    parts = [ndimage.label(each.mask.numpy(), np.ones((3, 3, 3)))[1] for each in drawn if each.mask.any()]
    assert np.mean([n == 1 for n in parts]) > 0.8
    changes = [(each.image - image).abs()[0] for each in drawn]
    inside = [float(change[each.mask].mean()) for change, each in zip(changes, drawn, strict=True) if each.mask.any()]
    assert np.median(inside) > 1  # twenty times the noise
    far = [change[depth(~each.mask) > 2] for change, each in zip(changes, drawn, strict=True)]
    assert not any(each.any() for each in far)


def test_seeds_are_of_all_values_however_rare() -> None:
    values = torch.zeros(20, 20, 20)
    values[:2] = 1
    values[2:4, :5] = 2
    allowed = torch.ones(values.shape, dtype=torch.bool)
    seeds = [float(values[seed_of(values, allowed, np.random.default_rng(i))]) for i in range(60)]
    assert {0.0, 1.0, 2.0} == set(seeds)
    only = values == 0
    assert all(only[seed_of(values, only, np.random.default_rng(i))] for i in range(10))
