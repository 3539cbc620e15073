"""Objects as structures of their own, in the formats of other programs."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.io.discover import source_of
from medseg.io.read import read_geometry, read_segmentation, segments_of
from medseg.workflows.export import export
from medseg.workflows.preprocess import preprocess

WriteSlices = Callable[..., list[Path]]


def test_dicom_seg_with_a_segment_an_object_comes_back_as_objects(tmp_path: Path, write_slices: WriteSlices) -> None:
    stored = np.random.default_rng(0).integers(0, 900, (5, 12, 10), dtype=np.int16)
    write_slices(tmp_path / "study" / "ct", stored, orientation=(1, 0, 0, 0, 1, 0), spacing=(2.0, 2.0, 3.0))
    grid = read_geometry(source_of(tmp_path / "study" / "ct"))
    objects = np.zeros(grid.shape, np.uint16)
    objects[1:4, 2:5, 1:3], objects[4:7, 2:5, 1:3], objects[6:9, 8:11, 2:5] = 4, 900, 17
    nibabel.save(nibabel.Nifti1Image(objects, grid.affine), tmp_path / "objects.nii.gz")
    path = tmp_path / "study" / "lesions.dcm"
    written = export(tmp_path / "objects.nii.gz", path, like=tmp_path / "study" / "ct", instances="lesion")
    assert written.certificate.passed and written.format.name == "dicom-seg"
    assert [segment.name for segment in segments_of(path)] == ["lesion 1", "lesion 2", "lesion 3"]
    assert len({segment.colour for segment in read_segmentation(path).segments}) == 3
    settings = ["preprocessing.workers=1", "preprocessing.orientation=LPS"]
    preprocess(tmp_path / "study", tmp_path / "p", config=load(overrides=settings), instances="lesion")
    dataset = PreparedDataset(tmp_path / "p")
    (case_id,) = dataset.cases
    found = dataset.objects(case_id)
    assert dataset.cases[case_id].n_objects == {"lesion": 3}
    assert len({(int(a), int(b)) for a, b in zip(found.ravel(), objects.ravel(), strict=True)}) == 4


@pytest.mark.parametrize("suffix", [".geojson", ".seg.nrrd"])
def test_objects_of_a_picture(tmp_path: Path, suffix: str) -> None:
    objects = np.zeros((20, 30), np.uint16)
    objects[2:8, 2:9], objects[8:14, 2:9], objects[3:6, 20:25] = 300, 2, 41
    Image.fromarray(objects).save(tmp_path / "objects.png")
    written = export(tmp_path / "objects.png", tmp_path / f"nuclei{suffix}", instances="nucleus")
    assert written.certificate.passed
    if suffix == ".geojson":
        features = json.loads(written.path.read_text())["features"]
        assert [each["properties"]["name"] for each in features] == ["nucleus 1", "nucleus 2", "nucleus 3"]
        touching = [tuple(features[i]["properties"]["classification"]["color"]) for i in (0, 2)]
        assert len(set(touching)) == 2
