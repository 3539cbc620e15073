from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from skimage.morphology import skeletonize

from medseg.metrics.centreline import centreline_dice


def test_a_tube_that_breaks_off_loses_what_is_missing() -> None:
    """A tube of 5×5×60 voxels, of which the prediction has half. Its centre line lies in the reference wholly."""
    reference = np.zeros((9, 9, 64), bool)
    reference[2:7, 2:7, 2:62] = True
    prediction = reference.copy()
    prediction[:, :, 32:] = False
    score = centreline_dice(prediction, reference)
    assert score == pytest.approx(2 * 0.5 / 1.5, abs=0.03)
    assert centreline_dice(reference, prediction) == pytest.approx(score)


def test_width_does_not_matter_as_long_as_lines_stay_inside() -> None:
    thick, thin = np.zeros((2, 40, 20, 1), bool)
    thick[2:38, 4:15], thin[2:38, 9:10] = True, True
    assert centreline_dice(thin, thick) > 0.95


def test_empty_masks() -> None:
    empty, full = np.zeros((5, 5, 5), bool), np.ones((5, 5, 5), bool)
    assert centreline_dice(empty, full) == centreline_dice(full, empty) == 0
    assert centreline_dice(empty, empty) is None


def test_a_slice_agrees_with_simpleitk_whichever_axis_it_lies_across(real_data: Path) -> None:
    """SimpleITK thins by another algorithm: where branches end, lines differ by some pixels."""
    reference = np.asarray(Image.open(real_data / "membrane/labels/16.png"))[..., None] == 0
    prediction = np.roll(reference, (3, 2), (0, 1))
    lines = [
        SimpleITK.GetArrayFromImage(
            SimpleITK.BinaryThinning(SimpleITK.GetImageFromArray(each[..., 0].astype(np.uint8)))
        )
        == 1
        for each in (prediction, reference)
    ]
    precision, sensitivity = reference[lines[0], 0].mean(), prediction[lines[1], 0].mean()
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert 0.1 < expected < 0.9
    assert centreline_dice(prediction, reference) == pytest.approx(expected, abs=0.05)
    turned = [np.moveaxis(each, 2, 0) for each in (prediction, reference)]
    assert centreline_dice(*turned) == centreline_dice(prediction, reference)


@pytest.mark.parametrize(
    "name, shift",
    [("hippocampus/labelsTr/hippocampus_004.nii.gz", 4), ("sarcoma/nifti/STS_004/CT_mask.nii.gz", 20)],
)
def test_volumes_agree_with_the_authors_formula(real_data: Path, name: str, shift: int) -> None:
    """As in github.com/jocpae/clDice, cldice_metric/cldice.py, which thins by scikit-image, too."""
    reference = np.asarray(nibabel.load(real_data / name).dataobj) == 1
    prediction = np.roll(reference, (shift, 1, 2), (0, 1, 2))
    lines = skeletonize(prediction) > 0, skeletonize(reference) > 0
    precision = np.sum(lines[0] * reference) / np.sum(lines[0])
    sensitivity = np.sum(lines[1] * prediction) / np.sum(lines[1])
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert 0.1 < expected < 1
    assert centreline_dice(prediction, reference) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("edge", [2, 4, 10])
def test_a_cube_of_which_thinning_leaves_nothing_has_a_centre(edge: int) -> None:
    cube = np.zeros((16, 16, 16), bool)
    cube[3 : 3 + edge, 3 : 3 + edge, 3 : 3 + edge] = True
    assert centreline_dice(cube, cube) == 1.0
    assert centreline_dice(np.roll(cube, 1, axis=0), cube) > 0
    assert centreline_dice(np.roll(cube, edge, axis=0), cube) == 0.0
