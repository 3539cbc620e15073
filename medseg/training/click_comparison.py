"""The end of a training with prompts: which weights answer best to clicks, and how good they are at it."""

import time
from collections.abc import Iterator
from statistics import fmean

from medseg.dataset.cases import Case
from medseg.dataset.layouts import find_cases
from medseg.device import Device
from medseg.errors import MedsegError
from medseg.evaluation.clicks_json import MODEL, ClickedObject
from medseg.files import folder_written_whole
from medseg.inferers.model import Model, load_model, save_model
from medseg.inferers.model_record import ClickComparison, write_model_record
from medseg.inferers.predictor import Predictor
from medseg.interactive.click_evaluation import ClickProtocol, click_case
from medseg.progress import counted, say, warn
from medseg.training.run import Run
from medseg.training.run_record import BEST, LAST
from medseg.training.time_shares import CLICKING_SHARE, TimeShares
from medseg.training.validation import validate

CLICKS = 5
COUNTS = (0, 1, 3, 5)
# One structure each of so many held-back cases, as far as the time reaches.
MOST_OBJECTS = 24
# The last weights are taken where the mean Dice after 1, 3 and 5 clicks of this many objects is better by this much,
# and the Dice without clicks no worse than by that.
LEAST_OBJECTS, BETTER, LARGEST_LOSS = 3, 0.002, 0.005


def choose_by_clicks(run: Run, shares: TimeShares, device: Device, trained_seconds: float) -> None:
    """Lets a simulated user click with the best and the last weights of a finished run; the better become RUN/model.

    Those of the best validation were chosen by what the network says alone, which it learns before it learns what
    prompts mean. What was measured is noted in model.json. Nothing is done for networks that take no prompts.

    Args:
        run: Whose models are compared.
        shares: Its held-back cases.
        device: Where they answer.
        trained_seconds: That the training took, of which this takes ``CLICKING_SHARE``; one object is always clicked.
    """
    prompts, held_back = run.plan.prompts, [each for each in shares.cases if each not in run.split.training]
    if prompts is None or not held_back:
        return
    began = time.monotonic()
    best, last = (load_model(run.folder / name, device) for name in (BEST, LAST))
    models = [best] if best.fingerprint == last.fingerprint else [best, last]
    protocol = ClickProtocol(CLICKS, "nothing" if prompts.objects == "any" else "automatic")
    clicked: list[list[ClickedObject]] = [[] for _ in models]
    slowest = 0.0
    for case, structure in _objects(run, held_back):
        began_object = time.monotonic()
        try:
            found = [click_case(case, model, run.dataset.labels, structure, protocol) for model in models]
        except MedsegError as error:
            warn(f"{case.case_id}: is not clicked ({error})")
            continue
        for own, objects in zip(clicked, found, strict=True):
            own += objects
        slowest = max(slowest, time.monotonic() - began_object)
        if time.monotonic() - began + slowest > CLICKING_SHARE * trained_seconds:
            break
    if clicked[0]:
        _keep(run, models, clicked, protocol)


def _objects(run: Run, held_back: list[str]) -> Iterator[tuple[Case, dict[str, tuple[int, ...]]]]:
    """Yields held-back cases, evenly from the first to the last, each with one of its structures in turn."""
    n = min(MOST_OBJECTS, len(held_back))
    cases = {case.case_id: case for case in find_cases(run.dataset.folder, labelled=True).cases}
    structures, used = run.dataset.labels.structures, 0
    for case in (cases[held_back[i * len(held_back) // n]] for i in range(n)):
        volumes = run.dataset.cases[case.case_id].volumes_ml
        there = [each for each in structures if volumes.get(each.name, 1.0) > 0]
        if there:
            structure = there[used % len(there)]
            used += 1
            yield case, {structure.name: structure.values}


def _keep(run: Run, models: list[Model], clicked: list[list[ClickedObject]], protocol: ClickProtocol) -> None:
    """Makes the better model the best one, and notes in it what was measured."""
    curves = [_means(objects) for objects in clicked]
    is_last = len(models) == 2 and len(clicked[0]) >= LEAST_OBJECTS
    is_last = is_last and _score(curves[1]) > _score(curves[0]) + BETTER and _segments_as_well(run, models, clicked)
    chosen = int(is_last)
    seconds = [each for objects in clicked[chosen] for each in objects.seconds]
    comparison = ClickComparison(
        objects=len(clicked[chosen]),
        start=protocol.start,
        dice=curves[chosen],
        weights="last" if is_last else "best",
        dice_of_others=curves[1 - chosen] if len(models) == 2 else None,
        seconds_per_answer=fmean(seconds) if seconds else None,
    )
    record = models[chosen].record.model_copy(update={"clicks": comparison})
    if is_last:
        weights = models[1].network.state_dict()
        with folder_written_whole(run.folder / BEST, replaces=True) as folder:
            save_model(folder, record, weights)
    else:
        write_model_record(run.folder / BEST, record)
    say(_told(comparison))


def _segments_as_well(run: Run, models: list[Model], clicked: list[list[ClickedObject]]) -> bool:
    """Returns whether the last weights segment the clicked cases about as well as the best ones without any clicks."""
    cases = run.dataset.subset(list(dict.fromkeys(each.case_id for each in clicked[0])))
    best, last = (
        validate(Predictor(model.network, run.plan, model.device), cases, run.config.inference).mean_dice
        for model in models
    )
    return last >= best - LARGEST_LOSS


def _means(objects: list[ClickedObject]) -> dict[int, float]:
    return {count: fmean(each.methods[MODEL].dice[count] for each in objects) for count in COUNTS}


def _score(dice: dict[int, float]) -> float:
    return fmean(dice[count] for count in COUNTS if count)


def _told(comparison: ClickComparison) -> str:
    counts = ", ".join(map(str, COUNTS))
    told = (
        f"Dice of {counted(comparison.objects, 'held-back object')} after {counts} clicks: {_listed(comparison.dice)}"
    )
    if comparison.dice_of_others is None:
        return told
    others = _listed(comparison.dice_of_others)
    if comparison.weights == "last":
        return f"{told}, by the last weights, which are the model now; those of the best validation: {others}"
    return f"{told}, by the weights of the best validation, which stay the model; the last ones: {others}"


def _listed(dice: dict[int, float]) -> str:
    return ", ".join(f"{value:.3f}" for value in dice.values())
