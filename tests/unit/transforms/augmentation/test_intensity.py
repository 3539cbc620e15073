"""Each change of values against its twin in MONAI or scipy."""

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, RandSimulateLowResolution, ScaleIntensityFixedMean
from scipy.ndimage import gaussian_filter

from medseg.transforms.augmentation.batch import BatchData
from medseg.transforms.augmentation.intensity import (
    RandBrightnessBatch,
    RandContrastBatch,
    RandGammaBatch,
    RandGaussianBlurBatch,
    RandGaussianNoiseBatch,
    RandIntensityBatch,
    RandLowResolutionBatch,
)

SHAPES = [(14, 19, 11), (31, 22)]
ALL = [
    RandGaussianNoiseBatch,
    RandGaussianBlurBatch,
    RandBrightnessBatch,
    RandContrastBatch,
    RandLowResolutionBatch,
    RandGammaBatch,
]


def noise_batch(shape: tuple[int, ...], n: int = 2, channels: int = 2) -> BatchData:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((n, channels, *shape), generator=generator) * 3 + 1
    return {"image": image, "label": torch.zeros((n, 1, *shape), dtype=torch.uint8)}


def applied(transform: RandIntensityBatch, batch: BatchData, seed: int = 1) -> torch.Tensor:
    transform.set_random_state(seed=seed)
    return transform(batch)["image"]


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_equals_scipy(shape: tuple[int, ...]) -> None:
    batch = noise_batch(shape)
    blurred = applied(RandGaussianBlurBatch(1, (0.8, 0.8), channel_prob=1), batch)
    for sample in range(2):
        for channel in range(2):
            expected = gaussian_filter(
                batch["image"][sample, channel].double().numpy(), 0.8, mode="nearest", truncate=3
            )
            np.testing.assert_allclose(blurred[sample, channel].numpy(), expected, atol=1e-5)


def test_blur_differs_per_axis_and_keeps_the_mass() -> None:
    image = torch.zeros((1, 1, 15, 15, 15))
    image[..., 7, 7, 7] = 1
    blurred = applied(RandGaussianBlurBatch(1, (0.5, 1.0), channel_prob=1), {"image": image, "label": image.byte()})[
        0, 0
    ]
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    offsets = (torch.arange(15) - 7.0) ** 2
    widths = [float((blurred.sum([d for d in range(3) if d != axis]) * offsets).sum()) for axis in range(3)]
    assert len({round(width, 4) for width in widths}) == 3
    assert all(0.2 < width < 1 for width in widths)


def test_blur_passes_over_axes_of_one_voxel() -> None:
    batch = noise_batch((1, 9, 9))
    blurred = applied(RandGaussianBlurBatch(1, channel_prob=1), batch)
    assert blurred.shape == batch["image"].shape
    assert torch.isfinite(blurred).all()


@pytest.mark.parametrize("factor", [0.8, 1.25])
@pytest.mark.parametrize("shape", SHAPES)
def test_contrast_equals_monai(shape: tuple[int, ...], factor: float) -> None:
    batch = noise_batch(shape)
    changed = applied(RandContrastBatch(1, (factor, factor)), batch)
    twin = ScaleIntensityFixedMean(factor=factor - 1, preserve_range=True, fixed_mean=True, channel_wise=True)
    for before, after in zip(batch["image"], changed, strict=True):
        expected = torch.stack([torch.as_tensor(twin(channel[None]))[0] for channel in before])
        torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gamma_equals_monai(shape: tuple[int, ...], invert: bool) -> None:
    batch = noise_batch(shape)
    changed = applied(RandGammaBatch(1, (1.4, 1.4), invert=invert), batch)
    twin = AdjustContrast(gamma=1.4, invert_image=invert, retain_stats=True)
    for before, after in zip(batch["image"].flatten(0, 1), changed.flatten(0, 1), strict=True):
        torch.testing.assert_close(after, torch.as_tensor(twin(before[None]))[0], atol=1e-3, rtol=1e-3)


def test_gamma_leaves_a_constant_channel() -> None:
    batch = {"image": torch.full((2, 1, 8, 8, 8), 0.37), "label": torch.zeros((2, 1, 8, 8, 8)).byte()}
    torch.testing.assert_close(applied(RandGammaBatch(1), batch), batch["image"])


@pytest.mark.parametrize("shape", SHAPES)
def test_low_resolution_equals_monai(shape: tuple[int, ...]) -> None:
    batch = noise_batch(shape)
    changed = applied(RandLowResolutionBatch(1, (0.6, 0.6), channel_prob=1), batch)
    twin = RandSimulateLowResolution(
        prob=1,
        zoom_range=(0.6, 0.6),
        downsample_mode="nearest-exact",
        upsample_mode="bilinear" if len(shape) == 2 else "trilinear",
    )
    for before, after in zip(batch["image"], changed, strict=True):
        torch.testing.assert_close(after, torch.as_tensor(twin(before)), atol=1e-5, rtol=1e-5)


def test_low_resolution_spares_the_fixed_axis() -> None:
    image = torch.randn((1, 1, 9, 1, 1)).expand(1, 1, 9, 12, 12).contiguous()
    batch = {"image": image, "label": image.byte()}
    torch.testing.assert_close(
        applied(RandLowResolutionBatch(1, (0.5, 0.5), channel_prob=1, fixed_axis=0), batch), image
    )
    assert not torch.allclose(applied(RandLowResolutionBatch(1, (0.5, 0.5), channel_prob=1), batch), image)


def test_brightness_multiplies_each_channel_by_its_own_factor() -> None:
    batch = noise_batch((5, 6), n=500)
    ratio = (applied(RandBrightnessBatch(1, (0.75, 1.5)), batch) / batch["image"]).flatten(2)
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))
    factors = ratio[..., 0]
    assert 0.75 <= float(factors.min()) < 0.77
    assert 1.48 < float(factors.max()) <= 1.5
    # As often darker as brighter, though the range reaches further up.
    assert float((factors < 1).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert (factors[:, 0] != factors[:, 1]).all()


def test_noise_has_the_variance_asked_for_and_differs_between_channels() -> None:
    batch = noise_batch((40, 40, 20))
    noise = applied(RandGaussianNoiseBatch(1, (0.04, 0.04)), batch) - batch["image"]
    torch.testing.assert_close(noise.flatten(2).var(-1), torch.full((2, 2), 0.04), atol=0.002, rtol=0)
    assert abs(float(torch.corrcoef(noise.flatten(0, 1).flatten(1))[0, 1])) < 0.03
    strengths = applied(RandGaussianNoiseBatch(1, (0, 0.1)), batch, seed=4) - batch["image"]
    std = strengths.flatten(2).std(-1)
    torch.testing.assert_close(std[:, 0], std[:, 1], atol=0, rtol=0.03)
    assert abs(float(std[0, 0] - std[1, 0])) > 0.01


@pytest.mark.parametrize("transform", ALL)
def test_comes_as_often_as_asked_and_leaves_the_others(transform: type[RandIntensityBatch]) -> None:
    batch = noise_batch((4, 5), n=3000)
    before = batch["image"].clone()
    some = transform(0.3)
    changed = (applied(some, batch) != batch["image"]).flatten(2).any(2)
    expected = some.channel_prob
    assert float(changed.float().mean()) == pytest.approx(0.3 * expected, abs=0.03)
    assert float(changed.any(1).float().mean()) == pytest.approx(0.3 * (1 - (1 - expected) ** 2), abs=0.03)
    assert torch.equal(batch["image"], before)
    assert torch.equal(applied(transform(0), batch), before)


@pytest.mark.parametrize("transform", ALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_half_precision_is_computed_in_float32(transform: type[RandIntensityBatch], shape: tuple[int, ...]) -> None:
    batch = noise_batch(shape, n=3)
    half = {**batch, "image": batch["image"].bfloat16()}
    result = applied(transform(1), half)
    assert result.dtype == torch.bfloat16
    exact = applied(transform(1), {**batch, "image": half["image"].float()})
    assert torch.equal(result, exact.bfloat16())
    assert not torch.equal(result, half["image"])
