import numpy as np
import pytest

from medseg.annotation.folder import drawn
from medseg.annotation.next_case import (
    STRATEGIES,
    Candidates,
    doubtful_and_unlike,
    image_features,
    most_doubtful,
    most_unlike,
)
from medseg.dataset.cases import Case
from medseg.volume import Geometry, Volume


def volume(seed: int, shape: tuple[int, int, int] = (12, 10, 8), size: int = 3, orientation: str = "RAS") -> Volume:
    """Noise with a bright cube."""
    array = np.random.default_rng(seed).normal(0, 5, (1, *shape))
    array[0, 2 : 2 + size, 2 : 2 + size, 2 : 2 + size] += 100
    return Volume(array, Geometry(shape, np.eye(4))).oriented_as(orientation)


def test_features_are_alike_for_images_that_look_alike() -> None:
    small, again, large = (image_features(volume(seed, size=size)) for seed, size in ((0, 3), (1, 3), (2, 6)))
    assert np.linalg.norm(small - again) < 0.3 * np.linalg.norm(small - large)


def test_features_do_not_depend_on_the_order_of_axes_nor_on_units() -> None:
    features = image_features(volume(0))
    np.testing.assert_allclose(image_features(volume(0, orientation="LIP")), features, atol=1e-5)
    brighter = volume(0)
    np.testing.assert_allclose(
        image_features(Volume(brighter.array * 7 + 1000, brighter.geometry)), features, atol=1e-4
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (300, 2, 1), (7, 7, 7)])
def test_features_of_odd_shapes_and_flat_images_are_finite(shape: tuple[int, int, int]) -> None:
    features = image_features(Volume(np.full((1, *shape), 3.0), Geometry(shape, np.eye(4))))
    assert len(features) == 235
    assert np.isfinite(features).all()


FEATURES = {name: np.array([float(i), 0.0]) for i, name in enumerate("abcdefgh")}


def test_greedy_choice_covers_all() -> None:
    done: list[str] = []
    for _ in range(3):
        waiting = [name for name in FEATURES if name not in done]
        done.append(most_unlike(Candidates(waiting, done, FEATURES)).case_id)
    assert done[0] in "de"  # amid all
    assert set(done[1:]) == {"a", "h"}  # then the ends


def test_doubt_alone_and_with_unlikeness() -> None:
    doubt = {"b": 0.5, "c": 0.45, "h": 0.44}
    candidates = Candidates(list("bch"), ["a"], FEATURES, doubt)
    assert most_doubtful(candidates).case_id == "b"
    assert "0.50" in most_doubtful(candidates).reason
    assert doubtful_and_unlike(Candidates(list("dh"), ["a"], FEATURES, {"d": 0.2, "h": 0.6})).case_id == "h"


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_chooses_something_without_a_model_and_without_images(name: str) -> None:
    assert STRATEGIES[name](Candidates(["x", "y"], ["z"])).case_id in {"x", "y"}
    assert STRATEGIES[name](Candidates(["x"], [], {"x": np.ones(3)})).case_id == "x"


def test_held_back_cases_are_whole_groups() -> None:
    cases = [Case(f"case_{i}", (), group=f"patient_{i // 3}") for i in range(30)]
    held = drawn(cases, 0.2, seed=1)
    groups = {case.group for case in cases if case.case_id in held}
    assert set(held) == {case.case_id for case in cases if case.group in groups}
    assert 6 <= len(held) <= 8
    assert drawn(cases, 0.2, seed=1) == held != drawn(cases, 0.2, seed=2)
    assert drawn(cases[:4], 0.2, seed=1) == ()
    assert drawn(cases, 0.0, seed=1) == ()
