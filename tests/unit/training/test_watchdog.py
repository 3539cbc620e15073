from dataclasses import asdict

import pytest
import torch

from medseg.errors import TrainingError
from medseg.training.watchdog import NotANumber, WatchdogState, dice_of_patches

LABELS = {"large": (1,), "small": (2,)}


def counts(large: int, small: int, rare: int = 100) -> torch.Tensor:
    """``large`` and ``small`` of 100 voxels of each label are found."""
    return torch.tensor([[1000, 0, 0], [100 - large, large, 0], [rare - small, 0, small]])


def watch(watchdog: WatchdogState, small: list[int], rare: int = 100) -> list[str | None]:
    """What it says after each of epochs of 50 steps, 5 % of the schedule, from where it stands."""
    first = watchdog.judged_at[0] // 50 + 1
    said = []
    for epoch, found in enumerate(small, start=first):
        watchdog.see(counts(50, found, rare))
        change = watchdog.judge(LABELS, 50 * epoch, epoch / 20)
        said.append(change and change.note)
        assert change is None or change.goes_back == ("fell" in change.note)
    return said


def test_the_dice_of_patches() -> None:
    counts = [[10, 0, 2, 0], [4, 6, 0, 0], [0, 0, 0, 0], [0, 0, 0, 5]]
    unions = {"one": (1,), "two": (2,), "three": (3,), "region": (1, 2)}
    assert dice_of_patches(counts, unions) == {"one": 0.75, "two": None, "three": 1.0, "region": 12 / 18}


def test_a_label_that_never_lives_gets_more_foreground_once() -> None:
    watchdog = WatchdogState(foreground_fraction=1 / 3)
    assert watch(watchdog, [0] * 8) == [
        None,
        "Dice of small on the training patches stays 0: 67% of the patches on labelled voxels from now on",
        *[None] * 6,
    ]
    assert watchdog.foreground_fraction == pytest.approx(2 / 3)
    assert watchdog.rate_factor == 1


def test_where_all_patches_are_on_labels_nothing_is_changed() -> None:
    assert watch(WatchdogState(foreground_fraction=1.0), [0] * 4) == [None] * 4


def test_a_label_that_was_lost_lowers_the_rate() -> None:
    watchdog = WatchdogState(1 / 3)
    *before, last = watch(watchdog, [20, 0, 0])
    assert before == [None, None]
    assert last is not None
    assert last.startswith("Dice of small on the training patches fell to 0: learning rate to a third")
    assert watchdog.rate_factor == pytest.approx(1 / 3)


def test_what_random_weights_predicted_was_not_learnt() -> None:
    """Of an epoch whose first looks call everything ``large`` or ``small``, and whose later ones call nothing so."""
    everything = {1: [[0, 1000, 0], [0, 100, 0], [0, 100, 0]], 2: [[0, 0, 1000], [0, 0, 100], [0, 0, 100]]}
    watchdog = WatchdogState(1 / 3)
    watchdog.see(torch.tensor(everything[1]) + torch.tensor(everything[2]) + 10 * counts(0, 0))
    assert watchdog.judge(LABELS, 50, 0.05) is None
    assert watchdog.lived == []
    said = watch(watchdog, [0, 0, 0, 20])
    assert [change for change in said if change is not None] == [
        "Dice of small on the training patches stays 0: 67% of the patches on labelled voxels from now on"
    ]
    assert (watchdog.rate_factor, watchdog.lived) == (1.0, ["large", "small"])


def test_the_changes_are_few() -> None:
    watchdog = WatchdogState(1 / 3)
    said = []
    for _ in range(6):
        said += watch(watchdog, [20, 0, 0])
        watchdog.start_from(0, 0.0)
    assert sum(change is not None for change in said) == 3
    assert watchdog.rate_factor == pytest.approx(1 / 27)


def test_what_lives_or_is_not_there_or_comes_late_is_left_alone() -> None:
    assert watch(WatchdogState(1 / 3), [1, 0, 1, 0, 1]) == [None] * 5  # never two epochs dead
    assert watch(WatchdogState(1 / 3), [0] * 5, rare=0) == [None] * 5  # not in any patch
    late = WatchdogState(1 / 3, judged_at=(800, 0.8), lived=["small"])
    assert watch(late, [0] * 4) == [None] * 4


def test_long_schedules_are_not_waited_for() -> None:
    watchdog = WatchdogState(1 / 3, lived=["small"])
    for step in range(50, 2550, 50):  # up to a hundredth of the schedule
        watchdog.see(counts(50, 0))
        change = watchdog.judge(LABELS, step, step / 250_000)
        assert (change is not None) == (step == 2500)


def test_short_epochs_are_waited_for() -> None:
    watchdog = WatchdogState(1 / 3)
    watchdog.see(counts(50, 0))
    assert watchdog.judge(LABELS, 20, 0.5) is None


def test_parts_of_an_epoch_count_as_the_whole() -> None:
    whole, parts = WatchdogState(1 / 3), WatchdogState(1 / 3)
    whole.see(counts(1, 0) + counts(0, 7))
    parts.see(counts(1, 0))
    parts = WatchdogState(**asdict(parts))  # as a checkpoint brings it back
    parts.see(None)
    parts.see(counts(0, 7))
    assert parts == whole


def test_a_state_is_good_now_and_then_and_not_while_a_label_dies() -> None:
    watchdog = WatchdogState(1 / 3)
    watch(watchdog, [20])
    assert not watchdog.is_good(0.04)
    assert watchdog.is_good(0.05)
    watch(watchdog, [0])
    assert not watchdog.is_good(0.1)


def test_no_number_lowers_the_rate_three_times() -> None:
    watchdog, error = WatchdogState(1 / 3), NotANumber("loss", 7, ["a", "b"])
    assert watchdog.after(error, []).note == (
        "the loss is not a number at step 7 (cases a, b): learning rate to a third (change 1 of at most 3)"
    )
    assert watchdog.notes == ["the loss is not a number at step 7: learning rate to a third (change 1 of at most 3)"]
    watchdog.after(error, [])
    watchdog.after(error, [])
    assert watchdog.rate_factor == pytest.approx(1 / 27)
    with pytest.raises(TrainingError, match=r"the loss is not a number at step 7 \(cases a, b\)"):
        watchdog.after(error, [])


def test_a_damaged_image_is_left_out_and_costs_no_try() -> None:
    watchdog = WatchdogState(1 / 3)
    assert watchdog.after(NotANumber("loss", 7, ["a", "b"]), ["b"]).note == (
        "b: the image holds what is no number; left out of training"
    )
    assert watchdog.notes == ["1 case: the image holds what is no number; left out of training"]
    assert (watchdog.left_out, watchdog.tries, watchdog.rate_factor) == (["b"], 0, 1.0)


def test_a_label_that_was_helped_and_then_lost_lowers_the_rate() -> None:
    watchdog = WatchdogState(1 / 3)
    said = watch(watchdog, [0, 0, 20, 0, 0])
    assert said[:4] == [None, said[1], None, None]
    assert said[4] is not None
    assert "fell to 0: learning rate to a third" in said[4]
