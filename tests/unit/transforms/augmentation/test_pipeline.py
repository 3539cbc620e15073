"""The whole augmentation: reproducible, in 2D and 3D, with the user's own transforms."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, GaussianSharpen, Transform

from medseg.config import AugmentationConfig
from medseg.errors import ConfigError
from medseg.transforms.augmentation.batch import BatchData
from medseg.transforms.augmentation.pipeline import (
    Augmentation,
    EachSample,
    build_augmentation,
    rotation_limit,
    through_plane_axis,
)
from medseg.transforms.augmentation.spatial import RandAffineBatch

OFF: dict[str, Any] = {
    **{name: 0.0 for name in AugmentationConfig.model_fields if name.endswith("_probability")},
    "mirror": False,
}
SHAPES = [(12, 16, 10), (24, 20)]


def random_batch(shape: tuple[int, ...], n: int = 6, channels: int = 2) -> BatchData:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn((n, channels, *shape), generator=generator),
        "label": torch.randint(0, 4, (n, 1, *shape), generator=generator, dtype=torch.uint8),
    }


def build(shape: tuple[int, ...], **settings: Any) -> Augmentation:
    dims = len(shape)
    return build_augmentation(
        AugmentationConfig(**settings),
        dims=dims,
        patch_size=shape,
        spacing=(1.0,) * dims,
        mirror_axes=tuple(range(dims)) if settings.get("mirror", True) else (),
    )


def equal(first: BatchData, second: BatchData) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def test_it_is_a_compose_that_draws_as_monai_does(shape: tuple[int, ...] = SHAPES[0]) -> None:
    batch = {**random_batch(shape), "case_id": "a"}
    augment = build(shape)
    assert isinstance(augment, Compose)

    def two() -> list[BatchData]:
        augment.set_random_state(seed=5)
        return [augment(batch), augment(batch)]

    first, second = two(), two()
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["image"], other["image"])
    assert not torch.equal(first[0]["image"], first[1]["image"])
    assert first[0]["case_id"] == "a"


def test_it_stands_in_a_compose_of_monai(shape: tuple[int, ...] = SHAPES[0]) -> None:
    batch = random_batch(shape)
    inside, alone = Compose([build(shape)]), build(shape)
    inside.set_random_state(seed=5)
    alone.set_random_state(seed=int(np.random.RandomState(5).randint(2**32, dtype="uint32")))
    assert equal(inside(batch), alone(batch))


def test_meta_tensors_of_a_data_loader_become_plain_tensors() -> None:
    plain = random_batch(SHAPES[0])
    batch = {key: MetaTensor(value) for key, value in plain.items()}
    augment = build(SHAPES[0])
    changed = augment(batch, seed=3)
    assert not any(isinstance(value, MetaTensor) for value in changed.values())
    assert equal(changed, augment(plain, seed=3))


@pytest.mark.parametrize("shape", SHAPES)
def test_parts_of_a_batch_are_augmented_as_in_the_whole(shape: tuple[int, ...]) -> None:
    batch = random_batch(shape)
    own_steps = [{"name": "RandGaussianSharpend", "keys": "image", "prob": 0.5}]
    augment = build(shape, transforms=own_steps, channel_dropout_probability=0.5)
    for seed in range(8):
        whole = augment(batch, seed)
        for part in (slice(0, 2), slice(2, 3), slice(3, 6)):
            own = {key: value[part] for key, value in batch.items()}
            changed = augment(own, seed, first=part.start, n_samples=6)
            torch.testing.assert_close(changed["image"], whole["image"][part], atol=1e-5, rtol=1e-5)
            assert torch.equal(changed["label"], whole["label"][part])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_depends_on_the_seed_alone(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch = random_batch(shape)
    batch["image"] = batch["image"].to(dtype)
    before = {key: value.clone() for key, value in batch.items()}
    augment = build(shape, transforms=[{"name": "RandGaussianSharpend", "keys": "image", "prob": 0.5}])
    first = augment(batch, seed=7)
    others = [augment(batch, seed=(7, step)) for step in range(1, 6)]
    again = build(shape, transforms=[{"name": "RandGaussianSharpend", "keys": "image", "prob": 0.5}])
    assert equal(again(batch, seed=7), first)
    assert equal(again(batch, seed=(7, 3)), others[2])
    assert not any(equal(other, first) for other in others)
    assert equal(batch, before)
    assert (first["image"].dtype, first["label"].dtype) == (dtype, torch.uint8)
    assert all(first[key].shape == batch[key].shape for key in batch)
    assert torch.isfinite(first["image"]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_autocast_changes_nothing(shape: tuple[int, ...]) -> None:
    batch = random_batch(shape)
    augment = build(shape, rotation_probability=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = augment(batch, seed=3)
    assert equal(inside, augment(batch, seed=3))


def test_everything_off_leaves_the_batch_untouched() -> None:
    batch = random_batch((8, 8, 8))
    augment = build((8, 8, 8), **OFF)
    assert augment.transforms == ()
    assert equal(augment(batch, seed=0), batch)


def test_other_entries_of_the_batch_are_kept() -> None:
    batch = {**random_batch((8, 8), n=2), "case": torch.tensor([3, 4])}
    assert build((8, 8))(batch, seed=0)["case"] is batch["case"]


def test_mirroring_keeps_to_its_axes() -> None:
    batch = random_batch((6, 7), n=8)
    config = AugmentationConfig(**{**OFF, "mirror": True})
    augment = build_augmentation(config, dims=2, patch_size=(6, 7), spacing=(1, 1), mirror_axes=(1,))
    flipped = augment(batch, seed=1)["image"]
    mirrored = [not torch.equal(a, b) for a, b in zip(flipped, batch["image"], strict=True)]
    assert 0 < sum(mirrored) < 8
    torch.testing.assert_close(flipped.sort(dim=3).values, batch["image"].sort(dim=3).values)
    none = build_augmentation(config, dims=2, patch_size=(6, 7), spacing=(1, 1), mirror_axes=())
    assert equal(none(batch, seed=1), batch)


def test_a_monai_transform_by_name_is_monais() -> None:
    batch = random_batch((10, 9, 8))
    transforms = [{"name": "GaussianSharpend", "keys": ["image"], "alpha": 10.0}]
    sharpened = build((10, 9, 8), **OFF, transforms=transforms)(batch, seed=0)
    twin = GaussianSharpen(alpha=10.0)
    for before, after in zip(batch["image"], sharpened["image"], strict=True):
        torch.testing.assert_close(after, torch.as_tensor(twin(before)))
    assert type(sharpened["image"]) is torch.Tensor
    assert torch.equal(sharpened["label"], batch["label"])


def test_random_monai_transforms_draw_for_each_sample() -> None:
    image = torch.randn((1, 1, 8, 8)).expand(20, 1, 8, 8).contiguous()
    batch = {"image": image, "label": image.byte()}
    transforms = [{"name": "RandScaleIntensityd", "keys": "image", "factors": 0.5, "prob": 0.5}]
    scaled = build((8, 8), **OFF, transforms=transforms)(batch, seed=0)["image"]
    factors = (scaled / image)[:, 0, 0, 0]
    assert 4 <= int((factors != 1).sum()) <= 16
    assert len(factors.unique()) > 4


def test_a_transform_that_works_in_place_cannot_reach_the_batch() -> None:
    class Emptied(Transform):  # type: ignore[misc]
        def __call__(self, data: BatchData) -> BatchData:
            return {key: value.zero_() for key, value in data.items()}

    batch = random_batch((8, 8))
    before = {key: value.clone() for key, value in batch.items()}
    emptied = EachSample(Emptied())(batch)
    assert not emptied["image"].any() and not emptied["label"].any()
    assert equal(batch, before)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "RandSpatialCropd", "keys": ["image", "label"], "roi_size": 4}, "makes .*keep the shape"),
        ({"name": "DeleteItemsd", "keys": "label"}, "DeleteItemsd failed on a patch: KeyError"),
    ],
)
def test_transforms_that_do_not_fit_a_patch_are_refused(spec: dict[str, Any], message: str) -> None:
    augment = build((8, 8), **OFF, transforms=[spec])
    with pytest.raises(ConfigError, match=message):
        augment(random_batch((8, 8)), seed=0)


def test_a_wrong_transform_is_refused_when_building() -> None:
    with pytest.raises(ConfigError, match="did you mean 'RandGaussianSharpend'"):
        build((8, 8), transforms=[{"name": "RandGausianSharpend"}])


@pytest.mark.parametrize(
    ("patch_size", "spacing", "axis", "degrees"),
    [
        ((40, 56, 40), (1, 1, 1), None, 30),
        ((128, 128, 32), (1, 1, 3.1), 2, 180),
        ((128, 64, 32), (1, 1, 3.1), 2, 15),
        ((160, 160, 48), (1, 1, 1), 2, 180),
        ((96, 96, 64), (0.5, 1, 2), None, 30),
        ((56, 40), (1, 1), None, 180),
        ((56, 36), (1, 1), None, 15),
        ((56, 28), (1, 2), None, 180),
    ],
)
def test_rotations_fit_the_patch(
    patch_size: tuple[int, ...], spacing: tuple[float, ...], axis: int | None, degrees: float
) -> None:
    assert through_plane_axis(patch_size, spacing) == axis
    assert rotation_limit(patch_size, spacing) == degrees


def test_the_users_rotation_limit_wins() -> None:
    affine = build((40, 40), rotation_degrees=10).transforms[0]
    assert isinstance(affine, RandAffineBatch)
    affine.set_random_state(seed=0)
    affine.randomize(2000)
    assert abs(affine.angles).max() == pytest.approx(10 / 180 * 3.14159, rel=0.05)


def test_the_spacing_has_to_be_the_networks() -> None:
    with pytest.raises(ValueError, match="should have 2 numbers each"):
        build_augmentation(AugmentationConfig(), dims=2, patch_size=(8, 8), spacing=(1, 1, 1), mirror_axes=(0,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_gpu_does_the_same_without_waiting(shape: tuple[int, ...]) -> None:
    batch = random_batch(shape)
    # Noise is drawn on the device, by another generator.
    augment = build(shape, noise_probability=0)
    on_gpu = {key: value.cuda() for key, value in batch.items()}
    augment(on_gpu, seed=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = [augment(on_gpu, seed=seed) for seed in range(10)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for seed, result in enumerate(results):
        expected = augment(batch, seed=seed)
        assert (result["label"].cpu() != expected["label"]).float().mean() < 1e-3
        assert ((result["image"].cpu() - expected["image"]).abs() > 1e-3).float().mean() < 1e-3
