"""``.seg.nrrd`` against SimpleITK, slicerio, pynrrd and our own reader."""

from dataclasses import replace
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from dicom_judges import by_simpleitk

from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.read import read_segmentation
from medseg.io.seg_nrrd.writer import write_seg_nrrd
from medseg.labels import Labels
from medseg.terminology import Code
from medseg.volume import Geometry

OBLIQUE = np.array([[-0.5, 0.3, 0.1, 12.5], [0.2, 0.8, -0.9, -40.25], [0.1, 0.4, 2.1, 101.7], [0, 0, 0, 1]])


def orthogonal(shape: tuple[int, int, int]) -> Geometry:
    turned, _ = np.linalg.qr(OBLIQUE[:3, :3])
    affine = OBLIQUE.copy()
    affine[:3, :3] = turned * (0.7, 0.9, 2.5)
    return Geometry(shape, affine)


@pytest.fixture
def segmented() -> LabelMapVolume:
    """A liver at a corner, a kidney, a tumour in the liver, and regions over them."""
    label_map = np.zeros((9, 8, 7), dtype=np.uint8)
    label_map[:4, :5, :3], label_map[6:8, 5:, 4:6], label_map[1:3, 1:3, 1:2] = 3, 7, 1
    labels = Labels.from_names({"liver tumour": 1, "liver": 3, "kidney_left": 7}, {"all of the liver": (1, 3)})
    labels = labels.described({"liver": {"colour": (221, 130, 101)}})
    return LabelMapVolume(label_map, orthogonal(label_map.shape), labels)


def written(tmp_path: Path, segmented: LabelMapVolume) -> Path:
    (path,) = write_seg_nrrd(tmp_path / "mask.seg.nrrd", segmented)
    return path


def test_simpleitk_reads_a_label_map_in_its_place(tmp_path: Path, segmented: LabelMapVolume) -> None:
    segmented = replace(segmented, labels=segmented.labels.model_copy(update={"regions": ()}))
    voxels, place = by_simpleitk(written(tmp_path, segmented))
    assert voxels.dtype == np.uint8
    np.testing.assert_array_equal(voxels, segmented.label_map)
    assert segmented.geometry.difference(place, 1e-9) is None


def test_regions_lie_in_layers_of_their_own(tmp_path: Path, segmented: LabelMapVolume) -> None:
    layers, place = by_simpleitk(written(tmp_path, segmented))
    assert layers.shape == (2, 9, 8, 7)
    np.testing.assert_array_equal(layers[0], segmented.label_map)
    np.testing.assert_array_equal(layers[1] > 0, np.isin(segmented.label_map, (1, 3)))
    assert segmented.geometry.difference(place, 1e-9) is None


def test_slicerio_reads_names_colours_and_codes(tmp_path: Path, segmented: LabelMapVolume) -> None:
    found = slicerio.read_segmentation(str(written(tmp_path, segmented)))
    segments = {segment["name"]: segment for segment in found["segments"]}
    assert list(segments) == ["liver tumour", "liver", "kidney_left", "all of the liver"]
    for structure in segmented.labels.structures:
        segment = segments[structure.name]
        layer = found["voxels"][segment["layer"]]
        np.testing.assert_array_equal(layer == segment["labelValue"], segmented.mask(structure))
        np.testing.assert_allclose(np.array(segment["color"]) * 255, structure.colour, atol=0.01)
    liver, kidney = segments["liver"]["terminology"], segments["kidney_left"]["terminology"]
    assert liver["category"] == ["SCT", "123037004", "Anatomical Structure"]
    assert liver["type"] == ["SCT", "10200004", "Liver"]
    assert kidney["type"][2] == "Kidney" and kidney["typeModifier"] == ["SCT", "7771000", "Left"]
    affine = np.diag([-1, -1, 1, 1]) @ found["ijkToLPS"]
    assert segmented.geometry.difference(Geometry(segmented.geometry.shape, affine), 1e-9) is None


def test_extents_are_the_boxes_around_the_layers(tmp_path: Path, segmented: LabelMapVolume) -> None:
    header = nrrd.read_header(str(written(tmp_path, segmented)))
    assert [header[f"Segment{i}_Extent"] for i in range(4)] == ["0 7 0 7 0 5"] * 3 + ["0 3 0 4 0 2"]
    assert header["kinds"] == ["list", "domain", "domain", "domain"]


def test_our_reader_gives_all_back(tmp_path: Path, segmented: LabelMapVolume) -> None:
    found = read_segmentation(written(tmp_path, segmented))
    assert segmented.geometry.difference(found.geometry, 1e-9) is None
    for segment, structure in zip(found.segments, segmented.labels.structures, strict=True):
        assert (segment.name, segment.colour) == (structure.name, structure.colour)
        assert (segment.category, segment.type, segment.modifier) == tuple(structure.coding)[:3]
        np.testing.assert_array_equal(found.mask(segment), segmented.mask(structure))


def test_names_that_the_format_has_signs_for(tmp_path: Path, segmented: LabelMapVolume) -> None:
    names = ["Hirnödem: 50 %", "髄膜腫", "a\\b~c^d|e"]
    labels = Labels.from_names(dict(zip(names, (1, 3, 7), strict=True)))
    code = Code(scheme="99X", value="a~b", meaning="c^d|e")
    labels = labels.described({names[0]: {"type": code}})
    path = written(tmp_path, replace(segmented, labels=labels))
    image = sitk.ReadImage(str(path))  # slicerio leaves out what is not ASCII
    assert [image.GetMetaData(f"Segment{i}_Name") for i in range(2)] == names[:2]
    found = read_segmentation(path)
    assert [segment.name for segment in found.segments] == names
    assert found.segments[0].type == Code(scheme="99X", value="a b", meaning="c d e")
    np.testing.assert_array_equal(by_simpleitk(path)[0], segmented.label_map)


@pytest.mark.parametrize(
    ("values", "dtype"), [((255, 2), np.uint8), ((300, 2), np.uint16), ((-3, 2), np.int8), ((-3, 70000), np.int32)]
)
def test_values_keep_their_size(
    tmp_path: Path, segmented: LabelMapVolume, values: tuple[int, int], dtype: type
) -> None:
    label_map = np.array([0, *values])[np.clip(segmented.label_map, 0, 2)]
    labels = Labels.from_names({"a": values[0], "b": values[1]})
    voxels, _ = by_simpleitk(written(tmp_path, replace(segmented, label_map=label_map, labels=labels)))
    assert voxels.dtype == dtype
    np.testing.assert_array_equal(voxels, label_map)


def test_a_sheared_grid_keeps_its_place(tmp_path: Path, segmented: LabelMapVolume) -> None:
    """SimpleITK knows no shear; Slicer does, and the header says it."""
    geometry = Geometry(segmented.geometry.shape, OBLIQUE)
    found = slicerio.read_segmentation(str(written(tmp_path, replace(segmented, geometry=geometry))))
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ found["ijkToLPS"], OBLIQUE, atol=1e-12)


def test_an_empty_mask(tmp_path: Path, segmented: LabelMapVolume) -> None:
    path = written(tmp_path, replace(segmented, label_map=np.zeros_like(segmented.label_map)))
    assert not by_simpleitk(path)[0].any()
    assert len(slicerio.read_segmentation(str(path))["segments"]) == 4


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path, segmented: LabelMapVolume) -> None:
    assert written(tmp_path, segmented).read_bytes() == written(tmp_path, segmented).read_bytes()


def test_no_labels_at_all(tmp_path: Path, segmented: LabelMapVolume) -> None:
    label_map = np.zeros_like(segmented.label_map)
    path = written(tmp_path, replace(segmented, label_map=label_map, labels=Labels.from_values([])))
    np.testing.assert_array_equal(by_simpleitk(path)[0], label_map)
