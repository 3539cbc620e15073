"""What a user of single transforms is told where something does not fit."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medseg.errors import GeometryError
from medseg.plan import Normalization
from medseg.transforms import (
    Augmentation,
    EachSample,
    NormalizeChannelsd,
    OrthogonalGridd,
    RandAffineBatch,
    RandChannelDropoutBatch,
    RandFlipBatch,
    RandGaussianNoiseBatch,
    ResampleToSpacingd,
    restore,
    restore_label_map,
)
from medseg.volume import Geometry


def test_a_tensor_without_an_affine_has_no_grid() -> None:
    for transform in (ResampleToSpacingd(["image"], (2.0, 1.0, 1.0)), OrthogonalGridd(["image"])):
        with pytest.raises(GeometryError, match="a Tensor says not where it lies; give a MetaTensor"):
            transform({"image": torch.zeros(1, 8, 8, 8)})
        with pytest.raises(GeometryError, match=r"a MetaTensor of shape \(1, 8, 8\); give one image"):
            transform({"image": MetaTensor(torch.zeros(1, 8, 8))})


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_a_spacing_is_three_numbers_above_0(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing .*: give three numbers above 0, in mm"):
        ResampleToSpacingd(["image"], spacing)  # type: ignore[arg-type]


def test_values_are_normalized_of_arrays_too() -> None:
    rule = Normalization(kind="ct", lower=-100, upper=300, mean=100, std=200)
    image = np.array([-1000.0, 100.0, 1000.0], np.float32).reshape(1, 3, 1, 1)
    for given in (image, torch.from_numpy(image), MetaTensor(torch.from_numpy(image))):
        assert NormalizeChannelsd(["image"], [rule])({"image": given})["image"].flatten().tolist() == [-1.0, 0.0, 1.0]


def test_what_does_not_lie_on_the_grid_is_not_restored() -> None:
    grid = Geometry((5, 6, 7), np.eye(4))
    with pytest.raises(ValueError, match=r"\(5, 6, 8\) does not lie on a grid of shape \(5, 6, 7\)"):
        restore_label_map(torch.zeros(5, 6, 8, dtype=torch.uint8), grid, grid)
    with pytest.raises(ValueError, match=r"\(2, 5, 6, 8\) do not lie on a grid of shape \(5, 6, 7\)"):
        restore(torch.zeros(2, 5, 6, 8), grid, grid)


def test_batches_without_labels_are_augmented() -> None:
    from monai.transforms import RandGaussianSharpend

    steps = [
        RandAffineBatch((1.0, 1.0, 1.0), rotation_prob=1.0),
        RandFlipBatch([0, 1], prob=1.0),
        EachSample(RandGaussianSharpend(["image"], prob=1.0)),
    ]
    image = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    augmented = Augmentation(steps)({"image": image}, seed=3)
    with_label = Augmentation(steps)({"image": image, "label": torch.zeros(2, 1, 8, 8, 8)}, seed=3)
    assert set(augmented) == {"image"}
    torch.testing.assert_close(augmented["image"], with_label["image"])


def test_a_probability_lies_between_0_and_1() -> None:
    for kind in (RandGaussianNoiseBatch, RandChannelDropoutBatch):
        with pytest.raises(ValueError, match="prob 20: a probability lies between 0 and 1"):
            kind(20)
    with pytest.raises(ValueError, match="prob -1"):
        RandFlipBatch([0], prob=-1)
    with pytest.raises(ValueError, match="rotation_prob 2"):
        RandAffineBatch((1.0, 1.0, 1.0), rotation_prob=2)


def test_a_spacing_of_other_axes_than_the_image() -> None:
    with pytest.raises(ValueError, match="with a spacing of 2 axes"):
        RandAffineBatch((1.0, 1.0))({"image": torch.zeros(1, 1, 8, 8, 8)})
