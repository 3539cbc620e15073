"""Label maps in OME-Zarr: as other programs read them, and what the check finds."""

from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr
from ome_zarr_models.v05 import ImageLabel

from medseg.errors import OutputError
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import OME_ZARR, format_named, write_mask
from medseg.io.ome_zarr import writer
from medseg.io.ome_zarr.check import check_ome_zarr
from medseg.io.read import read_volume
from medseg.labels import Labels
from medseg.volume import Geometry

LABELS = Labels.from_names({"liver": 5, "tumour": 300})
GRID = Geometry((9, 7, 12), np.array([[0, 0, -2.0, 30], [0, -1.5, 0, 20], [1.0, 0, 0, -7], [0, 0, 0, 1]]))


def segmented(grid: Geometry = GRID) -> LabelMapVolume:
    values = np.array([0, 5, 300], np.uint16)
    return LabelMapVolume(values[np.random.default_rng(0).integers(0, 3, grid.shape)], grid, LABELS)


def test_others_read_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK", 4)
    monkeypatch.setattr(writer, "SMALLEST_LEVEL", 4)
    mask = segmented()
    written = write_mask(format_named("ome-zarr"), tmp_path / "case.ome.zarr", mask)
    assert written.certificate.passed
    group = written.path / "labels" / "segmentation"
    model = ImageLabel.from_zarr(zarr.open_group(str(group), mode="r"))
    said = model.attributes.ome.multiscales[0].datasets[0].coordinateTransformations[0].model_dump()
    assert said == {"type": "scale", "scale": [2.0, 1.5, 1.0]}
    assert len(model.attributes.ome.multiscales[0].datasets) == 3
    stored = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(group / "0")}}).result()
    np.testing.assert_array_equal(stored.read().result().T, mask.label_map)
    coarse = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(group / "1")}}).result()
    np.testing.assert_array_equal(coarse.read().result().T, mask.label_map[::2, ::2, ::2])
    volume = read_volume(written.path)
    np.testing.assert_array_equal(volume.label_map, mask.label_map)
    np.testing.assert_allclose(volume.geometry.affine, GRID.affine)


def test_the_check_sees_a_voxel_and_a_place(tmp_path: Path) -> None:
    mask = segmented()
    write_mask(OME_ZARR, tmp_path / "case.ome.zarr", mask)
    array = zarr.open_array(str(tmp_path / "case.ome.zarr" / "labels" / "segmentation" / "0"), mode="r+")
    array[0, 0, 0] = 5 if array[0, 0, 0] != 5 else 0
    assert check_ome_zarr(tmp_path / "case.ome.zarr", mask).fault == "1 of 756 voxels differ"
    elsewhere = LabelMapVolume(mask.label_map, GRID.with_spacing((2.0, 2.0, 2.0)), LABELS)
    assert "away from its place" in check_ome_zarr(tmp_path / "case.ome.zarr", elsewhere).fault


def test_what_ome_zarr_cannot_say_is_refused(tmp_path: Path) -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    with pytest.raises(OutputError, match="turned against those of the patient"):
        write_mask(OME_ZARR, tmp_path / "case.ome.zarr", segmented(Geometry(GRID.shape, turned)))
    assert not list(tmp_path.iterdir())
