from collections.abc import Sequence

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from sliding import CPU, Ramps, plan

from medseg.config import InferenceConfig
from medseg.inferers.body import body_mask, even_air
from medseg.inferers.case_stream import CaseStream, predict_labels, predict_logits
from medseg.inferers.coarse_mask import CoarseMask
from medseg.inferers.predictor import Predictor
from medseg.inferers.windows import GAUSSIAN_SIGMA
from medseg.plan import Normalization, Plan
from medseg.volume import Spacing3

CT = Normalization(kind="ct", lower=-900, upper=300, mean=50, std=100)


def ct_plan(dims: int = 3, rules: Sequence[Normalization] = (CT,), spacing: Spacing3 = (1, 1, 1)) -> Plan:
    base = plan(dims)
    grid = base.grid.model_copy(update={"normalization": tuple(rules), "spacing": spacing})
    return base.model_copy(update={"grid": grid})


def normalized(hu: torch.Tensor, rule: Normalization = CT) -> torch.Tensor:
    return hu.clamp(rule.lower, rule.upper).sub(rule.mean).div(rule.std)


def chest(noise: float = 30.0) -> torch.Tensor:
    """HU (1, 64, 64, 48): a body with a lung in it that is open at both ends along z, in noisy air."""
    hu = -860 + noise * torch.randn(1, 64, 64, 48, generator=torch.Generator().manual_seed(0))
    hu[:, 24:60, 24:60, :] = 40
    hu[:, 32:52, 32:52, :] = -850
    return hu


def covered(mask: CoarseMask, shape: tuple[int, ...]) -> np.ndarray:
    """Voxel by voxel."""
    return np.kron(mask.blocks, np.ones(mask.step, bool))[tuple(slice(n) for n in shape)]


def test_lungs_are_in_the_body_and_air_far_from_it_is_not() -> None:
    mask = body_mask(normalized(chest()), ct_plan().grid)
    assert mask is not None
    inside = covered(mask, (64, 64, 48))
    assert inside[24:60, 24:60].all()
    assert not inside[:4, :4].any()


def test_the_margin_is_as_wide_as_it_says_in_mm() -> None:
    hu = torch.full((1, 60, 60, 30), -1000.0)
    hu[:, 29:31, 29:31, 14:16] = 0
    mask = body_mask(normalized(hu), ct_plan(spacing=(1, 1, 3)).grid)
    assert mask is not None
    inside = covered(mask, (60, 60, 30))
    assert inside[20:40, 30, 15].all() and inside[30, 30, 12:19].all()
    assert not inside[:8, 30, 15].any() and not inside[30, 30, :6].any()


def test_specks_of_noise_are_no_body_but_small_animals_are() -> None:
    grid, hu = ct_plan(spacing=(4, 4, 4)).grid, torch.full((1, 64, 64, 48), -1000.0)
    hu[:, 2, 2, 2] = 200
    alone = body_mask(normalized(hu), grid)
    hu[:, 30:60, 30:60, 10:40] = 0
    beside_a_body = body_mask(normalized(hu), grid)
    assert alone is not None and covered(alone, (64, 64, 48))[2, 2, 2]
    assert beside_a_body is not None and not covered(beside_a_body, (64, 64, 48))[2, 2, 2]


def test_where_air_is_clipped_away_all_that_is_above_the_clip_is_body() -> None:
    rule = CT.model_copy(update={"lower": -100.0})
    hu = torch.full((1, 64, 64, 48), -1000.0)
    hu[:, 40:60, 40:60, 10:40] = -60  # fat
    mask = body_mask(normalized(hu, rule), ct_plan(rules=[rule]).grid)
    assert mask is not None
    inside = covered(mask, (64, 64, 48))
    assert inside[40:60, 40:60, 10:40].all() and not inside[:16, :16].any()


def test_what_is_not_a_number_is_body() -> None:
    image = torch.full((1, 24, 24, 24), torch.nan)
    mask = body_mask(image, ct_plan().grid)
    assert mask is not None and mask.blocks.all()


@pytest.mark.parametrize(
    ("rules", "transforms", "hu"),
    [
        ([Normalization(kind="zscore")], (), 0.0),
        ([CT, Normalization(kind="zscore")], (), 0.0),
        ([CT], ({"name": "ScaleIntensityd", "keys": ["image"]},), 0.0),
        ([CT], (), -1000.0),  # as of values that are no HU
    ],
)
def test_there_is_no_mask_where_air_cannot_be_told(
    rules: Sequence[Normalization], transforms: tuple[dict[str, object], ...], hu: float
) -> None:
    grid = ct_plan(rules=rules).grid.model_copy(update={"transforms": transforms})
    image = normalized(torch.full((len(rules), 16, 16, 16), hu))
    image[:, 4:] = -8.5
    assert body_mask(image, grid) is None


def test_even_air_is_the_least_value() -> None:
    image = normalized(torch.full((1, 8, 8, 8), -2000.0))
    assert even_air(image, ct_plan().grid) == pytest.approx(image[:, 0, 0, 0].tolist())
    assert even_air(image, plan(3).grid) == tuple(image[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("dims", [2, 3])
def test_logits_in_the_body_are_those_without_skipping(dims: int) -> None:
    """Every window over a voxel of the body holds that voxel, and so was asked about."""
    plan_, image = ct_plan(dims), normalized(chest())
    mask = body_mask(image, plan_.grid)
    assert mask is not None
    stream = CaseStream(Predictor(Ramps(), plan_, CPU), image, InferenceConfig(overlap=0.25), body=mask)
    logits = torch.cat([slab.fresh.clone() for slab in stream.slabs()], stream.layout.axis).permute(3, 0, 1, 2)
    expected = predict_logits(Ramps(), image, plan_, InferenceConfig(overlap=0.25), CPU)
    inside = torch.from_numpy(covered(mask, (64, 64, 48)))
    assert torch.allclose(logits[:, inside], expected[:, inside], rtol=1e-5, atol=1e-4)
    assert 0 < stream.asked < stream.layout.n_windows


def test_air_gets_what_the_network_says_of_even_air() -> None:
    plan_, image = ct_plan(), normalized(chest())
    mask = body_mask(image, plan_.grid)
    assert mask is not None
    stream = CaseStream(Predictor(Ramps(), plan_, CPU), image, InferenceConfig(), body=mask)
    logits = torch.cat([slab.fresh.clone() for slab in stream.slabs()], stream.layout.axis).permute(3, 0, 1, 2)
    air = torch.full_like(image, stream.air[0])
    expected = sliding_window_inference(
        air[None], (8, 8, 8), 4, Ramps(), overlap=0.5, mode="gaussian", sigma_scale=GAUSSIAN_SIGMA
    )[0]
    assert torch.allclose(logits[:, :4, :4], expected[:, :4, :4], atol=1e-3)


def test_labels_are_the_same_and_air_is_asked_about_once() -> None:
    seen: list[int] = []

    class Threshold(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(len(image))
            return torch.cat([image, 0 * image], dim=1)  # label 0 where bright, 1 elsewhere: air included

    image = normalized(chest())
    labels = predict_labels(Threshold(), image, ct_plan(), InferenceConfig(), CPU)
    skipping = sum(seen)
    seen.clear()
    assert torch.equal(labels, predict_labels(Threshold(), image, ct_plan(), InferenceConfig(skip_air=False), CPU))
    assert skipping < sum(seen)
    assert bool((labels[:4, :4] == 1).all())


def test_windows_that_reach_beyond_a_small_image_are_found_in_the_mask() -> None:
    hu = torch.full((1, 5, 40, 5), -1000.0)
    hu[:, :, 30:, :] = 0
    image = normalized(hu)
    small = ct_plan()
    labels = predict_labels(Ramps(), image, small, InferenceConfig(), CPU)
    expected = predict_labels(Ramps(), image, small, InferenceConfig(skip_air=False), CPU)
    assert torch.equal(labels[:, 20:], expected[:, 20:])
