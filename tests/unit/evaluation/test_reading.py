"""What is said of a prediction and a reference that lie on different grids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import GeometryError, LabelError
from medseg.evaluation.mask_sources import MaskSource
from medseg.evaluation.pairs import CasePair
from medseg.evaluation.reading import read_pair
from medseg.io.discover import source_of

WriteImage = Callable[..., Path]


def test_of_equal_voxels_only_a_header_is_wrong(tmp_path: Path, write_image: WriteImage) -> None:
    """Never to be resampled, which would move what was drawn."""
    moved = np.diag([1.0, 1, 2, 1])
    moved[:3, 3] = 20
    prediction = MaskSource(write_image(tmp_path / "prediction.nii.gz", affine=np.diag([1.0, 1, 2, 1])))
    reference = MaskSource(write_image(tmp_path / "reference.nii.gz", affine=moved))
    with pytest.raises(GeometryError, match="give it that of the other") as caught:
        read_pair(CasePair("a", prediction, reference), 0.05)
    assert "export" not in str(caught.value)
    reference = MaskSource(reference.path, image=source_of(prediction.path))
    with pytest.raises(GeometryError, match="medseg inspect REFERENCES --fix COPY"):
        read_pair(CasePair("a", prediction, reference), 0.05)


def test_of_other_voxels_one_is_resampled(tmp_path: Path, write_image: WriteImage) -> None:
    prediction = MaskSource(write_image(tmp_path / "prediction.nii.gz", affine=np.diag([1.0, 1, 2, 1])))
    reference = MaskSource(write_image(tmp_path / "reference.nii.gz", affine=np.diag([1.0, 1, 3, 1])))
    with pytest.raises(GeometryError, match="medseg export PREDICTION -o FILE --like REFERENCE"):
        read_pair(CasePair("a", prediction, reference), 0.05)


def test_values_that_are_nearly_whole_are_named_without_a_command_that_cannot_help(
    tmp_path: Path, write_image: WriteImage
) -> None:
    drawn = np.zeros((8, 8, 4), np.float32)
    drawn[2:6, 2:6] = 1
    reference = MaskSource(write_image(tmp_path / "reference.nii.gz", drawn))
    prediction = MaskSource(write_image(tmp_path / "prediction.nii.gz", drawn * np.float32(1.00001)))
    with pytest.raises(LabelError, match="nearly whole numbers.*; give each voxel the nearest of 0, 1") as caught:
        read_pair(CasePair("a", prediction, reference), 0.05)
    assert "inspect" not in str(caught.value)
