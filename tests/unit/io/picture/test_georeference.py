"""The mask of a GeoTIFF lies where its image lies, as GDAL sees it."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from medseg.errors import OutputError
from medseg.io.discover import source_of
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import PNG, TIFF, write_mask
from medseg.io.picture.georeference import georeference_of
from medseg.io.picture.reader import read_image2d
from medseg.labels import Labels

rasterio = pytest.importorskip("rasterio")
UTM, AT = "EPSG:32633", (0.5, 0.0, 432100.25, 0.0, -0.5, 5543210.75)  # half a metre a pixel
TURNED = (0.4, 0.3, 432100.25, 0.3, -0.4, 5543210.75)  # which needs a matrix instead of a scale


def geotiff(path: Path, place: tuple[float, ...] = AT, crs: str = UTM) -> Path:
    bands = np.random.default_rng(0).integers(0, 255, (4, 48, 64)).astype(np.uint8)
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 4, "dtype": "uint8", "crs": crs, "nodata": 255,
               "transform": rasterio.Affine(*place), "tiled": True, "blockxsize": 16, "blockysize": 16,
               "compress": "deflate"}  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(bands)
    return path


def mask_of(image: Path) -> LabelMapVolume:
    volume = read_image2d(image)
    label_map = np.zeros(volume.geometry.shape, np.uint8)
    label_map[10:20, 30:40] = 1
    return LabelMapVolume(label_map, volume.geometry, Labels.from_names({"road": 1}), source_of(image))


@pytest.mark.parametrize(("place", "crs"), [(AT, UTM), (TURNED, UTM), ((1e-4, 0, 13.5, 0, -1e-4, 52.5), "EPSG:4326")])
def test_gdal_sees_the_mask_where_the_image_is(tmp_path: Path, place: tuple[float, ...], crs: str) -> None:
    image = geotiff(tmp_path / "ortho.tif", place, crs)
    written = write_mask(TIFF, tmp_path / "mask.tif", mask_of(image))
    assert not written.certificate.fault
    with rasterio.open(image) as source, rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.crs == source.crs and mask.transform == source.transform
        assert mask.nodata is None  # 255 is no value of the mask
        assert mask.read(1)[30:40, 10:20].all() and mask.read(1).sum() == 100


def test_a_mask_that_lies_elsewhere_is_kept_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = geotiff(tmp_path / "ortho.tif")
    elsewhere = georeference_of(geotiff(tmp_path / "other.tif", TURNED))
    monkeypatch.setattr("medseg.io.picture.writer.georeference_of", lambda path: elsewhere)
    with pytest.raises(OutputError, match="does not lie on Earth where its image lies"):
        write_mask(TIFF, tmp_path / "mask.tif", mask_of(image))
    assert not (tmp_path / "mask.tif").exists()


def test_other_files_have_no_georeference(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((4, 4), np.uint8))
    assert georeference_of(tmp_path / "plain.tif") == [] and georeference_of(tmp_path / "a.png") == []
    written = write_mask(PNG, tmp_path / "mask.png", mask_of(geotiff(tmp_path / "ortho.tif")))
    assert not written.certificate.fault
