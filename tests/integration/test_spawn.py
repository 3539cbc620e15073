"""Worker processes that begin as on Windows and macOS: by spawn, with nothing of the main process in them."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import medseg
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.parallel import START_METHOD
from medseg.workflows.preprocess import preprocess

UNIT = Path(__file__).resolve().parents[1] / "unit"


@pytest.mark.slow
def test_the_pool_does_the_same() -> None:
    tests = [str(UNIT / "test_parallel.py"), str(UNIT / "test_progress.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "", *tests],
        env={**os.environ, START_METHOD: "spawn"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_a_dataset_is_prepared_to_the_same_bytes(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(overrides=["preprocessing.workers=2"])
    preprocess(blobs, tmp_path / "forked", config=config)
    monkeypatch.setenv(START_METHOD, "spawn")
    preprocess(blobs, tmp_path / "spawned", config=config)
    files = sorted(path.relative_to(tmp_path / "forked") for path in (tmp_path / "forked").rglob("*") if path.is_file())
    assert len(files) > 6
    for file in files:
        assert (tmp_path / "forked" / file).read_bytes() == (tmp_path / "spawned" / file).read_bytes(), file


@pytest.mark.slow
def test_training_prediction_and_evaluation_give_the_same(
    blobs: Path, prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str | None] = []
    get_context = multiprocessing.get_context
    monkeypatch.setattr(
        multiprocessing, "get_context", lambda method=None: (used.append(method), get_context(method))[1]
    )
    settings = ["planning.cpu_base_features=4", "training.epochs=1", "training.steps_per_epoch=3", "training.seed=7",
                "training.batch_size=2", "training.threads=1"]  # fmt: skip
    methods = ("forkserver", "spawn")
    for method in methods:
        monkeypatch.setenv(START_METHOD, method)
        run, masks = tmp_path / method / "run", tmp_path / method / "masks"
        pools = [len(used)]
        medseg.inspect(blobs, workers=2, voxels=True)
        pools.append(len(used))
        medseg.train(prepared.folder, run, config=load(overrides=settings), device="cpu")
        pools.append(len(used))
        medseg.predict(run, blobs / "images", masks, device="cpu")
        medseg.evaluate(masks, blobs / "labels", tmp_path / method / "evaluation", workers=2)
        pools.append(len(used))
        assert pools == sorted(set(pools)), "inspecting, training and evaluating have worker processes each"
        assert set(used[pools[0] :]) == {method}
    forked, spawned = (json.loads((tmp_path / each / "evaluation" / "metrics.json").read_text()) for each in methods)
    assert forked["summary"] == spawned["summary"]
    forked, spawned = (json.loads((tmp_path / each / "run/validation/metrics.json").read_text()) for each in methods)
    assert forked["summary"] == spawned["summary"]
    predicted = sorted(path.name for path in (tmp_path / "spawn" / "masks").glob("*.nii.gz"))
    assert len(predicted) == 6
    for name in predicted:
        forked, spawned = (np.asarray(nibabel.load(tmp_path / each / "masks" / name).dataobj) for each in methods)
        assert np.array_equal(forked, spawned), name
