"""MONAI transforms by name: found, built, and refused in one clear line."""

from typing import Any

import pytest
import torch
from monai.transforms import NormalizeIntensityd, RandGaussianSharpend

from medseg.errors import ConfigError
from medseg.transforms.registry import monai_transform


def test_builds_the_transform_with_its_arguments() -> None:
    transform = monai_transform({"name": "RandGaussianSharpend", "keys": ["image"], "prob": 0.25})
    assert type(transform) is RandGaussianSharpend
    assert transform.keys == ("image",)
    assert transform.prob == 0.25


def test_the_spec_is_left_as_it_was() -> None:
    spec = {"name": "NormalizeIntensityd", "keys": "image"}
    assert type(monai_transform(spec)) is NormalizeIntensityd
    assert spec == {"name": "NormalizeIntensityd", "keys": "image"}


def test_a_case_without_a_label_passes() -> None:
    transform = monai_transform({"name": "Flipd", "keys": ["image", "label"], "spatial_axis": 0})
    image = torch.arange(4.0).view(1, 4, 1)
    assert torch.equal(torch.as_tensor(transform({"image": image})["image"]), image.flip(1))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"keys": "image"}, r"\{'keys': 'image'\} has no name"),
        (
            {"name": "RandGausianSharpend"},
            r"no transform 'RandGausianSharpend'; did you mean 'RandGaussianSharpend'\?",
        ),
        # The array version cannot work on cases.
        ({"name": "RandGaussianSharpen"}, r"did you mean 'RandGaussianSharpend'\?"),
        ({"name": "q"}, "no transform 'q'; known are MONAI's dictionary transforms"),
        ({"name": "LoadImaged", "keys": "image"}, "no transform 'LoadImaged'"),
        ({"name": "SaveImaged", "keys": "image"}, "no transform 'SaveImaged'"),
        ({"name": "SaveClassificationd", "keys": "image"}, "no transform 'SaveClassificationd'"),
        ({"name": "DataLoader"}, "no transform 'DataLoader'"),
        (
            {"name": "RandGaussianSharpend", "keys": "image", "probb": 0.2},
            r"RandGaussianSharpend has no argument 'probb'; did you mean 'prob'\?",
        ),
        ({"name": "RandGaussianSharpend"}, "RandGaussianSharpend needs the argument 'keys'"),
        ({"name": "Resized", "keys": "image"}, "Resized needs the argument 'spatial_size'"),
        (
            {"name": "RandGaussianSharpend", "keys": ["imag"]},
            r"RandGaussianSharpend cannot work on 'imag'; did you mean 'image'\?",
        ),
        (
            {"name": "RandGaussianSharpend", "keys": "image", "prob": 2},
            "RandGaussianSharpend cannot have prob=2; it lies between 0 and 1",
        ),
        (
            {
                "name": "ScaleIntensityRangePercentilesd",
                "keys": "image",
                "lower": -5,
                "upper": 9,
                "b_min": 0,
                "b_max": 1,
            },
            r"ScaleIntensityRangePercentilesd\(keys='image', lower=-5, .*\) is refused by MONAI: Percentiles",
        ),
        ({"name": "Lambdad", "keys": "image", "func": "print"}, "no transform 'Lambdad'"),
    ],
)
def test_what_is_wrong_is_said(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        monai_transform(spec)
    assert "\n" not in str(caught.value)
