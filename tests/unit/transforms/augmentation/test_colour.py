"""Colours are turned about grey, the same whether a batch is whole or shared."""

import colorsys

import numpy as np
import pytest
import torch

from medseg.config import AugmentationConfig
from medseg.transforms import Augmentation, RandColourBatch, build_augmentation

BATCH = {"image": torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))}


def test_brightness_stays_and_saturation_is_scaled() -> None:
    image = BATCH["image"]
    changed = RandColourBatch(1.0, 0.0, (0.5, 0.5)).set_random_state(seed=1)(BATCH)["image"]
    grey = image.mean(1, keepdim=True)
    assert torch.allclose(changed, grey + 0.5 * (image - grey), atol=1e-6)
    turned = RandColourBatch(1.0, 180.0, (1.0, 1.0)).set_random_state(seed=1)(BATCH)["image"]
    assert torch.allclose(turned.mean(1), image.mean(1), atol=1e-6) and not torch.allclose(turned, image, atol=0.05)
    assert torch.allclose((turned - grey).norm(dim=1), (image - grey).norm(dim=1), atol=1e-5)


def test_the_hue_is_turned_by_no_more_than_was_asked_for() -> None:
    red = {"image": torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).repeat(50, 1, 1, 1)}
    changed = RandColourBatch(1.0, 20.0, (1.0, 1.0)).set_random_state(seed=1)(red)["image"].flatten(1).numpy()
    pure = changed - changed.min(1, keepdims=True)
    hues = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in pure])
    off = np.minimum(hues, 1 - hues) * 360
    assert off.max() < 25 and off.max() > 10


def test_other_images_stay_and_shares_are_those_of_the_whole() -> None:
    augment = Augmentation([RandColourBatch(0.5)])
    grey = {"image": torch.rand(2, 1, 4, 4)}
    assert augment(grey, seed=3)["image"].equal(grey["image"])
    whole = augment(BATCH, seed=3)["image"]
    part = augment({"image": BATCH["image"][2:4]}, seed=3, first=2, n_samples=6)["image"]
    assert torch.equal(part, whole[2:4])
    assert 0 < sum(not torch.equal(a, b) for a, b in zip(whole, BATCH["image"], strict=True)) < 6


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_training_takes_it_where_the_settings_say_so(probability: float) -> None:
    config = AugmentationConfig(colour_probability=probability)
    steps = build_augmentation(config, dims=2, patch_size=(8, 8), spacing=(1.0, 1.0), mirror_axes=()).transforms
    assert any(isinstance(step, RandColourBatch) for step in steps) == (probability > 0)
