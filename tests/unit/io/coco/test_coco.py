import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.errors import SourceError
from medseg.io.coco.reader import read_coco
from medseg.workflows.inspect import inspect
from medseg.workflows.preprocess import preprocess

SIZE = (24, 18)  # columns, rows


def compressed(counts: list[int]) -> str:
    """What pycocotools' rleToString makes of run lengths (maskApi.c)."""
    text = ""
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        while True:
            code = x & 0x1F
            x >>= 5
            more = x != -1 if code & 0x10 else x != 0
            text += chr((code | 0x20 if more else code) + 48)
            if not more:
                break
    return text


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask (row, column), down its columns."""
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return np.diff([0, *edges, len(flat)]).tolist()


def masks() -> list[np.ndarray]:
    """Three objects (row, column): a rectangle, noise in a corner, and a ring around a hole."""
    found = [np.zeros(SIZE[::-1], bool) for _ in range(3)]
    found[0][2:7, 3:11] = True
    found[1][9:18, 14:24] = np.random.default_rng(0).random((9, 10)) < 0.5
    found[2][9:16, 1:9], found[2][11:13, 3:5] = True, False
    return found


def content() -> dict[str, Any]:
    rectangle = [3, 2, 11, 2, 11, 7, 3, 7]
    size = list(SIZE[::-1])
    return {
        "info": {"year": 2026},
        "images": [{"id": n, "file_name": f"{n}.png", "width": SIZE[0], "height": SIZE[1]} for n in (7, 8, 9)],
        "categories": [{"id": 3, "name": "cell"}, {"id": 5, "name": "debris", "supercategory": "none"}],
        "annotations": [
            {"image_id": n, "category_id": category, "iscrowd": crowd, "segmentation": drawn}
            for n in (7, 8)
            for category, crowd, drawn in (
                (3, 0, [rectangle]),
                (5, 0, {"size": size, "counts": compressed(runs(masks()[1]))}),
                (3, 0, {"size": size, "counts": runs(masks()[2])}),
                (3, 1, {"size": size, "counts": [SIZE[0] * SIZE[1]]}),
            )
        ],
    }


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "d" / "images").mkdir(parents=True)
    (tmp_path / "d" / "annotations").mkdir()
    for n in (7, 8, 9):
        noise = np.random.default_rng(n).integers(0, 255, SIZE[::-1], np.uint8)
        Image.fromarray(noise).save(tmp_path / "d" / "images" / f"{n}.png")
    (tmp_path / "d" / "annotations" / "instances_all.json").write_text(json.dumps(content()))
    return tmp_path / "d"


def test_polygons_and_run_lengths_become_objects(dataset: Path, tmp_path: Path) -> None:
    config = load(overrides=["preprocessing.workers=1", "preprocessing.crop_to_nonzero=false"])
    result = preprocess(dataset, tmp_path / "p", config=config)
    assert not result.problems
    prepared = PreparedDataset(tmp_path / "p")
    assert prepared.labels.names == ["cell", "debris"] and prepared.labels.instances == ("cell", "debris")
    assert prepared.cases["7"].n_objects == {"cell": 2, "debris": 1} and set(prepared.cases) == {"7", "8"}
    rectangle, noise, ring = (mask.T for mask in masks())
    label_map, objects = prepared.label_map("8")[..., 0], prepared.objects("8")[..., 0]
    assert np.array_equal(label_map, np.select([rectangle | ring, noise], [1, 2], 0))
    for mask in (rectangle, noise, ring):
        assert len(np.unique(objects[mask])) == 1 and (objects[mask] > 0).all()
    only = preprocess(dataset, tmp_path / "q", config=config, instances="cell").record
    assert only.labels is not None and only.labels.instances == ("cell",) and only.labels.names == ["cell", "debris"]
    found = inspect(dataset, workers=1)
    assert not found.problems and found.cases[0].n_objects == {"cell": 2, "debris": 1}


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [18, 24], "counts": [1, 2]}, "run lengths of a mask of 7.png do not give its pixels"),
        ({"size": [18, 24], "counts": "o" * 99}, "run lengths of a mask of 7.png do not give its pixels"),
        ({"size": [18, 24], "counts": compressed([-5, 437])}, "run lengths of a mask of 7.png do not give its pixels"),
        ({"size": [2, 24], "counts": [48]}, "has another size than the picture"),
        ([[1, 2, 3, 4, 5, 6, 7]], "has a corner with one coordinate"),
    ],
)
def test_damaged_masks_are_refused(tmp_path: Path, segmentation: object, message: str) -> None:
    given = content() | {"annotations": [{"image_id": 7, "category_id": 3, "segmentation": segmentation}]}
    (tmp_path / "a.json").write_text(json.dumps(given))
    with pytest.raises(SourceError, match=message):
        read_coco(tmp_path / "a.json", "7")


def test_other_json_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": 3}')
    with pytest.raises(SourceError, match="a.json"):
        read_coco(tmp_path / "a.json", "7")
