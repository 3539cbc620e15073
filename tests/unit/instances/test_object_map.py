import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import LabelError
from medseg.instances.object_map import ObjectMap, components, find_lost_objects, numbered, objects_on, pieces
from medseg.labels import Labels
from medseg.volume import Geometry

LESIONS = Labels.from_names({"liver": 3, "lesion": 7, "cyst": 9}).with_instances(["lesion", "cyst"])


@pytest.mark.parametrize("dtype", [np.uint8, ">u2", np.int32, np.uint32, np.int64, np.uint64, np.float32])
def test_values_become_numbers_without_gaps(dtype: str) -> None:
    values = np.array([[[0, 40, 3], [3, 0, 200]]], dtype)
    objects = numbered(values, label=5)
    assert objects.array.dtype == np.int32
    assert objects.array.tolist() == [[[0, 2, 1], [1, 0, 3]]]
    assert objects.names == ("3", "40", "200") and objects.classes.tolist() == [5, 5, 5]


def test_ids_beyond_32_bits_are_numbered_anew() -> None:
    objects = numbered(np.array([[[2**63 + 1, 2**33, 2**33 + 1, 0]]], np.uint64))
    assert objects.array.tolist() == [[[3, 1, 2, 0]]]
    assert objects.names[2] == str(2**63 + 1)


def test_ids_below_0_are_refused_but_for_the_ignore_value() -> None:
    values = np.array([[[-1, 0, 4]]], np.int16)
    with pytest.raises(LabelError, match=r"below 0: -1; number them 1, 2, 3, …, or say --ignore-value -1"):
        numbered(values)
    assert numbered(values, ignore=-1).names == ("4",)


def test_floats_that_cannot_tell_objects_apart_are_refused() -> None:
    with pytest.raises(LabelError, match="float32 tells whole numbers apart up to 16,777,216 only"):
        numbered(np.array([[[2.0**24 + 2, 1]]], np.float32))
    assert numbered(np.array([[[2.0**24, 1]]], np.float32)).names == ("1", str(2**24))


def test_an_empty_map_and_one_object_that_fills_everything() -> None:
    assert len(numbered(np.zeros((3, 4, 1), np.uint16))) == 0
    full = numbered(np.full((3, 4, 1), 9))
    assert len(full) == 1 and (full.array == 1).all() and pieces(full.array).tolist() == [1]


def test_components_are_of_instance_labels_only_and_never_of_two() -> None:
    label_map = np.array([[[7, 9, 3, 7, 0, 9]]])
    objects = components(label_map, LESIONS)
    assert objects.counts(LESIONS) == {"lesion": 2, "cyst": 2}
    assert np.array_equal(objects.class_map, np.where(label_map == 3, 0, label_map))
    assert len(np.unique(objects.array)) == 5


def test_objects_are_left_out_and_numbered_anew() -> None:
    objects = numbered(np.array([[[5, 6, 7, 0]]]))
    kept = objects.only(np.array([True, False, True]))
    assert kept.array.tolist() == [[[1, 0, 2, 0]]] and kept.names == ("5", "7")


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], axes: str = "RAS") -> Geometry:
    return Geometry(shape, np.diag([*spacing, 1.0])).oriented_as(axes)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["RAS", "LPS", "SRA", "PIL"]), st.sampled_from([0.5, 0.8, 1.0, 1.7, 3.0]))
def test_resampling_merges_no_objects_and_moves_none(seed: int, axes: str, factor: float) -> None:
    random = np.random.default_rng(seed)
    source = _grid((7, 6, 5), (1.0, 1.5, 4.0), axes)
    objects = random.integers(0, 6, source.shape).astype(np.int32)
    shape = tuple(max(1, int(n / factor)) for n in (7, 6, 5))
    target = _grid((shape[0], shape[1], shape[2]), (factor, 1.5 * factor, 4.0 * factor))
    found = objects_on(objects, source, target)
    for voxel in np.ndindex(*target.shape):
        place = source.index(target.world(voxel))
        near = [
            np.unique(np.clip(np.floor(np.array([x - 1e-4, x + 1e-4]) + 0.5), -1, n))
            for x, n in zip(place, source.shape, strict=True)
        ]
        allowed = {
            int(objects[i, j, k])
            if 0 <= i < source.shape[0] and 0 <= j < source.shape[1] and 0 <= k < source.shape[2]
            else 0
            for i in near[0].astype(int)
            for j in near[1].astype(int)
            for k in near[2].astype(int)
        }
        assert int(found[voxel]) in allowed


def test_what_resampling_loses_is_named() -> None:
    objects = ObjectMap(
        np.array([1, 1, 1, 2, 3, 3, 3, 3], np.int32).reshape(8, 1, 1), np.array([7, 9, 7]), ("a", "b", "c")
    )
    coarse = objects_on(objects.array, _grid((8, 1, 1), (1, 1, 1)), Geometry((2, 1, 1), np.diag([4.0, 1, 1, 1])))
    (lost,) = find_lost_objects(objects, coarse)
    assert (lost.label, lost.names, lost.n_objects, lost.voxels) == (9, ("b",), 1, 1)
