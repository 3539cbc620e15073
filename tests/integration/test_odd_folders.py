"""The whole way in folders with spaces and letters of other languages, on a file system that refuses links."""

import os
import shutil
from pathlib import Path

import pytest

import medseg
from medseg.config import load
from medseg.parallel import START_METHOD

SETTINGS = [
    "preprocessing.workers=2",
    "training.epochs=1",
    "training.steps_per_epoch=2",
    "planning.cpu_base_features=4",
]


def refused(*_: object, **__: object) -> None:
    raise OSError(1, "Operation not permitted")  # as FAT, and Windows without the right to make links


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["spawn", ""])
def test_the_whole_way(
    start_method: str, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my scans (März, 50% #1)"
    shutil.copytree(blobs, folder / "raw data")
    for name in ("symlink", "link"):
        monkeypatch.setattr(os, name, refused)
    monkeypatch.setattr(Path, "symlink_to", refused)
    monkeypatch.setattr(Path, "hardlink_to", refused)
    if start_method:
        monkeypatch.setenv(START_METHOD, start_method)
    config = load(overrides=SETTINGS)
    medseg.preprocess(folder / "raw data", folder / "prepared data", config=config)
    medseg.train(folder / "prepared data", folder / "my run", dims=2, config=config, device="cpu")
    images = next(path for path in (folder / "raw data").iterdir() if path.name.startswith("images"))
    result = medseg.predict(folder / "my run", images, folder / "my masks", device="cpu")
    assert not result.problems
    labels = next(path for path in (folder / "raw data").iterdir() if path.name.startswith("labels"))
    evaluation = medseg.evaluate(folder / "my masks", labels, folder / "my report")
    assert len({record.case_id for record in evaluation.records}) == 6
    packed = folder / "my model.zip"
    medseg.package(folder / "my run", packed)
    assert not medseg.predict(packed, images, folder / "from a pack", device="cpu").problems
    for path in folder.rglob("*"):
        relative = path.relative_to(folder / path.relative_to(folder).parts[0])
        assert not set(relative.as_posix()) & set('<>:"\\|?*'), path  # legal on Windows
        assert not any(part[-1:] in (".", " ") for part in relative.parts), path
