"""What networks learn of objects: depth and core, of whole cases, in mm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.instances.targets import FULL, object_targets

ISOTROPIC = (1.0, 1.0, 1.0)


def depth_of(objects, spacing=ISOTROPIC, slice_axis=None):
    return object_targets(objects, spacing, ["distance"], slice_axis)[0]


def by_definition(objects, spacing) -> np.ndarray:
    """The depth of each voxel, by all voxels of the image; objects are in one piece."""
    places = np.argwhere(objects >= 0) * spacing
    result = np.zeros(objects.size)
    flat = objects.ravel()
    for number in np.unique(flat[flat > 0]):
        own, others = places[flat == number], places[flat != number]
        nearest = np.linalg.norm(own[:, None] - others[None], axis=-1).min(1) - min(spacing) / 2
        result[flat == number] = nearest / nearest.max()
    return result.reshape(objects.shape)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    st.sampled_from([ISOTROPIC, (0.5, 0.5, 2.0), (3.0, 1.0, 1.5)]),
    st.integers(0, 10**6),
)
def test_depth_is_that_of_the_definition(shape, spacing, seed):
    random = np.random.default_rng(seed)
    objects = np.zeros(shape, np.uint16)
    for number in range(1, 4):  # boxes, of which later ones must not cut earlier ones to pieces
        first = random.integers(0, shape)
        box = tuple(slice(a, a + int(random.integers(1, 6))) for a in first)
        if not objects[box].any():
            objects[box] = 7 * number
    if objects.all():
        objects[...] = 0
    wanted = by_definition(objects, np.array(spacing))
    np.testing.assert_allclose(depth_of(objects, spacing) / FULL, wanted, atol=1 / FULL)


def test_touching_objects_have_a_valley_between_them_and_the_edge_of_the_image_is_no_border():
    objects = np.zeros((12, 11, 1), np.uint32)
    objects[:6], objects[6:] = 70_000, 2**31  # both cut by the image
    depth = depth_of(objects)[:, 5, 0]
    assert depth[0] == depth[11] == FULL
    assert depth[5] == depth[6] < FULL / 5


def test_a_slice_is_taken_by_itself_where_the_network_sees_slices():
    ball = np.linalg.norm(np.indices((11, 11, 11)) - 5, axis=0) < 5
    slices = depth_of(ball.astype(np.uint8), slice_axis=2)
    assert all(slices[..., z].max() == FULL for z in range(1, 10))
    assert depth_of(ball.astype(np.uint8))[..., 1].max() < FULL / 3


def test_scaling_an_image_does_not_change_the_depth():
    ball = (np.linalg.norm(np.indices((15, 15, 15)) - 7, axis=0) < 6).astype(np.uint8)
    larger = ball.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    fine, coarse = depth_of(larger)[1::3, 1::3, 1::3], depth_of(ball)
    assert np.abs(fine.astype(int) - coarse)[ball > 0].mean() < 0.07 * FULL


def test_the_core_lies_more_than_a_voxel_and_a_half_inside():
    objects = np.zeros((9, 9, 1), np.uint8)
    objects[1:8, 1:8] = 3
    core = object_targets(objects, ISOTROPIC, ["distance", "core"])[1, ..., 0]
    assert core.sum() / FULL == 25
    assert set(np.unique(core)) == {0, FULL}


def test_thick_slices_part_cores_too():
    objects = np.zeros((9, 9, 8), np.uint8)
    objects[1:8, 1:8, :4], objects[1:8, 1:8, 4:] = 1, 2
    core = object_targets(objects, (1.0, 1.0, 4.0), ["core"])[0, 4, 4]
    assert (core / FULL).tolist() == [1, 1, 1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("kinds", [["distance"], ["core"], ["distance", "core"]])
def test_nothing_and_one_object_that_fills_everything(kinds):
    shape = (4, 5, 6)
    assert not object_targets(np.zeros(shape, np.int32), ISOTROPIC, kinds).any()
    assert (object_targets(np.ones(shape, np.int32), ISOTROPIC, kinds) == FULL).all()


def test_pieces_of_one_object_are_deep_each():
    objects = np.zeros((20, 9, 1), np.int32)
    objects[1:8, 1:8] = objects[12:15, 3:6] = 1
    depth = depth_of(objects)
    assert depth[:9].max() == depth[11:].max() == FULL
