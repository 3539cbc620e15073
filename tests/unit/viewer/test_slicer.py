import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import nibabel
import numpy as np
import pytest
import slicerio

from medseg.workflows.view import to_slicer


def test_slicer_gets_image_masks_names_and_colours(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, mask = (blobs / name / "blob_00.nii.gz" for name in ("images", "labels"))
    script = to_slicer(image, tmp_path / "scene", [mask], reference=mask)
    found = nibabel.load(tmp_path / "scene" / "image.nii.gz")
    assert np.array_equal(found.affine, nibabel.load(image).affine)
    segmentation = slicerio.read_segmentation(str(tmp_path / "scene" / "prediction.seg.nrrd"))
    assert [(segment["name"], segment["labelValue"]) for segment in segmentation["segments"]] == [
        ("label_2", 2),
        ("label_5", 5),
    ]
    assert {file.name for file in script.parent.iterdir()} == {
        "image.nii.gz", "prediction.seg.nrrd", "reference.seg.nrrd", "open_in_slicer.py",
    }  # fmt: skip

    slicer = MagicMock()
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    exec(compile(script.read_text(), str(script), "exec"), {"__file__": str(script), "__name__": "__main__"})
    loaded = SimpleNamespace(
        volumes=[call.args[0] for call in slicer.util.loadVolume.call_args_list],
        masks=[call.args[0] for call in slicer.util.loadSegmentation.call_args_list],
    )
    assert loaded.volumes == [str(script.parent / "image.nii.gz")]
    assert loaded.masks == [str(script.parent / f"{name}.seg.nrrd") for name in ("prediction", "reference")]
    fills = slicer.util.loadSegmentation.return_value.GetDisplayNode.return_value.SetVisibility2DFill
    assert [call.args[0] for call in fills.call_args_list] == [True, False]
