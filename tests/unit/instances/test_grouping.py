"""Objects are those of the definition, whatever the slabs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from medseg.instances import grouping as module
from medseg.instances.grouping import Grouping, Objects
from medseg.instances.rule import GroupingRule

RULE = GroupingRule(threshold=0.6)


def grouped(score, values=None, *, rule=RULE, axis=0, heights=()) -> Objects:
    """The objects of scores that come in slabs of these heights."""
    values = (score > 0).astype(np.uint8) if values is None else values
    grouping, start = Grouping(score.shape, axis, rule), 0
    for stop in [*np.cumsum(heights)[np.cumsum(heights) < score.shape[axis]], score.shape[axis]]:
        place = tuple(slice(int(start), int(stop)) if each == axis else slice(None) for each in range(3))
        grouping.take(values[place], score[place], int(start))
        start = stop
    return grouping.objects()


def by_definition(score, threshold) -> np.ndarray:
    """Objects by the definition of the module's docstring, voxel by voxel."""
    inside = np.argwhere(score > 0)
    seeds, n = ndimage.label(score >= threshold)
    basin, basins_of_peaks = {}, {}

    def neighbours(voxel):
        low, high = np.maximum(voxel - 1, 0), np.minimum(voxel + 2, score.shape)
        return [np.array(each) + low for each in np.ndindex(*(high - low))]

    def end_of(voxel):
        while not seeds[tuple(voxel)]:
            higher = max(neighbours(voxel), key=lambda each: (score[tuple(each)], *(-each)))
            if (higher == voxel).all():
                return basins_of_peaks.setdefault(tuple(voxel), n + 1 + len(basins_of_peaks))
            voxel = higher
        return int(seeds[tuple(voxel)])

    for voxel in inside:
        basin[tuple(voxel)] = end_of(voxel)
    passes = {}
    for voxel in inside:
        for other in map(tuple, neighbours(voxel)):
            one, two = basin[tuple(voxel)], basin.get(other)
            if two not in (None, one):
                place = sorted((tuple(voxel), other))
                passes[(-min(score[tuple(voxel)], score[other]), *place)] = one, two
    tree = {number: {number} for number in set(basin.values())}
    for height_and_place in sorted(passes):
        one, other = (tree[number] for number in passes[height_and_place])
        if one is not other and not (min(one) <= n and min(other) <= n):
            one |= other
            tree |= dict.fromkeys(one, one)
    result = np.zeros(score.shape, int)
    numbers = {}
    for voxel, number in basin.items():
        if min(tree[number]) <= n:
            result[voxel] = numbers.setdefault(id(tree[number]), len(numbers) + 1)
    return result


SCORES = st.builds(
    lambda shape, seed, levels: (
        np.random.default_rng(seed).integers(0, levels, shape).astype(np.float32) / (levels - 1)
    ),
    st.tuples(*[st.integers(1, 7)] * 3),
    st.integers(0, 10**6),
    st.sampled_from([3, 6, 2**20]),  # many ties, or none
)


@settings(max_examples=40, deadline=None)
@given(SCORES, st.integers(0, 2), st.lists(st.integers(1, 3), max_size=6), st.sampled_from([1, 30, 2**22]))
def test_objects_are_those_of_the_definition_whatever_the_slabs(score, axis, heights, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "VOXELS_AT_ONCE", at_once)
        objects = grouped(score, axis=axis, heights=heights)
    np.testing.assert_array_equal(objects.object_map, by_definition(score, RULE.threshold))
    np.testing.assert_array_equal(np.bincount(objects.object_map.ravel())[1:], objects.voxels)


def test_only_basins_that_reach_the_next_slab_are_remembered(monkeypatch):
    monkeypatch.setattr(module, "VOXELS_AT_ONCE", 1)
    score = np.random.default_rng(0).random((120, 12, 12), np.float32)  # a maximum every few voxels
    rule = GroupingRule(threshold=0.99)
    grouping, remembered = Grouping(score.shape, 0, rule), []
    for start in range(0, len(score), 4):
        slab = score[start : start + 4]
        grouping.take(np.ones(slab.shape, np.uint8), slab, start)
        remembered.append(len(grouping._graph.is_seeded))
    assert max(remembered) < 2 * 12 * 12  # a plane, and what leads there
    objects = grouping.objects()
    assert len(objects.values) > 100
    assert len(grouping._graph.is_seeded) == 0
    np.testing.assert_array_equal(objects.object_map, grouped(score, rule=rule).object_map)


def ellipsoids(shape, centres, radii):
    """How deep each voxel lies in the ellipsoid that holds it, and which that is."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    depth = np.stack([1 - np.linalg.norm((grid - centre) / radii, axis=-1) for centre in centres])
    return depth.max(0).clip(0).astype(np.float32), np.where(depth.max(0) > 0, depth.argmax(0) + 1, 0)


def test_touching_ellipsoids_are_parted_as_a_watershed_does():
    centres = np.stack(np.meshgrid([10, 25, 40], [10, 25, 40], [3, 8], indexing="ij"), -1).reshape(-1, 3)
    score, truth = ellipsoids((50, 50, 12), centres, (9, 9, 3))  # radii that overlap; slices four times as thick
    objects = grouped(score, heights=[7] * 9)
    assert len(objects.values) == len(centres)
    seeds, _ = ndimage.label(score >= RULE.threshold)
    flooded = watershed(-score, seeds, connectivity=3, mask=score > 0)
    for number in range(1, len(centres) + 1):
        own = objects.object_map == number
        assert np.mean(truth[own] == np.bincount(truth[own]).argmax()) > 0.97
        assert np.mean(flooded[own] == np.bincount(flooded[own]).argmax()) > 0.97


def test_an_object_has_the_label_of_most_of_its_voxels_and_small_ones_go():
    score, values = np.zeros((9, 1, 1), np.float32), np.zeros((9, 1, 1), np.uint8)
    score[:, 0, 0] = [0.4, 1, 0.4, 0, 0.8, 0.3, 0.3, 0, 0.9]
    values[:, 0, 0] = [1, 2, 2, 0, 1, 1, 2, 0, 3]
    objects = grouped(score, values, rule=GroupingRule(threshold=0.5, smallest=2))
    assert objects.object_map.ravel().tolist() == [1, 1, 1, 0, 2, 2, 2, 0, 0]
    assert objects.values.tolist() == [2, 1]
    assert objects.peaks.tolist() == pytest.approx([1, 0.8])


def test_planes_without_a_slab_hold_no_object():
    grouping = Grouping((9, 1, 1), 0, RULE)
    ones = np.ones((2, 1, 1), np.float32)
    grouping.take(ones.astype(np.uint8), ones, 1)
    grouping.take(ones.astype(np.uint8), ones, 5)
    assert grouping.objects().object_map.ravel().tolist() == [0, 1, 1, 0, 0, 2, 2, 0, 0]


def test_an_image_without_objects_and_one_that_is_full():
    empty = grouped(np.zeros((4, 5, 6), np.float32))
    assert not empty.object_map.any()
    assert empty.object_map.dtype == np.uint16
    full = grouped(np.ones((4, 5, 6), np.float32), heights=[1, 1, 1])
    assert (full.object_map == 1).all()
    assert full.voxels.tolist() == [120]


def test_more_objects_than_16_bits_count():
    score = np.zeros((600, 480, 1), np.float32)
    score[::2, ::2] = 1
    objects = grouped(score, heights=[50] * 12)
    assert objects.object_map.dtype == np.uint32
    assert objects.object_map.max() == len(objects.values) == 300 * 240
