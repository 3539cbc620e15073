"""Before it spends hours, training sees whether masks can be written."""

from dataclasses import replace
from pathlib import Path

import pytest

import medseg
from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.errors import TrainingError
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import NIFTI
from medseg.io.source import ImageSource
from medseg.prediction import case_writing
from medseg.workflows import train


def test_a_mask_that_lies_wrong_is_found_before_training(
    prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mirrored(path: Path, mask: LabelMapVolume) -> list[Path]:
        return NIFTI.write(path, replace(mask, label_map=mask.label_map[::-1]))

    def wrong(source: ImageSource) -> object:
        return replace(NIFTI, write=mirrored)

    monkeypatch.setattr(case_writing, "usual_format", wrong)
    monkeypatch.setattr(train, "_train_run", lambda *_: pytest.fail("trained"))
    config = load(overrides=["planning.cpu_base_features=4", "training.epochs=1"])
    with pytest.raises(TrainingError, match=r"blob_\d+\.nii\.gz: no mask of this image can be written.*voxels differ"):
        medseg.train(prepared.folder, tmp_path / "run", config=config, device="cpu")
    assert not list(tmp_path.rglob("*.rejected"))
