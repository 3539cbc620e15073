import pytest
import torch

from medseg.config import AugmentationConfig
from medseg.transforms.augmentation.intensity import RandChannelDropoutBatch
from medseg.transforms.augmentation.pipeline import build_augmentation


def dropped(n_channels: int, prob: float = 1.0, seed: int = 0) -> torch.Tensor:
    """(sample, channel): which are zero; the others have to be as they were."""
    image = torch.rand(200, n_channels, 3, 3, 3) + 1
    transform = RandChannelDropoutBatch(prob)
    transform.set_random_state(seed=seed)
    changed = transform({"image": image, "label": torch.zeros(200, 1, 3, 3, 3, dtype=torch.uint8)})["image"]
    zero = (changed == 0).flatten(2).all(2)
    assert torch.equal(changed[~zero], image[~zero])
    assert bool((image != 0).all())
    return zero


def test_some_channels_and_never_all_are_dropped() -> None:
    zero = dropped(4)
    assert set(zero.sum(1).tolist()) == {1, 2, 3}
    assert all(70 < n < 130 for n in zero.sum(0).tolist())  # 100 of each are expected


def test_the_probability_is_that_of_a_sample() -> None:
    assert 40 < int(dropped(2, prob=0.3).any(1).sum()) < 80
    assert not dropped(2, prob=0).any()


def test_the_only_channel_stays() -> None:
    assert not dropped(1).any()


def test_it_depends_on_the_seed_alone() -> None:
    assert torch.equal(dropped(3, seed=5), dropped(3, seed=5))
    assert not torch.equal(dropped(3, seed=5), dropped(3, seed=6))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_it_comes_last_so_that_dropped_channels_are_zero(probability: float) -> None:
    config = AugmentationConfig(channel_dropout_probability=probability, noise_probability=1, noise_variance=(0.1, 0.1))
    chain = build_augmentation(config, dims=2, patch_size=(8, 8), spacing=(1, 1), mirror_axes=[0])
    batch = {"image": torch.ones(6, 2, 8, 8), "label": torch.zeros(6, 1, 8, 8, dtype=torch.uint8)}
    zero = (chain(batch, seed=(0, 1))["image"] == 0).flatten(2).all(2)
    assert zero.sum(1).tolist() == [int(probability)] * 6
