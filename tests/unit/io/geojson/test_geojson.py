import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from medseg.errors import OutputError
from medseg.io.geojson.check import check_geojson
from medseg.io.geojson.writer import write_geojson
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import GEOJSON, write_mask
from medseg.labels import Labels
from medseg.volume import Geometry

LABELS = Labels.from_names({"liver": 1, "cell": 2, "nowhere": 3})


def drawn() -> LabelMapVolume:
    """A liver with a hole, in which lies a part of it; and cells that are noise."""
    label_map = np.zeros((30, 26, 1), np.uint8)
    label_map[2:14, 2:14], label_map[4:12, 4:12], label_map[6:8, 6:9] = 1, 0, 1
    noise = np.random.default_rng(0).random((12, 20, 1)) < 0.45
    label_map[16:28, 3:23][noise] = 2
    return LabelMapVolume(label_map, Geometry(label_map.shape, np.eye(4)), LABELS)


def test_outlines_give_the_mask_back_to_another_program(tmp_path: Path) -> None:
    segmented = drawn()
    write_geojson(tmp_path / "a.geojson", segmented)
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert [each["properties"]["name"] for each in content["features"]] == ["liver", "cell"]  # nowhere is nowhere
    scale = 8  # Pillow fills to whole pixels: centres are looked at in a larger picture
    for feature, value in zip(content["features"], (1, 2), strict=True):
        x, y = segmented.label_map.shape[:2]
        total = np.zeros((y, x), int)
        for polygon in feature["geometry"]["coordinates"]:
            for number, ring in enumerate(polygon):
                assert ring[0] == ring[-1]
                corners = np.array(ring)
                area = (corners[:-1, 0] * corners[1:, 1] - corners[1:, 0] * corners[:-1, 1]).sum()
                assert (area > 0) == (number == 0)  # RFC 7946: outer rings counterclockwise, holes clockwise
                picture = Image.new("1", (x * scale, y * scale))
                ImageDraw.Draw(picture).polygon([tuple(point) for point in (corners * scale - 0.5).tolist()], fill=1)
                total += np.array(picture)[scale // 2 :: scale, scale // 2 :: scale] * (1 if number == 0 else -1)
        assert np.array_equal(total.T == 1, segmented.label_map[..., 0] == value)
        assert feature["properties"]["classification"]["color"] == list(LABELS.items[value - 1].colour)


def test_what_differs_is_found(tmp_path: Path) -> None:
    segmented = drawn()
    written = write_mask(GEOJSON, tmp_path / "a.geojson", segmented)
    assert written.certificate.passed
    other = LabelMapVolume(np.roll(segmented.label_map, 1, axis=0), segmented.geometry, LABELS)
    assert not check_geojson(tmp_path / "a.geojson", other).passed
    fewer = LabelMapVolume(segmented.label_map, segmented.geometry, Labels.from_names({"liver": 1, "bone": 2}))
    assert check_geojson(tmp_path / "a.geojson", fewer).fault == "it has a feature 'cell'"


def test_volumes_are_refused(tmp_path: Path) -> None:
    volume = LabelMapVolume(np.zeros((4, 4, 2), np.uint8), Geometry((4, 4, 2), np.eye(4)), LABELS)
    with pytest.raises(OutputError, match="outlines on one picture, not on 2 slices"):
        write_geojson(tmp_path / "a.geojson", volume)
