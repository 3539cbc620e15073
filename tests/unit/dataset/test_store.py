import json
from pathlib import Path

import numpy as np
import pytest

from medseg.dataset.prepared_arrays import write_case_arrays
from medseg.dataset.store import PreparedDataset
from medseg.errors import SourceError
from medseg.labels import IGNORED


def test_a_case_reads_back_memory_mapped(prepared: PreparedDataset) -> None:
    case_id = sorted(prepared.cases)[0]
    image, label_map = prepared.image(case_id), prepared.label_map(case_id)
    assert isinstance(image, np.memmap)
    assert image.shape[1:] == label_map.shape == prepared.model_grid(case_id).shape
    foreground = prepared.foreground(case_id)
    assert all(label_map[x, y, z] == label for label, x, y, z in foreground)
    assert set(foreground[:, 0]) == {1, 2}


def test_values_too_large_to_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"reach 1e\+06"):
        write_case_arrays(tmp_path, np.full((1, 2, 2, 2), 1e6, np.float32), None, seed=0)
    with pytest.raises(SourceError, match="reach nan"):
        write_case_arrays(tmp_path, np.full((1, 2, 2, 2), np.nan, np.float32), None, seed=0)


def test_what_is_no_prepared_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no prepared dataset"):
        PreparedDataset(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"format": "medseg-prepared", "version": 99}))
    with pytest.raises(SourceError, match="'version' cannot be 99: .*run 'medseg preprocess' on your dataset"):
        PreparedDataset(tmp_path)


def test_a_missing_array_is_named(prepared: PreparedDataset, tmp_path: Path) -> None:
    moved = PreparedDataset(prepared.folder)
    moved.folder = tmp_path
    with pytest.raises(SourceError, match=r"image.npy: there is no such file"):
        moved.image(sorted(prepared.cases)[0])


def test_what_is_ignored_is_no_foreground_and_the_rest_is_kept_as_annotated(tmp_path: Path) -> None:
    label_map = np.zeros((6, 6, 6), np.uint8)
    label_map[:2], label_map[3, 3] = IGNORED, 2
    write_case_arrays(tmp_path, np.ones((1, 6, 6, 6), np.float32), label_map, seed=0)
    assert set(np.load(tmp_path / "foreground.npy")[:, 0]) == {2}
    assert set(np.load(tmp_path / "annotated.npy")[:, 0]) == {2, 3, 4, 5}
    label_map[:2] = 0
    write_case_arrays(tmp_path, np.ones((1, 6, 6, 6), np.float32), label_map, seed=0)
    assert not (tmp_path / "annotated.npy").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("image", b"", "not an array"),
        ("image", np.zeros((1, 2, 2, 2), np.float16), "holds float16 "),
        ("label_map", np.zeros((2, 2), np.uint8), "holds uint8 "),
        ("foreground", np.full((3, 4), 10**6, np.int32), "voxels outside of the image"),
        ("foreground", np.zeros((3, 4), np.int64), "holds int64 "),
    ],
)
def test_an_array_of_something_else_is_refused(
    prepared: PreparedDataset, tmp_path: Path, name: str, content: bytes | np.ndarray, reason: str
) -> None:
    moved, case_id = PreparedDataset(prepared.folder), sorted(prepared.cases)[0]
    moved.folder = tmp_path
    path = tmp_path / "cases" / case_id / f"{name}.npy"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(SourceError, match=f"{name}.npy: .*{reason}.*run 'medseg preprocess' again"):
        getattr(moved, name)(case_id)
