"""Pictures larger than memory: cut, prepared, and put together again, where they lie on Earth."""

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

import medseg
from medseg.config import load
from medseg.dataset.layouts import find_cases
from medseg.dataset.store import PreparedDataset
from medseg.errors import ConfigError, MedsegError, SourceError
from medseg.io.discover import source_of
from medseg.io.picture import tiff
from medseg.io.picture.large_tiff import opened_large_tiff, write_tiles
from medseg.io.read import read_volume

HEIGHT, WIDTH = 300, 420
RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
LABELS = np.zeros((HEIGHT, WIDTH), np.uint8)
LABELS[40:90, 100:260] = LABELS[200:290, 10:60] = 1


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", COLOURS, tile=(64, 64), compression="zlib", photometric="rgb")
    tifffile.imwrite(tmp_path / "labels" / "a.tif", LABELS, rowsperstrip=32, photometric="minisblack")
    names = {"channel_names": {"0": "RGB"}, "labels": {"background": 0, "road": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(names))
    return tmp_path


def test_windows_are_those_of_the_whole_picture(slide: Path) -> None:
    for path, whole in ((slide / "images" / "a.tif", COLOURS), (slide / "labels" / "a.tif", LABELS)):
        with opened_large_tiff(path) as picture:
            for rows, columns in (((0, 300), (0, 420)), ((63, 65), (127, 129)), ((250, 300), (300, 420))):
                window = picture.window(slice(*rows), slice(*columns))
                np.testing.assert_array_equal(window, whole[slice(*rows), slice(*columns)])


def test_cut_and_joined_is_what_it_was(slide: Path) -> None:
    result = medseg.tile(slide / "labels", slide / "tiles", size=128, overlap=16)
    assert result.tiles == 12
    (joined,) = medseg.join_tiles(slide / "tiles" / "images", slide / "joined", tiles=slide / "tiles")
    np.testing.assert_array_equal(tifffile.imread(joined), LABELS)
    with tifffile.TiffFile(joined) as tiff:
        assert tiff.pages[0].is_tiled
    (slide / "tiles" / "images" / "a_y0_x112.tif").unlink()
    with pytest.raises(SourceError, match="has no mask of the tile 'a_y0_x112'; predict all tiles first"):
        medseg.join_tiles(slide / "tiles" / "images", slide / "again", tiles=slide / "tiles")


def test_tiles_are_a_dataset_whose_pictures_stay_together(slide: Path) -> None:
    result = medseg.tile(slide / "images", slide / "tiles", labels=slide / "labels", size=128, overlap=0, labelled=True)
    assert 0 < result.tiles < 12
    medseg.preprocess(slide / "tiles", slide / "prepared", config=load(overrides=["preprocessing.workers=1"]))
    dataset = PreparedDataset(slide / "prepared")
    assert dataset.labels.names == ["road"] and {case.group for case in dataset.cases.values()} == {"a"}
    assert len(dataset.cases) == result.tiles and len(dataset.record.channels) == 3


def test_each_tile_and_the_whole_lie_where_they_belong(slide: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    for place in (rasterio.Affine(0.5, 0, 4000, 0, -0.5, 9000), rasterio.Affine(0.4, 0.3, 4000, 0.3, -0.4, 9000)):
        profile = {"width": WIDTH, "height": HEIGHT, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
        kept = {"tiled": True, "blockxsize": 64, "blockysize": 64}
        with rasterio.open(slide / "map.tif", "w", driver="GTiff", transform=place, **profile, **kept) as file:
            file.write(LABELS, 1)
        tiles = slide / f"tiles {place.b}"
        medseg.tile(slide / "map.tif", tiles, size=128, overlap=16)
        with rasterio.open(tiles / "images" / "map_y112_x224.tif") as tile:
            assert tile.transform.almost_equals(place @ rasterio.Affine.translation(224, 112))
            assert tile.crs.to_epsg() == 32633
        (joined,) = medseg.join_tiles(tiles / "images", slide / "joined", tiles=tiles)
        with rasterio.open(joined) as whole:
            assert whole.transform.almost_equals(place) and whole.crs.to_epsg() == 32633


def test_memory_is_that_of_some_tiles(tmp_path: Path) -> None:
    """16 million pixels are 32 MB as they are joined; two rows of tiles are 8 MB."""
    band = np.zeros((512, 4096), np.uint8)
    write_tiles(tmp_path / "large.tif", (band for _ in range(8)), (4096, 4096))
    tracemalloc.start()
    medseg.tile(tmp_path / "large.tif", tmp_path / "tiles", size=512, overlap=0)
    medseg.join_tiles(tmp_path / "tiles" / "images", tmp_path / "joined", tiles=tmp_path / "tiles")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_a_picture_larger_than_memory_is_refused_with_the_way_out(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "memory_of_machine", lambda: 2**20)
    with pytest.raises(SourceError, match=r"a\.tif: 300×420×3 samples take .* cut it with 'medseg tile'"):
        read_volume(source_of(slide / "images" / "a.tif"))
    assert medseg.tile(slide / "images", slide / "tiles", size=128, overlap=16).tiles  # which reads it part by part


def test_masks_that_are_predicted_have_the_names_of_tiles(slide: Path) -> None:
    (slide / "images" / "a.tif").rename(slide / "images" / "slide 7__(b).tif")
    medseg.tile(slide / "images", slide / "tiles", size=128, overlap=16)
    files = {path.stem for path in (slide / "tiles" / "images").iterdir()}
    assert {case.case_id for case in find_cases(slide / "tiles" / "images").cases} == files
    assert {case.case_id for case in find_cases(slide / "tiles").cases} == files
    shutil.copy(slide / "images" / "slide 7__(b).tif", slide / "images" / "slide_7_b.tif")
    with pytest.raises(SourceError, match="differ in blanks or signs alone"):
        medseg.tile(slide / "images", slide / "others", size=128, overlap=16)


def test_what_cannot_be_cut_is_named(slide: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="overlap 128: has to be from 0 to 127"):
        medseg.tile(slide / "images", slide / "tiles", size=128, overlap=128)
    tifffile.imwrite(slide / "labels" / "a.tif", LABELS[:-1], photometric="minisblack")
    with pytest.raises(SourceError, match="has 420×299 pixels, and a.tif has 420×300"):
        medseg.tile(slide / "images", slide / "tiles", labels=slide / "labels")
    (slide / "labels" / "a.tif").rename(slide / "labels" / "b.tif")  # of several, names say what belongs together
    tifffile.imwrite(slide / "images" / "c.tif", LABELS, photometric="minisblack")
    with pytest.raises(SourceError, match="'a' has an image or a label map only"):
        medseg.tile(slide / "images", slide / "tiles", labels=slide / "labels")
    content = (slide / "images" / "a.tif").read_bytes()
    (slide / "images" / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(MedsegError, match=r"a\.tif"):
        medseg.tile(slide / "images" / "a.tif", slide / "tiles")
    assert not (slide / "tiles").exists()
    with pytest.raises(SourceError, match="holds no TIFF"):
        medseg.tile(tmp_path / "labels" / "..", slide / "tiles")
