from collections.abc import Callable

import numpy as np
import pytest

from medseg.fingerprint import UsualValues
from medseg.plan import Normalization
from medseg.transforms.intensities import profile, quantiles, unlike, unlike_the_others, usual_values

CT, ZSCORE, NONZERO = Normalization(kind="ct"), Normalization(kind="zscore"), Normalization(kind="zscore", nonzero=True)
SHAPE = (40, 40, 12)

Change = Callable[[np.ndarray], np.ndarray]


def ct(seed: int, field_of_view: float = 1.3) -> np.ndarray:
    """A body of fat, muscle and bone in air, of which a wider or narrower field of view shows more or less."""
    random = np.random.default_rng(seed)
    axes = [np.linspace(-field_of_view, field_of_view, n) for n in SHAPE]
    x, y, _ = np.meshgrid(*axes, indexing="ij")
    radius = np.hypot(x, y / random.uniform(0.8, 1))
    image = np.where(radius < 1, -90.0, -1000.0)
    image[radius < 0.85] = 45
    image[np.hypot(x, y - 0.5) < random.uniform(0.15, 0.2)] = 500
    return image + random.normal(0, 12, SHAPE)


def mr(seed: int) -> np.ndarray:
    """Bright fat, darker muscle, dark bone, on a background of zeros, in a scale of its own."""
    image = ct(seed)
    body = image > -500
    tissue = np.where(image < -40, 900.0, np.where(image < 200, 400, 100))
    return np.where(body, np.random.default_rng(seed).uniform(0.2, 5) * (tissue + image / 10), 0)


def usual(images: list[np.ndarray], rule: Normalization) -> UsualValues:
    learnt = usual_values([profile(quantiles(image), rule) for image in images], rule)
    return UsualValues.model_validate_json(learnt.model_dump_json())  # as a model keeps it


def odd(image: np.ndarray, usual: UsualValues, rule: Normalization) -> str:
    return unlike(profile(quantiles(image), rule), usual) or ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda image: image + 1024, "brighter than in training: its 1st, 50th"),
        (lambda image: image - 1024, "darker than in training"),
        (lambda image: np.clip(image + 1024, 0, None), "air lies at -1000"),
        (lambda image: (image - image.min()) / np.ptp(image), "were they scaled"),
        (lambda image: image / 20, "were they scaled"),
        (lambda image: image * 30, "were they scaled"),
        (lambda image: np.where(image > -500, 300 - image, 0), "brighter than in training"),  # as MR
    ],
)
def test_a_ct_of_another_intercept_or_scale_is_told(change: Change, told: str) -> None:
    trained = usual([ct(seed) for seed in range(6)], CT)
    assert odd(ct(10), trained, CT) == ""
    assert told in odd(change(ct(10)), trained, CT)


def test_another_field_of_view_is_ordinary() -> None:
    trained = usual([ct(seed) for seed in range(6)], CT)
    for field_of_view in (0.8, 1.0, 1.6):
        assert odd(ct(10, field_of_view), trained, CT) == ""


@pytest.mark.parametrize("rule", [ZSCORE, NONZERO])
def test_scale_does_no_harm_where_it_is_taken_out(rule: Normalization) -> None:
    trained = usual([mr(seed) for seed in range(6)], rule)
    for change in (lambda image: image, lambda image: image / 1000, lambda image: image * 50):
        assert odd(change(mr(10)), trained, rule) == ""
    assert odd(mr(10) + 1024, trained, ZSCORE if rule is ZSCORE else rule) == "" or rule is NONZERO
    assert "spread otherwise than in training" in odd(ct(10), trained, rule)
    assert "spread otherwise than in training" in odd(mr(10).max() - mr(10), trained, rule)


def test_zeros_that_are_no_zeros_any_more_matter_where_they_are_left_out() -> None:
    trained = usual([mr(seed) for seed in range(6)], NONZERO)
    assert "another background" in odd(mr(10) + 1024, trained, NONZERO)


def test_cases_unlike_the_others_of_a_dataset_are_found() -> None:
    images = [ct(seed) for seed in range(5)]
    images[3] = images[3] + 1024
    profiles = [profile(quantiles(image), CT) for image in images]
    assert list(unlike_the_others(profiles, CT)) == [3]
    assert "in the other cases" in unlike_the_others(profiles, CT)[3]
    assert unlike_the_others(profiles[2:], CT) == {}  # of three, none can be called the odd one
    alike = [profile(quantiles(mr(seed)), ZSCORE) for seed in range(8)]
    assert unlike_the_others(alike, ZSCORE) == {}


def test_where_cases_differ_much_more_is_ordinary() -> None:
    """Images in any scale, which are not normalized: another scale is no news."""
    rule = Normalization(kind="none")
    trained = usual([ct(seed) * 10**seed for seed in range(5)], rule)
    assert odd(ct(10) * 300, trained, rule) == ""


def test_of_few_cases_nothing_is_known_of_forms() -> None:
    assert odd(ct(10), usual([mr(0)], ZSCORE), ZSCORE) == ""


def test_constant_images_have_profiles() -> None:
    for value in (0.0, 7.0):
        for rule in (CT, ZSCORE, NONZERO):
            assert np.ptp(profile(quantiles(np.full(SHAPE, value)), rule)) == 0


def test_records_of_other_lengths_are_refused() -> None:
    content = usual([ct(0), ct(1)], CT).model_dump()
    for change in ({"lowest": (1.0,)}, {"percents": (50.0,)}):
        with pytest.raises(ValueError, match="percentiles should be"):
            UsualValues.model_validate({**content, **change})
