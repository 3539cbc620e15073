"""A volume that is predicted block by block gets the mask that it gets as a whole, wherever blocks are predicted."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import zarr
from model_records import record_of

import medseg
from medseg.architecture import Architecture
from medseg.errors import SourceError
from medseg.inferers.model import save_model
from medseg.networks.registry import build_network
from medseg.plan import Grid, Normalization, Plan
from medseg.postprocessing.components import Rule
from medseg.prediction import block_edges, block_on_worker, large_case
from medseg.prediction.block_work import FOLDER

SHAPE = (100, 50, 70)
pytestmark = pytest.mark.slow
CT = Normalization(kind="ct", lower=-1000, upper=1000, mean=0, std=400)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 voxels: four of the image here."""
    monkeypatch.setattr(block_edges, "LARGEST", 128)


def model_of(folder: Path, rule: Normalization, **fields: Any) -> Path:
    torch.manual_seed(0)
    architecture = Architecture(features=(4, 8), strides=((1,) * 3, (2,) * 3), kernel_sizes=((3,) * 3,) * 2)
    grid = Grid(orientation="RAS", spacing=(1.2, 1.2, 1.2), crop_to_nonzero=True, normalization=(rule,))
    plan = Plan(dims=3, grid=grid, patch_size=(32, 32, 32), batch_size=2, slice_axis=None, architecture=architecture)
    record = record_of(plan, {"a": 3, "b": 7}, ("MR",), **fields)
    save_model(folder, record, build_network(1, 3, architecture).state_dict())
    return folder


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Smooth noise in air, whose axes point to left, front and feet."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.normal(0, 300, (1, 1, 10, 5, 7)))
    array = torch.nn.functional.interpolate(coarse, size=SHAPE, mode="trilinear")[0, 0].numpy()
    array += random.normal(0, 20, SHAPE)
    array[:75] = -1000
    affine = np.diag([-0.9, 1.1, -1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), affine), tmp_path / "scan.nii")
    return tmp_path / "scan.nii"


def as_ome_zarr(scan: Path, folder: Path) -> Path:
    image = nibabel.Nifti1Image.from_filename(scan)
    array = np.asarray(image.dataobj).T
    directions = {"z": "superior-to-inferior", "y": "posterior-to-anterior", "x": "right-to-left"}
    axes = [
        {"name": n, "type": "space", "unit": "millimeter", "orientation": {"type": "anatomical", "value": v}}
        for n, v in directions.items()
    ]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.1, 0.9]}]}]
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}}
    zarr.create_group(str(folder), attributes=attributes)
    stored = zarr.create_array(str(folder / "0"), shape=array.shape, chunks=(32, 32, 32), dtype=array.dtype)
    stored[:] = array
    return folder


def predicted(model: Path, source: Path, output: Path, **more: Any) -> Any:
    result = medseg.predict(model, source, output, device="cpu", backend="torch", precision="fp32", **more)
    assert not result.problems, result.problems
    return result.predictions[0]


@pytest.mark.parametrize("kind", ["zscore", "ct"])
def test_blocks_are_the_whole(kind: str, scan: Path, tmp_path: Path) -> None:
    rule = Rule(label="a", largest_component=True)
    model = model_of(tmp_path / "model", CT if kind == "ct" else Normalization(kind="zscore"), postprocessing=(rule,))
    whole = predicted(model, scan, tmp_path / "whole")
    store = as_ome_zarr(scan, tmp_path / "scan.ome.zarr")
    for source, more in ((scan, {}), (store, {"formats": ["ome-zarr", "nifti"]})):
        blocks = predicted(model, source, tmp_path / source.suffix[1:], blocks=True, **more)
        labels = blocks.label_map
        assert set(np.unique(labels.array)) == {0, 3, 7}
        np.testing.assert_array_equal(labels.array, whole.label_map.array)
        assert labels.geometry.difference(whole.label_map.geometry) is None
        assert blocks.voxels == whole.voxels
        assert blocks.expected_dice == pytest.approx(whole.expected_dice, abs=1e-6)
        assert [str(change.rule) for change in blocks.changes] == [str(change.rule) for change in whole.changes]
        assert [mask.certificate.fault for mask in blocks.masks] == [""] * len(blocks.masks)
        assert blocks.windows > whole.windows
        assert kind == "zscore" or min(blocks.skipped_windows, whole.skipped_windows) > 0
    assert not list(tmp_path.rglob(FOLDER))


def test_only_blocks_that_are_missing_are_predicted_again(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(tmp_path / "model", CT)
    asked: list[int] = []
    predict_block = block_on_worker.predict_block

    def broken(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        if arguments[-1] == 3 and len(asked) < 10:
            raise SourceError("the disk is away")
        return predict_block(*arguments)

    monkeypatch.setattr(large_case, "predict_block", broken)
    with pytest.raises(SourceError, match=r"1 of 4 blocks failed \(the disk is away\)"):
        predicted(model, scan, tmp_path / "masks", blocks=True)
    assert asked == [0, 1, 2, 3]
    asked[:] = [9] * 9
    again = predicted(model, scan, tmp_path / "masks", blocks=True)
    assert asked[9:] == [3]
    np.testing.assert_array_equal(again.label_map.array, predicted(model, scan, tmp_path / "whole").label_map.array)


def test_blocks_on_workers(scan: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path / "model", CT)
    with ThreadPoolExecutor(2) as executor:
        there = predicted(model, scan, tmp_path / "there", blocks=True, executor=executor)
    here = predicted(model, scan, tmp_path / "here", blocks=True)
    assert (there.path.read_bytes(), there.windows) == (here.path.read_bytes(), here.windows)


def test_what_needs_the_whole_image_is_refused(scan: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path / "model", CT)
    with pytest.raises(SourceError, match="cannot be predicted block by block: statistics are asked for"):
        medseg.predict(model, scan, tmp_path / "masks", blocks=True, statistics=True, backend="torch", device="cpu")
    with pytest.raises(SourceError, match="seg-nrrd is not written block by block; take ome-zarr or nifti"):
        medseg.predict(model, scan, tmp_path / "masks", blocks=True, formats=["seg-nrrd"], backend="torch")
