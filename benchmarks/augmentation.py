"""Milliseconds per batch of each augmentation, ours for whole batches and MONAI's composed for each sample.

    python benchmarks/augmentation.py [--batch 4 1 40 56 40] [--threads 2] [--device cpu] [--rounds 5]

Every number is the median, over rounds, of the mean over the same BATCHES seeds with the default
probabilities, so it is what a training step pays on average. Both sides alternate. MONAI does not track
metadata here, which is its fastest way.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
    Transform,
)

from medseg.config import AugmentationConfig
from medseg.transforms.augmentation.batch import BatchData, BatchTransform
from medseg.transforms.augmentation.pipeline import build_augmentation

BATCHES = 30
BOTH = ("image", "label")


def monai_twins(shape: tuple[int, ...]) -> list[Transform]:
    """One for each of our transforms, in our order, as near as MONAI comes to the same ranges."""
    turn = np.deg2rad(30 if len(shape) == 3 else 180)
    affine = RandAffined(
        BOTH,
        prob=0.36,
        rotate_range=[turn] * (3 if len(shape) == 3 else 1),
        scale_range=[(-0.3, 0.4)] * len(shape),
        mode=("bilinear", "nearest"),
        padding_mode="zeros",
        spatial_size=shape,
        cache_grid=True,
    )
    sigma = (0.5, 1.0)
    linear = "trilinear" if len(shape) == 3 else "bilinear"
    return [
        affine,
        RandGaussianNoised("image", prob=0.1, std=0.1**0.5),
        # Ours reaches half of the channels of the samples drawn.
        RandGaussianSmoothd("image", sigma, sigma, sigma, prob=0.1),
        RandScaleIntensityd("image", 0.25, prob=0.15),
        RandScaleIntensityFixedMeand("image", factors=0.25, preserve_range=True, prob=0.15),
        RandSimulateLowResolutiond("image", prob=0.125, upsample_mode=linear, zoom_range=(0.5, 1.0)),
        RandAdjustContrastd("image", prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
        RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        Compose([RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in range(len(shape))]),
    ]


def each_sample(transform: Transform, batch: BatchData, seed: int) -> BatchData:
    transform.set_random_state(seed=seed)
    samples = [transform({key: batch[key][index] for key in BOTH}) for index in range(len(batch["image"]))]
    return {key: torch.stack([sample[key] for sample in samples]) for key in BOTH}


def whole_batch(transform: BatchTransform, batch: BatchData, seed: int) -> BatchData:
    transform.set_random_state(seed=seed)
    return transform(batch)


def mean_milliseconds(run: Callable[[int], object], device: str) -> float:
    start = time.perf_counter()
    for seed in range(BATCHES):
        run(seed)
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / BATCHES * 1e3


def random_batch(size: list[int], device: str) -> BatchData:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(size, generator=generator)
    label = torch.randint(0, 3, (size[0], 1, *size[2:]), generator=generator, dtype=torch.uint8)
    return {"image": image.to(device), "label": label.to(device)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 1, 40, 56, 40])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    set_track_meta(False)

    shape = tuple(options.batch[2:])
    batch = random_batch(options.batch, options.device)
    augment = build_augmentation(
        AugmentationConfig(),
        dims=len(shape),
        patch_size=shape,
        spacing=(1.0,) * len(shape),
        mirror_axes=tuple(range(len(shape))),
    )
    twins = monai_twins(shape)
    composed = Compose(twins)
    rows: list[tuple[str, Callable[[int], object], Callable[[int], object]]] = [
        (
            type(ours).__name__,
            lambda seed, ours=ours: whole_batch(ours, batch, seed),  # type: ignore[misc]
            lambda seed, twin=twin: each_sample(twin, batch, seed),  # type: ignore[misc]
        )
        for ours, twin in zip(augment.transforms, twins, strict=True)
    ]
    rows.append(("all together", lambda seed: augment(batch, seed), lambda seed: each_sample(composed, batch, seed)))

    print(f"batch {options.batch}, {options.device}, {options.threads} threads, torch {torch.__version__}")
    print(f"{'ms per batch':26}{'medseg':>9}{'MONAI':>9}{'ratio':>8}")
    for name, ours, theirs in rows:
        ours(0), theirs(0)
        times = [
            (mean_milliseconds(ours, options.device), mean_milliseconds(theirs, options.device))
            for _ in range(options.rounds)
        ]
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        print(f"{name:26}{medians[0]:9.2f}{medians[1]:9.2f}{medians[1] / medians[0]:8.1f}")


if __name__ == "__main__":
    main()
