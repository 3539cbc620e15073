"""Worker processes that begin as on Windows and macOS: by spawn, with nothing of the main process in them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.config import load
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
