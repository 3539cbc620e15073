"""Label maps whose values are not whole numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.dataset.label_values import nearest_labels, rare_values
from medseg.dataset.reading import label_volume
from medseg.errors import LabelError
from medseg.io.discover import source_of

WriteImage = Callable[..., Path]


def drawn() -> np.ndarray:
    label_map = np.zeros((20, 18, 12), np.float32)
    label_map[4:16, 4:14, 2:10] = 1
    label_map[8:12, 8:12, 4:8] = 2
    return label_map


def test_values_of_interpolation_name_the_command_that_rounds_them(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.nii.gz", drawn() * np.float32(1.00001))
    with pytest.raises(LabelError, match=r"nearly whole numbers: 1.00001, 2.00002.*--fix COPY' gives .* of 0, 1, 2"):
        label_volume(source_of(path))


def test_mixed_values_are_refused_with_the_reason(tmp_path: Path, write_image: WriteImage) -> None:
    mixed = drawn()
    mixed[4:16, 4:8] = 0.5
    path = write_image(tmp_path / "a.nii.gz", mixed)
    with pytest.raises(LabelError, match="not whole numbers: 0.5, in .*interpolated.*nearest neighbour") as caught:
        label_volume(source_of(path))
    assert "--fix" not in str(caught.value)


def test_values_that_are_no_numbers_are_named(tmp_path: Path, write_image: WriteImage) -> None:
    wrong = drawn()
    wrong[0, 0, 0] = np.nan
    with pytest.raises(LabelError, match="no numbers"):
        label_volume(source_of(write_image(tmp_path / "a.nii.gz", wrong)))


def test_a_file_that_cannot_be_rewritten_is_not_promised_to_be(tmp_path: Path) -> None:
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(drawn() * np.float32(1.00001)), tmp_path / "a.nrrd")
    with pytest.raises(LabelError, match="give each voxel the nearest of 0, 1, 2") as caught:
        label_volume(source_of(tmp_path / "a.nrrd"))
    assert "--fix" not in str(caught.value)


def test_a_blurred_edge_is_rounded_and_a_blurred_label_map_is_not() -> None:
    edge = drawn()
    edge[4, 4:8, 2] = 0.5
    assert nearest_labels(edge) == (0, 1, 2)
    assert nearest_labels(np.random.default_rng(0).normal(size=(8, 8, 8))) is None


def test_a_slip_of_the_brush_is_rare_in_every_case() -> None:
    assert rare_values([{0: 9999, 1: 800, 2: 7, 9: 2}, {0: 9999, 1: 700, 2: 90}]) == {9: 2}
    assert rare_values([{0: 9999, 1: 3}, {0: 9999, 1: 4}]) == {}  # small, and all that there is
