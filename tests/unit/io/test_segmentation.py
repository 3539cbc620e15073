import numpy as np

from medseg.io.segmentation import Layers, Segment, Segmentation, SegmentHeader, some_of, with_unique_names
from medseg.volume import Geometry

EVERYWHERE = (slice(None),) * 3


def box(*ends: int) -> np.ndarray:
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[: ends[0], : ends[1], : ends[2]] = True
    return mask


def segmentation(masks: dict[str, np.ndarray]) -> Segmentation:
    layers = Layers((4, 4, 4), len(masks))
    segments = [
        Segment(10 * value, name, layers.add(value, mask, EVERYWHERE), value)
        for value, (name, mask) in enumerate(masks.items(), start=1)
    ]
    return Segmentation(Geometry((4, 4, 4), np.eye(4)), tuple(layers.arrays), tuple(segments))


def test_segments_that_do_not_overlap_share_a_layer() -> None:
    masks = {"body": box(4, 4, 4), "left": box(2, 4, 4), "right": box(4, 4, 4) & ~box(2, 4, 4), "spot": box(1, 1, 1)}
    found = segmentation(masks)
    assert [segment.layer for segment in found.segments] == [0, 1, 1, 2]
    for segment in found.segments:
        np.testing.assert_array_equal(found.mask(segment), masks[segment.name])


def test_the_smaller_of_overlapping_segments_lies_on_top() -> None:
    found = segmentation({"tumour": box(1, 2, 2), "organ": box(3, 3, 3), "body": box(4, 4, 4)})
    label_map = found.label_map({"organ": 7, "tumour": 70000})
    expected = np.where(box(1, 2, 2), 70000, np.where(box(3, 3, 3), 7, 0))
    np.testing.assert_array_equal(label_map, expected)


def test_an_empty_segment_changes_nothing() -> None:
    found = segmentation({"organ": box(3, 3, 3), "nothing": box(0, 0, 0), "spot": box(1, 1, 1)})
    np.testing.assert_array_equal(
        found.label_map({"organ": 1, "nothing": 2, "spot": 3}), np.where(box(1, 1, 1), 3, box(3, 3, 3))
    )
    assert not found.mask(found.segments[1]).any()
    assert not segmentation({"nothing": box(0, 0, 0)}).label_map({"nothing": 4}).any()


def test_more_segments_than_a_byte_counts() -> None:
    masks = {f"voxel {i}": np.arange(4096).reshape(16, 16, 16) == i for i in range(300)}
    layers = Layers((16, 16, 16), len(masks))
    assert {layers.add(i, mask, EVERYWHERE) for i, mask in enumerate(masks.values(), start=1)} == {0}
    assert layers.arrays[0].max() == 300


def test_names_become_unique_and_numbers_positive() -> None:
    headers = [SegmentHeader(n, name) for n, name in enumerate(("GTV", " GTV ", "", "GTV 2", "GTV", "  "))]
    found = with_unique_names(headers, "ROI")
    assert [header.name for header in found] == ["GTV", "GTV 3", "ROI 3", "GTV 2", "GTV 4", "ROI 6"]
    assert [header.number for header in found] == [1, 2, 3, 4, 5, 6]
    kept = with_unique_names([SegmentHeader(7, "a"), SegmentHeader(3, "b")], "ROI")
    assert [header.number for header in kept] == [7, 3]


def test_a_few_names_stand_for_many() -> None:
    assert some_of(["liver"]) == "'liver'"
    assert some_of([str(i) for i in range(8)]) == "'0', '1', '2', '3', '4' and 3 more"
